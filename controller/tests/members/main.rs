//! Members of a cluster together: joining, losing a leader, coming back, snapshots, lost and wrong stores.

#![allow(clippy::unwrap_used)]

mod cluster;
mod hand_over;
mod pre_vote;
mod removal;
mod restore;
mod wire;

use std::fs;

use hawser_controller::consensus::{
    ORDER_FILE, OrderedNumbers, ProposeError, ReadError, Retention, StartError, StoreOrder,
};
use hawser_proto::v1::{self, command::Command};

use cluster::{CLUSTER, Member, applied, create_node, first_member, leader, proposal, three_members};

#[test]
fn one_member_begins_a_cluster_and_keeps_it_over_a_restart() {
    // Given a new cluster with an object in it.
    let mut first = first_member(Retention::default());
    let revision = first.create_node("web");
    assert!(!first.directory.path().join(ORDER_FILE).exists(), "the order stays after it was obeyed");

    // When the only member is killed and started again.
    first.kill();
    first.start().unwrap();
    let term = first.wait_to_lead();

    // Then it has everything and goes on.
    first.wait("a read point", first.consensus().read_barrier()).unwrap();
    assert!(first.consensus().view().state().node("web").is_some());
    assert!(first.create_node("db") > revision);
    let status = first.consensus().status();
    assert_eq!((status.term, status.leader, status.has_quorum), (term, Some(1), true));
}

#[test]
fn three_members_survive_the_loss_of_their_leader_and_take_it_back() {
    let mut members = three_members(Retention::default());
    let before = members[0].create_node("before");

    // When the leader is killed.
    let old = leader(&members);
    let old_term = members[old].consensus().status().term;
    members[old].kill();

    // Then another one leads in a later term and takes the next write.
    let new = leader(&members);
    assert_ne!(new, old);
    let during = members[new].create_node("during");
    assert!(during > before);
    assert!(members[new].consensus().status().term > old_term);

    // And the old one catches up when it is back.
    members[old].start().unwrap();
    members[old].wait_for_revision(during);
    let state = members[old].consensus().view().state();
    assert!(state.node("before").is_some() && state.node("during").is_some());
    assert_eq!(state.checksum(), members[new].consensus().view().state().checksum());
}

#[test]
fn a_follower_names_the_leader_and_a_bound_proposal_ends_with_its_reign() {
    let mut members = three_members(Retention::default());
    let old = leader(&members);
    let term = members[old].consensus().status().term;
    let follower = (old + 1) % 3;

    // A follower answers with the leader.
    let refusal = members[follower].propose(create_node("web")).unwrap_err();
    let ProposeError::NotLeader { leader: Some(named) } = refusal else { panic!("{refusal:?}") };
    assert_eq!(named.name, members[old].name);
    let refusal = members[follower].wait("a refusal", members[follower].consensus().read_barrier());
    assert!(matches!(refusal, Err(ReadError::NotLeader { leader: Some(_) })), "{refusal:?}");
    let bound = members[follower].consensus().propose_in_term(term, proposal(create_node("web")));
    assert_eq!(members[follower].wait("a refusal", bound), Err(ProposeError::TermEnded));

    // The leader takes what was decided in its term.
    let bound = members[old].consensus().propose_in_term(term, proposal(create_node("web")));
    applied(&members[old].wait("an answer", bound).unwrap());

    // After an orderly end another one leads at once, and what was decided before is refused.
    members[old].shut_down();
    let new = leader(&members);
    let bound = members[new].consensus().propose_in_term(term, proposal(create_node("late")));
    assert_eq!(members[new].wait("a refusal", bound), Err(ProposeError::TermEnded));
    assert!(members[new].consensus().view().state().node("late").is_none());
}

#[test]
fn a_leader_without_its_majority_neither_leads_nor_answers_reads() {
    let mut members = three_members(Retention::default());
    let alone = leader(&members);
    for other in [(alone + 1) % 3, (alone + 2) % 3] {
        members[other].kill();
    }

    let mut leadership = members[alone].consensus().leadership();
    members[alone].wait("the end of the lease", async move {
        leadership.wait_for(|now| now.leading_term().is_none()).await.unwrap();
    });

    let read = members[alone].wait("a refusal", members[alone].consensus().read_barrier());
    assert!(matches!(read, Err(ReadError::Unavailable(_) | ReadError::NotLeader { .. })), "{read:?}");
    assert!(!members[alone].consensus().status().has_quorum);
}

#[test]
fn a_member_that_was_away_for_long_gets_a_snapshot_and_its_watchers_are_told() {
    // Given a cluster that keeps little of its log, and a member that is away.
    let retention = Retention { snapshot_interval: 50, entries_kept: 5, lag_limit: 60 };
    let mut members = three_members(retention);
    let leading = leader(&members);
    let away = (leading + 1) % 3;
    let seen = members[away].consensus().view().revision();
    members[away].kill();
    let mut last = 0;
    for number in 0..200 {
        last = members[leading].create_node(&format!("node-{number}"));
    }
    let purged = members[leading].consensus().wait_until(|status| status.purged > seen + 50);
    members[leading].wait("a purged log", purged).unwrap();

    // When it is back.
    members[away].start().unwrap();
    members[away].wait_for_revision(last);

    // Then it has the same state, through a snapshot: what led there is not known to it.
    let view = members[away].consensus().view();
    assert_eq!(view.state().checksum(), members[leading].consensus().view().state().checksum());
    assert!(view.subscribe(seen).is_err());
    assert!(view.subscribe(last).is_ok());

    // And it starts from that snapshot.
    members[away].kill();
    members[away].start().unwrap();
    members[away].wait_for_revision(last);
    assert!(members[away].consensus().view().state().node("node-0").is_some());
}

#[test]
fn a_member_that_lost_its_store_is_not_let_in_under_its_old_id() {
    let mut members = three_members(Retention::default());
    let leading = leader(&members);
    let lost = (leading + 1) % 3;
    let raft_id = members[lost].consensus().member().raft_id;

    // Given a member whose disk was replaced, and somebody who put the old order back.
    members[lost].kill();
    fs::remove_dir_all(members[lost].directory.path().join("store")).unwrap();
    let refusal = members[lost].start().unwrap_err();
    assert!(matches!(refusal, StartError::NoStore { .. }), "{refusal}");
    assert!(refusal.to_string().contains("hawser cluster add-member"), "{refusal}");
    let introducer = &members[leading];
    members[lost].order_join(raft_id, introducer);

    // When it starts with its new, empty store.
    members[lost].start().unwrap();

    // Then it is told what to do and hears nothing of the cluster, while the others go on.
    let reason = members[lost].wait_to_end();
    for words in ["a lost store is not replaced", "cluster remove-member", "cluster add-member"] {
        assert!(reason.contains(words), "{reason}");
    }
    let revision = members[leading].create_node("web");
    let third = (leading + 2) % 3;
    members[third].wait_for_revision(revision);
    let status = members[lost].consensus().status();
    assert_eq!((status.applied, status.last_log, status.leader), (0, 0, None));
    assert!(!members[lost].consensus().is_member());
}

#[test]
fn a_controller_that_nobody_announced_is_not_admitted() {
    let first = first_member(Retention::default());
    let mut stranger = Member::new("n2");
    stranger.order_join(77, &first);
    stranger.start().unwrap();

    first.create_node("web");

    assert!(!stranger.consensus().is_member());
    assert_eq!(first.consensus().members().len(), 1);
}

#[test]
fn an_announced_controller_is_shown_and_a_second_voter_waits_for_a_third() {
    let first = first_member(Retention::default());
    let mut second = Member::new("n2");
    let raft_id = first.announce(&second);
    let role_of = |id: u64| {
        let members = first.consensus().status().members;
        members.into_iter().find(|member| member.member.raft_id == id).map(|member| member.role)
    };
    assert_eq!(role_of(raft_id), Some(v1::MemberRole::Announced));

    second.order_join(raft_id, &first);
    second.start().unwrap();
    second.wait("admission", second.consensus().wait_until(|status| status.leader.is_some())).unwrap();
    let revision = first.create_node("web");
    second.wait_for_revision(revision);

    assert_eq!(role_of(raft_id), Some(v1::MemberRole::Learner));
}

#[test]
fn a_cluster_begins_with_the_numbers_that_were_ordered() {
    let mut first = Member::new("n1");
    first.order_init_with(OrderedNumbers {
        minors: Some("20-29".to_owned()),
        ports: Some("9000-9009".to_owned()),
        reserved_ports: Some("9001".to_owned()),
    });
    first.start().unwrap();
    first.wait_to_lead();

    let state = first.consensus().view().state();
    let cluster = state.cluster();
    assert_eq!((cluster.first_minor, cluster.last_minor), (20, 29));
    assert_eq!((cluster.first_port, cluster.last_port), (9000, 9009));
    assert_eq!(cluster.reserved_ports, [v1::NumberRange { first: 9001, last: 9001 }]);
}

#[test]
fn orders_and_stores_of_others_are_refused() {
    let init = |cluster: &str, name: &str, minors: Option<&str>| StoreOrder::Init {
        cluster_id: cluster.to_owned(),
        cluster_name: "test".to_owned(),
        name: name.to_owned(),
        address: "127.0.0.1:1".to_owned(),
        numbers: OrderedNumbers { minors: minors.map(str::to_owned), ..OrderedNumbers::default() },
    };
    for (order, words) in [
        (init("beef", "n1", None), "certificate is for cluster"),
        (init(CLUSTER, "n2", None), "configured as \"n1\""),
        (init(CLUSTER, "n1", Some("0-5")), "numbers.minors: 0-5 is not within 1-1048575"),
    ] {
        let mut member = Member::new("n1");
        member.order(&order);
        let refusal = member.start().unwrap_err().to_string();
        assert!(refusal.contains(words), "{refusal}");
        assert!(!member.directory.path().join("store").exists(), "a store was made by a refused order");
    }

    // A store that is there is not replaced by an order for another one, nor run under another name.
    let mut member = first_member(Retention::default());
    member.kill();
    let address = member.address.to_string();
    member.order(&StoreOrder::Join {
        cluster_id: CLUSTER.to_owned(),
        cluster_name: "test".to_owned(),
        lineage: 1,
        raft_id: 9,
        name: "n1".to_owned(),
        address: address.clone(),
        members: vec![hawser_controller::consensus::Introducer {
            raft_id: 1,
            name: "n1".to_owned(),
            address,
            store_incarnation: 1,
        }],
    });
    let refusal = member.start().unwrap_err().to_string();
    assert!(refusal.contains("remove the order to keep that store"), "{refusal}");
    fs::remove_file(member.directory.path().join(ORDER_FILE)).unwrap();
    member.name = "other".to_owned();
    let refusal = member.start().unwrap_err().to_string();
    assert!(refusal.contains("cannot be given to another controller"), "{refusal}");
    member.name = "n1".to_owned();
    member.start().unwrap();
    member.wait_to_lead();
}

#[test]
fn what_is_no_order_is_refused_and_makes_nothing() {
    for (text, words) in [
        ("{", "it is not an order to make a store"),
        (r#"{"mode":"recover"}"#, "unknown variant `recover`"),
        (r#"{"mode":"restore"}"#, "missing field `cluster_id`"),
        (
            r#"{"mode":"restore","cluster_id":"c0ffee","cluster_name":"t","lineage":2,"name":"n1","address":"a:1","statement":"0x","signature":""}"#,
            "its restore record is not made of hexadecimal digits",
        ),
        (
            r#"{"mode":"restore","cluster_id":"c0ffee","cluster_name":"t","lineage":2,"name":"n1","address":"a:1","statement":"","signature":""}"#,
            "its restore record names no store",
        ),
        (r#"{"mode":"init","cluster_id":"c0ffee"}"#, "missing field `cluster_name`"),
        (
            r#"{"mode":"join","cluster_id":"c0ffee","cluster_name":"t","raft_id":1,"name":"n1","address":"a:1","members":[]}"#,
            "raft_id: 1 is not the id of a controller that joins",
        ),
        (
            r#"{"mode":"join","cluster_id":"c0ffee","cluster_name":"t","raft_id":8,"name":"n1","address":"a:1","members":[]}"#,
            "members: names no controller",
        ),
    ] {
        let mut member = Member::new("n1");
        fs::write(member.directory.path().join(ORDER_FILE), text).unwrap();
        let refusal = member.start().unwrap_err().to_string();
        assert!(refusal.contains(words), "{refusal}");
        assert!(refusal.contains(ORDER_FILE), "{refusal}");
        assert!(!member.directory.path().join("store").exists(), "{text}");
    }
}

#[test]
fn a_command_that_no_entry_can_hold_is_refused_and_the_largest_goes_through() {
    let members = three_members(Retention::default());
    let leading = &members[leader(&members)];
    let of_size = |bytes: usize| {
        Command::RecordOperationReason(v1::RecordOperationReason {
            id: 1,
            reason: Some(v1::OperationReason {
                message: "x".repeat(bytes),
                ..v1::OperationReason::default()
            }),
        })
    };
    let refusal = leading.propose(of_size(48 * 1024)).unwrap_err();
    assert!(matches!(refusal, ProposeError::TooLarge { limit: 49_152, .. }), "{refusal:?}");

    // Many of the largest: they go through every member's store and between them.
    let mut revision = 0;
    for _ in 0..40 {
        revision = leading.propose(of_size(48 * 1024 - 64)).unwrap().revision;
    }
    for member in &members {
        member.wait_for_revision(revision);
        let blobs = member.directory.path().join("store/log/blobs");
        let count = fs::read_dir(blobs).map_or(0, Iterator::count);
        assert_eq!(count, 0, "the engine wrote files that it never syncs");
    }
}
