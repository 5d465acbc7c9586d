//! Work that waits for a disk, beside the tasks that must not wait.
//!
//! It must never be used for work that may wait for ever: whoever asked waits as long.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Runs `work` on a thread that may block, and waits for it.
///
/// On a runtime of one thread it runs at once, in place: such a runtime has nothing else to do meanwhile, and a
/// simulation, whose clock stands still, replays exactly only if no other thread is involved.
///
/// # Panics
/// Passes on the panic of `work`, and panics outside a tokio runtime.
pub async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only a runtime that is being dropped cancels such work; nobody polls this task any more then.
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::beside;

    #[tokio::test]
    async fn one_thread_does_it_in_place() {
        let asker = thread::current().id();
        assert_eq!(beside(|| thread::current().id()).await, asker);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn many_threads_do_it_elsewhere() {
        let asker = tokio::spawn(async { (thread::current().id(), beside(|| thread::current().id()).await) });
        let (asker, worker) = asker.await.expect("the task does not panic");
        assert_ne!(asker, worker);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_panic_is_passed_on() {
        let asker = tokio::spawn(beside(|| panic!("of the work")));
        assert!(asker.await.expect_err("it panics").is_panic());
    }
}
