//! The rules of arbitration, one by one.
#![allow(clippy::unwrap_used)]

use hawser_proto::v1::command::Command as Kind;

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
    let take_over = cluster.claimed_by("n2");
    assert_eq!(cluster.applied(take_over).number, 2);
}

#[test]
fn what_has_no_copy_or_another_incarnation_is_refused() {
    let mut cluster = Cluster::attached();
    let no_copy = outdate(&cluster, "n3", ("", 0));
    assert_eq!(cluster.reason(no_copy), RejectionReason::Precondition);
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
