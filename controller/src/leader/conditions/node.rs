//! Of nodes and their pools: reachable, reported, obeying, fit for use.
//!
//! It must never blame a pool or a replica for what its node lacks.

use hawser_proto::v1;
use hawser_state::State;

use super::condition;
use crate::leader::observed::{NodeSeen, Observed};

/// Of a node.
#[must_use]
pub fn of_node(state: &State, observed: Option<&Observed>, node: &v1::Node) -> Vec<v1::Condition> {
    let mut found = of_holdings(state, node);
    found.extend(of_reports(observed, node));
    found
}

/// Of what it holds since the cluster was restored.
fn of_holdings(state: &State, node: &v1::Node) -> Vec<v1::Condition> {
    let name = &node.name;
    if node.is_lost() || state.restored().is_none() {
        return Vec::new();
    }
    if !state.has_reported(node) {
        return vec![condition(
            "HoldingsUnknown",
            name,
            format!(
                "the cluster was restored from a backup, and node {name} has not said yet what it holds: nothing is sent to it \
                 or placed on it before that; bring it up, or declare it lost with `hawser node lost {name}`"
            ),
        )];
    }
    let unknown = state.unknown().filter(|held| held.node == *name).count();
    let holds = format!(
        "node {name} holds {unknown} replicas that were made after the backup which the cluster was restored from; they are \
         left alone, and `hawser cluster unknown` shows them"
    );
    if unknown == 0 || state.is_settling() {
        Vec::new()
    } else {
        vec![condition("UnknownReplicas", name, holds)]
    }
}

fn of_reports(observed: Option<&Observed>, node: &v1::Node) -> Vec<v1::Condition> {
    let name = &node.name;
    if node.is_lost() {
        return vec![condition(
            "NodeLost",
            name,
            format!(
                "node {name} was declared lost; once its replicas are gone, `hawser node delete {name}` forgets it"
            ),
        )];
    }
    let Some(observed) = observed else { return Vec::new() };
    let Some(seen) = observed.node(name).filter(|seen| seen.online) else {
        return vec![unreachable(name)];
    };
    let mut found = Vec::new();
    if !seen.complete {
        found.push(unreported(name, seen));
    }
    found.extend(of_document(name, node, seen));
    if !seen.node.missing.is_empty() {
        let missing = seen.node.missing.join(", ");
        found.push(condition("ToolsMissing", name, format!("node {name} lacks {missing}; install it there")));
    }
    let facts = seen.node.facts.clone().unwrap_or_default();
    if facts.drbd_generation() == v1::DrbdGeneration::DrbdGeneration84 && !facts.helper_can_run {
        found.push(condition(
            "HelperCannotRun",
            name,
            format!("the kernel of node {name} may not run DRBD's fence-peer helper, so it can have no replica of a \
                     two-node resource; enable usermode_helper there"),
        ));
    }
    if !seen.foreign.is_empty() {
        found.push(condition(
            "ForeignResources",
            name,
            format!(
                "node {name} has DRBD resources that are not Hawser's: {}; they are left alone",
                seen.foreign.join(", ")
            ),
        ));
    }
    found
}

pub(super) fn unreachable(node: &str) -> v1::Condition {
    condition(
        "NodeUnreachable",
        node,
        format!(
            "node {node} is not connected to the controllers; check the machine, its network and hawser-satellite"
        ),
    )
}

pub(super) fn unreported(node: &str, seen: &NodeSeen) -> v1::Condition {
    if let Some(theirs) = seen.other_lineage {
        return condition(
            "OtherLineage",
            node,
            format!(
                "node {node} reports what it has under orders of lineage {theirs}, which is not this cluster's; nothing \
                 of it counts until the node has stored this cluster's orders"
            ),
        );
    }
    condition("NotReported", node, format!("node {node} has connected but not yet reported what it has"))
}

pub(super) fn of_document(name: &str, node: &v1::Node, seen: &NodeSeen) -> Option<v1::Condition> {
    let document = &seen.document;
    if document.differs {
        return Some(condition(
            "DocumentDiffers",
            name,
            format!(
                "ALARM: node {name} holds other orders than the controllers have at revision {}; keep both for analysis",
                node.document_revision
            ),
        ));
    }
    if !document.refused.is_empty() {
        return Some(condition(
            "DocumentRefused",
            name,
            format!(
                "node {name} refused its orders of revision {}: {}",
                node.document_revision, document.refused
            ),
        ));
    }
    (document.accepted.revision < node.document_revision()).then(|| {
        condition(
            "DocumentPending",
            name,
            format!("node {name} has not yet stored its orders of revision {}", node.document_revision),
        )
    })
}

/// Of a storage pool.
#[must_use]
pub fn of_pool(observed: Option<&Observed>, pool: &v1::StoragePool) -> Vec<v1::Condition> {
    let Some(observed) = observed else { return Vec::new() };
    let Some(seen) = observed.node(&pool.node).filter(|seen| seen.online) else {
        return vec![unreachable(&pool.node)];
    };
    let report = seen.pools.get(&pool.name).filter(|report| report.incarnation() == pool.incarnation());
    match report {
        None => vec![condition(
            "NotReported",
            &pool.node,
            format!("node {} has not yet reported pool {}", pool.node, pool.name),
        )],
        Some(report) if !report.problem.is_empty() => vec![condition(
            "PoolUnusable",
            &pool.node,
            format!("pool {} on node {} cannot be used: {}", pool.name, pool.node, report.problem),
        )],
        Some(_) => Vec::new(),
    }
}
