//! What one satellite reported in its latest session.
//!
//! It must never take a report that is not the next one.

use hawser_proto::v1;
use imbl::OrdMap;
use tokio::time::Instant;

use super::differing::{self, Differing};

/// A replica's report and when it arrived.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplicaSeen {
    /// The report itself.
    pub observed: v1::ReplicaObserved,
    /// Arrival, on the leader's monotonic clock.
    pub at: Instant,
    /// Volumes that differ from a peer's without a resync.
    pub differing: Differing,
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

    pub(super) fn take_report(&mut self, report: v1::Report, now: Instant) -> Result<(), ReportRefused> {
        let expected = self.sequence + 1;
        if report.sequence != expected {
            return Err(ReportRefused::OutOfSequence { expected, found: report.sequence });
        }
        if !report.full && !self.complete {
            return Err(ReportRefused::FirstNotFull);
        }
        self.sequence = expected;
        let before = self.replicas.clone();
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
            let differed = before.get(&key).map(|seen| &seen.differing);
            let differing = differing::since(differed.unwrap_or(&Differing::new()), &observed, now);
            self.replicas.insert(key, ReplicaSeen { observed, at: now, differing });
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
