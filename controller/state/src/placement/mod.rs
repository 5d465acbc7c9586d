//! Where replicas go: one solver for everything that places.
//!
//! First hard filters, each refusal in words, then integer scores. It always tells its reasons, for
//! every node chosen and every node refused. It must never place on what it does not know.

mod fit;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use hawser_proto::{
    names, sizes,
    v1::{
        DrbdGeneration, Layer, Node, PlacedReplica, RejectionReason, Resource, StoragePool,
        storage_pool::Provider,
    },
};

pub(crate) use self::fit::{Need, maximum_peers, node_fits, pool_fits};
use crate::{capacity::promisable_bytes, state::State};

/// A thin pool whose metadata is this full takes no further volume: one that runs out of it stops.
const FULLEST_THIN_METADATA_PERMYRIAD: u32 = 9000;

/// A thin pool with less free than this takes no further volume.
const LEAST_THIN_FREE_PERCENT: u32 = 5;

/// Why a node takes nothing that has not said what it holds since the cluster was restored.
pub(crate) const NOT_REPORTED: &str = "it has not said yet what it holds since the cluster was restored";

const WEIGHT_PROMISABLE: u64 = 2;
const WEIGHT_FREE: u64 = 3;
const WEIGHT_FEW_REPLICAS: u64 = 1;

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
    let need = check_request(state, request)?;
    let judged: Vec<(&Node, Result<Candidate<'_>, String>)> =
        state.nodes().map(|node| (node, candidate(state, observed, request, need, node))).collect();

    // DRBD 9 first; the generations never mix in one resource.
    let generations =
        [DrbdGeneration::DrbdGeneration9, DrbdGeneration::DrbdGeneration84, DrbdGeneration::Unspecified];
    let chosen = generations.into_iter().find_map(|generation| choose(&judged, generation, need.replicas));

    let reasons = reasons(&judged, chosen.as_deref().unwrap_or_default());
    let Some(chosen) = chosen else { return Err(refusal(need.replicas, &judged, reasons)) };
    let replicas = chosen.iter().map(|candidate| candidate.placed()).collect();
    Ok(Placement { replicas, computed_at_revision: state.revision(), reasons })
}

/// Chooses a pool on `node` for a further replica of `resource`; of these names only, unless `pool` is empty.
///
/// # Errors
/// The node is not there or cannot take it, and why.
pub fn place_beside(
    state: &State,
    observed: &PlacementFacts,
    resource: &Resource,
    (node, pool): (&str, &str),
) -> Result<Placement, Refusal> {
    let refused = |reason, field: &str, message: String| Refusal {
        reason,
        field: field.to_owned(),
        message,
        reasons: Vec::new(),
    };
    let Some(found) = state.node(node) else {
        let message =
            format!("node {} does not exist; `hawser node list` shows what there is", names::shown(node));
        return Err(refused(RejectionReason::NotFound, "node", message));
    };
    let request = PlacementRequest {
        replicas: u32::try_from(resource.replicas.len()).unwrap_or(u32::MAX).saturating_add(1),
        pool: pool.to_owned(),
        nodes: vec![node.to_owned()],
        layers: resource.layers().collect(),
        volume_sizes: resource.volumes.iter().map(|volume| volume.size_bytes).collect(),
    };
    let need = Need {
        replicas: request.replicas as usize,
        layers: &request.layers,
        volume_sizes: &request.volume_sizes,
    };
    match candidate(state, observed, &request, need, found) {
        Ok(candidate) => Ok(Placement {
            replicas: vec![candidate.placed()],
            computed_at_revision: state.revision(),
            reasons: Vec::new(),
        }),
        Err(reason) => Err(refused(
            RejectionReason::NoCapacity,
            "",
            format!("node {node} cannot take a replica of resource {}: {reason}", resource.name),
        )),
    }
}

/// A node that can take a replica, with the best of its pools.
#[derive(Clone, Debug)]
struct Candidate<'a> {
    node: &'a Node,
    pool: &'a StoragePool,
    generation: DrbdGeneration,
    score: u64,
}

impl Candidate<'_> {
    fn placed(&self) -> PlacedReplica {
        PlacedReplica {
            node: self.node.name.clone(),
            node_incarnation: self.node.incarnation,
            pool: self.pool.name.clone(),
            pool_incarnation: self.pool.incarnation,
            avoided_ports: Vec::new(),
        }
    }
}

fn check_request<'a>(state: &State, request: &'a PlacementRequest) -> Result<Need<'a>, Refusal> {
    let refused = |reason, field: &str, message: String| Refusal {
        reason,
        field: field.to_owned(),
        message,
        reasons: Vec::new(),
    };
    let invalid = |field: &str, message: String| refused(RejectionReason::Invalid, field, message);
    if request.replicas == 0 {
        return Err(invalid("replicas", "a resource has at least 1 replica".to_owned()));
    }
    if request.volume_sizes.is_empty() {
        return Err(invalid("volume_sizes", "a resource has at least 1 volume".to_owned()));
    }
    let mut asked = BTreeSet::new();
    for (position, name) in request.nodes.iter().enumerate() {
        let field = format!("nodes[{position}]");
        if state.node(name).is_none() {
            let message =
                format!("node {} does not exist; `hawser node list` shows what there is", names::shown(name));
            return Err(refused(RejectionReason::NotFound, &field, message));
        }
        if !asked.insert(name) {
            return Err(invalid(&field, format!("node {name} is named twice")));
        }
    }
    let replicas = request.replicas as usize;
    if !asked.is_empty() && asked.len() != replicas {
        return Err(invalid("nodes", format!("{} nodes are named for {replicas} replicas", asked.len())));
    }
    Ok(Need { replicas, layers: &request.layers, volume_sizes: &request.volume_sizes })
}

fn candidate<'a>(
    state: &'a State,
    observed: &PlacementFacts,
    request: &PlacementRequest,
    need: Need<'_>,
    node: &'a Node,
) -> Result<Candidate<'a>, String> {
    if !request.nodes.is_empty() && !request.nodes.contains(&node.name) {
        return Err("it is not among the nodes that were asked for".to_owned());
    }
    let condition = observed.nodes.get(&node.name).filter(|condition| condition.online);
    let Some(condition) = condition else { return Err("its satellite is not connected".to_owned()) };
    if !state.has_reported(node) {
        return Err(NOT_REPORTED.to_owned());
    }
    let generation = node_fits(node, need).map_err(|reason| with_missing(reason, &condition.missing))?;

    let bytes = need.bytes(generation);
    let mut refusals = Vec::new();
    let mut best: Option<Candidate<'a>> = None;
    for pool in state.pools_on(&node.name).filter(|pool| request.pool.is_empty() || pool.name == request.pool)
    {
        let observed = observed.pools.get(&(node.name.clone(), pool.name.clone()));
        match pool_fits(pool, bytes).and_then(|()| has_room(pool, observed, bytes)) {
            Ok(free_bytes) => {
                let score = score(state, pool, free_bytes, bytes);
                if best.as_ref().is_none_or(|best| score > best.score) {
                    best = Some(Candidate { node, pool, generation, score });
                }
            }
            Err(reason) => refusals.push(reason),
        }
    }
    match (best, request.pool.as_str()) {
        (Some(best), _) => Ok(best),
        (None, _) if !refusals.is_empty() => Err(refusals.join("; ")),
        (None, "") => Err("it has no storage pool".to_owned()),
        (None, pool) => Err(format!("it has no storage pool named {pool}")),
    }
}

fn with_missing(reason: String, missing: &[String]) -> String {
    if missing.is_empty() { reason } else { format!("{reason}; missing there: {}", missing.join(", ")) }
}

/// Bytes that are free in the pool right now, if they are known and enough.
fn has_room(pool: &StoragePool, observed: Option<&PoolCondition>, bytes: u64) -> Result<u64, String> {
    let Some(observed) = observed else { return Err(format!("nothing is known of pool {} yet", pool.name)) };
    if !observed.problem.is_empty() {
        return Err(format!("pool {}: {}", pool.name, observed.problem));
    }
    let free = observed.free_bytes;
    if matches!(pool.provider, Some(Provider::LvmThin(_))) {
        if observed.metadata_used_permyriad >= FULLEST_THIN_METADATA_PERMYRIAD {
            return Err(format!(
                "the metadata of thin pool {} is {} % full",
                pool.name,
                observed.metadata_used_permyriad / 100
            ));
        }
        if u128::from(free) * 100 < u128::from(pool.capacity_bytes) * u128::from(LEAST_THIN_FREE_PERCENT) {
            return Err(format!("thin pool {} has less than {LEAST_THIN_FREE_PERCENT} % free", pool.name));
        }
    } else if free < bytes {
        return Err(format!(
            "pool {} has {} free, and {} are needed",
            pool.name,
            sizes::format(free),
            sizes::format(bytes)
        ));
    }
    Ok(free)
}

/// What speaks for a pool: what it may still promise, what is really free, and how few replicas its node
/// has. The first two relative to the pool's size, so that small pools fill as evenly as large ones.
fn score(state: &State, pool: &StoragePool, free_bytes: u64, bytes: u64) -> u64 {
    let permille = |part: u64, whole: u64| {
        u64::try_from(u128::from(part) * 1000 / u128::from(whole.max(1))).unwrap_or(1000).min(1000)
    };
    let promisable = promisable_bytes(pool);
    let promisable_left = promisable.saturating_sub(pool.promised_bytes).saturating_sub(bytes);
    let replicas = state.count_resources_on(&pool.node) as u64;
    WEIGHT_PROMISABLE * permille(promisable_left, promisable)
        + WEIGHT_FREE * permille(free_bytes.saturating_sub(bytes), pool.capacity_bytes)
        + WEIGHT_FEW_REPLICAS * 1000 / (1 + replicas)
}

/// The best `replicas` candidates of one generation; of equal ones those with the smaller names.
fn choose<'a>(
    judged: &[(&'a Node, Result<Candidate<'a>, String>)],
    generation: DrbdGeneration,
    replicas: usize,
) -> Option<Vec<Candidate<'a>>> {
    let mut candidates: Vec<&Candidate<'a>> = judged
        .iter()
        .filter_map(|(_, judgement)| judgement.as_ref().ok())
        .filter(|candidate| candidate.generation == generation)
        .collect();
    candidates.sort_by_key(|candidate| Reverse(candidate.score));
    // DRBD finds its own section by `uname -n`.
    let mut unames = BTreeSet::new();
    candidates.retain(|candidate| candidate.node.uname.is_empty() || unames.insert(&candidate.node.uname));
    candidates.truncate(replicas);
    (candidates.len() == replicas).then(|| candidates.into_iter().cloned().collect())
}

fn reasons(judged: &[(&Node, Result<Candidate<'_>, String>)], chosen: &[Candidate<'_>]) -> Vec<NodeReason> {
    let reason = |(node, judgement): &(&Node, Result<Candidate<'_>, String>)| {
        let is_chosen = chosen.iter().any(|candidate| candidate.node.name == node.name);
        match judgement {
            Err(reason) => NodeReason {
                node: node.name.clone(),
                pool: String::new(),
                chosen: false,
                reason: reason.clone(),
            },
            Ok(candidate) => {
                let words = match (is_chosen, chosen.is_empty()) {
                    (true, _) => "chosen",
                    (false, true) => "it fits, but too few others of its DRBD do",
                    (false, false) => "it fits, but others fit better",
                };
                NodeReason {
                    node: node.name.clone(),
                    pool: candidate.pool.name.clone(),
                    chosen: is_chosen,
                    reason: format!("{words} (pool {}, score {})", candidate.pool.name, candidate.score),
                }
            }
        }
    };
    judged.iter().map(reason).collect()
}

fn refusal(
    replicas: usize,
    judged: &[(&Node, Result<Candidate<'_>, String>)],
    reasons: Vec<NodeReason>,
) -> Refusal {
    let fitting = judged.iter().filter(|(_, judgement)| judgement.is_ok()).count();
    let nodes: Vec<String> =
        reasons.iter().map(|reason| format!("{}: {}", reason.node, reason.reason)).collect();
    let message = if nodes.is_empty() {
        format!("{replicas} replicas need as many nodes, and there is none: run `hawser node create`")
    } else {
        format!(
            "{replicas} replicas need as many nodes, and {fitting} of {} fit. {}",
            nodes.len(),
            nodes.join(". ")
        )
    };
    Refusal { reason: RejectionReason::NoCapacity, field: String::new(), message, reasons }
}

#[cfg(test)]
mod tests;
