//! The present picture of what is observed, and who is told that it changed.
//!
//! It must never hold its lock while somebody reads a picture.

use std::sync::{Arc, Mutex, PoisonError};

use hawser_proto::v1;
use tokio::{sync::watch, time::Instant};

use super::{DocumentStanding, NodeSeen, Observed, ReportRefused, node::says_something};

/// Holds the present picture and tells whoever waits that it changed. Clones share it.
#[derive(Debug, Clone)]
pub struct ObservedTable {
    picture: Arc<Mutex<Observed>>,
    changed: watch::Sender<u64>,
}

impl Default for ObservedTable {
    fn default() -> Self {
        Self { picture: Arc::default(), changed: watch::Sender::new(0) }
    }
}

impl ObservedTable {
    /// The picture as of now.
    #[must_use]
    pub fn picture(&self) -> Observed {
        let picture = self.picture.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Observed { taken_at: Instant::now(), ..picture }
    }

    /// Resolves whenever the picture has changed since it was last looked at.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Begins a session; whatever an older one of the node reported is forgotten.
    pub fn open(&self, node: &str, seen: NodeSeen) {
        self.update(|picture| {
            // Two sessions may open at once; the newer one stays.
            if picture.node(node).is_none_or(|present| present.session < seen.session) {
                picture.insert(node, seen);
            }
            true
        });
    }

    /// Merges a report.
    ///
    /// # Errors
    /// Refused where the session is not the node's latest, or the report is out of sequence.
    pub fn report(&self, node: &str, session: u64, report: v1::Report) -> Result<(), ReportRefused> {
        // A sign of life says nothing new: whoever waits for changes is not woken.
        self.edit(node, session, says_something(&report), |seen, now| seen.take_report(report, now))
            .unwrap_or(Err(ReportRefused::Superseded(session)))
    }

    /// Notes what the satellite answered to a document.
    pub fn answer(&self, node: &str, session: u64, answer: v1::DocumentAnswer) {
        self.edit(node, session, true, |seen, _| {
            if answer.refused.is_empty() {
                seen.document = DocumentStanding { accepted: answer.version(), ..Default::default() };
            } else {
                seen.document.refused = answer.refused;
            }
        });
    }

    /// Notes what a node holds by the documents that it obeyed before a restore.
    ///
    /// # Errors
    /// Refused where it is more than there can be, or the session is not the node's latest.
    pub fn inventory(&self, node: &str, session: u64, inventory: v1::Inventory) -> Result<(), ReportRefused> {
        self.edit(node, session, true, |seen, _| seen.take_inventory(inventory))
            .unwrap_or(Err(ReportRefused::Superseded(session)))
    }

    /// Ends a session. What it reported stays for display, with its age.
    pub fn close(&self, node: &str, session: u64) {
        self.edit(node, session, true, |seen, _| seen.online = false);
    }

    fn edit<R>(
        &self,
        node: &str,
        session: u64,
        tell: bool,
        change: impl FnOnce(&mut NodeSeen, Instant) -> R,
    ) -> Option<R> {
        let now = Instant::now();
        let mut result = None;
        self.update(|picture| {
            if let Some(seen) = picture.nodes.get_mut(node).filter(|seen| seen.session == session) {
                let seen = Arc::make_mut(seen);
                seen.heard_at = now;
                result = Some(change(seen, now));
            }
            tell
        });
        result
    }

    /// Changes the picture and tells whoever waits, if the change says so.
    fn update(&self, change: impl FnOnce(&mut Observed) -> bool) {
        let tell = change(&mut self.picture.lock().unwrap_or_else(PoisonError::into_inner));
        if tell {
            self.changed.send_modify(|count| *count += 1);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use hawser_hostile::{bytes, check};
    use hawser_proto::ids::{Incarnation, Lineage, Revision};
    use prost::Message;

    use super::*;
    use crate::leader::observed::Sight;

    const SEVEN: Incarnation = Incarnation::new(7);
    const OURS: Lineage = Lineage::new(1);
    const EIGHT: Incarnation = Incarnation::new(8);

    fn report(sequence: u64, full: bool, incarnations: &[u64]) -> v1::Report {
        v1::Report {
            sequence,
            full,
            replicas: incarnations.iter().map(|incarnation| of(*incarnation)).collect(),
            ..Default::default()
        }
    }

    fn of(replica_incarnation: u64) -> v1::ReplicaObserved {
        v1::ReplicaObserved {
            resource: "data".into(),
            replica_incarnation,
            presence: v1::Presence::Present.into(),
            ..Default::default()
        }
    }

    fn opened(session: u64) -> NodeSeen {
        NodeSeen::opened(session, OURS, Default::default(), Default::default(), Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn certainty_follows_the_session() {
        let table = ObservedTable::default();
        assert_eq!(table.picture().replica("n1", "data", SEVEN), Sight::Unknown, "no session");

        table.open("n1", opened(1));
        assert_eq!(table.picture().replica("n1", "data", SEVEN), Sight::Unknown, "no full report yet");

        table.report("n1", 1, report(1, true, &[7])).unwrap();
        assert!(table.picture().replica("n1", "data", SEVEN).known().is_some());
        assert_eq!(table.picture().replica("n1", "data", EIGHT), Sight::Absent, "another incarnation");

        table.close("n1", 1);
        let picture = table.picture();
        assert_eq!(picture.replica("n1", "data", SEVEN), Sight::Unknown, "the session has ended");
        assert!(picture.last_seen("n1", "data", SEVEN, Instant::now()).is_some(), "but it is still shown");

        table.open("n1", opened(2));
        assert!(table.picture().last_seen("n1", "data", SEVEN, Instant::now()).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn reports_are_fenced() {
        let table = ObservedTable::default();
        table.open("n1", opened(1));
        assert_eq!(table.report("n1", 1, report(1, false, &[7])), Err(ReportRefused::FirstNotFull));
        table.report("n1", 1, report(1, true, &[7])).unwrap();
        assert_eq!(
            table.report("n1", 1, report(3, false, &[])),
            Err(ReportRefused::OutOfSequence { expected: 2, found: 3 })
        );
        table.open("n1", opened(2));
        assert_eq!(table.report("n1", 1, report(2, false, &[7])), Err(ReportRefused::Superseded(1)));
        assert_eq!(table.picture().replica("n1", "data", SEVEN), Sight::Unknown);
    }

    #[tokio::test(start_paused = true)]
    async fn a_removal_replaces_the_replica_and_a_full_report_replaces_everything() {
        let table = ObservedTable::default();
        table.open("n1", opened(1));
        table.report("n1", 1, report(1, true, &[7, 8])).unwrap();
        let removal = v1::RemovalConfirmed {
            resource: "data".into(),
            replica_incarnation: 7,
            revision: 20,
            lineage: 1,
        };
        table
            .report("n1", 1, v1::Report { sequence: 2, removed: vec![removal], ..Default::default() })
            .unwrap();
        let picture = table.picture();
        assert_eq!(picture.replica("n1", "data", SEVEN), Sight::Absent);
        assert_eq!(
            picture.node("n1").unwrap().removed.get(&("data".into(), SEVEN)),
            Some(&Revision::new(20))
        );
        assert!(picture.replica("n1", "data", EIGHT).known().is_some());

        table.report("n1", 1, report(3, true, &[])).unwrap();
        assert_eq!(table.picture().replica("n1", "data", EIGHT), Sight::Absent);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_seen_under_another_lineage_is_refused_until_the_node_has_ours() {
        let replica = |lineage, revision| v1::ReplicaObserved { lineage, revision, ..of(7) };
        let facts = |lineage| {
            let removal = v1::RemovalConfirmed { lineage, revision: 20, ..Default::default() };
            [
                v1::Report { replicas: vec![replica(lineage, 20)], ..Default::default() },
                v1::Report { removed: vec![removal], ..Default::default() },
                v1::Report {
                    pools: vec![v1::PoolObserved { lineage, ..Default::default() }],
                    ..Default::default()
                },
                v1::Report {
                    orders: vec![v1::OrderObserved { lineage, ..Default::default() }],
                    ..Default::default()
                },
            ]
        };
        for theirs in [0, 2] {
            for foreign in facts(theirs) {
                let table = ObservedTable::default();
                table.open("n1", opened(1));
                let full = v1::Report { sequence: 1, full: true, ..foreign };
                table.report("n1", 1, full.clone()).unwrap();

                let picture = table.picture();
                let seen = picture.node("n1").unwrap();
                assert_eq!(seen.other_lineage, Some(Lineage::new(theirs)), "{full:?}");
                assert!(seen.replicas.is_empty() && seen.removed.is_empty() && seen.pools.is_empty());
                assert_eq!(picture.replica("n1", "data", SEVEN), Sight::Unknown, "it may be there");

                table.report("n1", 1, report(2, false, &[])).unwrap();
                let [ours, ..] = facts(1);
                let ours = v1::Report { sequence: 3, ..ours };
                assert_eq!(
                    table.report("n1", 1, ours.clone()),
                    Err(ReportRefused::FirstNotFull),
                    "it dials again"
                );
                table.report("n1", 1, v1::Report { full: true, ..ours }).unwrap();
                assert_eq!(table.picture().node("n1").unwrap().other_lineage, None);
                assert!(table.picture().replica("n1", "data", SEVEN).known().is_some());
            }
        }
        let table = ObservedTable::default();
        table.open("n1", opened(1));
        let unseen =
            v1::Report { sequence: 1, full: true, replicas: vec![replica(0, 0)], ..Default::default() };
        table.report("n1", 1, unseen).unwrap();
        assert_eq!(table.picture().node("n1").unwrap().other_lineage, None, "nobody has looked yet");
    }

    #[tokio::test(start_paused = true)]
    async fn a_difference_is_dated_over_deltas_and_full_reports_of_a_session() {
        let table = ObservedTable::default();
        let second = Duration::from_secs(1);
        let differing = |sequence, full, out_of_sync_bytes| {
            let mut report = report(sequence, full, &[7]);
            report.replicas[0].peers = vec![v1::PeerObserved {
                node: "n2".into(),
                connection: "Connected".into(),
                volumes: vec![v1::PeerVolumeObserved { out_of_sync_bytes, ..Default::default() }],
                ..Default::default()
            }];
            report
        };
        let lasts = || table.picture().differing_for("n1", ("data", SEVEN), "n2", 0);
        table.open("n1", opened(1));
        for (sequence, full, bytes, expected) in [
            (1, true, 4096, 0),
            (2, false, 8192, 1),
            (3, true, 4096, 2),
            (4, false, 0, 0),
            (5, false, 512, 0),
        ] {
            table.report("n1", 1, differing(sequence, full, bytes)).unwrap();
            assert_eq!(lasts(), second * expected, "report {sequence}");
            tokio::time::advance(second).await;
        }
        assert_eq!(lasts(), second, "it lasts also while nothing is reported");
    }

    #[tokio::test(start_paused = true)]
    async fn a_sign_of_life_wakes_nobody_but_is_noted() {
        let table = ObservedTable::default();
        table.open("n1", opened(1));
        table.report("n1", 1, report(1, true, &[7])).unwrap();
        let mut changes = table.changes();
        changes.mark_unchanged();
        tokio::time::advance(Duration::from_secs(1)).await;

        table.report("n1", 1, report(2, false, &[])).unwrap();

        assert!(!changes.has_changed().unwrap());
        assert_eq!(table.picture().node("n1").unwrap().heard_at, Instant::now());
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_session_does_not_close_its_successor() {
        let table = ObservedTable::default();
        table.open("n1", opened(1));
        table.open("n1", opened(2));
        table.close("n1", 1);
        assert!(table.picture().is_online("n1"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_cannot_report_more_than_there_can_be() {
        let table = ObservedTable::default();
        table.open("n1", opened(1));
        let half: Vec<u64> = (1..=40_000).collect();
        let other_half: Vec<u64> = (40_001..=80_000).collect();
        table.report("n1", 1, report(1, true, &half)).unwrap();

        let refused = table.report("n1", 1, report(2, false, &other_half)).unwrap_err();

        assert!(matches!(refused, ReportRefused::TooMuch { .. }), "{refused}");
        assert_eq!(table.picture().node("n1").unwrap().replicas.len(), 40_000, "nothing of it was taken");
        table.report("n1", 1, report(2, true, &other_half)).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_inventory_belongs_to_its_session_and_has_a_limit() {
        let table = ObservedTable::default();
        table.open("n1", opened(2));
        let of = |count: usize| v1::Inventory { replicas: vec![v1::HeldReplica::default(); count] };
        assert_eq!(table.inventory("n1", 1, of(1)), Err(ReportRefused::Superseded(1)));
        assert!(matches!(table.inventory("n1", 2, of(65_537)), Err(ReportRefused::TooMuch { .. })));
        assert!(table.picture().node("n1").unwrap().inventory.is_none(), "nothing of it was taken");
        table.inventory("n1", 2, of(2)).unwrap();
        assert_eq!(table.picture().node("n1").unwrap().inventory.as_ref().unwrap().replicas.len(), 2);
    }

    #[test]
    fn hostile_reports_speak_only_of_their_own_node() {
        let volume = v1::VolumeObserved { number: 0, ..Default::default() };
        let mut whole = report(1, true, &[7, 8]);
        whole.replicas[0].volumes = vec![volume];
        whole.pools = vec![v1::PoolObserved { name: "fast".into(), ..Default::default() }];
        let removal = v1::RemovalConfirmed {
            resource: "data".into(),
            replica_incarnation: 9,
            revision: 20,
            lineage: 1,
        };
        whole.removed = vec![removal];
        check(&bytes(&[&whole.encode_to_vec()], &["data", "fast", "n2"]), |bytes| {
            let Ok(read) = v1::Report::decode(bytes.as_slice()) else { return };
            let table = ObservedTable::default();
            for node in ["n1", "n2"] {
                table.open(node, opened(1));
            }
            table.report("n2", 1, report(1, true, &[7])).unwrap();

            if let Err(refused) = table.report("n1", 1, read) {
                assert!(!refused.to_string().is_empty());
            }

            assert!(
                table.picture().replica("n2", "data", SEVEN).known().is_some(),
                "n2's own is still there"
            );
        });
    }
}
