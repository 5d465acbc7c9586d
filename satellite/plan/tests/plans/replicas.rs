//! A resource gets a second replica, and loses it again: what its nodes do.

use hawser_plan::{
    Action, Question,
    observed::{ConnectionState, DiskState, Looked, Role},
    step::Step,
};
use hawser_proto::{ids::OwnerGeneration, v1};

use crate::scene::Scene;

/// Of [`Scene::attached`]: n1 is alone with its replica.
fn alone(mut scene: Scene) -> Scene {
    scene.kernel().peers.clear();
    scene.wanted.peers.truncate(1);
    scene.follow();
    scene
}

/// Of [`Scene::attached`] and others: the peer was told to leave.
fn left(mut scene: Scene) -> Scene {
    scene.let_go_of_the_peer();
    scene
}

#[test]
fn a_primary_follows_first_and_connects_to_its_new_peer_then() {
    // Given a Primary without a peer.
    let mut scene = alone(Scene::attached());
    assert_eq!(scene.actions(), [""; 0]);

    // When one joins, which is outdated from the beginning.
    let peers = Scene::attached().wanted.peers;
    scene.wanted.peers = peers;
    scene.peer_outdated_in_document(40);

    // Then nobody is asked, and its kernel asks the arbiter about that peer before it can meet it.
    let plan = scene.plan();
    assert_eq!(scene.actions(), ["write-configuration", "adjust"]);
    assert_eq!(plan.questions, []);
    scene.follow();
    assert_eq!(scene.actions(), ["connect"]);
}

#[test]
fn a_joining_replica_is_made_without_the_first_generation_and_connected() {
    let mut scene = Scene::new();
    scene.wanted.day0_generation_id = 0;
    scene.wanted.outdated_number = 40;

    let made =
        ["create-storage", "create-metadata", "note Created", "write-configuration", "bring-up with disk"];
    assert_eq!(scene.actions(), made);
    let day0 = scene.plan().actions.into_iter().find_map(|action| match action {
        Action::Run(Step::CreateMetadata(metadata)) => Some(metadata.day0),
        _ => None,
    });
    assert_eq!(day0, Some(None), "it has to sync");

    let mut scene = Scene { found: Scene::running().found, ..scene };
    scene.follow();
    scene.remembered.created = true;
    scene.disk(DiskState::Diskless);
    assert!(scene.actions().contains(&"attach-disk".to_owned()), "{:?}", scene.actions());
    assert_eq!(scene.plan().questions, [], "it is outdated already");
}

#[test]
fn a_peer_that_is_to_leave_is_let_go_of_without_a_question() {
    for scene in [Scene::attached(), Scene::running()] {
        let mut scene = left(scene);
        let plan = scene.plan();
        assert_eq!(scene.actions(), ["write-configuration", "adjust"]);
        assert_eq!((plan.questions, plan.waits_for), (vec![], None));

        // Also where the file says so and the kernel still knows the peer.
        scene.follow();
        scene.kernel().to_a_stranger = true;
        assert_eq!(scene.actions(), ["adjust"]);
        scene.follow();
        assert_eq!(scene.actions(), [""; 0]);
    }
}

#[test]
fn a_freeze_for_a_peer_that_has_left_ends_without_the_arbiter() {
    let mut scene = left(Scene::frozen());
    assert_eq!(scene.actions(), ["resume-io"]);
    assert_eq!(scene.plan().questions, []);

    scene.arbitration.helper_asks = true;
    assert!(!scene.actions().contains(&"resume-io".to_owned()), "the kernel goes on by itself");
    scene.arbitration.helper_asks = false;
    scene.disk(DiskState::Failed);
    assert!(scene.waits().contains("may not go on alone"), "{}", scene.waits());
    let mut behind = left(Scene::frozen());
    behind.wanted.outdated_number = 50;
    assert!(behind.waits().contains("may not go on alone"), "{}", behind.waits());
}

#[test]
fn the_last_replica_is_promoted_without_a_peer_to_ask_about() {
    for disk in [DiskState::UpToDate, DiskState::Consistent] {
        let mut scene = left(Scene::owned());
        scene.follow();
        scene.disk(disk);
        let generation = OwnerGeneration::new(3);
        assert_eq!(scene.plan().questions, [Question::ConfirmOwner { generation }], "{disk:?}");
        scene.arbitration.confirmed = true;
        assert_eq!(scene.actions(), ["promote", "open-gate"], "{disk:?}");
        scene.wanted.outdated_number = 41;
        assert_eq!(scene.actions(), [""; 0], "behind, {disk:?}");
    }
    let mut scene = left(Scene::owned());
    scene.follow();
    scene.disk(DiskState::Inconsistent);
    scene.arbitration.confirmed = true;
    assert!(!scene.actions().contains(&"promote".to_owned()), "{:?}", scene.actions());
}

#[test]
fn a_disk_that_would_wait_for_a_peer_that_has_left_is_attached_anew() {
    let consistent = || {
        let mut scene = left(Scene::running());
        scene.follow();
        scene.disk(DiskState::Consistent);
        scene.remembered.current_in_boot = false;
        scene
    };
    assert_eq!(consistent().actions(), ["take-down", "bring-up with disk"]);

    type Change = fn(&mut Scene);
    let table: [(&str, Change); 5] = [
        ("it is behind", |scene| scene.wanted.outdated_number = 40),
        ("it may be behind", |scene| scene.remembered.behind = true),
        ("it is Primary", |scene| scene.kernel().role = Role::Primary),
        ("it is about to be promoted", |scene| {
            scene.wanted.owner = "n1".into();
            scene.wanted.attachment = v1::DesiredAttachment::Attached.into();
        }),
        ("a gate may be there", |scene| {
            scene.found.gates.insert(0, Looked::Unknown("it hangs".into()));
        }),
    ];
    for (what, change) in table {
        let mut scene = consistent();
        change(&mut scene);
        assert!(!scene.actions().contains(&"take-down".to_owned()), "{what}: {:?}", scene.actions());
    }
    let mut scene = Scene::running();
    scene.disk(DiskState::Consistent);
    scene.peer().connection = ConnectionState::Connecting;
    assert!(!scene.actions().contains(&"take-down".to_owned()), "it has a peer to wait for");
}
