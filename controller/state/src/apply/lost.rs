//! A node is declared lost: a person asserts that it is off, and that what it holds never comes back.
//!
//! What it would have to confirm counts as confirmed, and the others go on without it by the arbiter's own rules. It
//! must never give up the last complete copy of a resource that was not named.

use hawser_proto::{
    ids::OutdateNumber,
    names,
    v1::{
        Node, NodeLost, OperationKind, OperationReason, OperationState, Replica, ReplicaKind,
        ReplicaLifecycle, Resource, ResourceLifecycle,
    },
};

use super::{
    arbitration::{complete_beside, is_outdated, with_outdated, without_owner},
    replica, resource, restore,
};
use crate::{
    operations::{self, Target},
    state::State,
    transaction::Transaction,
    verdict::{Denial, Success, Verdict},
};

/// So many resources are named in a refusal.
const MOST_NAMED: usize = 10;

pub(super) fn lost(transaction: &mut Transaction<'_>, command: &NodeLost) -> Verdict {
    let state = transaction.state();
    let name = &command.node;
    let known = state.node(name).filter(|node| node.incarnation() == command.incarnation());
    let Some(node) = known.cloned() else {
        let message =
            format!("node {} does not exist in incarnation {}", names::shown(name), command.incarnation);
        return Err(Denial::not_found("name", message));
    };
    if state.is_settling() {
        return lost_before_it_is_settled(transaction, node, command);
    }
    let resources: Vec<Resource> = untouched_on(state, name);
    let given_up: Vec<&str> = resources
        .iter()
        .filter(|resource| has_the_last_complete_copy(resource, name))
        .map(|resource| resource.name.as_str())
        .collect();
    if node.is_lost() && given_up.is_empty() {
        return Ok(Success::DONE);
    }
    check_named(name, &given_up, &command.accept_data_loss)?;

    if !node.is_lost() {
        transaction.put_node(Node { lost_since: transaction.index, ..node });
    }
    for resource in &resources {
        end_attachment(transaction, &resource.name, name)?;
        go_on_without(transaction, &resource.name, name)?;
    }
    Ok(Success::DONE)
}

/// What the others have is known only when all of them have said what they hold; until then nothing can be given up.
fn lost_before_it_is_settled(transaction: &mut Transaction<'_>, node: Node, command: &NodeLost) -> Verdict {
    if !command.accept_data_loss.is_empty() {
        return Err(Denial::invalid(
            "accept_data_loss",
            "the cluster was restored, and what the other nodes have is not known yet: declare the node lost without \
             giving anything up, and once all others have reported, name what may be given up",
        ));
    }
    if !node.is_lost() {
        transaction.put_node(Node { lost_since: transaction.index, ..node });
    }
    restore::settle_if_all_reported(transaction)?;
    Ok(Success::DONE)
}

/// Goes on without a lost node with what has a complete copy elsewhere. What has none waits for a person to name it.
pub(super) fn go_on_where_possible(transaction: &mut Transaction<'_>, node: &str) -> Verdict<()> {
    for resource in untouched_on(transaction.state(), node) {
        if !has_the_last_complete_copy(&resource, node) {
            end_attachment(transaction, &resource.name, node)?;
            go_on_without(transaction, &resource.name, node)?;
        }
    }
    Ok(())
}

/// The resources with a replica on a node, without those that are left alone.
fn untouched_on(state: &State, node: &str) -> Vec<Resource> {
    state.resources_on(node).filter(|resource| !state.is_contested(resource)).cloned().collect()
}

/// Whether acknowledged writes may be on this node alone.
fn has_the_last_complete_copy(resource: &Resource, node: &str) -> bool {
    let is_complete = |replica: &Replica| {
        replica.node == node
            && replica.kind() == ReplicaKind::Diskful
            && !replica.is_going()
            && !resource.arbitration.as_ref().is_some_and(|known| is_outdated(known, node))
    };
    resource.lifecycle() == ResourceLifecycle::Ready
        && resource.replicas.iter().any(is_complete)
        && complete_beside(resource, node).next().is_none()
}

/// What is given up has to be named, and nothing else.
fn check_named(node: &str, given_up: &[&str], named: &[String]) -> Verdict<()> {
    for (position, name) in named.iter().enumerate() {
        if !given_up.contains(&name.as_str()) {
            let message = format!(
                "the last complete copy of resource {} is not on node {node}, so none of its data is given up: leave it \
                 out",
                names::shown(name)
            );
            return Err(Denial::invalid(&format!("accept_data_loss[{position}]"), message));
        }
    }
    let unnamed: Vec<&str> =
        given_up.iter().copied().filter(|name| !named.iter().any(|named| named == name)).collect();
    if unnamed.is_empty() {
        return Ok(());
    }
    let more = unnamed.len().saturating_sub(MOST_NAMED);
    let and_more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let shown = unnamed.iter().take(MOST_NAMED).copied().collect::<Vec<_>>().join(", ");
    Err(Denial::precondition(format!(
        "node {node} has the last complete copy of {shown}{and_more}: bring the node back, or name each of them as one \
         whose data may be given up"
    )))
}

/// Nobody holds the resource on a node that is off: the attachment ends, and with it the node's right to write.
fn end_attachment(transaction: &mut Transaction<'_>, resource: &str, node: &str) -> Verdict<()> {
    if transaction.state().attachment(resource, node).is_none() {
        return Ok(());
    }
    transaction.remove_attachment(resource, node);
    let target = (resource, node);
    operations::end(transaction, OperationKind::Attach, target, OperationState::Failed, Some(was_lost(node)));
    operations::end(transaction, OperationKind::Detach, target, OperationState::Succeeded, None);
    let Some(held) = transaction.state().resource(resource).cloned() else { return Ok(()) };
    let arbitration = held.arbitration.clone().unwrap_or_default();
    if arbitration.owner == node {
        let arbitration = Some(without_owner(arbitration));
        transaction.put_resource(Resource { arbitration, ..held })?;
    }
    Ok(())
}

/// Takes the node's replica out. Where others stay they let go of it first, as of any replica that leaves.
fn go_on_without(transaction: &mut Transaction<'_>, name: &str, node: &str) -> Verdict<()> {
    let Some(resource) = transaction.state().resource(name).cloned() else { return Ok(()) };
    let stays = |replica: &&Replica| {
        replica.node != node
            && replica.kind() == ReplicaKind::Diskful
            && !replica.is_going()
            && !is_on_lost_node(transaction.state(), replica)
    };
    let staying: Vec<String> =
        resource.replicas.iter().filter(stays).map(|replica| replica.node.clone()).collect();
    if resource.lifecycle() == ResourceLifecycle::Ready && !staying.is_empty() {
        return leave(transaction, resource, node, &staying);
    }
    // What is not ready has no data, and what nobody else has is gone.
    if resource.lifecycle() != ResourceLifecycle::Deleting {
        resource::begin_deletion(transaction, resource)?;
    }
    replica::forget(transaction, name, node)
}

fn leave(
    transaction: &mut Transaction<'_>,
    resource: Resource,
    node: &str,
    staying: &[String],
) -> Verdict<()> {
    let (name, resource_incarnation) = (resource.name.clone(), resource.incarnation());
    let Some(lifecycle) =
        resource.replicas.iter().find(|replica| replica.node == node).map(|it| it.lifecycle())
    else {
        return Ok(());
    };
    match lifecycle {
        // The others have let go already.
        ReplicaLifecycle::Removing | ReplicaLifecycle::Removed => {
            return replica::forget(transaction, &name, node);
        }
        ReplicaLifecycle::Leaving => return Ok(()),
        ReplicaLifecycle::Creating | ReplicaLifecycle::Ready | ReplicaLifecycle::Unspecified => {}
    }
    let gives_up = has_the_last_complete_copy(&resource, node);
    let arbitration = resource.arbitration.clone().unwrap_or_default();
    let mut arbitration = with_outdated(arbitration, node, OutdateNumber::new(transaction.index));
    if gives_up {
        // A person gave up what this node alone had: what the others have is all that there is.
        arbitration.outdated.retain(|outdated| !staying.contains(&outdated.node));
    }
    let mut without = Resource { arbitration: Some(arbitration), ..resource };
    replica::order(&mut without, node, ReplicaLifecycle::Leaving, transaction.index);
    transaction.put_resource(without)?;
    let (create, target) = (OperationKind::CreateReplica, (name.as_str(), node));
    operations::end(transaction, create, target, OperationState::Cancelled, Some(was_lost(node)));
    let target = Target { kind: OperationKind::DeleteReplica, resource: &name, resource_incarnation, node };
    operations::start(transaction, target);
    Ok(())
}

/// Whether a replica lies on a node that was declared lost.
pub(super) fn is_on_lost_node(state: &State, replica: &Replica) -> bool {
    state.node(&replica.node).is_some_and(Node::is_lost)
}

fn was_lost(node: &str) -> OperationReason {
    OperationReason {
        node: node.to_owned(),
        message: format!("node {node} was declared lost"),
        ..OperationReason::default()
    }
}

#[cfg(test)]
mod tests;
