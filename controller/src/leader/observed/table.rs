//! The present picture of what is observed, and who is told that it changed.
//!
//! It must never hold its lock while somebody reads a picture.

use std::sync::{Arc, Mutex, PoisonError};

use hawser_proto::v1;
use tokio::{sync::watch, time::Instant};

use super::{DocumentStanding, NodeSeen, Observed, ReportRefused};

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
        let says_something = report.full
            || !(report.pools.is_empty()
                && report.replicas.is_empty()
                && report.removed.is_empty()
                && report.orders.is_empty()
                && report.foreign.is_empty()
                && report.numbers.is_none());
        self.edit(node, session, says_something, |seen, now| seen.take_report(report, now))
            .unwrap_or(Err(ReportRefused::Superseded(session)))
    }

    /// Notes what the satellite answered to a document.
    pub fn answer(&self, node: &str, session: u64, answer: v1::DocumentAnswer) {
        self.edit(node, session, true, |seen, _| {
            if answer.refused.is_empty() {
                seen.document =
                    DocumentStanding { accepted: (answer.lineage, answer.revision), ..Default::default() };
            } else {
                seen.document.refused = answer.refused;
            }
        });
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

    use super::*;
    use crate::leader::observed::Sight;

    fn report(sequence: u64, full: bool, incarnations: &[u64]) -> v1::Report {
        v1::Report {
            sequence,
            full,
            replicas: incarnations
                .iter()
                .map(|incarnation| v1::ReplicaObserved {
                    resource: "data".into(),
                    replica_incarnation: *incarnation,
                    presence: v1::Presence::Present.into(),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        }
    }

    fn opened(session: u64) -> NodeSeen {
        NodeSeen::opened(session, Default::default(), Default::default(), Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn certainty_follows_the_session() {
        let table = ObservedTable::default();
        assert_eq!(table.picture().replica("n1", "data", 7), Sight::Unknown, "no session");

        table.open("n1", opened(1));
        assert_eq!(table.picture().replica("n1", "data", 7), Sight::Unknown, "no full report yet");

        table.report("n1", 1, report(1, true, &[7])).unwrap();
        assert!(table.picture().replica("n1", "data", 7).known().is_some());
        assert_eq!(table.picture().replica("n1", "data", 8), Sight::Absent, "another incarnation");

        table.close("n1", 1);
        let picture = table.picture();
        assert_eq!(picture.replica("n1", "data", 7), Sight::Unknown, "the session has ended");
        assert!(picture.last_seen("n1", "data", 7, Instant::now()).is_some(), "but it is still shown");

        table.open("n1", opened(2));
        assert!(table.picture().last_seen("n1", "data", 7, Instant::now()).is_none());
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
        assert_eq!(table.picture().replica("n1", "data", 7), Sight::Unknown);
    }

    #[tokio::test(start_paused = true)]
    async fn a_removal_replaces_the_replica_and_a_full_report_replaces_everything() {
        let table = ObservedTable::default();
        table.open("n1", opened(1));
        table.report("n1", 1, report(1, true, &[7, 8])).unwrap();
        let removal = v1::RemovalConfirmed { resource: "data".into(), replica_incarnation: 7, revision: 20 };
        table
            .report("n1", 1, v1::Report { sequence: 2, removed: vec![removal], ..Default::default() })
            .unwrap();
        let picture = table.picture();
        assert_eq!(picture.replica("n1", "data", 7), Sight::Absent);
        assert_eq!(picture.node("n1").unwrap().removed.get(&("data".into(), 7)), Some(&20));
        assert!(picture.replica("n1", "data", 8).known().is_some());

        table.report("n1", 1, report(3, true, &[])).unwrap();
        assert_eq!(table.picture().replica("n1", "data", 8), Sight::Absent);
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
        let lasts = || table.picture().differing_for("n1", ("data", 7), "n2", 0);
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
}
