//! The rules of arbitration, one by one.
#![allow(clippy::unwrap_used)]

use hawser_proto::{
    ids::OperationId,
    v1::{ConfirmDetached, DeleteAttachment, DesiredAttachment, command::Command as Kind},
};

use super::*;
use crate::fixture::{Cluster, RESOURCE, create_attachment};

fn incarnation(cluster: &Cluster) -> u64 {
    cluster.state.resource(RESOURCE).unwrap().incarnation
}

fn arbitration_of(cluster: &Cluster) -> Arbitration {
    cluster.state.resource(RESOURCE).unwrap().arbitration.clone().unwrap_or_default()
}

fn outdate(cluster: &Cluster, node: &str, (owner, generation): (&str, u64)) -> Kind {
    Kind::Outdate(Outdate {
        resource: RESOURCE.into(),
        resource_incarnation: incarnation(cluster),
        node: node.into(),
        owner: owner.into(),
        generation,
    })
}

fn take_over_by(cluster: &Cluster, node: &str, from_generation: u64) -> Kind {
    Kind::TakeOver(TakeOver {
        resource: RESOURCE.into(),
        resource_incarnation: incarnation(cluster),
        node: node.into(),
        from_generation,
        mode: 0,
    })
}

fn synced_by(cluster: &Cluster, node: &str, number: u64) -> Kind {
    Kind::Synced(Synced {
        resource: RESOURCE.into(),
        resource_incarnation: incarnation(cluster),
        node: node.into(),
        number,
    })
}

#[test]
fn only_the_owner_of_the_present_generation_has_its_peer_outdated() {
    let asked = |owner, generation| {
        let mut cluster = Cluster::attached();
        let command = outdate(&cluster, "n2", (owner, generation));
        cluster.commit(command).outcome
    };
    let granted = crate::fixture::applied(asked("n1", 1));
    assert_eq!(granted.number, granted.revision);
    for (owner, generation) in [("n1", 0), ("n1", 2), ("stranger", 1)] {
        assert_eq!(crate::fixture::rejected(asked(owner, generation)).reason(), RejectionReason::NotOwner);
    }
}

#[test]
fn a_node_may_always_tell_that_its_own_copy_falls_behind() {
    let mut cluster = Cluster::attached();
    let own = outdate(&cluster, "n2", ("n2", 0));
    cluster.applied(own);
    assert_eq!(cluster.reason(create_attachment("n2")), RejectionReason::Outdated);
}

#[test]
fn nobody_outdates_the_last_complete_copy() {
    for owner in [("", 0), ("n1", 1)] {
        for (first, last) in [("n1", "n2"), ("n2", "n1")] {
            let mut cluster = Cluster::attached();
            let (first, last) = (outdate(&cluster, first, owner), outdate(&cluster, last, owner));
            cluster.applied(first);
            assert_eq!(cluster.reason(last), RejectionReason::Outdated);
        }
    }
}

#[test]
fn an_owner_whose_disk_failed_stays_the_owner_and_cannot_outdate_its_peer() {
    let mut cluster = Cluster::attached();
    let own = outdate(&cluster, "n1", ("", 0));
    cluster.applied(own);
    assert_eq!(arbitration_of(&cluster).owner, "n1");
    let peer = outdate(&cluster, "n2", ("n1", 1));
    assert_eq!(cluster.reason(peer), RejectionReason::Outdated);
    let take_over = take_over_by(&cluster, "n2", 1);
    assert_eq!(cluster.applied(take_over).number, 2);
}

#[test]
fn what_has_no_copy_or_another_incarnation_is_refused() {
    let mut cluster = Cluster::attached();
    let no_copy = outdate(&cluster, "n3", ("", 0));
    assert_eq!(cluster.reason(no_copy), RejectionReason::Precondition);
    let nowhere = take_over_by(&cluster, "n3", 1);
    assert_eq!(cluster.reason(nowhere), RejectionReason::NotFound);
    let another =
        Kind::Outdate(Outdate { resource: RESOURCE.into(), node: "n2".into(), ..Outdate::default() });
    assert_eq!(cluster.reason(another), RejectionReason::NotFound);
}

#[test]
fn a_sync_answers_the_outdating_that_it_names_and_no_later_one() {
    let mut cluster = Cluster::attached();
    let command = outdate(&cluster, "n2", ("n1", 1));
    let first = cluster.applied(command.clone()).number;
    let second = cluster.applied(command).number;
    assert!(second > first, "the link broke again");
    for (number, clears) in [(first, false), (second + 1, false), (0, false), (second, true)] {
        let synced = synced_by(&cluster, "n2", number);
        if clears {
            cluster.applied(synced);
            assert_eq!(arbitration_of(&cluster).outdated, Vec::new());
        } else {
            assert_eq!(cluster.reason(synced), RejectionReason::Precondition);
            assert_eq!(arbitration_of(&cluster).outdated.len(), 1);
        }
    }
    let again = synced_by(&cluster, "n2", second);
    assert_eq!(cluster.commit(again).changes, Vec::new());
}

#[test]
fn a_take_over_moves_the_right_and_outdates_the_loser() {
    let mut cluster = Cluster::attached();
    let take_over = take_over_by(&cluster, "n2", 1);
    let applied = cluster.applied(take_over);
    assert_eq!(applied.number, 2);
    let arbitration = arbitration_of(&cluster);
    assert_eq!((arbitration.owner.as_str(), arbitration.generation), ("n2", 2));
    assert_eq!(arbitration.outdated, [OutdatedReplica { node: "n1".into(), number: cluster.index }]);
    let rendered = |node| cluster.state.document(node).unwrap().replicas[0].clone();
    assert_eq!(rendered("n1").attachment(), DesiredAttachment::Revoked);
    assert_eq!(rendered("n2").attachment(), DesiredAttachment::Attached);
    assert_eq!(rendered("n1").outdated_number, cluster.index);

    // The loser's helper is told no; the winner may go on alone.
    let loser = outdate(&cluster, "n2", ("n1", 1));
    assert_eq!(cluster.reason(loser), RejectionReason::NotOwner);
    let winner = outdate(&cluster, "n1", ("n2", 2));
    cluster.applied(winner);
    // The loser may not have it back before it has synced and let go.
    let back = take_over_by(&cluster, "n1", 2);
    assert_eq!(cluster.reason(back), RejectionReason::Precondition);
}

#[test]
fn an_outdated_copy_takes_nothing_over() {
    let mut cluster = Cluster::attached();
    let go_on = outdate(&cluster, "n2", ("n1", 1));
    cluster.applied(go_on);
    let take_over = take_over_by(&cluster, "n2", 1);
    let rejected = cluster.rejected(take_over);
    assert_eq!(rejected.reason(), RejectionReason::Outdated);
    assert!(rejected.message.contains("wait until n2 has synced from there"), "{}", rejected.message);
}

#[test]
fn a_take_over_from_another_generation_is_computed_anew() {
    let mut cluster = Cluster::attached();
    for generation in [0, 2] {
        let take_over = take_over_by(&cluster, "n2", generation);
        assert!(cluster.is_stale(take_over));
    }
    let mut cluster = Cluster::with_resource();
    let nobody_owns_it = take_over_by(&cluster, "n2", 0);
    assert!(cluster.is_stale(nobody_owns_it));
}

#[test]
fn a_repeated_take_over_is_the_same_attachment() {
    let mut cluster = Cluster::attached();
    let take_over = take_over_by(&cluster, "n2", 1);
    let first = cluster.applied(take_over.clone());
    let again = cluster.applied(take_over);
    assert_eq!((first.operation, first.number), (again.operation, again.number));
}

#[test]
fn the_loser_lets_go_without_touching_the_winners_right() {
    let mut cluster = Cluster::attached();
    let detach = Kind::DeleteAttachment(DeleteAttachment { resource: RESOURCE.into(), node: "n1".into() });
    let detaching = cluster.applied(detach.clone()).operation;
    let attachment_incarnation = cluster.state.attachment(RESOURCE, "n1").unwrap().incarnation;
    let take_over = take_over_by(&cluster, "n2", 1);
    cluster.applied(take_over);
    let taken = cluster.index;
    assert_eq!(cluster.reason(detach), RejectionReason::Precondition);
    let let_go = |revision| {
        let (resource, node) = (RESOURCE.into(), "n1".into());
        Kind::ConfirmDetached(ConfirmDetached { resource, node, attachment_incarnation, revision })
    };
    assert!(cluster.is_stale(let_go(taken - 1)));
    cluster.applied(let_go(taken));
    assert_eq!(arbitration_of(&cluster).owner, "n2");
    assert_eq!(
        cluster.state.operation(OperationId::new(detaching)).unwrap().state(),
        OperationState::Succeeded
    );
    assert_eq!(cluster.reason(create_attachment("n1")), RejectionReason::Outdated);
}

#[test]
fn the_losers_attachment_under_way_fails_with_the_reason() {
    let mut cluster = Cluster::with_resource();
    let attach = cluster.applied(create_attachment("n1")).operation;
    let take_over = take_over_by(&cluster, "n2", 1);
    cluster.applied(take_over);
    let operation = cluster.state.operation(OperationId::new(attach)).unwrap();
    assert_eq!(operation.state(), OperationState::Failed);
    assert!(operation.waits_for.as_ref().unwrap().message.contains("n2 took the resource over"));
}
