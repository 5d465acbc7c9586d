//! Where worker and helper meet: who is being promoted, who waits for an answer, what was granted.
//!
//! It must never ask the kernel anything: while a helper waits, the kernel may hold the resource's lock.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hawser_proto::ids::{OutdateNumber, OwnerGeneration};
use tokio::{sync::watch, time::Instant};

/// The kernel is given this time to act on what its helper said, before anybody else does it.
pub(crate) const SETTLING: Duration = Duration::from_secs(5);

/// The meeting place. Cheap to share. Resources are named as DRBD names them.
#[derive(Clone)]
pub struct Desk {
    shared: Arc<Mutex<BTreeMap<String, Entry>>>,
    /// Rises when somebody should look again.
    news: watch::Sender<u64>,
}

#[derive(Default)]
struct Entry {
    promoting: Option<BTreeSet<String>>,
    waiting: u32,
    answered: Option<Instant>,
    /// By generation and peer: number of the `Outdate`.
    granted: BTreeMap<OwnerGeneration, BTreeMap<String, OutdateNumber>>,
}

/// Held while a resource is being promoted.
pub(crate) struct Promoting {
    desk: Desk,
    drbd_name: String,
}

/// Held while a helper waits.
pub(crate) struct Waiting {
    desk: Desk,
    drbd_name: String,
}

impl Desk {
    /// An empty desk; `news` rises when a helper has come or gone.
    pub fn new(news: watch::Sender<u64>) -> Self {
        Self { shared: Arc::default(), news }
    }

    /// Says that `drbd_name` is being promoted, and which peers have been outdated for that.
    pub(crate) fn promoting(&self, drbd_name: &str, outdated: BTreeSet<String>) -> Promoting {
        self.entry(drbd_name, |entry| entry.promoting = Some(outdated));
        Promoting { desk: self.clone(), drbd_name: drbd_name.to_owned() }
    }

    /// Whether `drbd_name` is being promoted now: then the peers that were outdated for that.
    pub(crate) fn promotion(&self, drbd_name: &str) -> Option<BTreeSet<String>> {
        self.lock().get(drbd_name).and_then(|entry| entry.promoting.clone())
    }

    /// A helper has come and waits.
    pub(crate) fn waits(&self, drbd_name: &str) -> Waiting {
        self.entry(drbd_name, |entry| entry.waiting += 1);
        self.news.send_modify(|news| *news += 1);
        Waiting { desk: self.clone(), drbd_name: drbd_name.to_owned() }
    }

    /// Until when to leave a freeze to the helper: `None` where none waits or has just been answered.
    pub(crate) fn left_to_helper_until(&self, drbd_name: &str) -> Option<Instant> {
        let now = Instant::now();
        let shared = self.lock();
        let entry = shared.get(drbd_name)?;
        if entry.waiting > 0 {
            return Some(now + SETTLING);
        }
        entry.answered.map(|answered| answered + SETTLING).filter(|until| *until > now)
    }

    /// Notes that `peer` was outdated on this node's word at `generation`, by the log entry `number`.
    pub(crate) fn grant(
        &self,
        drbd_name: &str,
        generation: OwnerGeneration,
        peer: &str,
        number: OutdateNumber,
    ) {
        self.entry(drbd_name, |entry| {
            let noted = entry.granted.entry(generation).or_default().entry(peer.to_owned()).or_default();
            *noted = number.max(*noted);
        });
    }

    /// Takes what was granted at `generation`, with the numbers; what was granted at others is void.
    pub(crate) fn take_grants(
        &self,
        drbd_name: &str,
        generation: OwnerGeneration,
    ) -> BTreeMap<String, OutdateNumber> {
        self.lock()
            .get_mut(drbd_name)
            .map(|entry| std::mem::take(&mut entry.granted).remove(&generation).unwrap_or_default())
            .unwrap_or_default()
    }

    fn entry(&self, drbd_name: &str, change: impl FnOnce(&mut Entry)) {
        change(self.lock().entry(drbd_name.to_owned()).or_default());
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Promoting {
    fn drop(&mut self) {
        self.desk.entry(&self.drbd_name, |entry| entry.promoting = None);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.desk.entry(&self.drbd_name, |entry| {
            entry.waiting = entry.waiting.saturating_sub(1);
            entry.answered = Some(Instant::now());
        });
        self.desk.news.send_modify(|news| *news += 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desk() -> Desk {
        Desk::new(watch::Sender::new(0))
    }

    #[tokio::test(start_paused = true)]
    async fn a_freeze_is_left_to_the_helper_until_the_kernel_had_time_to_act() {
        let desk = desk();
        assert_eq!(desk.left_to_helper_until("r.1"), None);

        let first = desk.waits("r.1");
        let second = desk.waits("r.1");
        drop(first);
        tokio::time::advance(SETTLING * 2).await;
        assert!(desk.left_to_helper_until("r.1").is_some(), "one still waits");
        drop(second);

        assert_eq!(desk.left_to_helper_until("r.1"), Some(Instant::now() + SETTLING));
        tokio::time::advance(SETTLING).await;
        assert_eq!(desk.left_to_helper_until("r.1"), None);
        assert_eq!(desk.left_to_helper_until("s.1"), None);
    }

    #[test]
    fn grants_are_taken_once_and_only_at_their_generation() {
        let desk = desk();
        let [third, fourth] = [3, 4].map(OwnerGeneration::new);
        desk.grant("r.1", third, "n2", OutdateNumber::new(40));
        assert!(desk.take_grants("r.1", fourth).is_empty());
        assert!(desk.take_grants("r.1", third).is_empty(), "void with the other generation");

        for number in [41, 43, 42].map(OutdateNumber::new) {
            desk.grant("r.1", fourth, "n2", number);
        }
        assert_eq!(
            desk.take_grants("r.1", fourth),
            BTreeMap::from([("n2".to_owned(), OutdateNumber::new(43))])
        );
        assert!(desk.take_grants("r.1", fourth).is_empty());
    }

    #[test]
    fn a_promotion_is_known_as_long_as_it_runs() {
        let desk = desk();
        let peers = BTreeSet::from(["n2".to_owned()]);

        let promoting = desk.promoting("r.1", peers.clone());
        assert_eq!(desk.promotion("r.1"), Some(peers));
        drop(promoting);

        assert_eq!(desk.promotion("r.1"), None);
    }
}
