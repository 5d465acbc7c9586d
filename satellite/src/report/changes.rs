//! What one session has not been told yet: the first report is full, later ones carry what changed, each
//! replica at most once a second unless its role, a disk or a connection changed.

use std::{collections::BTreeMap, time::Duration};

use hawser_proto::v1;
use tokio::time::Instant;

use super::Facts;
use crate::ledger::ReplicaKey;

/// Between two reports on one replica in which nothing urgent changed, and between two reports at all.
const INTERVAL: Duration = Duration::from_secs(1);

/// The reports of one session.
#[derive(Debug, Default)]
pub struct Changes {
    sequence: u64,
    sent: Facts,
    sent_at: BTreeMap<ReplicaKey, Instant>,
    last: Option<Instant>,
}

impl Changes {
    /// The next report, if one is due. An empty one is due each second: it shows that the satellite lives.
    pub fn next(&mut self, facts: &Facts) -> Option<v1::Report> {
        let now = Instant::now();
        let full = self.sequence == 0;
        let replicas: Vec<_> = facts
            .replicas
            .iter()
            .filter(|(key, observed)| self.is_due(key, observed, now))
            .map(|(key, observed)| (key.clone(), observed.clone()))
            .collect();
        let mut report = v1::Report {
            full,
            pools: changed(&self.sent.pools, &facts.pools),
            orders: changed(&self.sent.orders, &facts.orders),
            removed: facts
                .removed
                .iter()
                .filter(|(key, _)| !self.sent.removed.contains_key(*key))
                .map(|((resource, incarnation), version)| v1::RemovalConfirmed {
                    resource: resource.clone(),
                    replica_incarnation: incarnation.get(),
                    revision: version.revision.get(),
                    lineage: version.lineage.get(),
                })
                .collect(),
            unknown: changed(&self.sent.unknown, &facts.unknown),
            numbers: (self.sent.numbers != facts.numbers).then(|| facts.numbers.clone()),
            ..v1::Report::default()
        };
        let quiet = replicas.is_empty()
            && report.pools.is_empty()
            && report.orders.is_empty()
            && report.removed.is_empty()
            && report.unknown.is_empty()
            && report.numbers.is_none();
        if quiet && !full && self.last.is_some_and(|last| now < last + INTERVAL) {
            return None;
        }
        for (key, observed) in replicas {
            self.sent_at.insert(key.clone(), now);
            self.sent.replicas.insert(key, observed.clone());
            report.replicas.push(observed);
        }
        self.sent.replicas.retain(|key, _| facts.replicas.contains_key(key));
        self.sent_at.retain(|key, _| facts.replicas.contains_key(key));
        self.sent.pools.clone_from(&facts.pools);
        self.sent.orders.clone_from(&facts.orders);
        self.sent.removed.clone_from(&facts.removed);
        self.sent.numbers.clone_from(&facts.numbers);
        self.sent.unknown.clone_from(&facts.unknown);
        self.sequence += 1;
        report.sequence = self.sequence;
        self.last = Some(now);
        Some(report)
    }

    /// When to ask for the next report although nothing changes.
    pub fn due(&self, facts: &Facts) -> Instant {
        let now = Instant::now();
        let alive = self.last.map_or(now, |last| last + INTERVAL);
        facts
            .replicas
            .iter()
            .filter(|(key, observed)| self.sent.replicas.get(*key) != Some(*observed))
            .map(|(key, _)| self.sent_at.get(key).map_or(now, |at| *at + INTERVAL))
            .fold(alive, Instant::min)
    }

    fn is_due(&self, key: &ReplicaKey, observed: &v1::ReplicaObserved, now: Instant) -> bool {
        let Some(sent) = self.sent.replicas.get(key) else { return true };
        if sent == observed {
            return false;
        }
        is_urgent(sent, observed) || self.sent_at.get(key).is_none_or(|at| now >= *at + INTERVAL)
    }
}

/// Whether somebody may be waiting for this change: all but the progress of a resync and words for people.
fn is_urgent(before: &v1::ReplicaObserved, after: &v1::ReplicaObserved) -> bool {
    fn without_progress(observed: &v1::ReplicaObserved) -> v1::ReplicaObserved {
        let mut plain = observed.clone();
        plain.waits_for.clear();
        plain.openers.clear();
        if let Some(failure) = &mut plain.failure {
            failure.attempts = 0;
            failure.message.clear();
        }
        for volume in plain.peers.iter_mut().flat_map(|peer| &mut peer.volumes) {
            volume.done_permyriad = 0;
            // That everything is in sync is news; how much is not, is progress.
            volume.out_of_sync_bytes = u64::from(volume.out_of_sync_bytes != 0);
        }
        plain
    }
    without_progress(before) != without_progress(after)
}

fn changed<K: Ord, V: Clone + PartialEq>(before: &BTreeMap<K, V>, after: &BTreeMap<K, V>) -> Vec<V> {
    after
        .iter()
        .filter(|(key, value)| before.get(*key) != Some(*value))
        .map(|(_, value)| value.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hawser_proto::ids::{DocumentVersion, Incarnation};

    use super::*;

    fn replica(role: v1::DrbdRole, done: u32) -> v1::ReplicaObserved {
        let volumes = vec![v1::PeerVolumeObserved {
            done_permyriad: done,
            out_of_sync_bytes: 4096,
            ..Default::default()
        }];
        v1::ReplicaObserved {
            resource: "a".into(),
            replica_incarnation: 7,
            role: role.into(),
            peers: vec![v1::PeerObserved { node: "n2".into(), volumes, ..Default::default() }],
            ..Default::default()
        }
    }

    fn facts(replica: v1::ReplicaObserved) -> Facts {
        Facts {
            replicas: BTreeMap::from([(("a".to_owned(), Incarnation::new(7)), replica)]),
            ..Facts::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_report_is_full_and_later_ones_carry_what_changed() {
        let mut changes = Changes::default();

        let first = changes.next(&Facts::default()).unwrap();
        let second = changes.next(&facts(replica(v1::DrbdRole::Secondary, 0))).unwrap();
        let none = changes.next(&facts(replica(v1::DrbdRole::Secondary, 0)));

        assert!(first.full && first.sequence == 1 && first.replicas.is_empty());
        assert!(!second.full && second.sequence == 2 && second.replicas.len() == 1);
        assert_eq!(none, None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_urgent_change_goes_at_once_and_progress_once_a_second() {
        let mut changes = Changes::default();
        changes.next(&facts(replica(v1::DrbdRole::Secondary, 0))).unwrap();

        assert!(changes.next(&facts(replica(v1::DrbdRole::Primary, 0))).is_some(), "a role");
        let progress = facts(replica(v1::DrbdRole::Primary, 5000));
        assert_eq!(changes.next(&progress), None, "progress");
        assert_eq!(changes.due(&progress), Instant::now() + INTERVAL);
        tokio::time::advance(INTERVAL).await;
        assert_eq!(changes.next(&progress).unwrap().replicas[0].peers[0].volumes[0].done_permyriad, 5000);
    }

    #[tokio::test(start_paused = true)]
    async fn an_empty_report_shows_each_second_that_the_satellite_lives() {
        let mut changes = Changes::default();
        changes.next(&Facts::default()).unwrap();

        assert_eq!(changes.next(&Facts::default()), None);
        tokio::time::advance(INTERVAL).await;
        let empty = changes.next(&Facts::default()).unwrap();

        assert_eq!(empty, v1::Report { sequence: 2, ..Default::default() });
    }

    #[tokio::test(start_paused = true)]
    async fn held_numbers_are_told_when_they_change_and_in_each_session() {
        let held = |last| v1::NumbersObserved {
            listening_ports: vec![v1::NumberRange { first: 22, last }],
            ..Default::default()
        };
        let facts = |last| Facts { numbers: held(last), ..Facts::default() };
        for _session in 0..2 {
            let mut changes = Changes::default();
            assert_eq!(changes.next(&facts(22)).unwrap().numbers, Some(held(22)));
            assert_eq!(changes.next(&facts(22)), None);
            assert_eq!(changes.next(&facts(23)).unwrap().numbers, Some(held(23)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_removal_is_confirmed_once_in_a_session_and_again_in_the_next() {
        let removed = BTreeMap::from([(("a".to_owned(), Incarnation::new(7)), DocumentVersion::new(1, 12))]);
        let facts = Facts { removed, ..Facts::default() };
        for _session in 0..2 {
            let mut changes = Changes::default();
            let report = changes.next(&facts).unwrap();
            assert_eq!(report.removed.len(), 1);
            assert_eq!(report.removed[0].version(), DocumentVersion::new(1, 12));
            assert_eq!(changes.next(&facts), None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_left_the_document_and_came_back_is_told_again() {
        let mut changes = Changes::default();
        let with = facts(replica(v1::DrbdRole::Secondary, 0));
        changes.next(&with).unwrap();
        tokio::time::advance(INTERVAL).await;
        changes.next(&Facts::default()).unwrap();

        assert_eq!(changes.next(&with).unwrap().replicas.len(), 1);
    }
}
