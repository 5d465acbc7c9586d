//! Resources by tables: creation, readiness, deletion.
#![allow(clippy::unwrap_used)]

use hawser_proto::{
    ids::OperationId,
    sizes::{GIB, MIB, TIB},
    v1::{
        ConfirmDetached, ConfirmReplicaRemoved, CreateResourceGroup, DeleteAttachment, DesiredAttachment,
        RecordNodeFacts, RejectionReason, command::Command as Kind,
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
    assert_eq!(
        cluster.state.operation(OperationId::new(incarnation)).unwrap().kind(),
        OperationKind::CreateResource
    );
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
fn what_something_else_holds_is_passed_over() {
    let range = |first, last| NumberRange { first, last };
    let mut cluster = Cluster::with_nodes(2);
    let mut create = cluster.create_resource("web", &["n1", "n2"]);
    create.avoided_minors = vec![range(1001, 1003), range(1000, 1000)];
    create.placed[1].avoided_ports = vec![range(6000, 7001)];
    cluster.applied(Kind::CreateResource(create));
    let numbers = |cluster: &Cluster, name: &str| {
        let resource = cluster.state.resource(name).unwrap();
        let ports = resource.replicas.iter().map(|replica| replica.port).collect::<Vec<_>>();
        (resource.volumes[0].minor, ports)
    };
    assert_eq!(numbers(&cluster, "web"), (1004, vec![7000, 7002]));

    // Held no longer: the smallest free ones are given again.
    cluster.add_resource("db", &["n1", "n2"]);
    assert_eq!(numbers(&cluster, "db"), (1000, vec![7001, 7000]));

    let mut create = cluster.create_resource("all", &["n1", "n2"]);
    create.avoided_minors = vec![range(0, u32::MAX)];
    assert_eq!(cluster.reason(Kind::CreateResource(create)), RejectionReason::NoCapacity);
    let mut create = cluster.create_resource("all", &["n1", "n2"]);
    create.placed[0].avoided_ports = vec![range(7000, 7999)];
    let rejected = cluster.rejected(Kind::CreateResource(create));
    assert_eq!(rejected.reason(), RejectionReason::NoCapacity);
    assert!(rejected.message.contains("every DRBD port of node n1"), "{}", rejected.message);
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
    cluster
        .applied(Kind::ConfirmResourceReady(ConfirmResourceReady { resource: RESOURCE.into(), incarnation }));
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
    assert_eq!(
        cluster.state.operation(OperationId::new(operation)).unwrap().state(),
        OperationState::Succeeded
    );
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
    assert_eq!(
        cluster.state.operation(OperationId::new(operation)).unwrap().state(),
        OperationState::Succeeded
    );
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
    assert_eq!(
        cluster.state.operation(OperationId::new(operation)).unwrap().state(),
        OperationState::Cancelled
    );
    let ready = ConfirmResourceReady { resource: RESOURCE.into(), incarnation: operation };
    assert_eq!(cluster.reason(Kind::ConfirmResourceReady(ready)), RejectionReason::Precondition);
}

#[test]
fn an_attached_resource_is_not_deleted() {
    let mut cluster = Cluster::attached();
    let rejected = cluster.rejected(delete(RESOURCE));
    assert_eq!(rejected.reason(), RejectionReason::InUse);
    assert!(rejected.message.contains("node n1"), "{}", rejected.message);
    cluster
        .applied(Kind::DeleteAttachment(DeleteAttachment { resource: RESOURCE.into(), node: "n1".into() }));
    assert_eq!(cluster.reason(delete(RESOURCE)), RejectionReason::InUse);
    assert_eq!(cluster.reason(delete("none")), RejectionReason::NotFound);
}

#[test]
fn a_refused_deletion_names_what_can_be_detached_before_what_was_taken_over() {
    let mut cluster = Cluster::attached();
    let take_over = cluster.claimed_by("n2");
    cluster.applied(take_over);
    let rejected = cluster.rejected(delete(RESOURCE));
    let advice = format!("hawser attachment delete {RESOURCE} n2");
    assert!(rejected.message.contains(&advice), "{}", rejected.message);

    cluster
        .applied(Kind::DeleteAttachment(DeleteAttachment { resource: RESOURCE.into(), node: "n2".into() }));
    cluster.applied(Kind::ConfirmDetached(ConfirmDetached {
        resource: RESOURCE.into(),
        node: "n2".into(),
        attachment_incarnation: cluster.state.attachment(RESOURCE, "n2").unwrap().incarnation,
        revision: cluster.index,
    }));
    let rejected = cluster.rejected(delete(RESOURCE));
    assert_eq!(rejected.reason(), RejectionReason::InUse);
    for words in ["taken over from node n1", "wait until node n1 is back"] {
        assert!(rejected.message.contains(words), "{}", rejected.message);
    }
}

#[test]
fn a_node_without_a_free_port_takes_nothing_further() {
    let mut cluster = Cluster::with_nodes(2);
    while cluster.state.index.ports_of("n2").take_smallest(&[]).is_some() {}
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
