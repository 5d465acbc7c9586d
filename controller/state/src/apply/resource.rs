//! Resources: created with their replicas, deleted when every node has confirmed that nothing is left.
//!
//! It must never hand on a number that a node may still use, and never trust the proposer's placement.

use std::collections::BTreeSet;

use hawser_proto::{
    names, sizes,
    v1::{
        BackingVolume, ConfirmReplicaRemoved, ConfirmResourceReady, CreateResource, DeleteResource,
        DrbdGeneration, Layer, Node, OperationKind, OperationReason, OperationState, PlacedReplica, Replica,
        ReplicaKind, ReplicaLifecycle, Resource, ResourceGroup, ResourceLifecycle, StoragePool, Volume,
        storage_pool::Provider,
    },
};

use super::{
    cluster::DEFAULT_GROUP,
    node::{DEFAULT_ADDRESS, REPLICATION_ADDRESS},
};
use crate::{
    capacity,
    drbd_sizes::backing_size,
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

    let volumes = allocate_volumes(transaction, &volume_sizes, replicated)?;
    let mut replicas = Vec::with_capacity(places.len());
    for (place, node_id) in places.into_iter().zip(0..) {
        replicas.push(allocate_replica(
            transaction,
            &command.name,
            &layers,
            generation,
            &volumes,
            place,
            node_id,
        )?);
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
    Ok((Place { node: node.clone(), pool: pool.clone() }, generation))
}

fn allocate_volumes(
    transaction: &mut Transaction<'_>,
    volume_sizes: &[u64],
    replicated: bool,
) -> Verdict<Vec<Volume>> {
    let mut minors = transaction.state().index.minors.clone();
    let mut volume = |(number, size_bytes): (u32, &u64)| {
        let minor = if replicated {
            minors.take_smallest().ok_or_else(|| {
                Denial::no_capacity(
                    "every DRBD minor of the cluster is taken: delete resources, or wait for deletions",
                )
            })?
        } else {
            0
        };
        Ok(Volume { number, size_bytes: *size_bytes, minor })
    };
    (0..).zip(volume_sizes).map(&mut volume).collect()
}

fn allocate_replica(
    transaction: &mut Transaction<'_>,
    resource: &str,
    layers: &[Layer],
    generation: DrbdGeneration,
    volumes: &[Volume],
    Place { node, pool }: Place,
    node_id: u32,
) -> Verdict<Replica> {
    let incarnation = transaction.index;
    let backing = |volume: &Volume| {
        let name = format!("{resource}.{incarnation}-{}", volume.number);
        check_backing_name(&pool, &name)?;
        let size_bytes = backing_size(volume.size_bytes, layers, generation, maximum_peers(generation));
        Ok(BackingVolume { volume: volume.number, name, size_bytes })
    };
    let backing_volumes = volumes.iter().map(backing).collect::<Verdict<Vec<_>>>()?;
    let port = if layers.contains(&Layer::Drbd) {
        transaction.smallest_free_port(&node.name).ok_or_else(|| {
            let message = format!(
                "every DRBD port of node {} is taken: delete resources, or wait for deletions",
                node.name
            );
            Denial::no_capacity(message)
        })?
    } else {
        0
    };
    let has_replication = node.addresses.iter().any(|address| address.name == REPLICATION_ADDRESS);
    let replica = Replica {
        incarnation,
        kind: ReplicaKind::Diskful.into(),
        lifecycle: ReplicaLifecycle::Creating.into(),
        pool: pool.name.clone(),
        node_id,
        port,
        backing_volumes,
        address: if has_replication { REPLICATION_ADDRESS } else { DEFAULT_ADDRESS }.to_owned(),
        node: node.name,
        ..Replica::default()
    };
    let reserved = capacity::reserve(&pool, capacity::promised_to(&replica)).map_err(Denial::no_capacity)?;
    transaction.put_pool(reserved);
    Ok(replica)
}

fn check_backing_name(pool: &StoragePool, name: &str) -> Verdict<()> {
    let volume_group = match &pool.provider {
        Some(Provider::LvmThin(provider)) => &provider.volume_group,
        Some(Provider::Lvm(provider)) => &provider.volume_group,
        Some(Provider::Zfs(_) | Provider::Directory(_)) | None => return Ok(()),
    };
    if names::fits_device_mapper(volume_group, name) {
        return Ok(());
    }
    Err(Denial::invalid(
        "name",
        format!(
            "the device of {name} in volume group {volume_group} would have too long a name: use a shorter one"
        ),
    ))
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
    if let Some(attachment) = transaction.state().attachments_of(&name).next() {
        return Err(Denial::in_use(format!(
            "resource {name} is attached on node {}: run `hawser attachment delete {name} {}` and wait until it has ended",
            attachment.node, attachment.node
        )));
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
mod tests {
    #![allow(clippy::unwrap_used)]

    use hawser_proto::{
        sizes::{GIB, MIB, TIB},
        v1::{
            CreateResourceGroup, DeleteAttachment, DesiredAttachment, RecordNodeFacts, RejectionReason,
            command::Command as Kind,
        },
    };

    use super::*;
    use crate::fixture::{Cluster, POOL, RESOURCE, create_attachment, facts_9, facts_84};

    fn delete(name: &str) -> Kind {
        Kind::DeleteResource(DeleteResource { name: name.into() })
    }

    fn removed(cluster: &Cluster, node: &str, revision: u64) -> Kind {
        let resource = cluster.state.resource(RESOURCE).unwrap();
        Kind::ConfirmReplicaRemoved(ConfirmReplicaRemoved {
            resource: RESOURCE.into(),
            replica_incarnation: resource.replicas[0].incarnation,
            node: node.into(),
            revision,
        })
    }

    #[test]
    fn a_creation_allocates_names_and_reserves() {
        let mut cluster = Cluster::with_nodes(2);
        let create = cluster.create_resource("web", &["n1", "n2"]);
        let applied = cluster.applied(Kind::CreateResource(create));

        let incarnation = cluster.index;
        let resource = cluster.state.resource("web").unwrap();
        assert_eq!(applied.operation, incarnation);
        assert_eq!(cluster.state.operation(incarnation).unwrap().kind(), OperationKind::CreateResource);
        assert_eq!(resource.drbd_name, format!("web.{incarnation}"));
        assert_eq!((resource.volumes[0].minor, resource.maximum_peers), (1000, 1));
        assert_eq!(resource.day0_generation_id, 0xfeed_f00c, "DRBD's mark of a Primary is not in it");
        for (node_id, replica) in (0..).zip(&resource.replicas) {
            assert_eq!((replica.node_id, replica.port), (node_id, 7000));
            assert_eq!(replica.backing_volumes[0].name, format!("web.{incarnation}-0"));
            assert_eq!(replica.backing_volumes[0].size_bytes, GIB + 4 * MIB);
            assert_eq!(cluster.state.pool(&replica.node, POOL).unwrap().promised_bytes, GIB + 4 * MIB);
        }
        let document = cluster.state.document("n1").unwrap();
        let replica = &document.replicas[0];
        assert_eq!(replica.day0_generation_id, 0xfeed_f00c);
        assert_eq!(replica.attachment(), DesiredAttachment::Detached);
        assert_eq!(replica.volumes[0].gate_name, format!("hawser-web.{incarnation}-0"));
        let peers: Vec<_> =
            replica.peers.iter().map(|peer| (peer.uname.as_str(), peer.ip.as_str(), peer.port)).collect();
        assert_eq!(peers, [("n1", "10.0.0.1", 7000), ("n2", "10.0.0.2", 7000)]);
    }

    #[test]
    fn bad_requests_are_refused_with_the_field() {
        type Spoil = fn(&mut CreateResource);
        let cases: [(&str, RejectionReason, Spoil); 15] = [
            ("name", RejectionReason::Invalid, |create| create.name = "Web".into()),
            ("name", RejectionReason::AlreadyExists, |create| create.name = RESOURCE.into()),
            ("group", RejectionReason::NotFound, |create| create.group = "none".into()),
            ("volume_sizes", RejectionReason::Invalid, |create| create.volume_sizes.clear()),
            ("volume_sizes[0]", RejectionReason::Invalid, |create| create.volume_sizes = vec![0]),
            ("volume_sizes[0]", RejectionReason::Invalid, |create| create.volume_sizes = vec![1 << 63]),
            ("volume_sizes[1]", RejectionReason::Invalid, |create| create.volume_sizes = vec![GIB, 17 * TIB]),
            ("", RejectionReason::Precondition, |create| create.volume_sizes = vec![GIB, GIB]),
            ("", RejectionReason::NoCapacity, |create| create.volume_sizes = vec![TIB]),
            ("shared_secret", RejectionReason::Invalid, |create| create.shared_secret = "\"".into()),
            ("day0_generation_id", RejectionReason::Invalid, |create| create.day0_generation_id = 1),
            ("replicas", RejectionReason::Invalid, |create| create.placed.clear()),
            ("nodes[1]", RejectionReason::Invalid, |create| create.placed[1] = create.placed[0].clone()),
            ("nodes", RejectionReason::NotFound, |create| create.placed[1].node = "n9".into()),
            ("pool", RejectionReason::NotFound, |create| create.placed[1].pool_incarnation += 1),
        ];
        for (field, reason, spoil) in cases {
            let mut cluster = Cluster::with_resource();
            let mut create = cluster.create_resource("db", &["n1", "n2"]);
            spoil(&mut create);
            let rejected = cluster.rejected(Kind::CreateResource(create.clone()));
            assert_eq!((rejected.reason(), rejected.field.as_str()), (reason, field), "{create:?}");
        }
    }

    #[test]
    fn three_replicas_need_drbd_9() {
        let mut cluster = Cluster::with_nodes(3);
        let create = cluster.create_resource("web", &["n1", "n2", "n3"]);
        let rejected = cluster.rejected(Kind::CreateResource(create));
        assert!(rejected.message.contains("at most 2 replicas"), "{}", rejected.message);

        let mut cluster = Cluster::initialized();
        for number in 1..=3 {
            cluster.add_node(&format!("n{number}"), &format!("10.0.0.{number}"), facts_9());
        }
        cluster.add_resource("web", &["n1", "n2", "n3"]);
        assert_eq!(cluster.state.resource("web").unwrap().maximum_peers, 7);
    }

    #[test]
    fn generations_never_mix_and_unames_differ() {
        let mut cluster = Cluster::with_nodes(1);
        cluster.add_node("n9", "10.0.0.9", facts_9());
        let create = cluster.create_resource("web", &["n1", "n9"]);
        assert!(cluster.rejected(Kind::CreateResource(create)).message.contains("never mix"));

        let incarnation = cluster.state.node("n9").unwrap().incarnation;
        cluster.applied(Kind::RecordNodeFacts(RecordNodeFacts {
            node: "n9".into(),
            incarnation,
            uname: "n1".into(),
            facts: Some(facts_84()),
        }));
        let create = cluster.create_resource("web", &["n1", "n9"]);
        assert!(cluster.rejected(Kind::CreateResource(create)).message.contains("call themselves n1"));
    }

    #[test]
    fn a_placement_that_was_right_when_it_was_computed_is_stale() {
        let mut cluster = Cluster::with_nodes(2);
        let mut early = cluster.create_resource("late", &["n1", "n2"]);
        early.placed[0].pool_incarnation += 1;
        assert_eq!(cluster.reason(Kind::CreateResource(early.clone())), RejectionReason::NotFound);
        assert!(cluster.is_stale(Kind::CreateResource(early)));
    }

    #[test]
    fn a_resource_without_drbd_has_one_replica_and_no_numbers() {
        let mut cluster = Cluster::with_nodes(2);
        cluster.applied(Kind::CreateResourceGroup(CreateResourceGroup {
            name: "local".into(),
            layers: vec![Layer::Storage.into()],
            ..CreateResourceGroup::default()
        }));
        let mut create = cluster.create_resource(RESOURCE, &["n1"]);
        create.group = "local".into();
        create.shared_secret.clear();
        create.day0_generation_id = 0;
        create.volume_sizes = vec![GIB, 5 * MIB];
        let mut two = cluster.create_resource("two", &["n1", "n2"]);
        two.group = "local".into();
        assert_eq!(cluster.reason(Kind::CreateResource(two)), RejectionReason::Precondition);

        cluster.applied(Kind::CreateResource(create));
        let incarnation = cluster.index;
        cluster.applied(Kind::ConfirmResourceReady(ConfirmResourceReady {
            resource: RESOURCE.into(),
            incarnation,
        }));
        let resource = cluster.state.resource(RESOURCE).unwrap();
        assert_eq!(
            (resource.volumes[0].minor, resource.replicas[0].port, resource.drbd_name.as_str()),
            (0, 0, "")
        );
        assert_eq!(cluster.state.pool("n1", POOL).unwrap().promised_bytes, GIB + 8 * MIB);
        assert_eq!(cluster.applied(create_attachment("n1")).number, 1);
    }

    #[test]
    fn readiness_sets_the_latch_and_ends_the_creation() {
        let mut cluster = Cluster::with_nodes(2);
        let create = cluster.create_resource(RESOURCE, &["n1", "n2"]);
        let operation = cluster.applied(Kind::CreateResource(create)).operation;
        let incarnation = cluster.index;
        let ready = |incarnation| {
            Kind::ConfirmResourceReady(ConfirmResourceReady { resource: RESOURCE.into(), incarnation })
        };
        assert_eq!(cluster.reason(create_attachment("n1")), RejectionReason::Precondition);
        assert_eq!(cluster.reason(ready(incarnation + 1)), RejectionReason::NotFound);
        cluster.applied(ready(incarnation));
        assert!(cluster.state.resource(RESOURCE).unwrap().data_may_exist);
        assert_eq!(cluster.state.operation(operation).unwrap().state(), OperationState::Succeeded);
        assert_eq!(cluster.state.document("n1").unwrap().replicas[0].day0_generation_id, 0);
        assert_eq!(cluster.commit(ready(incarnation)).changes, Vec::new());
    }

    #[test]
    fn a_deletion_holds_every_number_until_the_last_node_has_confirmed() {
        let mut cluster = Cluster::with_resource();
        let operation = cluster.applied(delete(RESOURCE)).operation;
        let ordered = cluster.index;
        assert_eq!(cluster.applied(delete(RESOURCE)).operation, operation);
        assert_eq!(cluster.state.document("n1").unwrap().removed.len(), 1);
        assert_eq!(cluster.reason(create_attachment("n1")), RejectionReason::Precondition);

        let (early, n1, n2) = (
            removed(&cluster, "n1", ordered - 1),
            removed(&cluster, "n1", ordered),
            removed(&cluster, "n2", ordered),
        );
        assert!(cluster.is_stale(early));
        cluster.applied(n1.clone());
        assert_eq!(cluster.state.document("n1").unwrap().removed, Vec::new());
        assert_eq!(cluster.state.pool("n1", POOL).unwrap().promised_bytes, 0);
        cluster.applied(n1.clone());

        let create = cluster.create_resource(RESOURCE, &["n1", "n2"]);
        assert_eq!(cluster.reason(Kind::CreateResource(create)), RejectionReason::AlreadyExists);
        cluster.add_resource("other", &["n1", "n2"]);
        let other = cluster.state.resource("other").unwrap();
        assert_eq!((other.volumes[0].minor, other.replicas[0].port), (1001, 7001));

        cluster.applied(n2);
        assert_eq!(cluster.state.resource(RESOURCE), None);
        assert_eq!(cluster.state.operation(operation).unwrap().state(), OperationState::Succeeded);
        assert_eq!(cluster.reason(n1), RejectionReason::NotFound);
        cluster.add_resource("third", &["n1", "n2"]);
        let third = cluster.state.resource("third").unwrap();
        assert_eq!((third.volumes[0].minor, third.replicas[0].port), (1000, 7000));
    }

    #[test]
    fn a_replica_that_nobody_removes_is_not_taken_for_removed() {
        let mut cluster = Cluster::with_resource();
        let confirm = removed(&cluster, "n1", cluster.index);
        assert_eq!(cluster.reason(confirm), RejectionReason::Precondition);
    }

    #[test]
    fn a_deletion_cancels_the_creation() {
        let mut cluster = Cluster::with_nodes(2);
        let create = cluster.create_resource(RESOURCE, &["n1", "n2"]);
        let operation = cluster.applied(Kind::CreateResource(create)).operation;
        cluster.applied(delete(RESOURCE));
        assert_eq!(cluster.state.operation(operation).unwrap().state(), OperationState::Cancelled);
        let ready = ConfirmResourceReady { resource: RESOURCE.into(), incarnation: operation };
        assert_eq!(cluster.reason(Kind::ConfirmResourceReady(ready)), RejectionReason::Precondition);
    }

    #[test]
    fn an_attached_resource_is_not_deleted() {
        let mut cluster = Cluster::attached();
        let rejected = cluster.rejected(delete(RESOURCE));
        assert_eq!(rejected.reason(), RejectionReason::InUse);
        assert!(rejected.message.contains("node n1"), "{}", rejected.message);
        cluster.applied(Kind::DeleteAttachment(DeleteAttachment {
            resource: RESOURCE.into(),
            node: "n1".into(),
        }));
        assert_eq!(cluster.reason(delete(RESOURCE)), RejectionReason::InUse);
        assert_eq!(cluster.reason(delete("none")), RejectionReason::NotFound);
    }

    #[test]
    fn a_node_without_a_free_port_takes_nothing_further() {
        let mut cluster = Cluster::with_nodes(2);
        while cluster.state.index.ports_of("n2").take_smallest().is_some() {}
        let create = cluster.create_resource(RESOURCE, &["n1", "n2"]);
        // Through apply itself: the fixture's own check would not know of the taken ports.
        let command = hawser_proto::v1::Command {
            command: Some(Kind::CreateResource(create)),
            ..hawser_proto::v1::Command::default()
        };
        let effect = crate::apply(&mut cluster.state, 100, 1, &command);
        assert_eq!(crate::fixture::rejected(effect.outcome).reason(), RejectionReason::NoCapacity);
        assert_eq!(cluster.state.resource(RESOURCE), None);
    }
}
