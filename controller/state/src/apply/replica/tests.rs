//! Replicas by tables: joining, leaving, and what is refused.
#![allow(clippy::unwrap_used)]

use hawser_proto::{
    ids::OperationId,
    sizes::{GIB, MIB},
    v1::{
        Arbitration, CancelOperation, ConfirmDetached, CreateAttachment, CreateResourceGroup,
        DeleteAttachment, DeleteResource, DesiredReplica, Outdate, OutdatedReplica, RecordNodeFacts,
        RecordPoolCapacity, Synced, TakeOver, command::Command as Kind,
    },
};

use super::*;
use crate::fixture::{Cluster, POOL, RESOURCE, create_attachment, facts_9, facts_84};

const ROOM: u64 = GIB + 4 * MIB;

/// Three nodes, and a resource with one replica on `n1`.
fn alone() -> Cluster {
    let mut cluster = Cluster::with_nodes(3);
    cluster.add_resource(RESOURCE, &["n1"]);
    cluster
}

/// The same, with a replica on `n2` that has not synced yet.
fn joining() -> Cluster {
    let mut cluster = alone();
    let join = join(&cluster, "n2");
    cluster.applied(join);
    cluster
}

/// The same, synced.
fn joined() -> Cluster {
    let mut cluster = joining();
    let number = cluster.index;
    let synced = synced(&cluster, "n2", number);
    cluster.applied(synced);
    cluster
}

/// The same, with the replica on `n2` leaving.
fn leaving() -> Cluster {
    let mut cluster = joined();
    cluster.applied(leave("n2"));
    cluster
}

fn resource(cluster: &Cluster) -> &Resource {
    cluster.state.resource(RESOURCE).unwrap()
}

fn replica(cluster: &Cluster, node: &str) -> Replica {
    resource(cluster).replicas.iter().find(|replica| replica.node == node).unwrap().clone()
}

fn arbitration(cluster: &Cluster) -> Arbitration {
    resource(cluster).arbitration.clone().unwrap_or_default()
}

fn wanted(cluster: &Cluster, node: &str) -> DesiredReplica {
    cluster.state.document(node).unwrap().replicas[0].clone()
}

fn peers(replica: &DesiredReplica) -> Vec<(&str, u64)> {
    replica.peers.iter().map(|peer| (peer.node.as_str(), peer.outdated_number)).collect()
}

fn create(cluster: &Cluster, node: &str) -> CreateReplica {
    CreateReplica {
        resource: RESOURCE.into(),
        resource_incarnation: resource(cluster).incarnation,
        placed: Some(cluster.placed(node)),
        computed_at_revision: cluster.state.revision(),
    }
}

fn join(cluster: &Cluster, node: &str) -> Kind {
    Kind::CreateReplica(create(cluster, node))
}

fn leave(node: &str) -> Kind {
    Kind::DeleteReplica(DeleteReplica { resource: RESOURCE.into(), node: node.into() })
}

fn synced(cluster: &Cluster, node: &str, number: u64) -> Kind {
    let resource_incarnation = resource(cluster).incarnation;
    Kind::Synced(Synced { resource: RESOURCE.into(), resource_incarnation, node: node.into(), number })
}

fn outdate(cluster: &Cluster, node: &str) -> Kind {
    let resource_incarnation = resource(cluster).incarnation;
    Kind::Outdate(Outdate {
        resource: RESOURCE.into(),
        resource_incarnation,
        node: node.into(),
        ..Outdate::default()
    })
}

fn take_over(cluster: &Cluster, node: &str) -> Kind {
    Kind::TakeOver(TakeOver {
        resource: RESOURCE.into(),
        resource_incarnation: resource(cluster).incarnation,
        node: node.into(),
        from_generation: arbitration(cluster).generation,
        mode: 0,
        claim_number: 0,
    })
}

fn let_go(cluster: &Cluster, node: &str, revision: u64) -> Kind {
    Kind::ReleaseReplica(ReleaseReplica {
        resource: RESOURCE.into(),
        replica_incarnation: replica(cluster, node).incarnation,
        node: node.into(),
        revision,
    })
}

fn removed(cluster: &Cluster, node: &str, revision: u64) -> Kind {
    Kind::ConfirmReplicaRemoved(ConfirmReplicaRemoved {
        resource: RESOURCE.into(),
        replica_incarnation: replica(cluster, node).incarnation,
        node: node.into(),
        revision,
    })
}

fn operation(cluster: &Cluster, id: u64) -> OperationState {
    cluster.state.operation(OperationId::new(id)).unwrap().state()
}

#[test]
fn a_replica_joins_as_outdated_and_has_to_sync() {
    // Given a resource that n1 writes to.
    let mut cluster = alone();
    cluster.applied(create_attachment("n1"));

    // When a replica joins on n2.
    let join = join(&cluster, "n2");
    let applied = cluster.applied(join);

    // Then both nodes are told of each other, and of the mark; nothing starts from day 0.
    let entry = cluster.index;
    let joining = replica(&cluster, "n2");
    assert_eq!((joining.node_id, joining.port), (1, 7000));
    assert_eq!(joining.backing_volumes[0].name, format!("web.{entry}-0"));
    assert_eq!(cluster.state.pool("n2", POOL).unwrap().promised_bytes, ROOM);
    for node in ["n1", "n2"] {
        let wanted = wanted(&cluster, node);
        assert_eq!(peers(&wanted), [("n1", 0), ("n2", entry)], "{node}");
        assert_eq!((wanted.day0_generation_id, wanted.owner.as_str()), (0, "n1"));
        assert_eq!(cluster.state.document(node).unwrap().revision, entry);
    }
    // It may not have the resource, whoever asks how, before it has synced.
    let take_over = take_over(&cluster, "n2");
    assert_eq!(cluster.reason(take_over), RejectionReason::Outdated);
    // Nor may the only complete copy be left behind for it.
    for command in [outdate(&cluster, "n1"), leave("n1")] {
        let reason = cluster.reason(command);
        assert!(matches!(reason, RejectionReason::Outdated | RejectionReason::InUse), "{reason:?}");
    }

    // When it has synced, by the very number that stands.
    let too_early = synced(&cluster, "n2", entry - 1);
    cluster.rejected(too_early);
    assert_eq!(operation(&cluster, applied.operation), OperationState::Running);
    let synced = synced(&cluster, "n2", entry);
    cluster.applied(synced);

    // Then it is a replica like the other.
    assert_eq!(replica(&cluster, "n2").lifecycle(), ReplicaLifecycle::Ready);
    assert_eq!(operation(&cluster, applied.operation), OperationState::Succeeded);
    assert_eq!(arbitration(&cluster).outdated, []);
}

#[test]
fn a_link_that_breaks_while_it_syncs_asks_for_another_sync() {
    let mut cluster = joining();
    let first = cluster.index;
    let again = outdate(&cluster, "n2");
    let second = cluster.applied(again).number;
    let stale = synced(&cluster, "n2", first);
    cluster.rejected(stale);
    assert_eq!(replica(&cluster, "n2").lifecycle(), ReplicaLifecycle::Creating);
    let synced = synced(&cluster, "n2", second);
    cluster.applied(synced);
    assert_eq!(replica(&cluster, "n2").lifecycle(), ReplicaLifecycle::Ready);
}

#[test]
fn what_cannot_join_is_refused_with_the_reason() {
    type Spoil = fn(&mut Cluster, &mut CreateReplica);
    let cases: [(&str, RejectionReason, &str, Spoil); 9] = [
        ("does not exist in incarnation", RejectionReason::NotFound, "resource", |_, create| {
            create.resource_incarnation += 1;
        }),
        ("is not there any more", RejectionReason::NotFound, "nodes", |_, create| {
            create.placed = None;
        }),
        ("is not there any more", RejectionReason::NotFound, "pool", |_, create| {
            create.placed.as_mut().unwrap().pool_incarnation += 1;
        }),
        ("has a replica on node n1 already", RejectionReason::AlreadyExists, "node", |cluster, create| {
            create.placed = Some(cluster.placed("n1"));
        }),
        ("at most 2: remove one first", RejectionReason::Precondition, "", |cluster, create| {
            *cluster = joined();
            *create = super::tests::create(cluster, "n3");
        }),
        ("wait until the one on node n2 is gone", RejectionReason::Precondition, "", |cluster, create| {
            *cluster = leaving();
            *create = super::tests::create(cluster, "n3");
        }),
        ("is being removed: wait", RejectionReason::AlreadyExists, "node", |cluster, create| {
            *cluster = leaving();
            *create = super::tests::create(cluster, "n2");
        }),
        ("are needed", RejectionReason::NoCapacity, "", |cluster, create| {
            let incarnation = cluster.state.pool("n2", POOL).unwrap().incarnation;
            cluster.applied(Kind::RecordPoolCapacity(RecordPoolCapacity {
                node: "n2".into(),
                name: POOL.into(),
                incarnation,
                capacity_bytes: MIB,
            }));
            create.computed_at_revision = cluster.state.revision();
        }),
        ("is being deleted", RejectionReason::Precondition, "", |cluster, create| {
            cluster.applied(Kind::DeleteResource(DeleteResource { name: RESOURCE.into() }));
            create.computed_at_revision = cluster.state.revision();
        }),
    ];
    for (words, reason, field, spoil) in cases {
        let mut cluster = alone();
        let mut create = create(&cluster, "n2");
        spoil(&mut cluster, &mut create);
        let rejected = cluster.rejected(Kind::CreateReplica(create));
        assert_eq!((rejected.reason(), rejected.field.as_str()), (reason, field), "{}", rejected.message);
        assert!(rejected.message.contains(words), "{}", rejected.message);
    }
}

#[test]
fn a_node_of_another_kind_is_refused_by_name() {
    type Facts = fn(&mut hawser_proto::v1::NodeFacts, &mut String);
    let cases: [(&str, &str, Facts); 4] = [
        ("n2", "never mix", |facts, _| *facts = facts_9()),
        ("n2", "call themselves n1", |_, uname| *uname = "n1".into()),
        ("n2", "node n2: its kernel cannot run", |facts, _| facts.helper_can_run = false),
        ("n1", "node n1: its kernel cannot run", |facts, _| facts.helper_can_run = false),
    ];
    for (node, words, change) in cases {
        let mut cluster = alone();
        let (mut facts, mut uname) = (facts_84(), node.to_owned());
        change(&mut facts, &mut uname);
        let incarnation = cluster.state.node(node).unwrap().incarnation;
        cluster.applied(Kind::RecordNodeFacts(RecordNodeFacts {
            node: node.into(),
            incarnation,
            uname,
            facts: Some(facts),
        }));
        let join = join(&cluster, "n2");
        let rejected = cluster.rejected(join);
        assert!(rejected.message.contains(words), "{}", rejected.message);
    }
}

#[test]
fn only_drbd_8_4_on_storage_takes_a_further_replica() {
    let mut cluster = Cluster::with_nodes(2);
    cluster.applied(Kind::CreateResourceGroup(CreateResourceGroup {
        name: "local".into(),
        layers: vec![Layer::Storage.into()],
        ..CreateResourceGroup::default()
    }));
    let mut local = cluster.create_resource(RESOURCE, &["n1"]);
    local.group = "local".into();
    cluster.applied(Kind::CreateResource(local));
    let incarnation = cluster.index;
    cluster.applied(Kind::ConfirmResourceReady(hawser_proto::v1::ConfirmResourceReady {
        resource: RESOURCE.into(),
        incarnation,
    }));
    let join_local = join(&cluster, "n2");
    let rejected = cluster.rejected(join_local);
    assert!(rejected.message.contains("only one of the layers drbd and storage"), "{}", rejected.message);

    let mut cluster = Cluster::initialized();
    for number in 1..=2 {
        cluster.add_node(&format!("n{number}"), &format!("10.0.0.{number}"), facts_9());
    }
    cluster.add_resource(RESOURCE, &["n1"]);
    let join_9 = join(&cluster, "n2");
    assert!(cluster.rejected(join_9).message.contains("is of DRBD 9"));
}

#[test]
fn a_placement_that_the_world_has_overtaken_is_computed_again() {
    let mut cluster = alone();
    let create = create(&cluster, "n2");
    let incarnation = cluster.state.pool("n2", POOL).unwrap().incarnation;
    cluster.applied(Kind::RecordPoolCapacity(RecordPoolCapacity {
        node: "n2".into(),
        name: POOL.into(),
        incarnation,
        capacity_bytes: MIB,
    }));
    assert!(cluster.is_stale(Kind::CreateReplica(create)));
}

#[test]
fn a_replica_leaves_in_confirmed_steps() {
    // Given two replicas, n1 attached.
    let mut cluster = joined();
    cluster.applied(create_attachment("n1"));

    // When the one on n2 is to leave.
    let applied = cluster.applied(leave("n2"));
    let left = cluster.index;

    // Then it is outdated for good, n1 is told to go on alone, and n2 keeps what it has.
    assert_eq!(arbitration(&cluster).outdated, [OutdatedReplica { node: "n2".into(), number: left }]);
    assert_eq!(peers(&wanted(&cluster, "n1")), [("n1", 0)]);
    assert_eq!(peers(&wanted(&cluster, "n2")), [("n1", 0), ("n2", left)]);
    assert_eq!(cluster.state.document("n2").unwrap().removed, []);
    let again = cluster.applied(leave("n2"));
    assert_eq!(again.operation, applied.operation, "asked again, it is the same operation");
    let is_refused = |cluster: &Cluster, command: Kind| cluster.clone().reason(command);
    for command in [synced(&cluster, "n2", left), take_over(&cluster, "n2")] {
        assert_eq!(is_refused(&cluster, command), RejectionReason::Precondition);
    }
    // And n1 may still have it outdated: its kernel may ask before it has heard of it.
    let asked = outdate(&cluster, "n2");
    cluster.clone().applied(asked);
    let early = removed(&cluster, "n2", left);
    assert_eq!(is_refused(&cluster, early), RejectionReason::Precondition);

    // When n1 was seen without it under that entry, then n2 has to remove it.
    let seen_before = let_go(&cluster, "n2", left - 1);
    assert!(cluster.is_stale(seen_before));
    let seen = let_go(&cluster, "n2", left);
    cluster.applied(seen);
    let released = cluster.index;
    assert_eq!(cluster.state.document("n2").unwrap().removed.len(), 1);
    assert_eq!(peers(&wanted(&cluster, "n1")), [("n1", 0)]);
    assert_eq!(cluster.state.pool("n2", POOL).unwrap().promised_bytes, ROOM, "not free before it is gone");

    // When nothing is left, everything of it is free again.
    let seen_before = removed(&cluster, "n2", released - 1);
    assert!(cluster.is_stale(seen_before));
    let gone = removed(&cluster, "n2", released);
    cluster.applied(gone);
    assert_eq!(resource(&cluster).replicas.len(), 1);
    assert_eq!(arbitration(&cluster).outdated, []);
    assert_eq!(cluster.state.pool("n2", POOL).unwrap().promised_bytes, 0);
    let document = cluster.state.document("n2").unwrap();
    assert_eq!((document.replicas, document.removed), (vec![], vec![]));
    assert_eq!(operation(&cluster, applied.operation), OperationState::Succeeded);

    // And it may come back, as another one.
    let join = join(&cluster, "n2");
    cluster.applied(join);
    assert_eq!(replica(&cluster, "n2").incarnation, cluster.index);
}

#[test]
fn what_must_stay_does_not_leave() {
    let attached = |node: &str| {
        let mut cluster = joined();
        cluster.applied(create_attachment(node));
        cluster
    };
    let revoked = || {
        let mut cluster = attached("n1");
        let take_over = cluster.claimed_by("n2");
        cluster.applied(take_over);
        cluster
    };
    let behind = || {
        let mut cluster = joined();
        let outdate = outdate(&cluster, "n1");
        cluster.applied(outdate);
        cluster
    };
    for (cluster, node, reason, words) in [
        (alone(), "n1", RejectionReason::Precondition, "hawser resource delete web"),
        (alone(), "n2", RejectionReason::NotFound, "it has them on n1"),
        (joining(), "n1", RejectionReason::Outdated, "the last that is known to be complete"),
        (behind(), "n2", RejectionReason::Outdated, "the last that is known to be complete"),
        (attached("n2"), "n2", RejectionReason::InUse, "hawser attachment delete web n2"),
        (revoked(), "n1", RejectionReason::InUse, "was taken over from node n1"),
    ] {
        let mut cluster = cluster;
        let rejected = cluster.rejected(leave(node));
        assert_eq!(rejected.reason(), reason, "{}", rejected.message);
        assert!(rejected.message.contains(words), "{}", rejected.message);
    }
    // The one that is behind may go, and so may the one that was detached.
    behind().applied(leave("n1"));
    let mut cluster = attached("n2");
    let attachment_incarnation = cluster.index;
    let detach = DeleteAttachment { resource: RESOURCE.into(), node: "n2".into() };
    cluster.applied(Kind::DeleteAttachment(detach));
    let revision = cluster.index;
    cluster.applied(Kind::ConfirmDetached(ConfirmDetached {
        resource: RESOURCE.into(),
        node: "n2".into(),
        attachment_incarnation,
        revision,
    }));
    cluster.applied(leave("n2"));
    let attach =
        Kind::CreateAttachment(CreateAttachment { resource: RESOURCE.into(), node: "n2".into(), mode: 0 });
    assert_eq!(cluster.reason(attach), RejectionReason::Precondition);
}

#[test]
fn cancelling_a_joining_has_the_replica_leave() {
    let mut cluster = joining();
    let id = cluster.index;
    let cancelled = cluster.applied(Kind::CancelOperation(CancelOperation { id }));
    assert_eq!(operation(&cluster, id), OperationState::Cancelled);
    let leaving = cluster.state.operation(OperationId::new(cancelled.operation)).unwrap();
    assert_eq!((leaving.kind(), leaving.node.as_str()), (OperationKind::DeleteReplica, "n2"));
    assert_eq!(replica(&cluster, "n2").lifecycle(), ReplicaLifecycle::Leaving);
}

#[test]
fn a_resource_is_deleted_whatever_its_replicas_were_about_to_do() {
    let ordered = || {
        let mut cluster = leaving();
        let left = cluster.index;
        let seen = let_go(&cluster, "n2", left);
        cluster.applied(seen);
        cluster
    };
    for (what, cluster) in [("joining", joining()), ("leaving", leaving()), ("going", ordered())] {
        let mut cluster = cluster;
        let since = replica(&cluster, "n2").removing_since;
        let was_going = replica(&cluster, "n2").lifecycle() == ReplicaLifecycle::Removing;
        cluster.applied(Kind::DeleteResource(DeleteResource { name: RESOURCE.into() }));
        let index = cluster.index;
        let going = replica(&cluster, "n2");
        assert_eq!(going.lifecycle(), ReplicaLifecycle::Removing, "{what}");
        assert_eq!(going.removing_since, if was_going { since } else { index }, "{what}");
        let running: Vec<_> = cluster.state.running_operations().map(|running| running.kind()).collect();
        assert_eq!(running, [OperationKind::DeleteResource], "{what}");
        for node in ["n2", "n1"] {
            let gone = removed(&cluster, node, index);
            cluster.applied(gone);
        }
        assert_eq!(cluster.state.resource(RESOURCE), None, "{what}");
    }
}

#[test]
fn a_resource_without_room_for_a_replica_promises_none() {
    let mut cluster = Cluster::with_nodes(2);
    cluster.add_resource(RESOURCE, &["n1"]);
    let mut create = create(&cluster, "n2");
    create.placed.as_mut().unwrap().avoided_ports =
        vec![hawser_proto::v1::NumberRange { first: 7000, last: 7999 }];
    assert_eq!(cluster.reason(Kind::CreateReplica(create)), RejectionReason::NoCapacity);
    assert_eq!(cluster.state.pool("n2", POOL).unwrap().promised_bytes, 0);
}
