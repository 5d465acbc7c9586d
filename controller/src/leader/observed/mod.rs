//! What the satellites reported to the present leader: facts, never stored, never older than the reign.
//!
//! Three-valued: a replica is certainly absent, unknown, or known as it was last seen. Only an open session
//! that has sent its full report makes anything certain. This room must never decide anything, and must
//! never let a report of a superseded session through.

pub mod differing;
mod node;
mod table;

use std::{sync::Arc, time::Duration};

use hawser_proto::{ids::Incarnation, v1};
use imbl::OrdMap;
use tokio::time::Instant;

pub use self::{
    node::{DocumentStanding, NodeSeen, ReplicaSeen, ReportRefused},
    table::ObservedTable,
};

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

/// An immutable picture of everything observed; cloning it is cheap.
#[derive(Debug, Clone)]
pub struct Observed {
    nodes: OrdMap<String, Arc<NodeSeen>>,
    /// When it was taken, on the leader's monotonic clock.
    taken_at: Instant,
}

impl Default for Observed {
    /// The picture of nothing, taken now.
    fn default() -> Self {
        Self { nodes: OrdMap::new(), taken_at: Instant::now() }
    }
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
    pub fn replica(&self, node: &str, resource: &str, incarnation: Incarnation) -> Sight<'_> {
        let Some(seen) = self.reporting(node) else { return Sight::Unknown };
        match seen.replicas.get(&(resource.to_owned(), incarnation)) {
            None => Sight::Absent,
            Some(replica) => match replica.observed.presence() {
                v1::Presence::Absent => Sight::Absent,
                v1::Presence::Present => Sight::Known(&replica.observed),
                v1::Presence::Unknown | v1::Presence::Unspecified => Sight::Unknown,
            },
        }
    }

    /// What the node says of a replica right now, whatever of it is there. For conditions that the report states
    /// each by itself: it need not prove that the replica as a whole is there.
    #[must_use]
    pub fn report(
        &self,
        node: &str,
        resource: &str,
        incarnation: Incarnation,
    ) -> Option<&v1::ReplicaObserved> {
        let seen = self.reporting(node)?;
        seen.replicas.get(&(resource.to_owned(), incarnation)).map(|replica| &replica.observed)
    }

    /// A node whose session is open and has reported everything.
    fn reporting(&self, node: &str) -> Option<&NodeSeen> {
        self.node(node).filter(|seen| seen.online && seen.complete)
    }

    /// The last report of a replica and its age, whether or not the session is still open. For display:
    /// decisions use [`Observed::replica`].
    #[must_use]
    pub fn last_seen(
        &self,
        node: &str,
        resource: &str,
        incarnation: Incarnation,
        now: Instant,
    ) -> Option<(&v1::ReplicaObserved, Duration)> {
        let replica = self.node(node)?.replicas.get(&(resource.to_owned(), incarnation))?;
        Some((&replica.observed, now.saturating_duration_since(replica.at)))
    }

    /// For how long a replica's volume had differed from a peer's without a resync when the picture was taken.
    #[must_use]
    pub fn differing_for(
        &self,
        node: &str,
        replica: (&str, Incarnation),
        peer: &str,
        volume: u32,
    ) -> Duration {
        let (resource, incarnation) = replica;
        let seen = self.node(node).and_then(|seen| seen.replicas.get(&(resource.to_owned(), incarnation)));
        let since = seen.and_then(|seen| seen.differing.get(&(peer.to_owned(), volume)));
        since.map_or(Duration::ZERO, |since| self.taken_at.saturating_duration_since(*since))
    }

    /// Puts a node's picture in place. Tables of tests are made with it.
    pub fn insert(&mut self, node: &str, seen: NodeSeen) {
        self.nodes.insert(node.to_owned(), Arc::new(seen));
    }
}
