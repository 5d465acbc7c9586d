//! Replicas of a resource that has data: one joins, one leaves.
//!
//! Who joins counts as outdated from this very entry on, so that nothing rests on it before it has synced. Who leaves
//! counts as outdated before anybody lets go of it, and its data goes only after that. It must never take the last
//! complete copy, nor hand on a number that a node may still use.

use hawser_proto::{
    ids::{Incarnation, OutdateNumber},
    names,
    v1::{
        AttachmentLifecycle, ConfirmReplicaRemoved, CreateReplica, DeleteReplica, DrbdGeneration, Layer,
        OperationKind, OperationReason, OperationState, PlacedReplica, RejectionReason, ReleaseReplica,
        Replica, ReplicaLifecycle, Resource, ResourceLifecycle,
    },
};

use super::{
    arbitration::{complete_beside, with_outdated},
    attachment::attachable,
    lost,
    resource::{
        self, Place,
        allocation::{self, Made},
        check_place,
    },
};
use crate::{
    alloc::NODE_IDS,
    capacity,
    operations::{self, Target},
    placement::{Need, node_fits},
    transaction::Transaction,
    verdict::{Denial, Success, Verdict},
};

/// Diskful replicas that a resource of DRBD 8.4 can have.
const MOST_ON_8_4: usize = 2;

pub(super) fn create(transaction: &mut Transaction<'_>, command: &CreateReplica) -> Verdict {
    let meant = resource::named(transaction, &command.resource, command.resource_incarnation())?;
    let resource = attachable(transaction, &meant.name)?;
    let placed = command.placed.clone().unwrap_or_default();
    check_room_for(&resource, &placed.node)?;
    let layers: Vec<Layer> = resource.layers().collect();
    let volume_sizes: Vec<u64> = resource.volumes.iter().map(|volume| volume.size_bytes).collect();
    let replicas = resource.replicas.len() + 1;
    let need = Need { replicas, layers: &layers, volume_sizes: &volume_sizes };
    let moved_since = command.computed_at_revision() < transaction.state().cluster().revision();
    let place = check_join(transaction, &resource, &placed, need).map_err(|denial| match denial {
        Denial::Rejected(rejected) if moved_since => Denial::stale(rejected.message),
        denial => denial,
    })?;

    let node_id = free_node_id(&resource)?;
    let made = Made {
        resource: &resource.name,
        layers: &layers,
        generation: resource.drbd_generation(),
        volumes: &resource.volumes,
    };
    let joining = allocation::replica(transaction, made, place, node_id)?;
    let (name, resource_incarnation) = (resource.name.clone(), resource.incarnation());
    let node = joining.node.clone();
    let arbitration = resource.arbitration.clone().unwrap_or_default();
    let mut joined = Resource {
        arbitration: Some(with_outdated(arbitration, &node, OutdateNumber::new(transaction.index))),
        ..resource
    };
    joined.replicas.push(joining);
    transaction.put_resource(joined)?;
    let target =
        Target { kind: OperationKind::CreateReplica, resource: &name, resource_incarnation, node: &node };
    Ok(Success::operation(Some(operations::start(transaction, target))))
}

/// What a resource that can have a further replica on `node` has to be like.
fn check_room_for(resource: &Resource, node: &str) -> Verdict<()> {
    let name = &resource.name;
    if resource.layers().ne([Layer::Drbd, Layer::Storage]) {
        return Err(Denial::precondition(format!(
            "resource {name} has no further replica: only one of the layers drbd and storage can have more than one"
        )));
    }
    if resource.drbd_generation() != DrbdGeneration::DrbdGeneration84 {
        return Err(Denial::precondition(format!(
            "resource {name} is of DRBD 9, to which this release adds no replica"
        )));
    }
    if let Some(there) = resource.replicas.iter().find(|replica| replica.node == node) {
        let message = if there.is_going() {
            format!("the replica of resource {name} on node {node} is being removed: wait until it is gone")
        } else {
            format!("resource {name} has a replica on node {node} already")
        };
        return Err(Denial::already_exists("node", message));
    }
    if resource.replicas.len() >= MOST_ON_8_4 {
        let nodes: Vec<&str> = resource.replicas.iter().map(|replica| replica.node.as_str()).collect();
        let hint = match resource.replicas.iter().find(|replica| replica.is_going()) {
            Some(going) => format!("wait until the one on node {} is gone", going.node),
            None => "remove one first".to_owned(),
        };
        return Err(Denial::precondition(format!(
            "resource {name} has replicas on {}, and DRBD 8.4 takes at most {MOST_ON_8_4}: {hint}",
            nodes.join(" and ")
        )));
    }
    Ok(())
}

/// Checks what the proposer chose, and that the nodes which have a replica can have a further peer.
fn check_join(
    transaction: &Transaction<'_>,
    resource: &Resource,
    placed: &PlacedReplica,
    need: Need<'_>,
) -> Verdict<Place> {
    let (place, generation) = check_place(transaction, placed, need)?;
    if generation != resource.drbd_generation() {
        return Err(Denial::precondition(format!(
            "node {} and resource {} have DRBD 8.4 and DRBD 9, which never mix in one resource",
            place.node.name, resource.name
        )));
    }
    let unknown = transaction.state().unknown().filter(|held| held.node == place.node.name);
    let held: Vec<u32> = unknown.flat_map(|held| &held.volumes).map(|volume| volume.minor).collect();
    if let Some(volume) =
        resource.volumes.iter().find(|volume| volume.minor != 0 && held.contains(&volume.minor))
    {
        return Err(Denial::precondition(format!(
            "node {} holds a replica that this cluster, which was restored, does not know, with DRBD minor {} that resource \
             {} has: choose another node, or remove it there by hand; `hawser cluster unknown` shows it",
            place.node.name, volume.minor, resource.name
        )));
    }
    for peer in &resource.replicas {
        let Some(node) = transaction.state().node(&peer.node) else { continue };
        node_fits(node, need)
            .map_err(|reason| Denial::precondition(format!("node {}: {reason}", node.name)))?;
        if node.uname == place.node.uname {
            return Err(Denial::precondition(format!(
                "two of the nodes call themselves {}, and DRBD tells nodes by that",
                node.uname
            )));
        }
    }
    Ok(place)
}

fn free_node_id(resource: &Resource) -> Verdict<u32> {
    let is_free = |id: &u32| resource.replicas.iter().all(|replica| replica.node_id != *id);
    (0..NODE_IDS).find(is_free).ok_or_else(|| {
        Denial::no_capacity(format!("every DRBD node-id of resource {} is taken", resource.name))
    })
}

pub(super) fn delete(transaction: &mut Transaction<'_>, command: &DeleteReplica) -> Verdict {
    let resource = attachable(transaction, &command.resource)?;
    begin_leaving(transaction, resource, &command.node)
}

/// Has the others let go of the replica on `node`. Also what cancels its joining.
pub(super) fn begin_leaving(transaction: &mut Transaction<'_>, resource: Resource, node: &str) -> Verdict {
    let (name, resource_incarnation) = (resource.name.clone(), resource.incarnation());
    let Some(replica) = resource.replicas.iter().find(|replica| replica.node == node) else {
        let nodes: Vec<&str> = resource.replicas.iter().map(|replica| replica.node.as_str()).collect();
        let message = format!(
            "resource {name} has no replica on node {}: it has them on {}",
            names::shown(node),
            nodes.join(", ")
        );
        return Err(Denial::not_found("node", message));
    };
    if replica.is_going() {
        let running = operations::running(transaction.state(), OperationKind::DeleteReplica, &name, node);
        return Ok(Success::operation(running));
    }
    check_unused(transaction, &name, node)?;
    if resource.replicas.len() == 1 {
        return Err(Denial::precondition(format!(
            "the replica on node {node} is the only one of resource {name}: `hawser resource delete {name}` deletes it \
             with the resource"
        )));
    }
    if complete_beside(&resource, node).next().is_none() {
        return Err(Denial::outdated(format!(
            "the replica of resource {name} on node {node} is the last that is known to be complete: wait until another \
             one has synced"
        )));
    }

    let arbitration = resource.arbitration.clone().unwrap_or_default();
    let mut without = Resource {
        arbitration: Some(with_outdated(arbitration, node, OutdateNumber::new(transaction.index))),
        ..resource
    };
    order(&mut without, node, ReplicaLifecycle::Leaving, transaction.index);
    transaction.put_resource(without)?;
    let cancelled = OperationReason {
        node: node.to_owned(),
        message: "the replica is being removed".to_owned(),
        ..OperationReason::default()
    };
    let create = OperationKind::CreateReplica;
    operations::end(transaction, create, (&name, node), OperationState::Cancelled, Some(cancelled));
    let target = Target { kind: OperationKind::DeleteReplica, resource: &name, resource_incarnation, node };
    Ok(Success::operation(Some(operations::start(transaction, target))))
}

fn check_unused(transaction: &Transaction<'_>, resource: &str, node: &str) -> Verdict<()> {
    let Some(attachment) = transaction.state().attachment(resource, node) else { return Ok(()) };
    Err(Denial::in_use(if attachment.lifecycle() == AttachmentLifecycle::Revoked {
        format!(
            "resource {resource} was taken over from node {node}, which has not let go of it yet: wait until what uses \
             it there has ended; `hawser attachment list` shows it"
        )
    } else {
        format!(
            "resource {resource} is attached on node {node}: run `hawser attachment delete {resource} {node}` and wait \
             until it has ended"
        )
    }))
}

/// The others have let go: the data may go, too. On a lost node it is gone.
pub(super) fn release(transaction: &mut Transaction<'_>, command: &ReleaseReplica) -> Verdict {
    let (mut resource, replica) =
        meant(transaction, &command.resource, &command.node, command.replica_incarnation())?;
    match replica.lifecycle() {
        ReplicaLifecycle::Removing | ReplicaLifecycle::Removed => return Ok(Success::DONE),
        ReplicaLifecycle::Leaving => {}
        ReplicaLifecycle::Creating | ReplicaLifecycle::Ready | ReplicaLifecycle::Unspecified => {
            return Err(not_ordered(&resource.name, &command.node));
        }
    }
    if command.revision() < replica.removing_since() {
        return Err(Denial::stale("the others were seen without it before they were told to let go"));
    }
    order(&mut resource, &command.node, ReplicaLifecycle::Removing, transaction.index);
    let is_lost = lost::is_on_lost_node(transaction.state(), &replica);
    transaction.put_resource(resource)?;
    if is_lost {
        forget(transaction, &command.resource, &command.node)?;
    }
    Ok(Success::DONE)
}

/// Nothing is left of a replica on its node. In a resource that stays, nobody has known it since it was released, so
/// its numbers are free; in one that is deleted they stay taken until every node has confirmed.
pub(super) fn confirm_removed(transaction: &mut Transaction<'_>, command: &ConfirmReplicaRemoved) -> Verdict {
    let (resource, replica) =
        meant(transaction, &command.resource, &command.node, command.replica_incarnation())?;
    match replica.lifecycle() {
        ReplicaLifecycle::Removed => return Ok(Success::DONE),
        ReplicaLifecycle::Removing => {}
        ReplicaLifecycle::Creating
        | ReplicaLifecycle::Ready
        | ReplicaLifecycle::Leaving
        | ReplicaLifecycle::Unspecified => return Err(not_ordered(&resource.name, &command.node)),
    }
    if command.revision() < replica.removing_since() {
        let message = "it was seen to be gone before its removal was ordered, and may have come since";
        return Err(Denial::stale(message));
    }
    gone(transaction, resource, &replica)?;
    Ok(Success::DONE)
}

/// Takes the word of whoever declared the node lost for its own: nothing is left of the replica there.
pub(super) fn forget(transaction: &mut Transaction<'_>, resource: &str, node: &str) -> Verdict<()> {
    let found = transaction.state().resource(resource).and_then(|resource| {
        let replica = resource.replicas.iter().find(|replica| replica.node == node)?;
        Some((resource.clone(), replica.clone()))
    });
    match found {
        Some((resource, replica)) if replica.lifecycle() != ReplicaLifecycle::Removed => {
            gone(transaction, resource, &replica)
        }
        _ => Ok(()),
    }
}

fn gone(transaction: &mut Transaction<'_>, mut resource: Resource, replica: &Replica) -> Verdict<()> {
    let pool = transaction.state().pool(&replica.node, &replica.pool);
    if let Some(pool) = pool.map(|pool| capacity::release(pool, capacity::promised_to(replica))) {
        transaction.put_pool(pool);
    }
    let name = resource.name.clone();
    if resource.lifecycle() != ResourceLifecycle::Deleting {
        resource.replicas.retain(|other| other.node != replica.node);
        if let Some(arbitration) = &mut resource.arbitration {
            arbitration.outdated.retain(|outdated| outdated.node != replica.node);
        }
        transaction.put_resource(resource)?;
        let target = (name.as_str(), replica.node.as_str());
        operations::end(transaction, OperationKind::DeleteReplica, target, OperationState::Succeeded, None);
        return Ok(());
    }
    if let Some(there) = on(&mut resource, &replica.node) {
        there.set_lifecycle(ReplicaLifecycle::Removed);
    }
    if resource.replicas.iter().all(|replica| replica.lifecycle() == ReplicaLifecycle::Removed) {
        let target = (name.as_str(), "");
        operations::end(transaction, OperationKind::DeleteResource, target, OperationState::Succeeded, None);
        transaction.remove_resource(&name);
    } else {
        transaction.put_resource(resource)?;
    }
    Ok(())
}

/// The resource with its replica of this incarnation on a node.
fn meant(
    transaction: &Transaction<'_>,
    resource: &str,
    node: &str,
    incarnation: Incarnation,
) -> Verdict<(Resource, Replica)> {
    let found = transaction.state().resource(resource).and_then(|resource| {
        let is_meant = |replica: &&Replica| replica.node == node && replica.incarnation() == incarnation;
        Some((resource.clone(), resource.replicas.iter().find(is_meant)?.clone()))
    });
    found.ok_or_else(|| {
        let (resource, node) = (names::shown(resource), names::shown(node));
        Denial::not_found("node", format!("resource {resource} has no such replica on node {node}"))
    })
}

fn not_ordered(resource: &str, node: &str) -> Denial {
    let message = format!("no removal of resource {resource} from node {node} was ordered");
    Denial::new(RejectionReason::Precondition, "", message)
}

pub(super) fn order(resource: &mut Resource, node: &str, lifecycle: ReplicaLifecycle, index: u64) {
    if let Some(replica) = on(resource, node) {
        replica.set_lifecycle(lifecycle);
        replica.removing_since = index;
    }
}

/// The replica on a node.
pub(super) fn on<'a>(resource: &'a mut Resource, node: &str) -> Option<&'a mut Replica> {
    resource.replicas.iter_mut().find(|replica| replica.node == node)
}

#[cfg(test)]
mod tests;
