//! Changes of what is remembered that wait for the disk: those that come while one write goes on share the next.
//!
//! A node that comes back with hundreds of replicas notes something of each of them at once. It must never answer before
//! what it answers for is on the disk.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::{FileError, facts::Facts};

/// What came of a write, told to everybody whose change was in it.
pub(super) type Written = Result<(), Arc<FileError>>;

/// A change, which gets the id of this boot.
pub(super) type Change = Box<dyn FnOnce(&mut Facts, &str) + Send>;

struct Waiting {
    change: Change,
    answer: oneshot::Sender<Written>,
}

/// The changes that wait.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Vec<Waiting>>,
}

/// Those whose changes are written together, and wait.
pub(super) struct Asking(Vec<oneshot::Sender<Written>>);

impl Queue {
    /// Adds a change, and says whether it is the first: whoever brought it must see to it that all are written.
    pub(super) fn add(&self, change: Change) -> (bool, oneshot::Receiver<Written>) {
        let (answer, answered) = oneshot::channel();
        let mut waiting = self.lock();
        waiting.push(Waiting { change, answer });
        (waiting.len() == 1, answered)
    }

    /// Takes all that wait, and changes `facts` by them in their order. The next that comes is a first one again.
    pub(super) fn apply(&self, facts: &mut Facts, boot: &str) -> Asking {
        let waiting = std::mem::take(&mut *self.lock());
        let apply = |Waiting { change, answer }: Waiting| {
            change(facts, boot);
            answer
        };
        Asking(waiting.into_iter().map(apply).collect())
    }

    /// How many wait.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asking {
    /// Tells all of them what came of the write.
    pub(super) fn tell(self, written: &Written) {
        for answer in self.0 {
            // Whoever waited may have been stopped meanwhile.
            let _ = answer.send(written.clone());
        }
    }
}
