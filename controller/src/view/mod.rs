//! What has been applied, for everybody who reads: the published state, and the ring of its latest changes.
//!
//! Publishing never waits for a reader: a reader takes a reference to an immutable state, and a watcher
//! that falls behind the ring is told so instead of being waited for. It must never change the state.

mod ring;
mod subscription;

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use hawser_proto::v1;
use hawser_state::State;
use tokio::sync::watch;

pub use ring::ChangeSet;
use ring::Ring;
pub use subscription::{Compacted, Event, Subscription};

/// How many changes are kept for watchers that start in the past.
pub const CHANGES_KEPT: usize = 50_000;

/// The state as of a revision.
#[derive(Clone, Debug)]
pub struct Published {
    /// Log index of the last entry that is part of the state; 0 before the first.
    pub revision: u64,
    /// The state; cheap to clone.
    pub state: Arc<State>,
}

/// The published state of this member. Cheap to clone; all clones are the same view.
#[derive(Clone, Debug)]
pub struct View {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    published: ArcSwap<Published>,
    ring: Mutex<Ring>,
    revision: watch::Sender<u64>,
}

impl View {
    /// A view of the empty state that keeps `changes_kept` changes for watchers.
    #[must_use]
    pub fn new(changes_kept: usize) -> Self {
        let published = Published { revision: 0, state: Arc::new(State::default()) };
        Self {
            shared: Arc::new(Shared {
                published: ArcSwap::from_pointee(published),
                ring: Mutex::new(Ring::new(changes_kept)),
                revision: watch::Sender::new(0),
            }),
        }
    }

    /// The latest applied state. Reading it never waits.
    #[must_use]
    pub fn state(&self) -> Arc<State> {
        Arc::clone(&self.shared.published.load().state)
    }

    /// The latest applied state together with its revision.
    #[must_use]
    pub fn published(&self) -> Published {
        Published::clone(&self.shared.published.load())
    }

    /// Log index of the last entry that is part of [`View::state`].
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.shared.published.load().revision
    }

    /// Follows the revision. It rises with every published batch of entries.
    #[must_use]
    pub fn revisions(&self) -> watch::Receiver<u64> {
        self.shared.revision.subscribe()
    }

    /// Waits until the state contains the entry at `revision`.
    pub async fn wait_for(&self, revision: u64) {
        // The sender lives in `self`, so waiting cannot end for another reason.
        let _ = self.revisions().wait_for(|applied| *applied >= revision).await;
    }

    /// Follows the changes of all entries after the revision `after`.
    ///
    /// # Errors
    /// [`Compacted`] if some of them are no longer kept; list again and subscribe after that revision.
    pub fn subscribe(&self, after: u64) -> Result<Subscription, Compacted> {
        let ring = self.shared.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.check(after)?;
        Ok(Subscription::new(self.clone(), after))
    }

    /// Publishes the state that contains all entries up to `revision`, and what they changed.
    pub(crate) fn publish(&self, revision: u64, state: State, changes: Vec<(u64, Vec<v1::Change>)>) {
        {
            let mut ring = self.shared.ring.lock().unwrap_or_else(PoisonError::into_inner);
            for (revision, changes) in changes {
                ring.push(ChangeSet { revision, changes });
            }
        }
        self.replace(revision, state);
    }

    /// Publishes a state that did not come from the entries before it: whoever watches has to list again.
    pub(crate) fn publish_snapshot(&self, revision: u64, state: State) {
        self.shared.ring.lock().unwrap_or_else(PoisonError::into_inner).restart(revision);
        self.replace(revision, state);
    }

    fn replace(&self, revision: u64, state: State) {
        self.shared.published.store(Arc::new(Published { revision, state: Arc::new(state) }));
        self.shared.revision.send_replace(revision);
    }

    fn changes_after(&self, revision: u64, limit: usize) -> Result<Vec<Arc<ChangeSet>>, Compacted> {
        self.shared.ring.lock().unwrap_or_else(PoisonError::into_inner).after(revision, limit)
    }
}
