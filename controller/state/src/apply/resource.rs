//! Resources: created with their first replicas, deleted with all that they have.
//!
//! It must never trust the proposer's placement.

pub(super) mod allocation;
mod first_sync;

use std::collections::BTreeSet;

use hawser_proto::{
    ids::{Incarnation, OutdateNumber},
    names, sizes,
    v1::{
        Attachment, AttachmentLifecycle, ConfirmResourceReady, CreateResource, DeleteResource,
        DrbdGeneration, Layer, Node, NumberRange, OperationKind, OperationReason, OperationState,
        PlacedReplica, Replica, ReplicaLifecycle, Resource, ResourceGroup, ResourceLifecycle, StoragePool,
    },
};

use self::allocation::Made;
use super::{cluster::DEFAULT_GROUP, replica, restore};
use crate::{
    operations::{self, Target},
    placement::{NOT_REPORTED, Need, maximum_peers, node_fits, pool_fits},
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
    restore::check_name_is_free(transaction.state(), &command.name)?;
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
    let arbitration = first_sync::marks(&places, OutdateNumber::new(transaction.index));
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
        arbitration,
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
        resource_incarnation: Incarnation::new(incarnation),
        node: "",
    };
    Ok(Success::operation(Some(operations::start(transaction, target))))
}

fn group_of(transaction: &Transaction<'_>, command: &CreateResource) -> Verdict<ResourceGroup> {
    let name = if command.group.is_empty() { DEFAULT_GROUP } else { &command.group };
    transaction.state().group(name).cloned().ok_or_else(|| {
        Denial::not_found(
            "group",
            format!(
                "resource group {} does not exist; `hawser group list` shows what there is",
                names::shown(name)
            ),
        )
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
pub(super) struct Place {
    pub(super) node: Node,
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
    let moved_since = command.computed_at_revision() < transaction.state().cluster().revision();
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

pub(super) fn check_place(
    transaction: &Transaction<'_>,
    placed: &PlacedReplica,
    need: Need<'_>,
) -> Verdict<(Place, DrbdGeneration)> {
    let state = transaction.state();
    let node = state
        .node(&placed.node)
        .filter(|node| node.incarnation() == placed.node_incarnation())
        .ok_or_else(|| {
            Denial::not_found("nodes", format!("node {} is not there any more", names::shown(&placed.node)))
        })?;
    if !state.has_reported(node) {
        return Err(Denial::precondition(format!("node {}: {}", node.name, NOT_REPORTED)));
    }
    let pool = state
        .pool(&placed.node, &placed.pool)
        .filter(|pool| pool.incarnation() == placed.pool_incarnation())
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
    let resource = named(transaction, &command.resource, command.incarnation())?;
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
        let message = format!(
            "resource {} does not exist; `hawser resource list` shows what there is",
            names::shown(&command.name)
        );
        return Err(Denial::not_found("name", message));
    };
    restore::check_not_contested(transaction.state(), &resource)?;
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
    let of_replicas: Vec<String> = deleting.replicas.iter().map(|replica| replica.node.clone()).collect();
    // What is being removed already goes on, under the order that it has.
    let stays = |replica: &&mut Replica| replica.lifecycle() != ReplicaLifecycle::Removing;
    for replica in deleting.replicas.iter_mut().filter(stays) {
        replica.set_lifecycle(ReplicaLifecycle::Removing);
        replica.removing_since = index;
    }
    let resource_incarnation = deleting.incarnation();
    transaction.put_resource(deleting)?;
    let cancelled =
        || OperationReason { message: "the resource is being deleted".to_owned(), ..Default::default() };
    let mut cancel = |kind, node: &str| {
        operations::end(transaction, kind, (&name, node), OperationState::Cancelled, Some(cancelled()));
    };
    cancel(OperationKind::CreateResource, "");
    for node in &of_replicas {
        cancel(OperationKind::CreateReplica, node);
        cancel(OperationKind::DeleteReplica, node);
    }
    let target =
        Target { kind: OperationKind::DeleteResource, resource: &name, resource_incarnation, node: "" };
    let operation = operations::start(transaction, target);
    // Nobody is left to confirm anything on a lost node.
    for node in &of_replicas {
        if transaction.state().node(node).is_some_and(Node::is_lost) {
            replica::forget(transaction, &name, node)?;
        }
    }
    Ok(Success::operation(Some(operation)))
}

/// The resource of this name and incarnation.
pub(super) fn named(
    transaction: &Transaction<'_>,
    name: &str,
    incarnation: Incarnation,
) -> Verdict<Resource> {
    let found = transaction.state().resource(name).filter(|resource| resource.incarnation() == incarnation);
    found.cloned().ok_or_else(|| {
        let message = format!("resource {} does not exist in incarnation {incarnation}", names::shown(name));
        Denial::not_found("resource", message)
    })
}

#[cfg(test)]
mod tests;
