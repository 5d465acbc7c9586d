//! What the satellites reported to the present leader: facts, never stored, never older than the reign.
//!
//! Three-valued: a replica is certainly absent, unknown, or known as it was last seen. Only an open session
//! that has sent its full report makes anything certain. This room must never decide anything, and must
//! never let a report of a superseded session through.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hawser_proto::v1;
use imbl::OrdMap;
use tokio::{sync::watch, time::Instant};

/// What is known about one replica, by certainty.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sight<'a> {
    /// Certainly nothing of it is on the node.
    Absent,
    /// Something may be there; nobody looked since the session began, or nobody can look.
    Unknown,
    /// As the node's kernel showed it last.
    Known(&'a v1::ReplicaObserved),
}

impl<'a> Sight<'a> {
    /// The report, where the replica is known.
    #[must_use]
    pub fn known(self) -> Option<&'a v1::ReplicaObserved> {
        match self {
            Self::Known(observed) => Some(observed),
            Self::Absent | Self::Unknown => None,
        }
    }
}

/// A replica's report and when it arrived.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplicaSeen {
    /// The report itself.
    pub observed: v1::ReplicaObserved,
    /// Arrival, on the leader's monotonic clock.
    pub at: Instant,
}

/// How the satellite stands to its desired document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DocumentStanding {
    /// Lineage and revision that the satellite has on its disk.
    pub accepted: (u64, u64),
    /// Why it refused the last one; empty if it did not.
    pub refused: String,
    /// It holds other bytes than the leader renders for the same revision: an alarm.
    pub differs: bool,
}

/// All that one satellite reported in its latest session.
#[derive(Debug, Clone)]
pub struct NodeSeen {
    /// The session that reported it.
    pub session: u64,
    /// That session is open.
    pub online: bool,
    /// A full report has arrived in that session.
    pub complete: bool,
    /// The hello's description of the node.
    pub node: v1::NodeObserved,
    /// By name.
    pub pools: OrdMap<String, v1::PoolObserved>,
    /// By resource and replica incarnation.
    pub replicas: OrdMap<(String, u64), ReplicaSeen>,
    /// By resource and replica incarnation: the revision under which nothing was left of it.
    pub removed: OrdMap<(String, u64), u64>,
    /// Resources that do not carry Hawser's mark.
    pub foreign: Vec<String>,
    /// Minors and ports that something else holds.
    pub numbers: v1::NumbersObserved,
    /// How it stands to its document.
    pub document: DocumentStanding,
    /// When it last said anything.
    pub heard_at: Instant,
    /// Of the last report; reports rise by one.
    sequence: u64,
}

impl NodeSeen {
    /// The beginning of a session: nothing is certain yet.
    #[must_use]
    pub fn opened(session: u64, node: v1::NodeObserved, document: DocumentStanding, now: Instant) -> Self {
        Self {
            session,
            online: true,
            complete: false,
            node,
            pools: OrdMap::new(),
            replicas: OrdMap::new(),
            removed: OrdMap::new(),
            foreign: Vec::new(),
            numbers: v1::NumbersObserved::default(),
            document,
            heard_at: now,
            sequence: 0,
        }
    }

    fn take_report(&mut self, report: v1::Report, now: Instant) -> Result<(), ReportRefused> {
        let expected = self.sequence + 1;
        if report.sequence != expected {
            return Err(ReportRefused::OutOfSequence { expected, found: report.sequence });
        }
        if !report.full && !self.complete {
            return Err(ReportRefused::FirstNotFull);
        }
        self.sequence = expected;
        if report.full {
            self.complete = true;
            self.pools.clear();
            self.replicas.clear();
            self.removed.clear();
        }
        for pool in report.pools {
            self.pools.insert(pool.name.clone(), pool);
        }
        for observed in report.replicas {
            let key = (observed.resource.clone(), observed.replica_incarnation);
            self.replicas.insert(key, ReplicaSeen { observed, at: now });
        }
        for removal in report.removed {
            let key = (removal.resource, removal.replica_incarnation);
            self.replicas.remove(&key);
            self.removed.insert(key, removal.revision);
        }
        if report.full || !report.foreign.is_empty() {
            self.foreign = report.foreign;
        }
        if report.full || report.numbers.is_some() {
            self.numbers = report.numbers.unwrap_or_default();
        }
        Ok(())
    }
}

/// Why a report was not taken. The session ends; the satellite redials and reports in full.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReportRefused {
    /// A newer session of the same node is open, or the reign ended.
    #[error("session {0} was superseded; dial again")]
    Superseded(u64),
    /// A report was lost or repeated.
    #[error("report {found} arrived where {expected} was due; dial again and report in full")]
    OutOfSequence {
        /// Number that was due.
        expected: u64,
        /// Number that arrived.
        found: u64,
    },
    /// Deltas mean nothing before the first full report.
    #[error("the first report of a session must be full")]
    FirstNotFull,
}

/// An immutable picture of everything observed; cloning it is cheap.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    nodes: OrdMap<String, Arc<NodeSeen>>,
}

impl Observed {
    /// What was seen of a node in its latest session, also when that has ended.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&NodeSeen> {
        self.nodes.get(name).map(AsRef::as_ref)
    }

    /// All nodes that had a session in this reign, by name.
    pub fn nodes(&self) -> impl Iterator<Item = (&String, &NodeSeen)> {
        self.nodes.iter().map(|(name, seen)| (name, seen.as_ref()))
    }

    /// Whether a session of the node is open.
    #[must_use]
    pub fn is_online(&self, node: &str) -> bool {
        self.node(node).is_some_and(|seen| seen.online)
    }

    /// What is certain about a replica right now.
    #[must_use]
    pub fn replica(&self, node: &str, resource: &str, incarnation: u64) -> Sight<'_> {
        let Some(seen) = self.node(node).filter(|seen| seen.online && seen.complete) else {
            return Sight::Unknown;
        };
        match seen.replicas.get(&(resource.to_owned(), incarnation)) {
            None => Sight::Absent,
            Some(replica) => match replica.observed.presence() {
                v1::Presence::Absent => Sight::Absent,
                v1::Presence::Present => Sight::Known(&replica.observed),
                v1::Presence::Unknown | v1::Presence::Unspecified => Sight::Unknown,
            },
        }
    }

    /// The last report of a replica and its age, whether or not the session is still open. For display:
    /// decisions use [`Observed::replica`].
    #[must_use]
    pub fn last_seen(
        &self,
        node: &str,
        resource: &str,
        incarnation: u64,
        now: Instant,
    ) -> Option<(&v1::ReplicaObserved, Duration)> {
        let replica = self.node(node)?.replicas.get(&(resource.to_owned(), incarnation))?;
        Some((&replica.observed, now.saturating_duration_since(replica.at)))
    }

    /// Puts a node's picture in place. Tables of tests are made with it.
    pub fn insert(&mut self, node: &str, seen: NodeSeen) {
        self.nodes.insert(node.to_owned(), Arc::new(seen));
    }
}

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
        self.picture.lock().unwrap_or_else(PoisonError::into_inner).clone()
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

    use super::*;

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
