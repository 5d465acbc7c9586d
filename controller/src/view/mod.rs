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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use super::*;

    const IDLE: Duration = Duration::from_secs(5);

    fn publish(view: &View, revision: u64, changes: usize) {
        let set = (changes > 0).then(|| (revision, vec![v1::Change::default(); changes]));
        view.publish(revision, State::default(), set.into_iter().collect());
    }

    /// The revisions of the change sets that a watcher is told until its first bookmark, and that.
    async fn follow(subscription: &mut Subscription) -> (Vec<u64>, u64) {
        let mut revisions = Vec::new();
        loop {
            match subscription.next(IDLE).await.unwrap() {
                Event::Changes(set) => revisions.push(set.revision),
                Event::Bookmark(revision) => return (revisions, revision),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_watcher_is_told_every_change_after_its_start_and_then_a_bookmark() {
        let view = View::new(100);
        for (revision, changes) in [(1, 1), (2, 0), (3, 2), (4, 1), (5, 0)] {
            publish(&view, revision, changes);
        }
        for (after, expected) in [(0, vec![1, 3, 4]), (1, vec![3, 4]), (3, vec![4]), (5, vec![])] {
            let mut subscription = view.subscribe(after).unwrap();
            assert_eq!(follow(&mut subscription).await, (expected, 5), "after {after}");
        }
        // What comes later comes, too, and nothing twice.
        let mut subscription = view.subscribe(4).unwrap();
        assert_eq!(follow(&mut subscription).await, (vec![], 5));
        publish(&view, 6, 1);
        publish(&view, 7, 0);
        assert_eq!(follow(&mut subscription).await, (vec![6], 7));
    }

    #[tokio::test(start_paused = true)]
    async fn a_watcher_from_the_future_gets_nothing_old() {
        let view = View::new(100);
        publish(&view, 1, 1);
        let mut subscription = view.subscribe(3).unwrap();
        publish(&view, 3, 1);
        publish(&view, 4, 1);
        assert_eq!(follow(&mut subscription).await, (vec![4], 4));
    }

    #[tokio::test(start_paused = true)]
    async fn who_falls_behind_what_is_kept_is_told_so() {
        // Given room for three changes, and a watcher that sleeps.
        let view = View::new(3);
        publish(&view, 1, 1);
        let mut sleeper = view.subscribe(0).unwrap();
        for revision in 2..=5 {
            publish(&view, revision, 1);
        }
        let compacted = Compacted { oldest: 2 };
        assert_eq!(sleeper.next(IDLE).await, Err(compacted));
        assert_eq!(view.subscribe(1).unwrap_err(), compacted);
        assert!(compacted.to_string().contains("list the objects again"));
        assert_eq!(follow(&mut view.subscribe(2).unwrap()).await, (vec![3, 4, 5], 5));

        // One entry's changes stay together, also when they are more than there is room for.
        publish(&view, 6, 9);
        assert_eq!(follow(&mut view.subscribe(5).unwrap()).await, (vec![6], 6));
        assert!(view.subscribe(4).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_snapshot_ends_what_was_watched_before_it() {
        let view = View::new(100);
        publish(&view, 1, 1);
        let mut subscription = view.subscribe(1).unwrap();
        view.publish_snapshot(50, State::default());
        assert_eq!(subscription.next(IDLE).await, Err(Compacted { oldest: 50 }));
        assert!(view.subscribe(49).is_err());
        let mut later = view.subscribe(50).unwrap();
        publish(&view, 51, 1);
        assert_eq!(follow(&mut later).await, (vec![51], 51));
        assert_eq!((view.revision(), view.published().revision), (51, 51));
    }
}
