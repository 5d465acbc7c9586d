//! A cluster after a restore: what waits, what is learnt, and what is left alone.
#![allow(clippy::unwrap_used)]

use hawser_planted::{Defect, plant};
use hawser_proto::v1::{
    AttachmentLifecycle, ClaimTakeOver, ConfirmReplicaRemoved, CreateAttachment, CreateReplica,
    DeleteReplica, DeleteResource, DesiredAttachment, NodeLost, Outdate, RejectionReason, ReleaseReplica,
    ReplicaLifecycle, Synced, TakeOver, WithdrawClaim, command::Command as Kind,
};

use super::*;
use crate::{
    NotRestorable,
    fixture::{Cluster, RESOURCE, create_attachment, create_node, restoration},
};

fn delete(name: &str) -> Kind {
    Kind::DeleteResource(DeleteResource { name: name.into() })
}

fn create(cluster: &Cluster, name: &str) -> Kind {
    Kind::CreateResource(cluster.create_resource(name, &["n1", "n2"]))
}

/// The backup of one moment, restored, with what the nodes hold of a later one.
fn settled(backup: &Cluster, later: &Cluster) -> Cluster {
    let mut restored = backup.restored();
    for node in ["n1", "n2", "n3"] {
        if restored.state.node(node).is_some() {
            restored.report(node, later.holdings(node));
        }
    }
    assert!(!restored.state.is_settling());
    restored
}

/// Deletes a resource, every node of which confirms.
fn delete_for_good(cluster: &mut Cluster, name: &str) {
    cluster.applied(delete(name));
    let replicas = cluster.state.resource(name).unwrap().replicas.clone();
    for replica in replicas {
        cluster.applied(Kind::ConfirmReplicaRemoved(ConfirmReplicaRemoved {
            resource: name.into(),
            replica_incarnation: replica.incarnation,
            node: replica.node,
            revision: cluster.index,
        }));
    }
    assert!(cluster.state.resource(name).is_none());
}

fn incarnation(cluster: &Cluster) -> u64 {
    cluster.state.resource(RESOURCE).unwrap().incarnation
}

#[test]
fn a_restored_cluster_begins_a_lineage_of_its_own_with_one_member() {
    let before = Cluster::attached();
    let after = before.restored();
    let cluster = after.state.cluster();
    assert_eq!((cluster.lineage, cluster.restored.as_ref().unwrap().from_lineage), (2, 1));
    assert!(after.index > before.index + (1 << 39), "numbers made of indices would come twice");
    let members: Vec<_> = after.state.members().collect();
    assert_eq!(members.len(), 1);
    assert_eq!((members[0].raft_id, members[0].store_incarnation), (after.index, 77));
    let document = after.state.document("n1").unwrap();
    assert_eq!((document.lineage, document.restore_id), (2, 77));
    assert_eq!(after.state.resource(RESOURCE), before.state.resource(RESOURCE));
    // Another restore of the same backup needs another lineage, and then begins elsewhere.
    let skipped = before.state.restore(before.index, restoration(3)).unwrap();
    assert!(skipped.revision() > after.index + (1 << 39));
}

#[test]
fn what_cannot_be_restored_says_why() {
    let cluster = Cluster::attached();
    for lineage in [0, 1, 1 + (1 << 17), u64::MAX] {
        let refused = cluster.state.restore(cluster.index, restoration(lineage)).unwrap_err();
        assert!(matches!(refused, NotRestorable::Lineage { .. }), "{lineage}: {refused}");
    }
    let refused = cluster.state.restore(u64::MAX / 2, restoration(2)).unwrap_err();
    assert!(matches!(refused, NotRestorable::NoRoom(_)), "{refused}");
    assert!(matches!(State::new().restore(1, restoration(2)), Err(NotRestorable::Empty)));
}

#[test]
fn nobody_takes_over_in_a_restored_cluster_what_was_claimed_before() {
    let mut before = Cluster::attached();
    let take_over = before.claimed_by("n2");
    let mut cluster = before.restored();
    let claim = |cluster: &Cluster| {
        cluster.state.resource(RESOURCE).unwrap().arbitration.as_ref().unwrap().claim.clone()
    };
    assert_eq!(claim(&cluster), None);
    for node in ["n1", "n2"] {
        cluster.report(node, before.holdings(node));
    }
    assert_eq!(claim(&cluster), None);
    assert!(cluster.is_stale(take_over));
}

#[test]
fn nothing_is_handed_out_or_removed_before_every_node_has_said_what_it_holds() {
    let before = Cluster::attached();
    let mut cluster = before.restored();
    let changes = |cluster: &Cluster| {
        let resource_incarnation = incarnation(cluster);
        [
            create(cluster, "next"),
            delete(RESOURCE),
            create_attachment("n2"),
            Kind::CreateReplica(CreateReplica {
                resource: RESOURCE.into(),
                resource_incarnation,
                placed: Some(cluster.placed("n2")),
                computed_at_revision: cluster.index,
            }),
            Kind::TakeOver(TakeOver {
                resource: RESOURCE.into(),
                resource_incarnation,
                node: "n2".into(),
                from_generation: 1,
                mode: 0,
                claim_number: 0,
            }),
            Kind::ClaimTakeOver(ClaimTakeOver {
                resource: RESOURCE.into(),
                resource_incarnation,
                node: "n2".into(),
                from_generation: 1,
            }),
            Kind::WithdrawClaim(WithdrawClaim { resource: RESOURCE.into(), resource_incarnation, number: 0 }),
            Kind::Outdate(Outdate {
                resource: RESOURCE.into(),
                resource_incarnation,
                node: "n2".into(),
                owner: "n1".into(),
                generation: 1,
            }),
        ]
    };
    for change in changes(&cluster) {
        let rejected = cluster.rejected(change.clone());
        assert_eq!(rejected.reason(), RejectionReason::Precondition, "{change:?}");
        assert!(rejected.message.contains("waits for n1, n2"), "{}", rejected.message);
    }
    cluster.report("n1", before.holdings("n1"));
    for change in changes(&cluster) {
        let rejected = cluster.rejected(change.clone());
        assert!(rejected.message.contains("waits for n2."), "{}", rejected.message);
    }
    cluster.report("n2", before.holdings("n2"));
    assert!(!cluster.state.is_settling());
    assert_eq!(cluster.state.unknown().count(), 0);
    assert_eq!(
        cluster.state.resource(RESOURCE),
        before.state.resource(RESOURCE),
        "nothing has happened to it"
    );
    cluster.applied(create(&cluster, "next"));
}

#[test]
fn a_node_reports_in_parts_and_repeats_change_nothing() {
    let mut before = Cluster::with_resource();
    before.add_resource("other", &["n1", "n2"]);
    let mut cluster = before.restored();
    let all = before.holdings("n1");
    let part = |cluster: &Cluster, from: u32, replicas: &[HeldReplica]| {
        Kind::RecordHeld(RecordHeld {
            node: "n1".into(),
            node_incarnation: cluster.state.node("n1").unwrap().incarnation,
            before: from,
            replicas: replicas.to_vec(),
            total: 2,
        })
    };
    assert!(cluster.is_stale(part(&cluster, 1, &all[1..])), "the first part is missing");
    cluster.applied(part(&cluster, 0, &all[..1]));
    assert_eq!(cluster.state.waits_for().count(), 2);
    cluster.applied(part(&cluster, 0, &all[..1]));
    assert_eq!(cluster.state.held_on("n1").count(), 1, "it began anew");
    assert!(cluster.is_stale(part(&cluster, 1, &all[..1])), "that one is recorded");
    cluster.applied(part(&cluster, 1, &all[1..]));
    assert_eq!(cluster.state.waits_for().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["n2"]);
    // It has reported: a late repetition is no news.
    cluster.applied(part(&cluster, 0, &all[..1]));
    assert_eq!(cluster.state.held_on("n1").count(), 2);
    let restored = State::from_records(cluster.state.records()).unwrap();
    assert_eq!(restored.checksum(), cluster.state.checksum());
}

#[test]
fn bad_holdings_are_refused_with_the_field() {
    let before = Cluster::with_resource();
    let mut cluster = before.restored();
    let base = cluster.index;
    type Spoil = fn(&mut HeldReplica, u64);
    let cases: [(&str, Spoil); 6] = [
        ("replicas[0].resource", |held, _| held.resource = "A B".into()),
        ("replicas[0]", |held, _| held.node = "n2".into()),
        ("replicas[0]", |held, _| held.replica_incarnation = 0),
        ("replicas[0]", |held, _| held.lineage = 2),
        ("replicas[0]", |held, base| held.replica_incarnation = base + 1),
        ("replicas[0]", |held, _| held.peers = vec![String::new(); MOST_PEERS + 1]),
    ];
    for (field, spoil) in cases {
        let mut holdings = before.holdings("n1");
        spoil(&mut holdings[0], base);
        let rejected = crate::fixture::rejected(cluster.report("n1", holdings).outcome);
        assert_eq!((rejected.reason(), rejected.field.as_str()), (RejectionReason::Invalid, field));
    }
    let holdings = before.holdings("n1");
    let rejected =
        crate::fixture::rejected(cluster.report("n1", [holdings.clone(), holdings].concat()).outcome);
    assert!(rejected.message.contains("named twice"), "{}", rejected.message);
}

#[test]
fn a_lost_node_ends_the_waiting_and_what_it_alone_had_waits_for_a_word() {
    let lose = |cluster: &Cluster, node: &str, accept: &[&str]| {
        Kind::NodeLost(NodeLost {
            node: node.into(),
            incarnation: cluster.state.node(node).unwrap().incarnation,
            accept_data_loss: accept.iter().map(|name| (*name).to_owned()).collect(),
        })
    };
    // Given a backup of two equal copies, of which n1's has fallen behind since.
    let before = Cluster::with_resource();
    let mut later = before.clone();
    later.applied(Kind::Outdate(Outdate {
        resource: RESOURCE.into(),
        resource_incarnation: incarnation(&later),
        node: "n1".into(),
        ..Outdate::default()
    }));
    let mut cluster = before.restored();
    cluster.report("n1", later.holdings("n1"));

    // When n2 is declared lost, then nobody is waited for, and n1's copy is known to be behind.
    let rejected = cluster.rejected(lose(&cluster, "n2", &[RESOURCE]));
    assert_eq!(rejected.field, "accept_data_loss");
    cluster.applied(lose(&cluster, "n2", &[]));
    assert!(!cluster.state.is_settling());
    let resource = cluster.state.resource(RESOURCE).unwrap();
    assert_eq!(resource.arbitration.as_ref().unwrap().outdated[0].node, "n1");
    assert!(resource.replicas.iter().all(|replica| replica.lifecycle() == ReplicaLifecycle::Ready));
    assert_eq!(cluster.reason(create_attachment("n1")), RejectionReason::Outdated);

    // And what n2 alone had is given up only by name.
    assert_eq!(cluster.reason(lose(&cluster, "n2", &[])), RejectionReason::Precondition);
    cluster.applied(lose(&cluster, "n2", &[RESOURCE]));
    cluster.applied(create_attachment("n1"));

    // Where n1's copy is complete, nothing waits.
    let mut cluster = before.restored();
    cluster.applied(lose(&cluster, "n2", &[]));
    cluster.report("n1", before.holdings("n1"));
    let resource = cluster.state.resource(RESOURCE).unwrap();
    let gone = resource.replicas.iter().find(|replica| replica.node == "n2").unwrap();
    assert_eq!(gone.lifecycle(), ReplicaLifecycle::Leaving);
}

#[test]
fn what_was_made_since_the_backup_is_shown_and_never_touched() {
    let before = Cluster::with_nodes(2);
    let mut later = before.clone();
    later.add_resource("newer", &["n1", "n2"]);
    let newer = later.state.resource("newer").unwrap().clone();
    let mut cluster = settled(&before, &later);

    assert_eq!(cluster.state.unknown().count(), 2);
    for node in ["n1", "n2"] {
        let document = cluster.state.document(node).unwrap();
        assert!(document.removed.is_empty() && document.replicas.is_empty(), "{document:?}");
    }
    // Its name, minor and ports are not handed out, and no incarnation comes twice.
    let rejected = cluster.rejected(create(&cluster, "newer"));
    assert_eq!((rejected.reason(), rejected.field.as_str()), (RejectionReason::AlreadyExists, "name"));
    assert!(rejected.message.contains("is still on n1, n2"), "{}", rejected.message);
    cluster.add_resource("next", &["n1", "n2"]);
    let next = cluster.state.resource("next").unwrap();
    assert_ne!(next.volumes[0].minor, newer.volumes[0].minor);
    for (one, other) in next.replicas.iter().zip(&newer.replicas) {
        assert_ne!(one.port, other.port);
        assert!(one.incarnation > other.incarnation + (1 << 39));
    }
    // Once nothing is left of it, all of that is free again.
    for node in ["n1", "n2"] {
        cluster.applied(Kind::ForgetHeld(ForgetHeld {
            node: node.into(),
            resource: "newer".into(),
            replica_incarnation: newer.incarnation,
        }));
    }
    cluster.add_resource("newer", &["n1", "n2"]);
    assert_eq!(cluster.state.resource("newer").unwrap().volumes[0].minor, newer.volumes[0].minor);
}

/// The same with the defect planted: this is what the test above would find.
#[test]
fn a_restored_cluster_that_deletes_what_it_does_not_know_is_found() {
    let before = Cluster::with_nodes(2);
    let mut later = before.clone();
    later.add_resource("newer", &["n1", "n2"]);
    let cluster = settled(&before, &later);
    assert!(cluster.state.document("n1").unwrap().removed.is_empty());

    let _planted = plant(Defect::UnknownDeleted);

    assert_eq!(cluster.state.document("n1").unwrap().removed.len(), 1);
}

#[test]
fn what_was_deleted_since_the_backup_is_not_made_again_as_if_it_had_its_data() {
    let before = Cluster::attached();
    let mut later = Cluster::with_resource();
    delete_for_good(&mut later, RESOURCE);
    let mut cluster = settled(&before, &later);

    let resource = cluster.state.resource(RESOURCE).unwrap();
    assert!(resource.replicas.iter().all(hawser_proto::v1::Replica::is_missing));
    assert!(resource.arbitration.as_ref().unwrap().owner.is_empty(), "nobody can have it open");
    assert_eq!(cluster.state.attachments().count(), 0);
    for node in ["n1", "n2"] {
        assert!(cluster.state.document(node).unwrap().replicas[0].not_made_anew);
    }
    for node in ["n1", "n2"] {
        let attach = CreateAttachment { resource: RESOURCE.into(), node: node.into(), mode: 0 };
        let rejected = cluster.rejected(Kind::CreateAttachment(attach));
        assert!(
            rejected.message.contains("removed since the backup")
                || rejected.reason() == RejectionReason::Outdated,
            "{}",
            rejected.message
        );
    }
    delete_for_good(&mut cluster, RESOURCE);
}

#[test]
fn a_replica_that_was_removed_since_is_behind_and_can_be_replaced() {
    let before = Cluster::with_resource();
    let mut later = before.clone();
    later.applied(Kind::DeleteReplica(DeleteReplica { resource: RESOURCE.into(), node: "n2".into() }));
    let incarnation = later.state.resource(RESOURCE).unwrap().replicas[1].incarnation;
    later.applied(Kind::ReleaseReplica(ReleaseReplica {
        resource: RESOURCE.into(),
        replica_incarnation: incarnation,
        node: "n2".into(),
        revision: later.index,
    }));
    later.applied(Kind::ConfirmReplicaRemoved(ConfirmReplicaRemoved {
        resource: RESOURCE.into(),
        replica_incarnation: incarnation,
        node: "n2".into(),
        revision: later.index,
    }));
    let mut cluster = settled(&before, &later);

    let resource = cluster.state.resource(RESOURCE).unwrap();
    assert_eq!(resource.replicas.iter().map(|it| it.is_missing()).collect::<Vec<_>>(), [false, true]);
    assert_eq!(resource.arbitration.as_ref().unwrap().outdated[0].node, "n2");
    cluster.applied(create_attachment("n1"));
    cluster.applied(Kind::DeleteReplica(DeleteReplica { resource: RESOURCE.into(), node: "n2".into() }));
}

#[test]
fn the_newest_document_says_who_owns_it_and_whose_copy_is_behind() {
    // Given a backup in which n1 has the resource open, which n2 has taken over since, unheard by n1.
    let before = Cluster::attached();
    let mut later = before.clone();
    let unheard = later.holdings("n1");
    let take_over = later.claimed_by("n2");
    later.applied(take_over);
    let mut cluster = before.restored();
    cluster.report("n1", unheard);
    cluster.report("n2", later.holdings("n2"));

    let arbitration = cluster.state.resource(RESOURCE).unwrap().arbitration.clone().unwrap();
    assert_eq!((arbitration.owner.as_str(), arbitration.generation), ("n2", 2));
    assert_eq!(arbitration.outdated.iter().map(|it| it.node.as_str()).collect::<Vec<_>>(), ["n1"]);
    let lifecycle = |node: &str| cluster.state.attachment(RESOURCE, node).unwrap().lifecycle();
    assert_eq!(
        (lifecycle("n1"), lifecycle("n2")),
        (AttachmentLifecycle::Revoked, AttachmentLifecycle::Attaching)
    );
    let document = |node: &str| cluster.state.document(node).unwrap().replicas[0].attachment();
    assert_eq!((document("n1"), document("n2")), (DesiredAttachment::Revoked, DesiredAttachment::Attached));
}

#[test]
fn what_was_attached_or_detached_since_the_backup_stays_so() {
    let unattached = Cluster::with_resource();
    let attached = Cluster::attached();
    let cluster = settled(&unattached, &attached);
    assert_eq!(cluster.state.attachment(RESOURCE, "n1").unwrap().lifecycle(), AttachmentLifecycle::Attaching);
    assert_eq!(cluster.state.resource(RESOURCE).unwrap().arbitration.as_ref().unwrap().owner, "n1");

    let mut detached = attached.clone();
    detached.applied(Kind::DeleteAttachment(hawser_proto::v1::DeleteAttachment {
        resource: RESOURCE.into(),
        node: "n1".into(),
    }));
    let cluster = settled(&attached, &detached);
    assert_eq!(cluster.state.attachment(RESOURCE, "n1").unwrap().lifecycle(), AttachmentLifecycle::Detaching);
    detached.applied(Kind::ConfirmDetached(hawser_proto::v1::ConfirmDetached {
        resource: RESOURCE.into(),
        node: "n1".into(),
        attachment_incarnation: detached.state.attachment(RESOURCE, "n1").unwrap().incarnation,
        revision: detached.index,
    }));
    let cluster = settled(&attached, &detached);
    assert_eq!(cluster.state.attachments().count(), 0);
}

#[test]
fn a_resource_with_a_replica_that_is_not_known_is_left_alone() {
    // Given a backup of two replicas, of which n2's has moved to n3 since.
    let mut before = Cluster::with_nodes(3);
    before.add_resource(RESOURCE, &["n1", "n2"]);
    let mut later = before.clone();
    let replica_incarnation = later.state.resource(RESOURCE).unwrap().replicas[1].incarnation;
    later.applied(Kind::DeleteReplica(DeleteReplica { resource: RESOURCE.into(), node: "n2".into() }));
    later.applied(Kind::ReleaseReplica(ReleaseReplica {
        resource: RESOURCE.into(),
        replica_incarnation,
        node: "n2".into(),
        revision: later.index,
    }));
    later.applied(Kind::ConfirmReplicaRemoved(ConfirmReplicaRemoved {
        resource: RESOURCE.into(),
        replica_incarnation,
        node: "n2".into(),
        revision: later.index,
    }));
    later.applied(Kind::CreateReplica(CreateReplica {
        resource: RESOURCE.into(),
        resource_incarnation: incarnation(&later),
        placed: Some(later.placed("n3")),
        computed_at_revision: later.index,
    }));
    later.applied(Kind::Synced(Synced {
        resource: RESOURCE.into(),
        resource_incarnation: incarnation(&later),
        node: "n3".into(),
        number: later.index,
    }));
    let mut cluster = settled(&before, &later);

    // Then no node is told anything of it, and nobody changes it.
    for node in ["n1", "n2", "n3"] {
        let document = cluster.state.document(node).unwrap();
        assert!(document.replicas.is_empty() && document.removed.is_empty(), "{document:?}");
    }
    for change in [create_attachment("n1"), delete(RESOURCE)] {
        let rejected = cluster.rejected(change);
        assert!(rejected.message.contains("node n3 holds a replica of it"), "{}", rejected.message);
    }

    // Until that replica is gone: then what n1 has is used again, and n2 is behind.
    let unknown = cluster.state.unknown().next().unwrap().clone();
    cluster.applied(Kind::ForgetHeld(ForgetHeld {
        node: unknown.node,
        resource: unknown.resource,
        replica_incarnation: unknown.replica_incarnation,
    }));
    assert_eq!(cluster.state.document("n1").unwrap().replicas.len(), 1);
    cluster.applied(create_attachment("n1"));
}

#[test]
fn a_node_that_is_created_later_takes_nothing_before_it_has_said_what_it_holds() {
    let before = Cluster::with_nodes(2);
    let mut later = before.clone();
    later.add_node("n3", "10.0.0.3", crate::fixture::facts_84());
    later.add_resource("newer", &["n3", "n1"]);
    let mut cluster = settled(&before, &later);
    cluster.add_node("n3", "10.0.0.3", crate::fixture::facts_84());

    let create = |cluster: &Cluster| Kind::CreateResource(cluster.create_resource("next", &["n1", "n3"]));
    let rejected = cluster.rejected(create(&cluster));
    assert!(rejected.message.contains("has not said yet what it holds"), "{}", rejected.message);
    cluster.report("n3", later.holdings("n3"));
    assert_eq!(cluster.state.unknown().count(), 2);
    cluster.applied(create(&cluster));
    let next = cluster.state.resource("next").unwrap();
    assert_ne!(next.volumes[0].minor, later.state.resource("newer").unwrap().volumes[0].minor);
    cluster.applied(create_node("n4", "10.0.0.4"));
}
