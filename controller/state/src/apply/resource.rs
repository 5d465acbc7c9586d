//! Resources: created with their replicas, deleted when every node has confirmed that nothing is left.
//!
//! It must never hand on a number that a node may still use, and never trust the proposer's placement.

mod allocation;

use std::collections::BTreeSet;

use hawser_proto::{
    names, sizes,
    v1::{
        Attachment, AttachmentLifecycle, ConfirmReplicaRemoved, ConfirmResourceReady, CreateResource,
        DeleteResource, DrbdGeneration, Layer, Node, NumberRange, OperationKind, OperationReason,
        OperationState, PlacedReplica, Replica, ReplicaLifecycle, Resource, ResourceGroup, ResourceLifecycle,
        StoragePool,
    },
};

use self::allocation::Made;
use super::cluster::DEFAULT_GROUP;
use crate::{
    capacity,
    operations::{self, Target},
    placement::{Need, maximum_peers, node_fits, pool_fits},
    transaction::Transaction,
    verdict::{Denial, Success, Verdict},
};

const MOST_VOLUMES: usize = 32;

pub(super) fn create(transaction: &mut Transaction<'_>, command: &CreateResource) -> Verdict {
    names::resource_name("name", &command.name)?;
    if let Some(other) = transaction.state().resource(&command.name) {
        let message = if other.lifecycle() == ResourceLifecycle::Deleting {
            format!("resource {} is being deleted: wait until it is gone", command.name)
        } else {
            format!("resource {} exists already", command.name)
        };
        return Err(Denial::already_exists("name", message));
    }
    let group = group_of(transaction, command)?;
    let layers: Vec<Layer> = group.layers().collect();
    let replicated = layers.contains(&Layer::Drbd);
    if replicated {
        names::shared_secret("shared_secret", &command.shared_secret)?;
        // The lowest bit of a generation identifier is DRBD's mark of a Primary.
        if command.day0_generation_id >> 1 == 0 {
            return Err(Denial::invalid(
                "day0_generation_id",
                "the first generation identifier is greater than 1",
            ));
        }
    }
    let volume_sizes = checked_sizes(&command.volume_sizes)?;
    let need = Need { replicas: command.placed.len(), layers: &layers, volume_sizes: &volume_sizes };
    let (generation, places) = check_places(transaction, command, need)?;

    let avoided_minors = replicated.then_some(command.avoided_minors.as_slice());
    let volumes = allocation::volumes(transaction, &volume_sizes, avoided_minors)?;
    let made = Made { resource: &command.name, layers: &layers, generation, volumes: &volumes };
    let mut replicas = Vec::with_capacity(places.len());
    for (place, node_id) in places.into_iter().zip(0..) {
        replicas.push(allocation::replica(transaction, made, place, node_id)?);
    }
    let incarnation = transaction.index;
    let only_if_replicated = |text: String| if replicated { text } else { String::new() };
    transaction.put_resource(Resource {
        name: command.name.clone(),
        incarnation,
        group: group.name,
        lifecycle: ResourceLifecycle::Creating.into(),
        layers: layers.iter().map(|layer| i32::from(*layer)).collect(),
        volumes,
        replicas,
        maximum_peers: if replicated { maximum_peers(generation) } else { 0 },
        drbd_generation: generation.into(),
        drbd_name: only_if_replicated(format!("{}.{incarnation}", command.name)),
        shared_secret: only_if_replicated(command.shared_secret.clone()),
        day0_generation_id: if replicated { command.day0_generation_id & !1 } else { 0 },
        ..Resource::default()
    })?;
    let target = Target {
        kind: OperationKind::CreateResource,
        resource: &command.name,
        resource_incarnation: incarnation,
        node: "",
    };
    Ok(Success::operation(operations::start(transaction, target, "create-replicas")))
}

fn group_of(transaction: &Transaction<'_>, command: &CreateResource) -> Verdict<ResourceGroup> {
    let name = if command.group.is_empty() { DEFAULT_GROUP } else { &command.group };
    transaction.state().group(name).cloned().ok_or_else(|| {
        Denial::not_found("group", format!("resource group {} does not exist", names::shown(name)))
    })
}

fn checked_sizes(asked: &[u64]) -> Verdict<Vec<u64>> {
    if asked.is_empty() || asked.len() > MOST_VOLUMES {
        return Err(Denial::invalid("volume_sizes", format!("a resource has 1 to {MOST_VOLUMES} volumes")));
    }
    let size =
        |(position, bytes): (usize, &u64)| Ok(sizes::volume(&format!("volume_sizes[{position}]"), *bytes)?);
    asked.iter().enumerate().map(size).collect()
}

/// Where a replica goes, as checked.
struct Place {
    node: Node,
    pool: StoragePool,
    /// Ports that something else on the node holds.
    avoided_ports: Vec<NumberRange>,
}

/// Checks what the proposer chose. What was right when it was computed and is no more is stale.
fn check_places(
    transaction: &Transaction<'_>,
    command: &CreateResource,
    need: Need<'_>,
) -> Verdict<(DrbdGeneration, Vec<Place>)> {
    if command.placed.is_empty() {
        return Err(Denial::invalid("replicas", "a resource has at least 1 replica"));
    }
    let moved_since = command.computed_at_revision < transaction.state().revision();
    let refused = |denial: Denial| match denial {
        Denial::Rejected(rejected) if moved_since => Denial::stale(rejected.message),
        denial => denial,
    };
    let mut nodes = BTreeSet::new();
    let mut unames = BTreeSet::new();
    let mut generations = BTreeSet::new();
    let mut places: Vec<Place> = Vec::with_capacity(command.placed.len());
    for (position, placed) in command.placed.iter().enumerate() {
        if !nodes.insert(&placed.node) {
            let message = format!("node {} would get two replicas", names::shown(&placed.node));
            return Err(Denial::invalid(&format!("nodes[{position}]"), message));
        }
        let (place, generation) = check_place(transaction, placed, need).map_err(refused)?;
        if generation != DrbdGeneration::Unspecified && !unames.insert(place.node.uname.clone()) {
            let message = format!(
                "two of the nodes call themselves {}, and DRBD tells nodes by that",
                place.node.uname
            );
            return Err(refused(Denial::precondition(message)));
        }
        generations.insert(generation);
        places.push(place);
    }
    match (generations.pop_first(), generations.is_empty()) {
        (Some(generation), true) => Ok((generation, places)),
        _ => Err(refused(Denial::precondition(
            "the nodes have DRBD 8.4 and DRBD 9, which never mix in one resource",
        ))),
    }
}

fn check_place(
    transaction: &Transaction<'_>,
    placed: &PlacedReplica,
    need: Need<'_>,
) -> Verdict<(Place, DrbdGeneration)> {
    let state = transaction.state();
    let node = state
        .node(&placed.node)
        .filter(|node| node.incarnation == placed.node_incarnation)
        .ok_or_else(|| {
            Denial::not_found("nodes", format!("node {} is not there any more", names::shown(&placed.node)))
        })?;
    let pool = state
        .pool(&placed.node, &placed.pool)
        .filter(|pool| pool.incarnation == placed.pool_incarnation)
        .ok_or_else(|| {
            let message =
                format!("pool {} on node {} is not there any more", names::shown(&placed.pool), node.name);
            Denial::not_found("pool", message)
        })?;
    let generation = node_fits(node, need)
        .map_err(|reason| Denial::precondition(format!("node {}: {reason}", node.name)))?;
    pool_fits(pool, need.bytes(generation))
        .map_err(|reason| Denial::no_capacity(format!("node {}: {reason}", node.name)))?;
    let avoided_ports = placed.avoided_ports.clone();
    Ok((Place { node: node.clone(), pool: pool.clone(), avoided_ports }, generation))
}

pub(super) fn confirm_ready(transaction: &mut Transaction<'_>, command: &ConfirmResourceReady) -> Verdict {
    let resource = named(transaction, &command.resource, command.incarnation)?;
    match resource.lifecycle() {
        ResourceLifecycle::Ready => return Ok(Success::DONE),
        ResourceLifecycle::Creating => {}
        ResourceLifecycle::Deleting | ResourceLifecycle::Unspecified => {
            return Err(Denial::precondition(format!("resource {} is being deleted", resource.name)));
        }
    }
    let mut ready = Resource {
        lifecycle: ResourceLifecycle::Ready.into(),
        // From here on somebody may write; the day-0 identifier leaves the documents with it.
        data_may_exist: true,
        ..resource
    };
    for replica in &mut ready.replicas {
        replica.set_lifecycle(ReplicaLifecycle::Ready);
    }
    let name = ready.name.clone();
    transaction.put_resource(ready)?;
    operations::end(transaction, OperationKind::CreateResource, (&name, ""), OperationState::Succeeded, None);
    Ok(Success::DONE)
}

pub(super) fn delete(transaction: &mut Transaction<'_>, command: &DeleteResource) -> Verdict {
    let Some(resource) = transaction.state().resource(&command.name).cloned() else {
        let message = format!("resource {} does not exist", names::shown(&command.name));
        return Err(Denial::not_found("name", message));
    };
    begin_deletion(transaction, resource)
}

/// Orders the removal of every replica. Also what cancels a creation.
pub(super) fn begin_deletion(transaction: &mut Transaction<'_>, resource: Resource) -> Verdict {
    let name = resource.name.clone();
    if resource.lifecycle() == ResourceLifecycle::Deleting {
        return Ok(Success::operation(operations::running(
            transaction.state(),
            OperationKind::DeleteResource,
            &name,
            "",
        )));
    }
    // One that can be ended comes first: the advice then leads somewhere.
    let revoked = |attachment: &Attachment| attachment.lifecycle() == AttachmentLifecycle::Revoked;
    let attached = transaction.state().attachments_of(&name).min_by_key(|attachment| revoked(attachment));
    if let Some(attachment) = attached {
        let node = &attachment.node;
        return Err(Denial::in_use(if revoked(attachment) {
            format!(
                "resource {name} was taken over from node {node}, which has not let go of it yet: wait until node \
                 {node} is back and what uses {name} there has ended; `hawser attachment list` shows it"
            )
        } else {
            format!(
                "resource {name} is attached on node {node}: run `hawser attachment delete {name} {node}` and wait until \
                 it has ended"
            )
        }));
    }
    let index = transaction.index;
    let mut deleting = Resource { lifecycle: ResourceLifecycle::Deleting.into(), ..resource };
    for replica in &mut deleting.replicas {
        replica.set_lifecycle(ReplicaLifecycle::Removing);
        replica.removing_since = index;
    }
    let resource_incarnation = deleting.incarnation;
    transaction.put_resource(deleting)?;
    let cancelled =
        OperationReason { message: "the resource is being deleted".to_owned(), ..OperationReason::default() };
    let create = OperationKind::CreateResource;
    operations::end(transaction, create, (&name, ""), OperationState::Cancelled, Some(cancelled));
    let target =
        Target { kind: OperationKind::DeleteResource, resource: &name, resource_incarnation, node: "" };
    Ok(Success::operation(operations::start(transaction, target, "remove-replicas")))
}

pub(super) fn confirm_replica_removed(
    transaction: &mut Transaction<'_>,
    command: &ConfirmReplicaRemoved,
) -> Verdict {
    let found = transaction.state().resource(&command.resource).cloned().and_then(|resource| {
        let is_meant = |replica: &Replica| {
            replica.node == command.node && replica.incarnation == command.replica_incarnation
        };
        resource.replicas.iter().position(is_meant).map(|position| (resource, position))
    });
    let Some((mut resource, position)) = found else {
        let (resource, node) = (names::shown(&command.resource), names::shown(&command.node));
        let message = format!("resource {resource} has no such replica on node {node}");
        return Err(Denial::not_found("node", message));
    };
    let replica = &mut resource.replicas[position];
    match replica.lifecycle() {
        ReplicaLifecycle::Removed => return Ok(Success::DONE),
        ReplicaLifecycle::Removing => {}
        ReplicaLifecycle::Creating | ReplicaLifecycle::Ready | ReplicaLifecycle::Unspecified => {
            let message =
                format!("no removal of resource {} from node {} was ordered", resource.name, replica.node);
            return Err(Denial::precondition(message));
        }
    }
    if command.revision < replica.removing_since {
        let message = "it was seen to be gone before its removal was ordered, and may have come since";
        return Err(Denial::stale(message));
    }
    let released = capacity::promised_to(replica);
    replica.set_lifecycle(ReplicaLifecycle::Removed);
    let pool =
        transaction.state().pool(&replica.node, &replica.pool).map(|pool| capacity::release(pool, released));
    if let Some(pool) = pool {
        transaction.put_pool(pool);
    }
    let name = resource.name.clone();
    if resource.replicas.iter().all(|replica| replica.lifecycle() == ReplicaLifecycle::Removed) {
        operations::end(
            transaction,
            OperationKind::DeleteResource,
            (&name, ""),
            OperationState::Succeeded,
            None,
        );
        transaction.remove_resource(&name);
    } else {
        transaction.put_resource(resource)?;
    }
    Ok(Success::DONE)
}

/// The resource of this name and incarnation.
pub(super) fn named(transaction: &Transaction<'_>, name: &str, incarnation: u64) -> Verdict<Resource> {
    let found = transaction.state().resource(name).filter(|resource| resource.incarnation == incarnation);
    found.cloned().ok_or_else(|| {
        let message = format!("resource {} does not exist in incarnation {incarnation}", names::shown(name));
        Denial::not_found("resource", message)
    })
}

#[cfg(test)]
mod tests;
