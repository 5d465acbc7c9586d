//! Configuration, bringing up, connecting, falling behind.

use hawser_plan::{
    Note, Question,
    observed::{ConnectionState, DiskState, Looked, Met, Role, Watch},
    situation::{Remembered, Reunion},
};
use hawser_proto::{
    ids::{OutdateNumber, OwnerGeneration},
    v1,
};

use crate::scene::{LET_OUT, Scene, WATCHED, shown};

#[test]
fn where_all_is_well_nothing_is_done() {
    assert_eq!(shown(&Scene::running().plan()), "");
    assert_eq!(shown(&Scene::attached().plan()), "");
}

#[test]
fn after_a_reboot_a_replica_is_brought_up_and_connected() {
    let mut scene = Scene::running();
    scene.found.kernel = Looked::Absent;
    scene.remembered.current_in_boot = false;

    assert_eq!(scene.actions(), [LET_OUT, "bring-up with disk"]);
}

#[test]
fn a_replica_that_remembers_having_fallen_behind_meets_its_peer_before_its_disk_is_attached() {
    for number in [0, 40] {
        let mut scene = Scene::running();
        scene.wanted.outdated_number = number;
        scene.remembered.behind = true;
        scene.found.kernel = Looked::Absent;
        assert_eq!(scene.actions(), ["bring-up without disk"], "{number}");

        let mut scene = Scene { found: Scene::running().found, ..scene };
        scene.disk(DiskState::Diskless);
        scene.remembered.current_in_boot = false;
        scene.cut();
        assert_eq!(scene.actions(), [""; 0], "{number}");
        assert!(scene.waits().contains("attached once a peer is connected"), "{}", scene.waits());

        scene.peer().connection = ConnectionState::Connected;
        assert_eq!(scene.actions(), ["attach-disk"], "{number}");
    }
}

#[test]
fn a_replica_that_the_document_has_as_outdated_is_never_met_without_its_disk() {
    // The document may be older than the sync that cleared the mark, and a frozen Primary goes on beside a peer
    // without a disk.
    let mut scene = Scene::running();
    scene.wanted.outdated_number = 40;
    scene.remembered.current_in_boot = false;
    scene.found.kernel = Looked::Absent;
    assert_eq!(scene.actions(), [LET_OUT, "bring-up with disk"]);

    let mut half_up = Scene { found: Scene::running().found, ..scene };
    half_up.disk(DiskState::Diskless);
    half_up.kernel().peers.clear();
    assert_eq!(half_up.actions(), [LET_OUT, "attach-disk", "connect"]);
}

#[test]
fn the_ledger_has_a_reunion_before_it_can_happen() {
    let booted = || {
        let mut scene = Scene::running();
        scene.found.kernel = Looked::Absent;
        scene.remembered.current_in_boot = false;
        scene
    };
    assert_eq!(booted().actions(), [LET_OUT, "bring-up with disk"]);

    let mut unwatched = booted();
    unwatched.found.met = Met::Unknown;
    assert_eq!(unwatched.actions(), ["bring-up with disk, alone"]);
    assert!(unwatched.waits().contains("changes of DRBD are watched"), "{}", unwatched.waits());

    type Change = fn(&mut Scene);
    let table: [(&str, Change); 2] = [
        ("it owns the resource", |scene| {
            scene.wanted.owner = "n1".into();
            scene.wanted.attachment = v1::DesiredAttachment::Attached.into();
        }),
        ("it was let out already", |scene| {
            scene.remembered.reunion = Reunion::Watched(Watch { number: 1, ..Watch::default() })
        }),
    ];
    for (what, change) in table {
        let mut scene = booted();
        change(&mut scene);
        assert_eq!(scene.actions(), ["bring-up with disk"], "{what}");
    }
}

#[test]
fn a_copy_whose_node_lost_its_power_right_after_it_was_made_is_let_out_with_a_note() {
    let mut made = Scene::new();
    let first = made.actions();
    assert!(
        !first.contains(&LET_OUT.to_owned()) && first.contains(&"bring-up with disk".to_owned()),
        "{first:?}"
    );

    // Until its peer is up as well there is nothing to note, and a satellite that is started anew holds nothing against it.
    made.note(Note::Created);
    made.found = Scene::running().found;
    made.peer().connection = ConnectionState::Connecting;
    made.disk(DiskState::Consistent);
    for met in [WATCHED, watched(2, 1, 0)] {
        made.found.met = met;
        assert_eq!(made.actions(), [""; 0], "{met:?}");
    }

    // It may have been current, and a Primary may have acknowledged on it, without the ledger having heard of it.
    made.remembered.made_in_boot = false;
    made.found.kernel = Looked::Absent;
    assert_eq!(made.actions(), [LET_OUT, "bring-up with disk"]);
}

/// What a watch with a number has counted.
fn watched(number: u64, meetings: u64, ended: u64) -> Met {
    Met::Watched(Watch { number, meetings, ended })
}

fn reunited(connection: ConnectionState, disk: DiskState, met: Met) -> Scene {
    let mut scene = Scene::running();
    scene.remembered.current_in_boot = false;
    scene.remembered.reunion = Reunion::Watched(Watch { number: 1, ..Watch::default() });
    scene.peer().connection = connection;
    scene.peer().role = Role::Primary;
    scene.disk(disk);
    scene.found.met = met;
    scene
}

#[test]
fn a_reunion_ends_with_a_current_disk_or_with_one_that_may_be_behind() {
    use ConnectionState::{Connected, Connecting};
    use DiskState::{Consistent, Inconsistent, UpToDate};
    for (what, connection, disk, met, expected) in [
        ("nobody was met yet", Connecting, Consistent, WATCHED, &[""; 0][..]),
        ("they compare what they have", Connected, Consistent, watched(1, 1, 0), &[]),
        ("the watch lags", Connecting, Consistent, Met::Unknown, &[]),
        ("it was promoted alone", Connecting, UpToDate, WATCHED, &["note Current"]),
        ("a Primary may be about to break it off", Connected, UpToDate, watched(1, 1, 0), &["note Behind"]),
        ("it was UpToDate for a moment", Connecting, UpToDate, watched(1, 1, 0), &["note Behind"]),
        ("it syncs", Connected, Inconsistent, watched(1, 1, 0), &["note Behind"]),
        ("it was broken off", Connecting, Consistent, watched(1, 1, 0), &["note Behind"]),
        ("the watch had a gap", Connecting, Consistent, watched(2, 0, 0), &["note Behind"]),
    ] {
        let scene = reunited(connection, disk, met);
        assert_eq!(scene.actions(), expected, "{what}");
    }
    let mut with_a_secondary = reunited(Connected, UpToDate, WATCHED);
    with_a_secondary.peer().role = Role::Secondary;
    assert_eq!(with_a_secondary.actions(), ["note Current"], "it holds nothing back");
    let mut with_a_diskless_primary = reunited(Connected, UpToDate, watched(1, 1, 0));
    with_a_diskless_primary.peer_disk(DiskState::Diskless);
    assert_eq!(with_a_diskless_primary.actions(), ["note Current"], "it acknowledges nothing alone");
    let mut in_the_handshake = reunited(Connected, UpToDate, watched(1, 1, 0));
    in_the_handshake.peer().role = Role::Unknown;
    assert_eq!(in_the_handshake.actions(), [""; 0], "its role is not told yet");

    let mut restarted = reunited(Connecting, Consistent, WATCHED);
    restarted.remembered.reunion = Reunion::Unwatched;
    assert_eq!(restarted.actions(), ["note Behind"], "another program watched, if any");
    restarted.found.kernel = Looked::Absent;
    assert_eq!(restarted.actions()[0], "note Behind", "in another boot");
}

#[test]
fn that_nobody_was_met_is_noted_once_the_end_has_come_down_to_keep_the_peer_away() {
    let mut scene = reunited(ConnectionState::Connecting, DiskState::Consistent, WATCHED);
    scene.wanted.owner = "n2".into();
    scene.wanted.peers[1].claim_number = 38;
    assert_eq!(scene.actions(), ["turn-away"]);
    scene.peer().connection = ConnectionState::StandAlone;
    assert_eq!(scene.actions(), [""; 0], "the watch has not told of that end");
    scene.found.met = watched(1, 0, 1);
    assert_eq!(scene.actions(), ["note MetNobody"]);

    scene.note(hawser_plan::Note::MetNobody);
    scene.wanted.peers[1].claim_number = 0;
    assert_eq!(scene.actions(), [LET_OUT, "connect"], "the claim was withdrawn");
}

#[test]
fn a_connection_that_somebody_else_has_begun_is_noted_too() {
    let found_trying = |met| {
        let mut scene = reunited(ConnectionState::Connecting, DiskState::Consistent, met);
        scene.remembered.reunion = Reunion::None;
        scene
    };
    assert_eq!(found_trying(WATCHED).actions(), [LET_OUT]);
    assert_eq!(found_trying(watched(1, 1, 0)).actions(), ["note Behind"]);
    assert_eq!(found_trying(Met::Unknown).actions(), [""; 0]);
    let mut owner = found_trying(watched(1, 1, 0));
    owner.wanted.owner = "n1".into();
    owner.wanted.attachment = v1::DesiredAttachment::Attached.into();
    assert!(!owner.actions().contains(&"note Behind".to_owned()), "{:?}", owner.actions());
}

#[test]
fn a_copy_that_was_behind_has_caught_up_when_both_sides_reports_say_so() {
    let mut scene = Scene::running();
    scene.remembered.behind = true;
    let about_itself = Question::Outdate { peer: "n1".into(), generation: OwnerGeneration::new(0) };
    assert_eq!(scene.actions(), [""; 0], "its own kernel proves nothing");
    assert_eq!(scene.plan().questions, [about_itself]);

    scene.arbitration.synced = true;
    assert_eq!((scene.actions(), scene.plan().questions), (vec!["note CaughtUp".to_owned()], vec![]));
    scene.cut();
    assert_eq!(scene.actions(), [""; 0], "not in sync now");
}

#[test]
fn a_half_done_bring_up_is_finished() {
    let mut no_minor = Scene::running();
    no_minor.remembered.current_in_boot = false;
    no_minor.kernel().volumes.clear();
    no_minor.cut();
    assert_eq!(no_minor.actions(), [LET_OUT, "bring-up with disk"]);

    let mut no_disk = Scene::running();
    no_disk.remembered.current_in_boot = false;
    no_disk.disk(DiskState::Diskless);
    no_disk.kernel().peers.clear();
    assert_eq!(no_disk.actions(), [LET_OUT, "attach-disk", "connect"]);
}

#[test]
fn connections_are_started_where_they_do_not_try() {
    for (connection, expected) in [
        (None, &["connect"][..]),
        (Some(ConnectionState::StandAlone), &["connect"]),
        (Some(ConnectionState::Disconnecting), &[]),
        (Some(ConnectionState::Connecting), &[]),
        (Some(ConnectionState::Broken), &[]),
        (Some(ConnectionState::Connected), &[]),
    ] {
        let mut scene = Scene::running();
        match connection {
            None => scene.kernel().peers.clear(),
            Some(connection) => scene.peer().connection = connection,
        }
        assert_eq!(scene.actions(), expected, "{connection:?}");
    }
}

#[test]
fn a_changed_configuration_is_written_and_followed() {
    let mut scene = Scene::running();
    scene.wanted.peers[1].port = 7001;
    scene.cut();
    assert_eq!(scene.actions(), ["write-configuration", "adjust"]);

    // Adjusting would let the peer connect.
    let mut kept_away = scene.clone();
    kept_away.wanted.owner = "n2".into();
    kept_away.wanted.peers[1].claim_number = 38;
    assert_eq!(kept_away.actions(), ["turn-away"]);
    kept_away.peer().connection = ConnectionState::StandAlone;
    assert_eq!(kept_away.actions(), [""; 0]);

    // Adjusting would attach the disk.
    scene.disk(DiskState::Diskless);
    scene.remembered = Remembered { created: true, behind: true, ..Remembered::default() };
    scene.cut();
    assert_eq!(scene.actions(), ["write-configuration"]);
}

#[test]
fn a_connection_is_changed_only_after_one_side_was_outdated_for_that() {
    type Change = fn(&mut Scene);
    let cases: [(&str, &str, Change, Change); 3] = [
        ("n1", "", |_| {}, |scene| scene.wanted.outdated_number = 40),
        ("n1", "n2", |scene| scene.peer().role = Role::Primary, |scene| scene.wanted.outdated_number = 40),
        ("n2", "n1", |_| {}, |scene| scene.peer_outdated_in_document(40)),
    ];
    for (behind, owner, set_up, tell) in cases {
        let mut scene = Scene::running();
        scene.wanted.owner = owner.into();
        scene.wanted.generation = 3;
        scene.wanted.peers[1].port = 7001;
        set_up(&mut scene);
        let ask = Question::Outdate { peer: behind.into(), generation: OwnerGeneration::new(3) };
        assert_eq!((scene.actions().len(), scene.plan().questions), (0, vec![ask]), "{owner:?} owns it");
        assert!(scene.waits().contains(&format!("{behind} falls behind")), "{}", scene.waits());

        let mut refused = scene.clone();
        refused.arbitration.refused.insert(behind.into(), "it is the last".into());
        assert_eq!((refused.actions().len(), refused.plan().questions.len()), (0, 0));
        assert!(refused.waits().contains("it is the last"), "{}", refused.waits());

        let mut granted = scene.clone();
        granted.grant(behind, 40);
        assert_eq!(
            (granted.actions().len(), granted.plan().questions.len()),
            (0, 0),
            "the document is to come"
        );

        tell(&mut scene);
        let mut reported = scene.clone();
        reported.report("n2", 40);
        assert_eq!(
            (reported.actions().len(), reported.plan().questions.len()),
            (0, 1),
            "it may be taken back"
        );
        reported.grant(behind, 40);
        assert_eq!(
            (reported.actions().len(), reported.plan().questions.len()),
            (0, 1),
            "and so may the old yes"
        );

        scene.report("n2", 39);
        assert_eq!(scene.actions(), ["write-configuration", "adjust"], "{owner:?} owns it");
        assert_eq!(
            scene.plan().proves_nothing_since,
            Some(OutdateNumber::new(40)),
            "or the mark would be cleared meanwhile"
        );
    }
}

#[test]
fn the_source_of_a_sync_changes_its_connection_afterwards() {
    let mut scene = Scene::running();
    scene.wanted.peers[1].port = 7001;
    scene.peer_disk(DiskState::Inconsistent);
    for owner in ["", "n2"] {
        scene.wanted.owner = owner.into();
        assert_eq!((scene.actions().len(), scene.plan().questions.len()), (0, 0), "{owner:?} owns it");
        assert_eq!(scene.waits(), "changes the connection once n2 has synced from here");
    }
    // It begins before the other disk is said to be Inconsistent.
    scene.peer_disk(DiskState::Outdated);
    scene.peer().volumes.get_mut(&0).unwrap().replication = "WFBitMapS".into();
    assert_eq!((scene.actions().len(), scene.plan().questions.len()), (0, 0));
    scene.peer().volumes.get_mut(&0).unwrap().replication = "Established".into();
    // A peer without a usable disk has nothing to sync with: whether it may be left is for the controllers to say.
    scene.wanted.owner = "n2".into();
    scene.peer_disk(DiskState::Failed);
    let ask = Question::Outdate { peer: "n1".into(), generation: OwnerGeneration::new(0) };
    assert!(scene.plan().questions.contains(&ask));
    scene.peer_disk(DiskState::Inconsistent);
    // The owner leaves the peer behind, which is behind anyway.
    scene.wanted.owner = "n1".into();
    let ask = Question::Outdate { peer: "n2".into(), generation: OwnerGeneration::new(0) };
    assert!(scene.plan().questions.contains(&ask));
    // The target is behind anyway, too.
    scene.wanted.owner = String::new();
    scene.peer_disk(DiskState::UpToDate);
    scene.disk(DiskState::Inconsistent);
    let ask = Question::Outdate { peer: "n1".into(), generation: OwnerGeneration::new(0) };
    assert!(scene.plan().questions.contains(&ask));
}

#[test]
fn what_cannot_be_seen_is_left_alone() {
    let mut kernel = Scene::new();
    kernel.found.kernel = Looked::Unknown("events2 hangs".into());
    assert_eq!(kernel.actions(), [""; 0]);
    assert_eq!(kernel.waits(), "cannot see db.5 in the kernel: events2 hangs");

    let mut file = Scene::running();
    file.found.configuration = Looked::Unknown("Input/output error".into());
    assert_eq!(file.actions(), [""; 0]);
    assert!(file.waits().contains("Input/output error"));
}

#[test]
fn a_disk_that_left_up_to_date_is_written_down_first_and_told_to_the_arbiter() {
    for (disk, latched) in [
        (DiskState::Failed, true),
        (DiskState::Diskless, true),
        (DiskState::Inconsistent, true),
        (DiskState::Outdated, true),
        (DiskState::Consistent, false),
        (DiskState::Negotiating, false),
        (DiskState::UpToDate, false),
    ] {
        let mut scene = Scene::running();
        scene.disk(disk);
        let plan = scene.plan();

        let first = scene.actions().first().cloned().unwrap_or_default();
        assert_eq!(first == "note Behind", latched, "{disk:?}: {:?}", scene.actions());
        let asked = [Question::Outdate { peer: "n1".into(), generation: OwnerGeneration::new(0) }];
        assert_eq!(plan.questions == asked, latched, "{disk:?}: {:?}", plan.questions);
    }
}

#[test]
fn a_disk_that_never_was_current_did_not_fall_behind() {
    let mut joiner = Scene::running();
    joiner.remembered.current_in_boot = false;
    joiner.disk(DiskState::Inconsistent);
    assert_eq!(shown(&joiner.plan()), "");

    // Diskless with a current peer: whatever happened, there is something to be behind of.
    joiner.disk(DiskState::Diskless);
    assert_eq!(joiner.actions(), ["note Behind", "attach-disk"]);
}

#[test]
fn what_has_synced_is_not_behind_any_more() {
    let mut scene = Scene::running();
    scene.remembered.behind = true;
    scene.arbitration.synced = true;
    assert_eq!(scene.actions(), ["note CaughtUp"]);

    scene.peer().volumes.get_mut(&0).unwrap().out_of_sync_bytes = 4096;
    assert_eq!(scene.actions(), [""; 0], "not while anything differs");

    scene.peer().volumes.get_mut(&0).unwrap().out_of_sync_bytes = 0;
    scene.cut();
    assert_eq!(scene.actions(), [""; 0], "not without having met the peer");
}

#[test]
fn that_it_is_current_is_noted_once_in_a_boot() {
    let mut scene = Scene::running();
    scene.remembered.current_in_boot = false;
    assert_eq!(scene.actions(), ["note Current"]);
}

#[test]
fn the_owner_has_a_peer_outdated_whose_disk_failed_behind_a_link_that_holds() {
    let asked = [Question::Outdate { peer: "n2".into(), generation: OwnerGeneration::new(3) }];
    for (disk, expected) in [
        (DiskState::Diskless, true),
        (DiskState::Failed, true),
        (DiskState::Inconsistent, true),
        (DiskState::Outdated, true),
        (DiskState::UpToDate, false),
        (DiskState::Consistent, false),
        (DiskState::Unknown, false),
        (DiskState::Negotiating, false),
    ] {
        let mut scene = Scene::attached();
        scene.peer_disk(disk);
        assert_eq!(scene.plan().questions == asked, expected, "{disk:?}");

        let mut not_owner = scene.clone();
        not_owner.wanted.owner = "n2".into();
        assert_ne!(not_owner.plan().questions, asked);
        let mut told = scene.clone();
        told.peer_outdated_in_document(40);
        assert_ne!(told.plan().questions, asked);
        let mut granted = scene.clone();
        granted.grant("n2", 40);
        assert_ne!(granted.plan().questions, asked);
        let mut behind_itself = scene.clone();
        behind_itself.disk(DiskState::Diskless);
        assert_ne!(behind_itself.plan().questions, asked, "the peer's may be the only good copy");
    }
}
