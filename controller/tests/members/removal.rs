//! Members leave the cluster: in order, lost, leading, before they joined; and come back as new ones.

use std::fs;

use hawser_controller::consensus::{Retention, StartError};
use hawser_proto::v1::MemberRole;

use crate::cluster::{Member, first_member, leader, three_members};

/// Raft id and name.
fn of(member: &Member) -> (u64, String) {
    (member.consensus().member().raft_id, member.name.clone())
}

#[test]
fn a_removed_member_ends_and_the_voters_are_odd_again() {
    let mut members = three_members(Retention::default());
    let leading = leader(&members);
    let (leaving, staying) = ((leading + 1) % 3, (leading + 2) % 3);
    let (raft_id, name) = of(&members[leaving]);

    // When a follower is removed.
    members[leading].remove(raft_id, &name);
    members[leading].wait_until_left(raft_id);

    // Then it says so and ends, and of the two others one votes and the other says why it does not.
    let reason = members[leaving].wait_to_end();
    assert!(reason.contains(&format!("controller {name} (member {raft_id}) was removed")), "{reason}");
    assert!(reason.contains("hawser cluster add-member"), "{reason}");
    members[leading].wait_for_voters(1);
    assert_eq!(members[leading].role_of(&name), None);
    let (role, reason) = members[leading].role_of(&members[staying].name.clone()).unwrap();
    assert_eq!(role, MemberRole::Learner);
    assert!(reason.contains("2 voters would tolerate no more failures than 1"), "{reason}");
    let revision = members[leading].create_node("web");
    members[staying].wait_for_revision(revision);

    // And it ends each time it is started, and changes nothing.
    members[leaving].kill();
    members[leaving].start().unwrap();
    let reason = members[leaving].wait_to_end();
    assert!(reason.contains("was removed from the cluster"), "{reason}");
    assert!(members[leading].create_node("db") > revision);
    assert_eq!(members[leading].consensus().members().len(), 2);
}

#[test]
fn a_leader_that_is_removed_hands_over_first() {
    let members = three_members(Retention::default());
    let old = leader(&members);
    let (raft_id, name) = of(&members[old]);

    members[old].remove(raft_id, &name);

    // Then it ends, another one leads, and Raft knows it no more.
    let reason = members[old].wait_to_end();
    assert!(reason.contains("was removed from the cluster"), "{reason}");
    let rest: Vec<_> = members.into_iter().filter(|member| member.name != name).collect();
    let new = leader(&rest);
    rest[new].wait_until_left(raft_id);
    rest[new].wait_for_voters(1);
    let revision = rest[new].create_node("web");
    rest[1 - new].wait_for_revision(revision);
}

#[test]
fn a_member_that_is_down_is_removed_and_its_place_is_taken_under_its_name() {
    // Given a member whose disk is lost.
    let mut members = three_members(Retention::default());
    let leading = leader(&members);
    let lost = (leading + 1) % 3;
    let third = (leading + 2) % 3;
    let (raft_id, name) = of(&members[lost]);
    members[lost].kill();
    fs::remove_dir_all(members[lost].directory.path().join("store")).unwrap();
    let refusal = members[lost].start().unwrap_err();
    assert!(matches!(refusal, StartError::NoStore { .. }), "{refusal}");
    assert!(refusal.to_string().contains("hawser cluster remove-member"), "{refusal}");

    // When it is removed and announced again under its name and address.
    members[leading].remove(raft_id, &name);
    members[leading].wait_until_left(raft_id);
    let new_id = members[leading].announce(&members[lost]);
    assert!(new_id > raft_id);
    let introducer = &members[leading];
    members[lost].order_join(new_id, introducer);
    members[lost].start().unwrap();

    // Then three vote again, and all have everything.
    members[leading].wait_for_voters(3);
    let revision = members[leading].create_node("web");
    for position in [lost, third] {
        members[position].wait_for_revision(revision);
    }
    assert_eq!(of(&members[lost]), (new_id, name));
}

#[test]
fn a_member_that_was_removed_while_it_was_down_ends_when_it_is_back() {
    let mut members = three_members(Retention::default());
    let leading = leader(&members);
    let away = (leading + 1) % 3;
    let (raft_id, name) = of(&members[away]);
    members[away].kill();
    members[leading].remove(raft_id, &name);
    members[leading].wait_until_left(raft_id);
    let term = members[leading].consensus().status().term;

    // When it is back, with a log that knows nothing of this.
    members[away].start().unwrap();

    // Then it is told, ends, and has disturbed nobody.
    let reason = members[away].wait_to_end();
    assert!(reason.contains(&format!("controller {name} (member {raft_id}) was removed")), "{reason}");
    let status = members[leading].consensus().status();
    assert_eq!((status.term, status.has_quorum), (term, true));
}

#[test]
fn nobody_is_removed_whose_absence_would_cost_the_quorum() {
    // Given three members, one of which is down.
    let mut members = three_members(Retention::default());
    let leading = leader(&members);
    let (down, up) = ((leading + 1) % 3, (leading + 2) % 3);
    let silent = members[down].name.clone();
    members[down].kill();
    let check = |raft_id| {
        let asked = members[leading].consensus();
        members[leading].wait("a decision", async {
            // It counts as answering for as long as it was heard lately.
            loop {
                if let Err(reason) = asked.check_removal(raft_id).await {
                    return reason;
                }
                tokio::task::yield_now().await;
            }
        })
    };

    // Then neither the other one nor the leader can be removed, and the refusal names who is silent.
    for position in [up, leading] {
        let reason = check(of(&members[position]).0);
        assert!(reason.contains(&format!("{silent} does not; bring {silent} back")), "{reason}");
    }

    // And a cluster of one keeps it.
    let first = first_member(Retention::default());
    let reason = first.wait("a decision", first.consensus().check_removal(1)).unwrap_err();
    assert!(reason.contains("no other controller votes or could"), "{reason}");
}

#[test]
fn a_member_that_was_announced_is_removed_and_its_late_start_ends() {
    let first = first_member(Retention::default());
    let mut late = Member::new("n2");
    let raft_id = first.announce(&late);
    late.order_join(raft_id, &first);

    first.remove(raft_id, "n2");
    late.start().unwrap();

    let reason = late.wait_to_end();
    assert!(reason.contains("controller n2") && reason.contains("was removed"), "{reason}");
    assert_eq!(first.consensus().status().members.len(), 1);
    assert_eq!(first.role_of("n1").unwrap().0, MemberRole::Voter);
}

#[test]
fn of_two_members_the_one_that_votes_can_leave() {
    // Given a voter and a learner.
    let first = first_member(Retention::default());
    let mut second = Member::new("n2");
    let raft_id = first.announce(&second);
    second.order_join(raft_id, &first);
    second.start().unwrap();
    let revision = first.create_node("web");
    second.wait_for_revision(revision);

    first.remove(1, "n1");

    let reason = first.wait_to_end();
    assert!(reason.contains("controller n1 (member 1) was removed"), "{reason}");
    second.wait_to_lead();
    second.wait_until_left(1);
    assert!(second.create_node("db") > revision);
    assert_eq!(second.role_of("n2").unwrap().0, MemberRole::Voter);
}
