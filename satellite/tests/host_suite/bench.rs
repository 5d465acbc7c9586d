//! What the conformance suite needs around a host: the other node, the link between them, what the arbiter
//! answers, and consumers of a gate. The real and the simulated world each have one.

use async_trait::async_trait;
use hawser_plan::step::{DrbdPeer, Mark, Provider};
use hawser_proto::ids::Incarnation;
use hawser_satellite::host::Host;

/// Which of the two nodes this side of the suite runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    A,
    B,
}

/// What the fence-peer handler of this node does from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arbiter {
    /// Waits for an answer.
    Silent,
    /// Exits 4: the peer is outdated.
    Yes,
    /// Exits 1.
    No,
}

/// A consumer that writes one record through a gate, and holds it open until it is dropped or killed.
#[async_trait]
pub(crate) trait Writer: Send {
    /// Whether the write has been acknowledged; waits a moment for it.
    async fn acknowledged(&mut self) -> bool;
    /// Sends SIGKILL. It may linger while its write is frozen.
    async fn kill(&mut self);
}

/// One side's surroundings.
#[async_trait]
pub(crate) trait Bench: Send + Sync {
    /// The host under test.
    fn host(&self) -> &dyn Host;
    /// Which node this is.
    fn side(&self) -> Side;
    /// The pool on this node.
    fn provider(&self) -> Provider;
    /// Brings a volume back to the moment in which it was made and is not fit for use yet. `false`: its kind has no such
    /// moment here.
    async fn unfinish(&self, name: &str) -> bool;
    /// Both replicas, side A's first, with ports from `port`.
    fn peers(&self, port: u16) -> Vec<DrbdPeer>;
    /// Waits until the other side is here too.
    ///
    /// # Errors
    /// The other side has failed.
    async fn meet(&self) -> Result<(), String>;
    /// Cuts the link, or mends it. Called on both sides at the same point.
    async fn link(&self, up: bool);
    /// What this node's handler does from now on.
    async fn arbiter(&self, answer: Arbiter);
    /// Makes a volume of that name that is not Hawser's.
    async fn make_foreign_volume(&self, name: &str);
    /// Removes it.
    async fn remove_foreign_volume(&self, name: &str);
    /// Starts a consumer that writes `record` to the beginning of the gate.
    async fn write(&self, gate: &str, record: u64) -> Box<dyn Writer>;
    /// Whether the first block of a volume that was just made is all zeros.
    async fn begins_with_zeros(&self, name: &str) -> bool;
    /// Whether the gate takes a discard of its first block.
    async fn takes_discards(&self, gate: &str) -> bool;
    /// The record at the beginning of the gate.
    async fn read(&self, gate: &str) -> u64;
}

/// The mark of everything that the suite makes.
pub(crate) fn mark(replica_incarnation: u64) -> Mark {
    Mark {
        cluster_id: "host-suite".to_owned(),
        resource: "suite".to_owned(),
        replica_incarnation: Incarnation::new(replica_incarnation),
        volume: 0,
    }
}
