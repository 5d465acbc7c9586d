//! Lost nodes by tables: what goes on, what is freed, what is refused.
#![allow(clippy::unwrap_used)]

use hawser_proto::{
    ids::OperationId,
    v1::{
        Attachment, ConfirmReplicaRemoved, CreatePool, DeleteNode, DeleteResource, Outdate, RejectionReason,
        ReleaseReplica, command::Command as Kind,
    },
};

use super::*;
use crate::fixture::{Cluster, RESOURCE, create_attachment, create_node, create_pool};

fn lose(cluster: &Cluster, node: &str, accept: &[&str]) -> Kind {
    Kind::NodeLost(NodeLost {
        node: node.into(),
        incarnation: cluster.state.node(node).map_or(0, |node| node.incarnation),
        accept_data_loss: accept.iter().map(|name| (*name).to_owned()).collect(),
    })
}

fn lost(cluster: &mut Cluster, node: &str, accept: &[&str]) {
    let command = lose(cluster, node, accept);
    cluster.applied(command);
}

fn outdate(cluster: &Cluster, node: &str) -> Kind {
    Kind::Outdate(Outdate {
        resource: RESOURCE.into(),
        resource_incarnation: resource(cluster).incarnation,
        node: node.into(),
        ..Outdate::default()
    })
}

fn resource(cluster: &Cluster) -> &Resource {
    cluster.state.resource(RESOURCE).unwrap()
}

fn replica(cluster: &Cluster, node: &str) -> Replica {
    resource(cluster).replicas.iter().find(|replica| replica.node == node).unwrap().clone()
}

fn behind(cluster: &Cluster) -> Vec<&str> {
    let arbitration = resource(cluster).arbitration.as_ref().unwrap();
    arbitration.outdated.iter().map(|outdated| outdated.node.as_str()).collect()
}

/// The others have been seen without the replica on `node`.
fn released(cluster: &Cluster, node: &str) -> Kind {
    Kind::ReleaseReplica(ReleaseReplica {
        resource: RESOURCE.into(),
        replica_incarnation: replica(cluster, node).incarnation,
        node: node.into(),
        revision: cluster.index,
    })
}

#[test]
fn the_survivor_goes_on_alone_and_nothing_waits_for_the_lost_node() {
    // Given a resource on two nodes.
    let mut cluster = Cluster::with_resource();
    let promised =
        |cluster: &Cluster, node| cluster.state.pools_on(node).map(|pool| pool.promised_bytes).sum::<u64>();
    assert!(promised(&cluster, "n2") > 0);

    // When one of them is lost.
    lost(&mut cluster, "n2", &[]);

    // Then its copy counts as outdated and leaves, as soon as the survivor has let go of it.
    assert_eq!(behind(&cluster), ["n2"]);
    assert_eq!(replica(&cluster, "n2").lifecycle(), ReplicaLifecycle::Leaving);
    let peers = |cluster: &Cluster| cluster.state.document("n1").unwrap().replicas[0].peers.len();
    assert_eq!(peers(&cluster), 1, "the survivor is told to go on alone");
    let operation = cluster.state.running_operations().next().unwrap();
    assert_eq!((operation.kind(), operation.node.as_str()), (OperationKind::DeleteReplica, "n2"));
    cluster.applied(create_attachment("n1"));
    let release = released(&cluster, "n2");
    cluster.applied(release);

    // And nobody waits for the node to confirm anything: room and numbers are free.
    assert_eq!(resource(&cluster).replicas.len(), 1);
    assert_eq!((promised(&cluster, "n2"), behind(&cluster).len()), (0, 0));
    let attach = |operation: &hawser_proto::v1::Operation| operation.kind() == OperationKind::Attach;
    assert!(cluster.state.running_operations().all(attach));
}

#[test]
fn the_right_to_write_ends_with_the_node_and_the_survivor_may_have_it() {
    let mut cluster = Cluster::attached();
    lost(&mut cluster, "n1", &[]);
    assert_eq!(cluster.state.attachment(RESOURCE, "n1"), None);
    let arbitration = resource(&cluster).arbitration.clone().unwrap();
    assert_eq!((arbitration.owner.as_str(), arbitration.generation), ("", 1));

    // The lost one asks whether it may go on without its peer, after all.
    let asks = Kind::Outdate(Outdate {
        resource: RESOURCE.into(),
        resource_incarnation: resource(&cluster).incarnation,
        node: "n2".into(),
        owner: "n1".into(),
        generation: 1,
    });
    assert_eq!(cluster.reason(asks), RejectionReason::NotOwner);
    assert_eq!(cluster.applied(create_attachment("n2")).number, 2);
    assert_ne!(cluster.reason(create_attachment("n1")), RejectionReason::Unspecified);
}

#[test]
fn the_last_complete_copy_is_given_up_only_by_name() {
    // Given that the copy on n2 is behind: what n1 has, nobody else has.
    let mut cluster = Cluster::attached();
    let falls_behind = outdate(&cluster, "n2");
    cluster.applied(falls_behind);

    let refused = lose(&cluster, "n1", &[]);
    let rejected = cluster.rejected(refused);
    assert_eq!(rejected.reason(), RejectionReason::Precondition);
    assert!(rejected.message.contains(RESOURCE), "{}", rejected.message);
    lost(&mut cluster, "n1", &[RESOURCE]);

    // Then the older copy is what there is.
    assert_eq!(behind(&cluster), ["n1"]);
    cluster.applied(create_attachment("n2"));
}

#[test]
fn a_resource_that_was_on_the_lost_node_alone_goes_with_it() {
    let mut cluster = Cluster::with_nodes(2);
    cluster.add_resource(RESOURCE, &["n1"]);
    let refused = lose(&cluster, "n1", &[]);
    assert_eq!(cluster.reason(refused), RejectionReason::Precondition);
    lost(&mut cluster, "n1", &[RESOURCE]);
    assert_eq!(cluster.state.resource(RESOURCE), None);
    assert_eq!(cluster.state.running_operations().count(), 0);
    assert_eq!(cluster.state.pools_on("n1").map(|pool| pool.promised_bytes).sum::<u64>(), 0);
}

#[test]
fn a_deletion_waits_no_more_for_a_lost_node() {
    let delete = || Kind::DeleteResource(DeleteResource { name: RESOURCE.into() });
    let gone = |cluster: &Cluster, node: &str| {
        Kind::ConfirmReplicaRemoved(ConfirmReplicaRemoved {
            resource: RESOURCE.into(),
            replica_incarnation: replica(cluster, node).incarnation,
            node: node.into(),
            revision: cluster.index,
        })
    };
    // Lost while it is being deleted, and deleted after it was lost.
    for lost_first in [false, true] {
        let mut cluster = Cluster::with_resource();
        if lost_first {
            lost(&mut cluster, "n2", &[]);
        }
        let operation = cluster.applied(delete()).operation;
        if !lost_first {
            lost(&mut cluster, "n2", &[]);
        }
        assert_eq!(replica(&cluster, "n2").lifecycle(), ReplicaLifecycle::Removed);
        let confirmed = gone(&cluster, "n1");
        cluster.applied(confirmed);
        assert_eq!(cluster.state.resource(RESOURCE), None);
        let ended = cluster.state.operation(OperationId::new(operation)).unwrap();
        assert_eq!(ended.state(), OperationState::Succeeded);
    }
}

#[test]
fn a_creation_ends_with_its_node() {
    let mut cluster = Cluster::with_nodes(2);
    let create = cluster.create_resource(RESOURCE, &["n1", "n2"]);
    let operation = cluster.applied(Kind::CreateResource(create)).operation;
    lost(&mut cluster, "n2", &[]);
    let state = cluster.state.operation(OperationId::new(operation)).unwrap().state();
    assert_eq!(state, OperationState::Cancelled);
    assert_eq!(resource(&cluster).lifecycle(), ResourceLifecycle::Deleting);
    assert_eq!(replica(&cluster, "n2").lifecycle(), ReplicaLifecycle::Removed);
}

#[test]
fn nothing_is_placed_on_a_lost_node_and_it_can_be_forgotten_with_its_pools() {
    let mut cluster = Cluster::with_resource();
    lost(&mut cluster, "n2", &[]);
    let create = cluster.create_resource("db", &["n1", "n2"]);
    let rejected = cluster.rejected(Kind::CreateResource(create));
    assert!(rejected.message.contains("declared lost"), "{}", rejected.message);
    let Kind::CreatePool(pool) = create_pool("n2", "other") else { unreachable!("it creates a pool") };
    let rejected = cluster.rejected(Kind::CreatePool(CreatePool { ..pool }));
    assert!(rejected.message.contains("declared lost"), "{}", rejected.message);

    let forget = || Kind::DeleteNode(DeleteNode { name: "n2".into() });
    assert_eq!(cluster.reason(forget()), RejectionReason::InUse, "its replica has not been let go of");
    let release = released(&cluster, "n2");
    cluster.applied(release);
    cluster.applied(forget());
    assert_eq!(cluster.state.pools_on("n2").count(), 0);

    // Registered anew it is another node.
    cluster.applied(create_node("n2", "10.0.0.2"));
    assert!(!cluster.state.node("n2").unwrap().is_lost());
}

#[test]
fn what_is_no_such_loss_is_refused_by_its_field() {
    let cases: [(&str, u64, &[&str], RejectionReason, &str); 5] = [
        ("n9", 0, &[], RejectionReason::NotFound, "name"),
        ("n1", 1, &[], RejectionReason::NotFound, "name"),
        ("n1", 0, &[RESOURCE], RejectionReason::Invalid, "accept_data_loss[0]"),
        ("n3", 0, &["none"], RejectionReason::Invalid, "accept_data_loss[0]"),
        ("n1", 0, &["", RESOURCE], RejectionReason::Invalid, "accept_data_loss[0]"),
    ];
    for (node, skew, accept, reason, field) in cases {
        let mut cluster = Cluster::with_nodes(3);
        cluster.add_resource(RESOURCE, &["n1", "n2"]);
        let Kind::NodeLost(command) = lose(&cluster, node, accept) else { unreachable!("it loses a node") };
        let command = NodeLost { incarnation: command.incarnation + skew, ..command };
        let rejected = cluster.rejected(Kind::NodeLost(command));
        assert_eq!((rejected.reason(), rejected.field.as_str()), (reason, field), "{node} {accept:?}");
    }
    // Twice is once.
    let mut cluster = Cluster::with_resource();
    lost(&mut cluster, "n2", &[]);
    let since = cluster.state.node("n2").unwrap().lost_since;
    lost(&mut cluster, "n2", &[]);
    assert_eq!(cluster.state.node("n2").unwrap().lost_since, since);
    assert_eq!(cluster.state.attachments().cloned().collect::<Vec<Attachment>>(), []);
}
