//! Reads that may wait for a disk, beside the tasks that must not.
//!
//! A disk that does not answer keeps its reader for ever: whoever asked hears of it when the time is up, and the
//! node's breaker counts it like a command that is stuck in the kernel.

use super::{Deadline, HostError};

/// Does `work`, which reads `what`, in a thread of its own.
///
/// # Errors
/// [`HostError::Wedged`] if it has not ended in time; it goes on then.
pub(super) async fn read<T: Send + 'static>(
    deadline: &Deadline,
    what: impl FnOnce() -> String,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, HostError> {
    let left = deadline.left();
    match tokio::time::timeout(left, tokio::task::spawn_blocking(work)).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(deadline.missed(what())),
        },
        Err(_) => Err(HostError::Wedged { what: what(), deadline: left }),
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use super::*;

    #[tokio::test]
    async fn a_disk_that_does_not_answer_holds_up_its_reader_alone() {
        let (let_go, hangs) = mpsc::channel::<()>();
        let deadline = &Deadline::after(Duration::from_millis(20));

        let read = read(deadline, || "the superblock of /dev/vg0/db".to_owned(), move || hangs.recv()).await;

        let error = read.expect_err("nothing was sent");
        assert!(error.is_wedged());
        assert!(error.to_string().contains("the superblock of /dev/vg0/db"), "{error}");
        drop(let_go);
    }

    #[tokio::test]
    async fn what_was_read_is_handed_on() {
        let deadline = &Deadline::after(Duration::from_secs(10));
        assert_eq!(read(deadline, String::new, || 7).await, Ok(7));
    }
}
