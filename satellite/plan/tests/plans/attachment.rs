//! Promotion, gate, freeze, demotion.

use hawser_plan::{
    Question,
    observed::{ConnectionState, DiskState, GateTable, Looked, OpenerState, Role},
};
use hawser_proto::{
    ids::{OutdateNumber, OwnerGeneration},
    v1::DesiredAttachment,
};

use crate::scene::{LET_OUT, Scene, shown};

fn outdate_n2() -> Vec<Question> {
    vec![Question::Outdate { peer: "n2".into(), generation: OwnerGeneration::new(3) }]
}

#[test]
fn a_confirmed_owner_is_promoted_and_its_gate_opened() {
    let mut scene = Scene::owned();
    scene.arbitration.confirmed = true;

    insta::assert_snapshot!("attach", shown(&scene.plan()));
}

#[test]
fn an_owner_by_an_old_document_asks_first() {
    let plan = Scene::owned().plan();

    assert_eq!(plan.actions, []);
    assert_eq!(plan.questions, [Question::ConfirmOwner { generation: OwnerGeneration::new(3) }]);
    assert!(plan.waits_for.unwrap().contains("still owns the resource"));
}

#[test]
fn nobody_is_promoted_who_may_be_behind_or_is_not_the_owner() {
    type Change = fn(&mut Scene);
    let cases: [(&str, Change); 8] = [
        ("n2 owns db", |scene| scene.wanted.owner = "n2".into()),
        ("nobody owns db", |scene| scene.wanted.owner.clear()),
        ("this replica is behind", |scene| scene.wanted.outdated_number = 40),
        ("this replica is behind", |scene| {
            scene.remembered.behind = true;
            scene.peer().volumes.get_mut(&0).unwrap().out_of_sync_bytes = 4096;
        }),
        ("n2 is Primary still", |scene| scene.peer().role = Role::Primary),
        ("become UpToDate", |scene| scene.disk(DiskState::Consistent)),
        ("become UpToDate", |scene| {
            scene.remembered.current_in_boot = false;
            scene.disk(DiskState::Inconsistent);
        }),
        ("waits for the connection to n2", Scene::cut),
    ];
    for (reason, change) in cases {
        let mut scene = Scene::owned();
        scene.arbitration.confirmed = true;
        change(&mut scene);

        assert_eq!(scene.actions(), [""; 0], "{reason}");
        assert!(scene.waits().contains(reason), "{reason}: {:?}", scene.waits());
    }
}

#[test]
fn without_its_peer_a_node_is_promoted_only_after_the_peer_was_outdated_for_that() {
    let mut scene = Scene::owned();
    scene.arbitration.confirmed = true;
    scene.cut();
    scene.disk(DiskState::Consistent);

    // The peer may still come: no hurry to leave it behind.
    assert_eq!(scene.plan().questions, []);

    let mut overdue = scene.clone();
    overdue.arbitration.overdue.insert("n2".into());
    overdue.arbitration.shut_out.insert("n2".into());
    // The document may be older than a sync that made the peer current again.
    let mut in_document = scene.clone();
    in_document.peer_outdated_in_document(40);
    for mut asking in [overdue.clone(), in_document] {
        assert_eq!((asking.plan().questions, asking.actions()), (vec![], vec!["turn-away".into()]));
        assert_eq!(asking.waits(), "shuts n2 out, to ask whether it may be left behind");
        asking.peer().connection = ConnectionState::StandAlone;
        assert_eq!((asking.plan().questions, asking.actions().len()), (outdate_n2(), 0));

        let mut refused = asking.clone();
        refused.arbitration.refused.insert("n2".into(), "n2 owns it".into());
        assert_eq!((refused.plan().questions, refused.actions()), (vec![], vec!["connect".into()]));
        refused.peer().connection = ConnectionState::Connecting;
        assert_eq!((refused.plan().questions, refused.actions().len()), (vec![], 0));
        assert_eq!(refused.waits(), "may not go on without n2: n2 owns it");
    }
    let mut diskless = overdue;
    diskless.peer().connection = ConnectionState::StandAlone;
    diskless.disk(DiskState::Negotiating);
    assert_eq!((diskless.plan().questions, diskless.actions().len()), (vec![], 0));
    diskless.remembered.current_in_boot = false;
    diskless.disk(DiskState::Inconsistent);
    assert_eq!((diskless.plan().questions, diskless.actions()), (vec![], vec!["connect".into()]));

    let mut granted = scene.clone();
    granted.arbitration.confirmed = false;
    granted.grant("n2", 41);
    let promoted = &["turn-away", "promote", "open-gate"][..];
    for (number, expected) in [(0, &["turn-away"][..]), (40, &["turn-away"]), (41, promoted), (42, promoted)]
    {
        granted.peer_outdated_in_document(number);
        assert_eq!(granted.actions(), expected, "outdated by {number} in the document");
        assert_eq!(granted.plan().questions, []);
        assert_eq!(
            expected != promoted,
            granted.waits().contains("waits for the document that has n2 as outdated")
        );
    }
}

#[test]
fn who_may_write_and_is_not_promoted_yet_keeps_an_outdated_peer_away() {
    let mut scene = Scene::owned();
    scene.cut();
    scene.peer_outdated_in_document(40);
    assert_eq!(scene.actions(), ["turn-away"]);
    assert_eq!(scene.plan().proves_nothing_since, Some(OutdateNumber::new(40)));

    let mut kept_away = scene.clone();
    kept_away.peer().connection = ConnectionState::StandAlone;
    assert_eq!(kept_away.actions(), [""; 0]);

    type Change = fn(&mut Scene);
    let cases: [(&str, &[&str], Change); 7] = [
        ("promoted, it lets the peer come", &["open-gate", "connect"], |scene| {
            scene.kernel().role = Role::Primary
        }),
        ("the owner is another", &["connect"], |scene| scene.wanted.owner = "n2".into()),
        ("nobody wants it attached", &["connect"], |scene| {
            scene.wanted.attachment = DesiredAttachment::Detached.into();
        }),
        ("the peer is not outdated", &["connect"], |scene| scene.peer_outdated_in_document(0)),
        ("the controllers said no", &["connect"], |scene| {
            scene.arbitration.refused.insert("n2".into(), "n2 owns it".into());
        }),
        ("this side is behind itself", &["connect"], |scene| scene.remembered.behind = true),
        ("this side has no usable disk", &["connect"], |scene| {
            scene.remembered.current_in_boot = false;
            scene.disk(DiskState::Inconsistent);
        }),
    ];
    for (what, expected, change) in cases {
        let mut scene = kept_away.clone();
        change(&mut scene);
        let mut all = scene.actions();
        if what.starts_with("promoted") {
            // The gate comes first, and the layers below only after a new look.
            assert_eq!(all, ["open-gate"], "{what}");
            scene.gate(GateTable::Linear, 0);
            all.extend(scene.actions());
        }
        assert_eq!(all, expected, "{what}");
    }
}

#[test]
fn a_peer_that_does_not_connect_is_shut_out_only_after_a_controllers_word() {
    let mut scene = Scene::owned();
    scene.cut();
    scene.arbitration.overdue.insert("n2".into());
    // With nobody there to ask, the two can still meet.
    let confirm = vec![Question::ConfirmOwner { generation: OwnerGeneration::new(3) }];
    assert_eq!((scene.plan().questions, scene.actions().len()), (confirm, 0));
    assert!(scene.waits().starts_with("n2 is not connected; asks"), "{}", scene.waits());

    type Change = fn(&mut Scene);
    let cases: [(&str, bool, Change); 6] = [
        ("the question may be asked, or is under way", true, |scene| {
            scene.arbitration.shut_out.insert("n2".into());
        }),
        ("the answer is yes", true, |scene| scene.grant("n2", 41)),
        ("the answer is no", false, |scene| {
            scene.arbitration.shut_out.insert("n2".into());
            scene.arbitration.refused.insert("n2".into(), "n2 owns it".into());
        }),
        ("nobody has said anything for a while", false, |_| {}),
        ("another has the right", false, |scene| {
            scene.arbitration.shut_out.insert("n2".into());
            scene.wanted.owner = "n2".into();
        }),
        ("this side has no usable disk", false, |scene| {
            scene.arbitration.shut_out.insert("n2".into());
            scene.remembered.current_in_boot = false;
            scene.disk(DiskState::Inconsistent);
        }),
    ];
    for (what, is_shut_out, change) in cases {
        let mut scene = scene.clone();
        change(&mut scene);
        assert_eq!(scene.actions(), if is_shut_out { &["turn-away"][..] } else { &[] }, "{what}");
        scene.peer().connection = ConnectionState::StandAlone;
        assert_eq!(scene.actions(), if is_shut_out { &[][..] } else { &["connect"] }, "{what}");
    }
}

#[test]
fn who_is_about_to_take_over_keeps_the_owner_away_from_its_usable_disk() {
    let mut scene = Scene::running();
    scene.wanted.owner = "n2".into();
    scene.cut();
    scene.wanted.peers[1].claim_number = 38;
    assert_eq!(scene.actions(), ["turn-away"]);
    assert_eq!(scene.plan().proves_nothing_since, None, "nobody is outdated yet");
    scene.peer().connection = ConnectionState::StandAlone;
    assert_eq!(scene.actions(), [""; 0]);
    assert_eq!(scene.waits(), "keeps n2 away, because this node is about to take over from it");
    let kept_away = scene;

    // After a reboot it comes up alone, and stays so.
    let mut rebooted = kept_away.clone();
    rebooted.remembered.current_in_boot = false;
    rebooted.found.kernel = Looked::Absent;
    assert_eq!(rebooted.actions(), ["bring-up with disk, alone"]);
    rebooted.remembered.behind = true;
    assert_eq!(rebooted.actions(), ["bring-up without disk"], "its disk may be behind: it needs the owner");
    let mut up_again = kept_away.clone();
    up_again.remembered.current_in_boot = false;
    up_again.disk(DiskState::Consistent);
    assert_eq!(up_again.actions(), [""; 0]);
    let mut half_up = up_again;
    half_up.disk(DiskState::Diskless);
    for connection in [Some(ConnectionState::StandAlone), None] {
        match connection {
            Some(connection) => half_up.peer().connection = connection,
            None => half_up.kernel().peers.clear(),
        }
        assert_eq!(half_up.actions(), ["attach-disk"], "{connection:?}");
        half_up.disk(DiskState::Negotiating);
        assert_eq!(half_up.actions(), [""; 0], "{connection:?}");
        half_up.disk(DiskState::Diskless);
    }
    let mut open = kept_away.clone();
    open.remembered.current_in_boot = false;
    open.disk(DiskState::Diskless);
    open.peer().connection = ConnectionState::Connecting;
    assert_eq!(open.actions(), ["turn-away", "attach-disk"]);

    type Change = fn(&mut Scene);
    let cases: [(&str, &[&str], Change); 5] = [
        ("the claim was withdrawn", &["connect"], |scene| scene.wanted.peers[1].claim_number = 0),
        ("this side is behind itself", &["connect"], |scene| scene.remembered.behind = true),
        ("this side has no usable disk", &[LET_OUT, "connect"], |scene| {
            scene.remembered.current_in_boot = false;
            scene.disk(DiskState::Inconsistent);
        }),
        ("the owner was back before", &[], |scene| scene.peer().connection = ConnectionState::Connected),
        ("it has the right now, and keeps away whom it took it from", &[], |scene| {
            scene.wanted.peers[1].claim_number = 0;
            scene.wanted.owner = "n1".into();
            scene.wanted.attachment = DesiredAttachment::Attached.into();
            scene.peer_outdated_in_document(40);
        }),
    ];
    for (what, expected, change) in cases {
        let mut scene = kept_away.clone();
        change(&mut scene);
        assert_eq!(scene.actions(), expected, "{what}");
    }
}

#[test]
fn the_gate_of_a_primary_is_kept_open() {
    for (gate, expected) in [
        (Some((GateTable::Linear, false)), &[][..]),
        (Some((GateTable::Linear, true)), &["open-gate"]),
        (Some((GateTable::Other, false)), &["open-gate"]),
        (Some((GateTable::Error, false)), &["close-gate", "open-gate"]),
        (None, &["open-gate"]),
    ] {
        let mut scene = Scene::attached();
        match gate {
            None => {
                scene.found.gates.insert(0, Looked::Absent);
            }
            Some((table, suspended)) => {
                scene.gate(table, 1);
                if let Some(Looked::Present(gate)) = scene.found.gates.get_mut(&0) {
                    gate.suspended = suspended;
                }
            }
        }
        assert_eq!(scene.actions(), expected, "{gate:?}");
    }
}

#[test]
fn a_frozen_primary_whose_helper_waits_is_left_to_it() {
    let mut scene = Scene::frozen();
    scene.arbitration.helper_asks = true;
    scene.grant("n2", 40);
    scene.peer_outdated_in_document(40);

    assert_eq!((scene.actions().len(), scene.plan().questions.len()), (0, 0));
    assert_eq!(scene.waits(), "I/O is frozen until the controllers answer");
}

#[test]
fn a_frozen_primary_whose_helper_is_gone_asks_and_goes_on_after_a_yes() {
    let mut scene = Scene::frozen();
    assert_eq!((scene.actions().len(), scene.plan().questions), (0, outdate_n2()));

    let mut refused = scene.clone();
    refused.arbitration.refused.insert("n2".into(), "n2 owns it".into());
    assert_eq!((refused.actions().len(), refused.plan().questions.len()), (0, 0));
    assert!(refused.waits().contains("may not go on without n2: n2 owns it"));

    // A late yes may be about an earlier freeze, and cleared by a sync since: the document has to have it too.
    scene.grant("n2", 41);
    for (number, expected) in [(0, &[][..]), (40, &[]), (41, &["resume-io"]), (42, &["resume-io"])] {
        scene.peer_outdated_in_document(number);
        assert_eq!(scene.actions(), expected, "outdated by {number} in the document");
        assert_eq!(scene.plan().questions, []);
        assert_eq!(
            expected.is_empty(),
            scene.waits().contains("waits for the document that has n2 as outdated")
        );
    }

    // An outdated peer in the document is no yes: the document may be older than a sync.
    let mut in_document = Scene::frozen();
    in_document.peer_outdated_in_document(40);
    assert_eq!(in_document.actions(), [""; 0]);
}

#[test]
fn the_kernel_alone_ends_a_freeze_when_the_peer_is_back() {
    // The look may have seen the freeze before and the connection after; by now it may be cut again.
    let mut scene = Scene::attached();
    scene.kernel().suspended.fencing = true;

    assert_eq!((scene.actions().len(), scene.plan().questions.len()), (0, 0));
    assert!(scene.waits().contains("until the kernel"), "{}", scene.waits());
}

#[test]
fn a_frozen_primary_that_is_behind_itself_never_goes_on_alone() {
    for behind in [true, false] {
        let mut scene = Scene::frozen();
        scene.grant("n2", 40);
        scene.peer_outdated_in_document(40);
        scene.remembered.behind = behind;
        if !behind {
            scene.wanted.outdated_number = 40;
        }
        assert!(!scene.actions().contains(&"resume-io".to_owned()), "{:?}", scene.actions());
        assert!(scene.waits().contains("it is behind"), "{}", scene.waits());
    }
}

#[test]
fn other_reasons_for_frozen_io_are_not_lifted() {
    let mut scene = Scene::attached();
    scene.grant("n2", 40);
    scene.peer_outdated_in_document(40);
    let suspended = &mut scene.kernel().suspended;
    (suspended.user, suspended.no_data, suspended.quorum) = (true, true, true);

    assert_eq!(scene.actions(), [""; 0]);
}

#[test]
fn a_detached_primary_closes_its_gate_and_is_demoted() {
    let mut scene = Scene::attached();
    scene.wanted.attachment = DesiredAttachment::Detached.into();
    scene.gate(GateTable::Linear, 0);
    insta::assert_snapshot!("detach", shown(&scene.plan()));

    scene.found.gates.insert(0, Looked::Absent);
    assert_eq!(scene.actions(), ["demote"]);

    scene.kernel().role = Role::Secondary;
    assert_eq!(shown(&scene.plan()), "");
}

#[test]
fn a_gate_that_is_held_stays_and_its_holders_are_named() {
    for (openers, expected) in [
        (vec![(812, "postgres")], "hawser-db.7-0 is held open by postgres (pid 812)"),
        (vec![(0, "/mnt/db")], "hawser-db.7-0 is held open by /mnt/db"),
        (
            vec![(4, "d"), (3, "c"), (2, "b"), (1, "a")],
            "hawser-db.7-0 is held open by a (pid 1), b (pid 2), c (pid 3), 1 more",
        ),
        (vec![], "hawser-db.7-0 is held open by somebody who is no process of this node's"),
    ] {
        let mut scene = Scene::attached();
        scene.wanted.attachment = DesiredAttachment::Detached.into();
        for (pid, name) in openers {
            scene.opener(pid, name, OpenerState::Living);
        }
        assert_eq!(scene.actions(), [""; 0]);
        assert_eq!(scene.waits(), expected);
    }
}

#[test]
fn a_held_gate_keeps_no_connection_from_being_restored() {
    let mut scene = Scene::attached();
    scene.wanted.attachment = DesiredAttachment::Detached.into();
    scene.opener(812, "postgres", OpenerState::Living);
    scene.peer().connection = ConnectionState::StandAlone;

    assert_eq!(scene.actions(), ["connect"]);
    assert!(scene.waits().contains("postgres"));
}

#[test]
fn a_primary_without_a_disk_can_still_be_detached() {
    let mut scene = Scene::attached();
    scene.wanted.attachment = DesiredAttachment::Detached.into();
    scene.remembered.behind = true;
    scene.disk(DiskState::Diskless);
    scene.gate(GateTable::Linear, 0);

    assert_eq!(scene.actions(), ["close-gate", "demote"]);
}
