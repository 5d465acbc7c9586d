//! After a restore: nodes say what they hold, and once all have, the state learns from it what became of everything
//! since the backup.
//!
//! It must never take the backup's word against that of a node which obeyed later orders, nor order a removal.

use hawser_proto::{
    names,
    v1::{ClusterRecord, ForgetHeld, HeldReplica, Node, RecordHeld, Replica, Resource, command::Command},
};

use self::learn::learn;
use super::lost;
use crate::{
    state::State,
    transaction::Transaction,
    verdict::{Denial, Success, Verdict},
};

mod learn;

/// More volumes no resource has.
const MOST_VOLUMES: usize = 64;
/// More peers no document names.
const MOST_PEERS: usize = 64;

/// Refuses what would remove something, hand out a number or decide who may write, as long as some node has not said
/// what it holds.
pub(super) fn check_settled(state: &State, command: &Command) -> Verdict<()> {
    use Command as C;
    let goes_on = matches!(
        command,
        C::AnnounceMember(_)
            | C::RecordMemberJoined(_)
            | C::RemoveMember(_)
            | C::Tick(_)
            | C::RaiseFeatureLevel(_)
            | C::Checksum(_)
            | C::CreateNode(_)
            | C::RecordNodeFacts(_)
            | C::NodeLost(_)
            | C::RecordHeld(_)
            | C::ForgetHeld(_)
            | C::RecordOperationReason(_)
    );
    if goes_on || !state.is_settling() {
        return Ok(());
    }
    Err(Denial::precondition(state.settling_words()))
}

pub(super) fn record_held(transaction: &mut Transaction<'_>, command: &RecordHeld) -> Verdict {
    let state = transaction.state();
    let known = state.node(&command.node).filter(|node| node.incarnation() == command.node_incarnation());
    let Some(node) = known.cloned() else {
        let message = format!(
            "node {} does not exist in incarnation {}",
            names::shown(&command.node),
            command.node_incarnation
        );
        return Err(Denial::not_found("node", message));
    };
    if state.has_reported(&node) {
        return Ok(Success::DONE);
    }
    let before: Vec<HeldReplica> = state.held_on(&node.name).cloned().collect();
    if command.before > 0 && before.len() != command.before as usize {
        return Err(Denial::stale(format!(
            "{} replicas that node {} holds are recorded, not {}",
            before.len(),
            node.name,
            command.before
        )));
    }
    let together = u64::from(command.before) + command.replicas.len() as u64;
    if together > u64::from(command.total) || (command.replicas.is_empty() && command.total > 0) {
        return Err(Denial::invalid("total", "there cannot be more parts than the whole has"));
    }
    let mut keys = std::collections::BTreeSet::new();
    for (position, held) in command.replicas.iter().enumerate() {
        check_held(&format!("replicas[{position}]"), &node.name, held, state)?;
        if !keys.insert((&held.resource, held.replica_incarnation)) {
            return Err(Denial::invalid(&format!("replicas[{position}]"), "it is named twice"));
        }
        let is_recorded = before.iter().any(|other| {
            (&other.resource, other.replica_incarnation) == (&held.resource, held.replica_incarnation)
        });
        if command.before > 0 && is_recorded {
            return Err(Denial::stale("it is recorded already"));
        }
    }
    if command.before == 0 {
        for stale in &before {
            transaction.remove_held(stale);
        }
    }
    for held in &command.replicas {
        transaction.put_held(held.clone());
    }
    if together == u64::from(command.total) {
        let held_lineage = transaction.state().cluster().lineage;
        let name = node.name.clone();
        transaction.put_node(Node { held_lineage, ..node });
        if !transaction.state().is_settling() {
            // Everybody else has reported long ago: what is known needs no further record.
            forget_known(transaction, Some(&name));
        }
    }
    settle_if_all_reported(transaction)?;
    Ok(Success::DONE)
}

fn check_held(field: &str, node: &str, held: &HeldReplica, state: &State) -> Verdict<()> {
    names::resource_name(&format!("{field}.resource"), &held.resource)?;
    let restored = state.restored().cloned().unwrap_or_default();
    let problem = if held.node != node {
        Some("it is another node's")
    } else if held.resource_incarnation == 0 || held.replica_incarnation == 0 {
        Some("it has no incarnation")
    } else if held.volumes.len() > MOST_VOLUMES || held.peers.len() > MOST_PEERS {
        Some("it has more parts than there can be")
    } else if held.lineage >= state.cluster().lineage {
        Some("it is of no earlier lineage")
    } else if held.replica_incarnation > restored.base || held.revision > restored.base {
        // Numbers of this lineage begin above what any earlier one has come to.
        Some(
            "it was made by an entry that no earlier lineage can have come to: restore with a higher --lineage",
        )
    } else {
        None
    };
    match problem {
        Some(problem) => Err(Denial::invalid(field, problem)),
        None => Ok(()),
    }
}

pub(super) fn forget_held(transaction: &mut Transaction<'_>, command: &ForgetHeld) -> Verdict {
    if transaction.state().is_settling() {
        return Err(Denial::precondition(transaction.state().settling_words()));
    }
    let found = transaction
        .state()
        .held_of(&command.resource)
        .find(|held| held.node == command.node && held.replica_incarnation == command.replica_incarnation);
    if let Some(held) = found.cloned() {
        transaction.remove_held(&held);
    }
    Ok(Success::DONE)
}

/// Ends the waiting, if nobody has to be waited for any more.
pub(super) fn settle_if_all_reported(transaction: &mut Transaction<'_>) -> Verdict<()> {
    let state = transaction.state();
    if !state.is_settling() || state.waits_for().next().is_some() {
        return Ok(());
    }
    let resources: Vec<String> = state.resources().map(|resource| resource.name.clone()).collect();
    for resource in &resources {
        learn(transaction, resource)?;
    }
    let cluster = transaction.state().cluster().clone();
    let restored = cluster.restored.clone().map(|mut restored| {
        restored.settling = false;
        restored
    });
    transaction.put_cluster(ClusterRecord { restored, ..cluster });
    forget_known(transaction, None);
    // Of a node that was declared lost meanwhile, the others let go now that it is known what they have.
    let lost: Vec<String> =
        transaction.state().nodes().filter(|node| node.is_lost()).map(|node| node.name.clone()).collect();
    for node in lost {
        lost::go_on_where_possible(transaction, &node)?;
    }
    Ok(())
}

/// Drops what is known, on one node or on all.
fn forget_known(transaction: &mut Transaction<'_>, node: Option<&str>) {
    let state = transaction.state();
    let known: Vec<HeldReplica> = state
        .held
        .values()
        .filter(|held| node.is_none_or(|node| held.node == node) && state.knows(held))
        .map(|held| (**held).clone())
        .collect();
    for held in known {
        transaction.remove_held(&held);
    }
}

/// Refuses to touch a resource of which a node holds a replica that the state does not know.
pub(super) fn check_not_contested(state: &State, resource: &Resource) -> Verdict<()> {
    let Some(held) = state.contested_by(resource) else { return Ok(()) };
    Err(Denial::precondition(format!(
        "resource {} is left alone: node {} holds a replica of it that was made after the backup which the cluster was \
         restored from, and may have what the others lack; `hawser cluster unknown` shows it. Once that replica has been \
         removed by hand, the resource can be used again",
        resource.name, held.node
    )))
}

/// Refuses a new resource under the name of one that a node holds and the state does not know.
pub(super) fn check_name_is_free(state: &State, name: &str) -> Verdict<()> {
    let nodes: Vec<&str> = state.unknown_of(name).map(|held| held.node.as_str()).collect();
    if nodes.is_empty() {
        return Ok(());
    }
    Err(Denial::already_exists(
        "name",
        format!(
            "a resource {name} was made after the backup which the cluster was restored from, and is still on {}: choose \
             another name, or remove it there by hand; `hawser cluster unknown` shows what there is of it",
            nodes.join(", ")
        ),
    ))
}

/// Refuses to let a node write that holds nothing of the resource.
pub(super) fn check_not_missing(resource: &Resource, node: &str) -> Verdict<()> {
    let is_missing = |replica: &Replica| replica.node == node && replica.is_missing();
    if resource.replicas.iter().all(|replica| !is_missing(replica)) {
        return Ok(());
    }
    Err(Denial::precondition(format!(
        "node {node} held nothing of resource {0} when the cluster was restored: it was removed since the backup, or never \
         made there, and is not made empty; `hawser resource delete {0}` or `hawser replica delete {0} {node}` ends it",
        resource.name
    )))
}

#[cfg(test)]
mod tests;
