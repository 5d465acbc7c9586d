//! Sequences of commands, sensible and not: whatever comes, the invariants hold, nothing panics, and a
//! state that was saved and loaded in between goes on exactly like one that was not.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use hawser_proto::{
    sizes::{GIB, MIB},
    v1::{
        AnnounceMember, CancelOperation, ClaimTakeOver, Command, ConfirmAttached, ConfirmDetached,
        ConfirmReplicaRemoved, ConfirmResourceReady, CreateAttachment, CreateReplica, CreateResource,
        CreateResourceGroup, DeleteAttachment, DeleteNode, DeletePool, DeleteReplica, DeleteResource, Layer,
        NodeLost, NumberRange, Outdate, PlacedReplica, RecordMemberJoined, RecordNodeFacts,
        RecordPoolCapacity, ReleaseReplica, RemoveMember, RequestKey, Synced, TakeOver, Tick, WithdrawClaim,
        command::Command as Kind, outcome,
    },
};
use proptest::{prelude::*, sample::Index, strategy::ValueTree, test_runner::TestRunner};
use prost::Message;

use crate::{
    State,
    fixture::{Cluster, POOL, create_node, create_pool, facts_9, facts_84, initialize},
};

/// How many kinds of command [`kind`] knows.
const VERBS: u8 = 35;

/// A command over a small world. What it refers to is looked up when it is applied, so that most of a
/// sequence makes sense; `skew` makes some of it wrong.
#[derive(Clone, Debug)]
struct Step {
    verb: u8,
    node: u8,
    other: u8,
    resource: u8,
    pick: Index,
    skew: u8,
    request: Option<u8>,
}

fn step() -> impl Strategy<Value = Step> {
    let skew = prop_oneof![9 => Just(0_u8), 1 => Just(1_u8)];
    // Mostly the two nodes that are there from the beginning.
    let node = || prop_oneof![4 => 1_u8..3, 1 => 3_u8..5];
    let request = prop::option::weighted(0.3, 0_u8..20);
    (0_u8..VERBS, node(), node(), 1_u8..3, any::<Index>(), skew, request).prop_map(
        |(verb, node, other, resource, pick, skew, request)| Step {
            verb,
            node,
            other,
            resource,
            pick,
            skew,
            request,
        },
    )
}

fn resolve(cluster: &Cluster, step: &Step) -> Command {
    let kind = kind(cluster, step);
    let request = step.request.map(|number| RequestKey {
        caller: format!("administrator/{}", number % 3),
        key: format!("k{number}"),
        request_sha256: vec![number; 32],
    });
    Command { at_unix_ms: u64::from(step.skew), request, command: Some(kind) }
}

fn kind(cluster: &Cluster, step: &Step) -> Kind {
    let state = &cluster.state;
    let skew = u64::from(step.skew);
    let node = format!("n{}", step.node);
    let name = format!("r{}", step.resource);
    let node_incarnation = state.node(&node).map_or(0, |node| node.incarnation) + skew;
    let pool_incarnation = state.pool(&node, POOL).map_or(0, |pool| pool.incarnation) + skew;
    let resource = state.resource(&name);
    let resource_incarnation = resource.map_or(0, |resource| resource.incarnation) + skew;
    let of_replica = resource.and_then(|resource| resource.replicas.iter().find(|found| found.node == node));
    let replica_incarnation = of_replica.map_or(0, |replica| replica.incarnation) + skew;
    let arbitration = resource.and_then(|resource| resource.arbitration.clone()).unwrap_or_default();
    let attachment_incarnation =
        state.attachment(&name, &node).map_or(0, |attachment| attachment.incarnation) + skew;
    let operations: Vec<u64> = state.operations().map(|operation| operation.id).collect();
    let operation = if operations.is_empty() { 0 } else { *step.pick.get(&operations) };
    let members: Vec<_> = state.members().cloned().collect();
    let member = step.pick.get(&members).clone();
    let revision = cluster.index.saturating_sub(skew * 3);
    match step.verb {
        0 => create_node(&node, &format!("10.0.0.{}", step.node)),
        1 => Kind::RecordNodeFacts(RecordNodeFacts {
            node: node.clone(),
            incarnation: node_incarnation,
            uname: node,
            facts: Some(if step.other == 4 { facts_9() } else { facts_84() }),
        }),
        2 => create_pool(&node, POOL),
        3 => Kind::RecordPoolCapacity(RecordPoolCapacity {
            node,
            name: POOL.into(),
            incarnation: pool_incarnation,
            capacity_bytes: u64::from(step.other) * GIB / 16,
        }),
        4 => Kind::DeleteNode(DeleteNode { name: node }),
        5 => Kind::DeletePool(DeletePool { node, name: POOL.into() }),
        6 => Kind::CreateResourceGroup(CreateResourceGroup {
            name: "local".into(),
            layers: vec![Layer::Storage.into()],
            ..CreateResourceGroup::default()
        }),
        7..=9 => Kind::CreateResource(CreateResource {
            name,
            group: if step.verb == 9 { "local".into() } else { String::new() },
            volume_sizes: vec![u64::from(step.other) * 300 * MIB],
            placed: places(cluster, step),
            computed_at_revision: revision,
            shared_secret: "0123456789abcdef".into(),
            day0_generation_id: 4,
            avoided_minors: vec![NumberRange { first: 1000, last: 1000 + u32::from(step.other) }],
        }),
        10 | 11 => Kind::ConfirmResourceReady(ConfirmResourceReady {
            resource: name,
            incarnation: resource_incarnation,
        }),
        12 => Kind::DeleteResource(DeleteResource { name }),
        13 | 14 => Kind::ConfirmReplicaRemoved(ConfirmReplicaRemoved {
            resource: name,
            replica_incarnation,
            node,
            revision,
        }),
        15 => Kind::CreateAttachment(CreateAttachment { resource: name, node, mode: i32::from(step.skew) }),
        16 => Kind::ConfirmAttached(ConfirmAttached { resource: name, node, attachment_incarnation }),
        17 => Kind::DeleteAttachment(DeleteAttachment { resource: name, node }),
        18 => {
            Kind::ConfirmDetached(ConfirmDetached { resource: name, node, attachment_incarnation, revision })
        }
        19 => Kind::Outdate(Outdate {
            resource: name,
            resource_incarnation,
            node,
            owner: arbitration.owner,
            generation: arbitration.generation,
        }),
        20 => Kind::Outdate(Outdate { resource: name, resource_incarnation, node, ..Outdate::default() }),
        21 => Kind::TakeOver(TakeOver {
            resource: name,
            resource_incarnation,
            node,
            from_generation: arbitration.generation,
            mode: 0,
            claim_number: arbitration.claim.map_or(skew, |claim| claim.number + skew),
        }),
        22 => Kind::Synced(Synced {
            resource: name,
            resource_incarnation,
            number: arbitration
                .outdated
                .iter()
                .find(|outdated| outdated.node == node)
                .map_or(0, |found| found.number),
            node,
        }),
        23 => Kind::CancelOperation(CancelOperation { id: operation }),
        24 => Kind::AnnounceMember(AnnounceMember { address: format!("{node}:6470"), name: node }),
        25 => Kind::RecordMemberJoined(RecordMemberJoined {
            raft_id: member.raft_id,
            store_incarnation: u64::from(step.other) * (1 - skew),
        }),
        26 => Kind::RemoveMember(RemoveMember { raft_id: member.raft_id + skew, name: member.name }),
        32 => Kind::ClaimTakeOver(ClaimTakeOver {
            resource: name,
            resource_incarnation,
            node,
            from_generation: arbitration.generation,
        }),
        33 => Kind::WithdrawClaim(WithdrawClaim {
            resource: name,
            resource_incarnation,
            number: arbitration.claim.map_or(0, |claim| claim.number + skew),
        }),
        27 | 28 => Kind::CreateReplica(CreateReplica {
            resource: name,
            resource_incarnation,
            placed: Some(cluster.placed(&node)),
            computed_at_revision: revision,
        }),
        29 => Kind::DeleteReplica(DeleteReplica { resource: name, node }),
        30 => Kind::ReleaseReplica(ReleaseReplica { resource: name, replica_incarnation, node, revision }),
        // Rarely: nothing comes back from it.
        31 if step.other > 2 => Kind::NodeLost(NodeLost {
            node,
            incarnation: node_incarnation,
            accept_data_loss: if step.other == 4 { vec![name] } else { Vec::new() },
        }),
        _ => Kind::Tick(Tick { elapsed_ms: u64::from(step.other) * 20 * 60 * 1000 }),
    }
}

fn places(cluster: &Cluster, step: &Step) -> Vec<PlacedReplica> {
    let mut numbers = vec![step.node];
    if step.verb != 9 && step.other != step.node {
        numbers.push(step.other);
    }
    numbers.into_iter().map(|number| cluster.placed(&format!("n{number}"))).collect()
}

/// Nodes with pools, so that sequences get further.
fn begin() -> Cluster {
    Cluster::with_nodes(2)
}

/// Nothing that only nodes know is ordered away or met by a number that was handed out since the restore.
fn check_unknown(cluster: &Cluster, base: u64) {
    let state = &cluster.state;
    for held in state.unknown() {
        let document = state.document(&held.node).unwrap_or_default();
        let is_it = |removed: &hawser_proto::v1::RemovedReplica| {
            (&removed.resource, removed.replica_incarnation) == (&held.resource, held.replica_incarnation)
        };
        assert!(!document.removed.iter().any(is_it), "{held:?} is ordered away");
        for resource in state.resources().filter(|resource| resource.incarnation > base) {
            assert!(resource.name != held.resource, "{held:?} has a namesake");
            for volume in &held.volumes {
                let same = |other: &hawser_proto::v1::Volume| other.minor != 0 && other.minor == volume.minor;
                assert!(!resource.volumes.iter().any(same), "the minor of {held:?} was handed out");
            }
            let replicas = resource.replicas.iter().filter(|replica| replica.node == held.node);
            for replica in replicas {
                assert!(
                    replica.port == 0 || replica.port != held.port,
                    "the port of {held:?} was handed out"
                );
            }
        }
    }
}

fn encoded(state: &State) -> Vec<Vec<u8>> {
    state.records().map(|record| record.encode_to_vec()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_state_that_was_saved_and_loaded_goes_on_the_same(
        steps in prop::collection::vec(step(), 1..120),
        saved_after in any::<Index>(),
    ) {
        let mut kept = begin();
        let mut reloaded = begin();
        let saved_after = saved_after.index(steps.len());
        for (position, step) in steps.iter().enumerate() {
            let command = resolve(&kept, step);
            // Every invariant is checked in here.
            let effect = kept.commit_whole(&command);
            prop_assert_eq!(effect, reloaded.commit_whole(&command));
            if position == saved_after {
                reloaded.state = State::from_records(reloaded.state.records()).unwrap();
            }
        }
        prop_assert_eq!(encoded(&kept.state), encoded(&reloaded.state));
        prop_assert_eq!(kept.state.checksum(), reloaded.state.checksum());
        for node in kept.state.nodes() {
            prop_assert_eq!(kept.state.document(&node.name), reloaded.state.document(&node.name));
        }
    }

    /// Whatever happened before and since the backup, and however far each node had come: every invariant holds from
    /// the restore on, nothing that is unknown is ordered away, and none of its numbers is handed out.
    #[test]
    fn a_restored_cluster_leaves_alone_what_it_does_not_know(
        before in prop::collection::vec(step(), 1..60),
        since in prop::collection::vec(step(), 1..60),
        after in prop::collection::vec(step(), 1..60),
        moments in prop::collection::vec(any::<Index>(), 4),
    ) {
        let mut cluster = begin();
        for step in &before {
            cluster.commit_whole(&resolve(&cluster, step));
        }
        let mut restored = cluster.restored();
        let base = restored.index;
        let mut history = vec![cluster.clone()];
        for step in &since {
            cluster.commit_whole(&resolve(&cluster, step));
            history.push(cluster.clone());
        }
        let nodes: Vec<_> = restored.state.waits_for().map(|node| node.name.clone()).collect();
        for node in &nodes {
            let moment = &moments[usize::from(node.as_bytes()[1] - b'1')];
            crate::fixture::applied(restored.report(node, moment.get(&history).holdings(node)).outcome);
        }
        prop_assert!(!restored.state.is_settling());
        check_unknown(&restored, base);
        for step in &after {
            restored.commit_whole(&resolve(&restored, step));
            check_unknown(&restored, base);
        }
        let loaded = State::from_records(restored.state.records()).unwrap();
        prop_assert_eq!(loaded.checksum(), restored.state.checksum());
    }

    #[test]
    fn garbage_is_refused_and_never_panics(
        steps in prop::collection::vec(step(), 1..40),
        garbage in prop::collection::vec((step(), prop::collection::vec((any::<Index>(), any::<u8>()), 1..6)), 1..40),
    ) {
        let mut cluster = begin();
        for step in &steps {
            let command = resolve(&cluster, step);
            cluster.commit_whole(&command);
        }
        for (step, damage) in garbage {
            let mut bytes = resolve(&cluster, &step).encode_to_vec();
            for (place, byte) in damage {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            if let Ok(command) = Command::decode(bytes.as_slice()) {
                cluster.commit_whole(&command);
            }
        }
    }

    #[test]
    fn records_that_are_no_snapshot_are_refused_or_loaded_but_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut records: Vec<_> = begin().state.records().collect();
        if let Ok(record) = hawser_proto::v1::SnapshotRecord::decode(bytes.as_slice()) {
            records.push(record);
        }
        let _ = State::from_records(records);
    }
}

/// The properties above would prove little if most commands were refused.
#[test]
fn every_kind_of_command_is_carried_out_in_some_sequence() {
    let mut runner = TestRunner::deterministic();
    let mut never_applied: BTreeSet<u8> = (0..VERBS).collect();
    for _ in 0..500 {
        let steps = prop::collection::vec(step(), 100).new_tree(&mut runner).unwrap().current();
        let mut cluster = begin();
        for step in &steps {
            let command = Command { request: None, ..resolve(&cluster, step) };
            cluster.index += 1;
            let effect = crate::apply(&mut cluster.state, cluster.index, 1, &command);
            if matches!(effect.outcome.outcome, Some(outcome::Outcome::Applied(_))) {
                never_applied.remove(&step.verb);
            }
        }
    }
    assert_eq!(never_applied, BTreeSet::new());
}

#[test]
fn a_command_that_says_nothing_is_refused() {
    let mut cluster = Cluster::initialized();
    let rejected = crate::fixture::rejected(cluster.commit_whole(&Command::default()).outcome);
    assert_eq!(rejected.field, "command");
    let mut empty = Cluster::empty();
    crate::fixture::rejected(empty.commit_whole(&Command::default()).outcome);
    empty.applied(initialize());
}

#[test]
fn records_that_contradict_each_other_are_no_state() {
    let cluster = Cluster::with_resource();
    let records: Vec<_> = cluster.state.records().collect();
    for repeated in 0..records.len() {
        let mut records = records.clone();
        records.push(records[repeated].clone());
        assert!(State::from_records(records).is_err(), "record {repeated} came twice");
    }
    let unknown = hawser_proto::v1::SnapshotRecord { record: None };
    assert_eq!(
        State::from_records([unknown]).unwrap_err(),
        crate::InvalidRecords::UnknownRecord { position: 0 }
    );
}

#[test]
fn the_checksum_tells_states_apart() {
    let one = Cluster::with_nodes(2);
    let mut other = one.clone();
    assert_eq!(one.state.checksum(), other.state.checksum());
    other.applied(Kind::Tick(Tick { elapsed_ms: 1 }));
    assert_ne!(one.state.checksum(), other.state.checksum());
}
