//! What one satellite reported in its latest session.
//!
//! It must never take a report that is not the next one.

use std::sync::Arc;

use hawser_proto::{
    ids::{DocumentVersion, Incarnation, Lineage, Revision},
    v1,
};
use imbl::OrdMap;
use tokio::time::Instant;

use super::differing::{self, Differing};

/// Pools, replicas and removals of one node: more than there are minors. A satellite that reports more has been
/// corrupted, and must not fill the leader's memory.
const MOST: usize = 65_536;

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
    /// What the satellite has on its disk.
    pub accepted: DocumentVersion,
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
    pub replicas: OrdMap<(String, Incarnation), ReplicaSeen>,
    /// By resource and replica incarnation: the revision under which nothing was left of it.
    pub removed: OrdMap<(String, Incarnation), Revision>,
    /// Resources that do not carry Hawser's mark.
    pub foreign: Vec<String>,
    /// Minors and ports that something else holds.
    pub numbers: v1::NumbersObserved,
    /// What it holds by the documents that it obeyed before a restore; `None` where it has not said.
    pub inventory: Option<Arc<v1::Inventory>>,
    /// By resource and replica incarnation: what is there of replicas that only those documents name.
    pub unknown: OrdMap<(String, Incarnation), v1::Presence>,
    /// The last report was of this lineage, which is not the cluster's: nothing of it was taken.
    pub other_lineage: Option<Lineage>,
    /// How it stands to its document.
    pub document: DocumentStanding,
    /// When it last said anything.
    pub heard_at: Instant,
    /// Of the last report; reports rise by one.
    sequence: u64,
    /// Of the cluster.
    lineage: Lineage,
}

impl NodeSeen {
    /// The beginning of a session with a cluster of this lineage: nothing is certain yet.
    #[must_use]
    pub fn opened(
        session: u64,
        lineage: Lineage,
        node: v1::NodeObserved,
        document: DocumentStanding,
        now: Instant,
    ) -> Self {
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
            inventory: None,
            unknown: OrdMap::new(),
            other_lineage: None,
            document,
            heard_at: now,
            sequence: 0,
            lineage,
        }
    }

    pub(super) fn take_report(&mut self, report: v1::Report, now: Instant) -> Result<(), ReportRefused> {
        let expected = self.sequence + 1;
        if report.sequence != expected {
            return Err(ReportRefused::OutOfSequence { expected, found: report.sequence });
        }
        if let Some(theirs) = other_lineage(&report, self.lineage) {
            self.sequence = expected;
            self.refuse(theirs);
            return Ok(());
        }
        if !report.full && !self.complete {
            // Of a node whose facts were refused, a mere sign of life asks for nothing.
            if self.other_lineage.is_some() && !says_something(&report) {
                self.sequence = expected;
                return Ok(());
            }
            return Err(ReportRefused::FirstNotFull);
        }
        let kept = self.replicas.len() + self.removed.len() + self.pools.len() + self.unknown.len();
        let kept = if report.full { 0 } else { kept };
        let reported = report.replicas.len() + report.removed.len() + report.pools.len();
        if kept + reported + report.unknown.len() > MOST {
            return Err(ReportRefused::TooMuch { limit: MOST });
        }
        self.sequence = expected;
        self.other_lineage = None;
        let before = self.replicas.clone();
        if report.full {
            self.complete = true;
            self.pools.clear();
            self.replicas.clear();
            self.removed.clear();
            self.unknown.clear();
        }
        for unknown in report.unknown {
            let (incarnation, presence) = (unknown.replica_incarnation(), unknown.presence());
            self.unknown.insert((unknown.resource, incarnation), presence);
        }
        for pool in report.pools {
            self.pools.insert(pool.name.clone(), pool);
        }
        for observed in report.replicas {
            let key = (observed.resource.clone(), observed.replica_incarnation());
            let differed = before.get(&key).map(|seen| &seen.differing);
            let differing = differing::since(differed.unwrap_or(&Differing::new()), &observed, now);
            self.replicas.insert(key, ReplicaSeen { observed, at: now, differing });
        }
        for removal in report.removed {
            let (incarnation, revision) = (removal.replica_incarnation(), removal.revision());
            let key = (removal.resource, incarnation);
            self.replicas.remove(&key);
            self.removed.insert(key, revision);
        }
        if report.full || !report.foreign.is_empty() {
            self.foreign = report.foreign;
        }
        if report.full || report.numbers.is_some() {
            self.numbers = report.numbers.unwrap_or_default();
        }
        Ok(())
    }

    pub(super) fn take_inventory(&mut self, inventory: v1::Inventory) -> Result<(), ReportRefused> {
        if inventory.replicas.len() > MOST {
            return Err(ReportRefused::TooMuch { limit: MOST });
        }
        self.inventory = Some(Arc::new(inventory));
        Ok(())
    }

    /// Takes nothing of another history: its log indices mean other things here.
    fn refuse(&mut self, theirs: Lineage) {
        if self.other_lineage != Some(theirs) {
            tracing::warn!(%theirs, ours = %self.lineage, "a node reports under orders of another lineage; nothing of it counts");
        }
        self.other_lineage = Some(theirs);
        self.complete = false;
        self.pools.clear();
        self.replicas.clear();
        self.removed.clear();
        self.unknown.clear();
    }
}

/// Whether a report has more to say than that the satellite lives.
pub(super) fn says_something(report: &v1::Report) -> bool {
    report.full
        || !(report.pools.is_empty()
            && report.replicas.is_empty()
            && report.removed.is_empty()
            && report.orders.is_empty()
            && report.foreign.is_empty()
            && report.unknown.is_empty()
            && report.numbers.is_none())
}

/// The first lineage in a report that is not the cluster's.
fn other_lineage(report: &v1::Report, ours: Lineage) -> Option<Lineage> {
    // Nobody has looked at a replica that is reported under no document.
    let replicas = report.replicas.iter().map(v1::ReplicaObserved::version);
    let replicas = replicas.filter(|version| *version != DocumentVersion::default());
    let removed = report.removed.iter().map(v1::RemovalConfirmed::version);
    let unknown = report.unknown.iter().map(v1::UnknownObserved::version);
    replicas
        .chain(removed)
        .chain(unknown)
        .map(|version| version.lineage)
        .chain(report.pools.iter().map(v1::PoolObserved::lineage))
        .chain(report.orders.iter().map(v1::OrderObserved::lineage))
        .find(|theirs| *theirs != ours)
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
    /// It would fill the leader's memory.
    #[error("a node has no more than {limit} pools, replicas and removals; this report is not taken")]
    TooMuch {
        /// The most that is kept.
        limit: usize,
    },
    /// Deltas mean nothing before the first full report.
    #[error("the first report of a session must be full")]
    FirstNotFull,
}
