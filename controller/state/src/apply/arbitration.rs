//! Raft as the arbiter of two replicas: who may write, and whose copy is known to be behind. How the right to write
//! goes from one node to another is in [`take_over`](super::take_over).
//!
//! The rules of this file, on which every acknowledged write rests:
//! * a copy that is not outdated holds every acknowledged write; at least one such copy is left, always;
//! * whoever goes on without a peer has had it outdated first;
//! * an outdated copy never gets an owner, until the very outdating that stands is answered by a sync, or a person who
//!   declares a node lost gives up what that node alone had;
//! * a copy that joins is outdated from its first entry on, and one that leaves for good.
//!
//! It must never weigh who asked first, or what anybody observed: its own records decide alone.

use hawser_planted::{Defect, is_planted};
use hawser_proto::{
    ids::OutdateNumber,
    names,
    v1::{
        Arbitration, OperationKind, OperationState, Outdate, OutdatedReplica, RejectionReason, ReplicaKind,
        ReplicaLifecycle, Resource, ResourceLifecycle, Synced,
    },
};

use super::{attachment, replica, resource, restore};
use crate::{
    operations,
    transaction::Transaction,
    verdict::{Denial, Success, Verdict},
};

/// Notes that a copy falls behind: at the word of the leader, of the copy's own node, or of the owner, which
/// then goes on without it. It gets a new number even if it is outdated already: the link broke
/// again, and a sync seen before that proves nothing any more.
///
/// The last copy that is not outdated is never outdated, whoever asks: not by the leader's own proposal,
/// and not by the owner for itself when its disk fails. Where another such copy is left the owner's own
/// may be outdated; it remains the owner, for it goes on writing through its peer, but it can no longer
/// have that peer outdated.
pub(super) fn outdate(transaction: &mut Transaction<'_>, command: &Outdate) -> Verdict {
    let meant = resource::named(transaction, &command.resource, command.resource_incarnation())?;
    let resource = attachment::attachable(transaction, &meant.name)?;
    let arbitration = resource.arbitration.clone().unwrap_or_default();
    check_diskful(&resource, &command.node)?;
    // About its own copy a node needs no right: nobody knows better that it falls behind.
    let asks_about_a_peer = !command.owner.is_empty() && command.owner != command.node;
    let owns = command.owner == arbitration.owner && command.generation() == arbitration.generation();
    if asks_about_a_peer && !owns {
        return Err(Denial::not_owner(format!(
            "node {} does not own resource {} at generation {}: {}",
            names::shown(&command.owner),
            resource.name,
            command.generation,
            in_words(&arbitration)
        )));
    }
    if complete_beside(&resource, &command.node).next().is_none() {
        return Err(Denial::outdated(format!(
            "the replica of resource {} on node {} is the last that is known to be complete",
            resource.name, command.node
        )));
    }
    let number = OutdateNumber::new(transaction.index);
    let arbitration = with_outdated(arbitration, &command.node, number);
    transaction.put_resource(Resource { arbitration: Some(arbitration), ..resource })?;
    Ok(Success::outdated(number))
}

/// Clears the outdating that `number` names. Where another one stands by now, nothing is cleared and the
/// command is rejected; where none stands there is nothing to clear, and it is applied. It is also what makes a
/// replica ready that joined.
///
/// That of a replica that is to be removed stays: the others let go of it, and write without it.
pub(super) fn synced(transaction: &mut Transaction<'_>, command: &Synced) -> Verdict {
    let mut resource = resource::named(transaction, &command.resource, command.resource_incarnation())?;
    let mut arbitration = resource.arbitration.clone().unwrap_or_default();
    check_diskful(&resource, &command.node)?;
    check_stays(&resource, &command.node)?;
    if resource.lifecycle() == ResourceLifecycle::Creating {
        // Without the mark it would be told to start from the first generation, as if it were made together with all.
        let message = format!("resource {} is still being created", resource.name);
        return Err(Denial::precondition(message));
    }
    let Some(standing) = outdated_number(&arbitration, &command.node) else { return Ok(Success::DONE) };
    if standing != command.number() && !is_planted(Defect::SyncedIgnoresNumber) {
        return Err(Denial::precondition(format!(
            "the replica of resource {} on node {} was outdated again by entry {standing}, after entry {}",
            resource.name, command.node, command.number
        )));
    }
    arbitration.outdated.retain(|outdated| outdated.node != command.node);
    let has_joined = match replica::on(&mut resource, &command.node) {
        Some(replica) if replica.lifecycle() == ReplicaLifecycle::Creating => {
            replica.set_lifecycle(ReplicaLifecycle::Ready);
            true
        }
        _ => false,
    };
    transaction.put_resource(Resource { arbitration: Some(arbitration), ..resource })?;
    if has_joined {
        let target = (command.resource.as_str(), command.node.as_str());
        operations::end(transaction, OperationKind::CreateReplica, target, OperationState::Succeeded, None);
    }
    Ok(Success::DONE)
}

/// Whether `node` may become the owner: it has a complete copy.
pub(super) fn check_may_own(transaction: &Transaction<'_>, resource: &Resource, node: &str) -> Verdict<()> {
    if transaction.state().node(node).is_none() {
        return Err(Denial::not_found("node", format!("node {} does not exist", names::shown(node))));
    }
    check_diskful(resource, node)?;
    check_stays(resource, node)?;
    restore::check_not_missing(resource, node)?;
    let arbitration = resource.arbitration.clone().unwrap_or_default();
    let Some(number) = outdated_number(&arbitration, node) else { return Ok(()) };
    let complete: Vec<&str> = diskful(resource).filter(|node| !is_outdated(&arbitration, node)).collect();
    Err(Denial::outdated(format!(
        "the replica of resource {} on node {node} is behind since entry {number}: attach it on {}, or wait until {node} \
         has synced from there",
        resource.name,
        complete.join(" or ")
    )))
}

fn check_diskful(resource: &Resource, node: &str) -> Verdict<()> {
    if diskful(resource).any(|other| other == node) {
        return Ok(());
    }
    let nodes: Vec<&str> = diskful(resource).collect();
    Err(Denial::new(
        RejectionReason::Precondition,
        "node",
        format!(
            "resource {} has no replica on node {}: it has them on {}",
            resource.name,
            names::shown(node),
            nodes.join(", ")
        ),
    ))
}

/// Whether the replica on `node` is not to be removed.
fn check_stays(resource: &Resource, node: &str) -> Verdict<()> {
    let leaves = resource.replicas.iter().any(|replica| replica.node == node && replica.is_going());
    if leaves {
        let message = format!("the replica of resource {} on node {node} is being removed", resource.name);
        return Err(Denial::new(RejectionReason::Precondition, "node", message));
    }
    Ok(())
}

/// The nodes whose copy is known to be complete, but for that on `node`.
pub(super) fn complete_beside<'a>(resource: &'a Resource, node: &'a str) -> impl Iterator<Item = &'a str> {
    let is_outdated = |other: &str| {
        resource.arbitration.as_ref().is_some_and(|arbitration| is_outdated(arbitration, other))
    };
    diskful(resource).filter(move |other| *other != node && !is_outdated(other))
}

fn diskful(resource: &Resource) -> impl Iterator<Item = &str> {
    let diskful = resource.replicas.iter().filter(|replica| replica.kind() == ReplicaKind::Diskful);
    diskful.map(|replica| replica.node.as_str())
}

fn outdated_number(arbitration: &Arbitration, node: &str) -> Option<OutdateNumber> {
    arbitration.outdated.iter().find(|outdated| outdated.node == node).map(OutdatedReplica::number)
}

pub(super) fn is_outdated(arbitration: &Arbitration, node: &str) -> bool {
    outdated_number(arbitration, node).is_some()
}

/// With nobody who may write, and so nobody to take it over from.
pub(super) fn without_owner(arbitration: Arbitration) -> Arbitration {
    Arbitration { owner: String::new(), claim: None, ..arbitration }
}

/// Ordered by node, so that equal sets have equal bytes. Whose copy is behind takes nothing over.
pub(super) fn with_outdated(mut arbitration: Arbitration, node: &str, number: OutdateNumber) -> Arbitration {
    arbitration.claim = arbitration.claim.filter(|claim| claim.node != node);
    arbitration.outdated.retain(|outdated| outdated.node != node);
    arbitration.outdated.push(OutdatedReplica { node: node.to_owned(), number: number.get() });
    arbitration.outdated.sort_by(|one, other| one.node.cmp(&other.node));
    arbitration
}

pub(super) fn in_words(arbitration: &Arbitration) -> String {
    match arbitration.owner.as_str() {
        "" => format!("nobody owns it, after generation {}", arbitration.generation),
        owner => format!("node {owner} owns it at generation {}", arbitration.generation),
    }
}

#[cfg(test)]
mod tests;
