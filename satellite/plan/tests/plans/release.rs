//! The loser's return.

use hawser_plan::{
    Question,
    observed::{ConnectionState, DiskState, GateTable, Looked, OpenerState, Role},
};
use hawser_proto::{
    ids::{OutdateNumber, OwnerGeneration},
    v1::DesiredAttachment,
};

use crate::scene::{LET_OUT, Scene, shown};

#[test]
fn a_frozen_loser_with_a_living_writer_stays_frozen_and_names_it() {
    let mut scene = Scene::revoked();
    scene.opener(71, "dd", OpenerState::Dying);
    scene.opener(812, "postgres", OpenerState::Living);

    assert_eq!(scene.actions(), [""; 0]);
    assert!(
        scene.waits().contains("frozen until postgres (pid 812), dd (pid 71) is gone"),
        "{}",
        scene.waits()
    );
    assert_eq!(scene.plan().questions, []);
}

#[test]
fn who_cannot_be_looked_at_counts_as_living() {
    let mut scene = Scene::revoked();
    scene.found.openers = Looked::Unknown("/proc is not mounted".into());

    assert_eq!(scene.actions(), [""; 0]);
    assert_eq!(scene.waits(), "cannot tell who holds the gate: /proc is not mounted");
}

#[test]
fn a_loser_whose_writers_are_dead_comes_back_step_by_step() {
    // Its writer has SIGKILL pending and hangs in the frozen write.
    let mut scene = Scene::revoked();
    scene.opener(71, "dd", OpenerState::Dying);
    insta::assert_snapshot!("release-frozen", shown(&scene.plan()));

    // A crash of the satellite came in between; the swap waits for what is in flight.
    scene.gate(GateTable::Error, 1);
    assert_eq!(scene.actions(), ["detach-by-force", "resume-io"]);
    scene.disk(DiskState::Diskless);
    scene.remembered.behind = true;
    assert_eq!(scene.actions(), ["resume-io"]);

    // The frozen writes have failed, the writer is gone; whether its file system is still mounted on the
    // failed gate makes no difference.
    scene.kernel().suspended.fencing = false;
    scene.found.openers = Looked::Present(Vec::new());
    for open_count in [1, 0] {
        scene.gate(GateTable::Error, open_count);
        assert_eq!(scene.actions(), ["close-gate", "demote", "take-down", "bring-up without disk"]);
    }

    // Down and up again, meeting the new Primary.
    scene.found.gates.insert(0, Looked::Absent);
    scene.kernel().role = Role::Secondary;
    assert_eq!(scene.actions(), [""; 0]);
    scene.peer().connection = ConnectionState::Connected;
    scene.peer().role = Role::Primary;
    scene.peer_disk(DiskState::UpToDate);
    assert_eq!(scene.actions(), ["attach-disk"]);
    scene.disk(DiskState::Inconsistent);
    assert_eq!(scene.actions(), [""; 0]);
    scene.disk(DiskState::UpToDate);
    assert_eq!(scene.actions(), [""; 0]);
    scene.arbitration.synced = true;
    assert_eq!(scene.actions(), ["note CaughtUp"]);
}

#[test]
fn a_gate_that_is_held_by_what_is_no_process_stays_frozen() {
    // It is open, and nobody is found.
    let mut scene = Scene::revoked();
    scene.gate(GateTable::Linear, 1);
    for openers in [Looked::Absent, Looked::Present(Vec::new())] {
        scene.found.openers = openers;
        assert_eq!(scene.actions(), [""; 0]);
        assert!(
            scene.waits().contains(
                "something that was not found has hawser-db.7-0 open (the kernel counts 1, found: nobody)"
            ),
            "{}",
            scene.waits()
        );
    }
}

#[test]
fn a_gate_with_an_opener_that_was_not_found_stays_frozen_although_all_that_were_found_are_dead() {
    let mut scene = Scene::revoked();
    scene.opener(71, "dd", OpenerState::Dying);
    scene.gate(GateTable::Linear, 2);
    assert_eq!(scene.actions(), [""; 0]);
    let expected =
        "something that was not found has hawser-db.7-0 open (the kernel counts 2, found: dd (pid 71))";
    assert!(scene.waits().contains(expected), "{}", scene.waits());

    // A descriptor that two processes share is one for the kernel.
    scene.opener(72, "sh", OpenerState::Dying);
    scene.opener(73, "sh", OpenerState::Dying);
    assert_eq!(scene.actions(), ["fail-gate", "detach-by-force", "resume-io"]);

    // What fails everything has no result that anybody could see.
    scene.found.opens_found.clear();
    scene.gate(GateTable::Error, 2);
    assert_eq!(scene.actions(), ["detach-by-force", "resume-io"]);
}

#[test]
fn a_frozen_loser_that_nobody_holds_is_released_at_once() {
    let mut scene = Scene::revoked();
    scene.gate(GateTable::Linear, 0);
    assert_eq!(scene.actions(), ["fail-gate", "detach-by-force", "resume-io"]);
}

#[test]
fn a_loser_that_is_not_frozen_lets_go_only_of_what_nobody_uses() {
    let mut scene = Scene::attached();
    scene.wanted.owner = "n2".into();
    scene.wanted.attachment = DesiredAttachment::Revoked.into();
    scene.opener(812, "postgres", OpenerState::Living);
    assert_eq!(scene.actions(), [""; 0]);

    scene.found.openers = Looked::Present(Vec::new());
    scene.gate(GateTable::Linear, 0);
    assert_eq!(
        scene.actions(),
        ["close-gate"],
        "it has synced meanwhile and must not leave its peer unmarked"
    );
    assert_eq!(
        scene.plan().questions,
        [Question::Outdate { peer: "n1".into(), generation: OwnerGeneration::new(3) }]
    );

    scene.wanted.outdated_number = 40;
    assert_eq!(scene.actions(), ["close-gate", "demote", "take-down", "bring-up without disk"]);
    assert_eq!(scene.plan().proves_nothing_since, Some(OutdateNumber::new(40)));
}

#[test]
fn a_primary_that_another_owns_is_released_whatever_its_attachment_says() {
    for attachment in [DesiredAttachment::Detached, DesiredAttachment::Attached] {
        let mut scene = Scene::revoked();
        scene.wanted.attachment = attachment.into();
        scene.opener(812, "postgres", OpenerState::Living);
        assert_eq!(scene.actions(), [""; 0], "{attachment:?}");
        assert!(scene.waits().contains("postgres (pid 812)"), "{attachment:?}: {}", scene.waits());
    }
}

#[test]
fn a_revoked_node_never_asks_to_go_on() {
    let scene = Scene::revoked();

    let asks = scene.plan().questions;

    assert!(
        !asks.contains(&Question::Outdate { peer: "n2".into(), generation: OwnerGeneration::new(4) }),
        "{asks:?}"
    );
}

#[test]
fn after_a_reboot_the_loser_is_brought_up_and_connected_like_any_other() {
    let mut scene = Scene::revoked();
    scene.found.kernel = Looked::Absent;
    scene.found.gates.insert(0, Looked::Absent);
    scene.remembered.current_in_boot = false;

    assert_eq!(scene.actions(), [LET_OUT, "bring-up with disk"]);
}
