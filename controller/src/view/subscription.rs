//! One watcher's place in the ring of changes. It pulls at its own pace and must never hold a lock while it
//! waits.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::{sync::watch, time};

use super::{ChangeSet, View};

/// Change sets that are taken from the ring at once.
const TAKEN_AT_ONCE: usize = 256;

/// What was asked for is older than what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "changes up to revision {oldest} are no longer kept by this controller; list the objects again and watch \
     after the revision of that list"
)]
pub struct Compacted {
    /// The oldest revision after which a subscription can start.
    pub oldest: u64,
}

/// What a watcher is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// One log entry's changes.
    Changes(Arc<ChangeSet>),
    /// Nothing more has changed up to this revision.
    Bookmark(u64),
}

/// Follows the changes after a revision. Made by [`View::subscribe`].
#[derive(Debug)]
pub struct Subscription {
    view: View,
    after: u64,
    revisions: watch::Receiver<u64>,
    taken: VecDeque<Arc<ChangeSet>>,
}

impl Subscription {
    pub(super) fn new(view: View, after: u64) -> Self {
        let revisions = view.revisions();
        Self { view, after, revisions, taken: VecDeque::new() }
    }

    /// The next entry's changes, or a bookmark if none came for the time `idle`.
    ///
    /// Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`Compacted`] if this watcher fell behind what is kept, or a snapshot was installed meanwhile.
    pub async fn next(&mut self, idle: Duration) -> Result<Event, Compacted> {
        let idle = time::sleep(idle);
        tokio::pin!(idle);
        loop {
            // Read before the ring: everything up to it is in the ring by then.
            let revision = *self.revisions.borrow_and_update();
            if self.taken.is_empty() {
                self.taken.extend(self.view.changes_after(self.after, TAKEN_AT_ONCE)?);
            }
            if let Some(set) = self.taken.pop_front() {
                self.after = set.revision;
                return Ok(Event::Changes(set));
            }
            self.after = self.after.max(revision);
            tokio::select! {
                // The sender lives in the view that this subscription holds: only changes end the wait.
                _ = self.revisions.changed() => {}
                () = &mut idle => return Ok(Event::Bookmark(self.after)),
            }
        }
    }
}
