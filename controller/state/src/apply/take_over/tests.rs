//! How the right to write goes from one node to another, rule by rule.
#![allow(clippy::unwrap_used)]

use hawser_proto::{
    ids::OperationId,
    v1::{
        ConfirmDetached, DeleteAttachment, DeleteReplica, DesiredAttachment, DesiredPeer, NodeLost, Outdate,
        OutdatedReplica, RejectionReason, command::Command as Kind, outcome,
    },
};

use super::*;
use crate::fixture::{Cluster, RESOURCE, create_attachment};

fn incarnation(cluster: &Cluster) -> u64 {
    cluster.state.resource(RESOURCE).unwrap().incarnation
}

fn arbitration_of(cluster: &Cluster) -> Arbitration {
    cluster.state.resource(RESOURCE).unwrap().arbitration.clone().unwrap_or_default()
}

fn claim_by(cluster: &Cluster, node: &str, from_generation: u64) -> Kind {
    Kind::ClaimTakeOver(ClaimTakeOver {
        resource: RESOURCE.into(),
        resource_incarnation: incarnation(cluster),
        node: node.into(),
        from_generation,
    })
}

fn outdate_n2(cluster: &Cluster, owner: &str, generation: u64) -> Kind {
    Kind::Outdate(Outdate {
        resource: RESOURCE.into(),
        resource_incarnation: incarnation(cluster),
        node: "n2".into(),
        owner: owner.into(),
        generation,
    })
}

#[test]
fn a_take_over_moves_the_right_and_outdates_the_loser() {
    let mut cluster = Cluster::attached();
    let take_over = cluster.claimed_by("n2");
    let applied = cluster.applied(take_over);
    assert_eq!(applied.number, 2);
    let arbitration = arbitration_of(&cluster);
    assert_eq!((arbitration.owner.as_str(), arbitration.generation), ("n2", 2));
    assert_eq!(arbitration.outdated, [OutdatedReplica { node: "n1".into(), number: cluster.index }]);
    assert_eq!(arbitration.claim, None);
    let rendered = |node| cluster.state.document(node).unwrap().replicas[0].clone();
    assert_eq!(rendered("n1").attachment(), DesiredAttachment::Revoked);
    assert_eq!(rendered("n2").attachment(), DesiredAttachment::Attached);
    assert_eq!(rendered("n1").outdated_number, cluster.index);

    // The loser's helper is told no; the winner may go on alone.
    let loser = outdate_n2(&cluster, "n1", 1);
    assert_eq!(cluster.reason(loser), RejectionReason::NotOwner);
    let Kind::Outdate(outdate) = outdate_n2(&cluster, "n2", 2) else { panic!("an outdating") };
    cluster.applied(Kind::Outdate(Outdate { node: "n1".into(), ..outdate }));
    // The loser may not have it back before it has synced and let go.
    let back = claim_by(&cluster, "n1", 2);
    assert_eq!(cluster.reason(back), RejectionReason::Precondition);
}

#[test]
fn an_outdated_copy_takes_nothing_over() {
    let mut cluster = Cluster::attached();
    let go_on = outdate_n2(&cluster, "n1", 1);
    cluster.applied(go_on);
    let claim = claim_by(&cluster, "n2", 1);
    let rejected = cluster.rejected(claim);
    assert_eq!(rejected.reason(), RejectionReason::Outdated);
    assert!(rejected.message.contains("wait until n2 has synced from there"), "{}", rejected.message);
}

#[test]
fn a_take_over_from_another_generation_is_computed_anew() {
    let mut cluster = Cluster::attached();
    for generation in [0, 2] {
        let claim = claim_by(&cluster, "n2", generation);
        assert!(cluster.is_stale(claim));
        let Kind::TakeOver(take_over) = cluster.claimed_by("n2") else { panic!("a take-over") };
        assert!(cluster.is_stale(Kind::TakeOver(TakeOver { from_generation: generation, ..take_over })));
    }
    let mut cluster = Cluster::with_resource();
    let nobody_owns_it = claim_by(&cluster, "n2", 0);
    assert!(cluster.is_stale(nobody_owns_it));
}

#[test]
fn the_owner_has_nothing_to_claim_nor_has_a_stranger() {
    let mut cluster = Cluster::attached();
    let own = claim_by(&cluster, "n1", 1);
    assert!(cluster.is_stale(own));
    let nowhere = claim_by(&cluster, "n3", 1);
    assert_eq!(cluster.reason(nowhere), RejectionReason::NotFound);
    let Kind::TakeOver(take_over) = cluster.claimed_by("n2") else { panic!("a take-over") };
    let nowhere = Kind::TakeOver(TakeOver { node: "n3".into(), ..take_over });
    assert_eq!(cluster.reason(nowhere), RejectionReason::NotFound);
}

#[test]
fn a_claim_keeps_the_owner_away_and_takes_nothing_from_it() {
    let mut cluster = Cluster::attached();
    let before = cluster.state.document("n1").unwrap();
    let claim = claim_by(&cluster, "n2", 1);
    cluster.applied(claim.clone());
    let number = cluster.index;
    assert_eq!(arbitration_of(&cluster).claim, Some(TakeOverClaim { node: "n2".into(), number }));
    assert_eq!((arbitration_of(&cluster).owner.as_str(), arbitration_of(&cluster).outdated.len()), ("n1", 0));
    let document = cluster.state.document("n2").unwrap();
    assert_eq!(document.revision, number, "a report under the claim is told by its revision");
    let kept_away = |peer: &DesiredPeer| (peer.node.clone(), peer.claim_number);
    let kept_away: Vec<_> = document.replicas[0].peers.iter().map(kept_away).collect();
    assert_eq!(kept_away, [("n1".to_owned(), number), ("n2".to_owned(), 0)]);
    assert_eq!(cluster.state.document("n1").unwrap(), before);

    assert_eq!(cluster.commit(claim).changes, Vec::new(), "claimed again, it is the same claim");
    assert_eq!(arbitration_of(&cluster).claim.unwrap().number, number);
}

#[test]
fn a_take_over_needs_the_claim_that_stands() {
    let mut cluster = Cluster::attached();
    let Kind::TakeOver(take_over) = cluster.claimed_by("n2") else { panic!("a take-over") };
    let withdraw = |number| {
        Kind::WithdrawClaim(WithdrawClaim {
            resource: RESOURCE.into(),
            resource_incarnation: take_over.resource_incarnation,
            number,
        })
    };
    assert_eq!(cluster.commit(withdraw(take_over.claim_number + 1)).changes, Vec::new(), "another one");
    assert!(arbitration_of(&cluster).claim.is_some());
    cluster.applied(withdraw(take_over.claim_number));
    assert_eq!(arbitration_of(&cluster).claim, None);
    assert!(
        !cluster.state.document("n2").unwrap().replicas[0].peers.iter().any(|peer| peer.claim_number != 0)
    );
    assert_eq!(cluster.commit(withdraw(take_over.claim_number)).changes, Vec::new(), "withdrawn already");
    assert!(cluster.is_stale(Kind::TakeOver(take_over.clone())), "none stands");

    let under_the_new_one = cluster.claimed_by("n2");
    assert!(cluster.is_stale(Kind::TakeOver(take_over)), "it may have let the owner connect in between");
    cluster.applied(under_the_new_one);
}

#[test]
fn whatever_decides_otherwise_ends_the_claim() {
    let lost = |cluster: &Cluster, node: &str| {
        vec![Kind::NodeLost(NodeLost {
            node: node.into(),
            incarnation: cluster.state.node(node).unwrap().incarnation,
            accept_data_loss: Vec::new(),
        })]
    };
    type Happens<'a> = &'a dyn Fn(&Cluster) -> Vec<Kind>;
    let table: [(&str, Happens<'_>); 6] = [
        ("the owner's node is lost", &|cluster| lost(cluster, "n1")),
        ("the claimant's node is lost", &|cluster| lost(cluster, "n2")),
        ("the claimant's replica is to be removed", &|_| {
            vec![Kind::DeleteReplica(DeleteReplica { resource: RESOURCE.into(), node: "n2".into() })]
        }),
        ("the owner goes on without the claimant", &|cluster| vec![outdate_n2(cluster, "n1", 1)]),
        ("the claimant's disk fails", &|cluster| vec![outdate_n2(cluster, "", 0)]),
        ("the owner lets go", &|cluster| {
            let attachment = cluster.state.attachment(RESOURCE, "n1").unwrap();
            vec![
                Kind::DeleteAttachment(DeleteAttachment { resource: RESOURCE.into(), node: "n1".into() }),
                Kind::ConfirmDetached(ConfirmDetached {
                    resource: RESOURCE.into(),
                    node: "n1".into(),
                    attachment_incarnation: attachment.incarnation,
                    revision: cluster.index + 1,
                }),
            ]
        }),
    ];
    for (what, happens) in table {
        let mut cluster = Cluster::attached();
        let take_over = cluster.claimed_by("n2");
        for command in happens(&cluster) {
            cluster.applied(command);
        }
        assert_eq!(arbitration_of(&cluster).claim, None, "{what}");
        let outcome = cluster.commit(take_over).outcome;
        assert!(!matches!(outcome.outcome, Some(outcome::Outcome::Applied(_))), "{what}");
    }
}

#[test]
fn a_repeated_take_over_is_the_same_attachment() {
    let mut cluster = Cluster::attached();
    let take_over = cluster.claimed_by("n2");
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
    let take_over = cluster.claimed_by("n2");
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
    let take_over = cluster.claimed_by("n2");
    cluster.applied(take_over);
    let operation = cluster.state.operation(OperationId::new(attach)).unwrap();
    assert_eq!(operation.state(), OperationState::Failed);
    assert!(operation.waits_for.as_ref().unwrap().message.contains("n2 took the resource over"));
}
