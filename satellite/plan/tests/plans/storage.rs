//! Backing volumes and metadata.

use hawser_plan::{
    Action,
    observed::{BackingFound, DiskState, Looked},
    step::{Mark, Step},
};
use hawser_proto::ids::Incarnation;

use crate::scene::{BACKING_SIZE, LET_OUT, Scene, backing, mark, shown};

#[test]
fn a_new_replica_is_made_and_brought_up_in_one_go() {
    insta::assert_snapshot!("create", shown(&Scene::new().plan()));
}

#[test]
fn what_happens_to_storage_that_is_there_or_not() {
    let foreign = Mark { replica_incarnation: Incarnation::new(6), ..mark() };
    let created = |steps: &[&'static str]| [steps, &["write-configuration", "bring-up with disk"]].concat();
    let again =
        |steps: &[&'static str]| [steps, &["write-configuration", LET_OUT, "bring-up with disk"]].concat();
    for (ledger_knows, found, expected, reason) in [
        (false, Looked::Absent, created(&["create-storage", "create-metadata", "note Created"]), ""),
        // A crash came between lvcreate and the note.
        (false, Looked::Present(backing()), created(&["create-metadata", "note Created"]), ""),
        (
            false,
            Looked::Present(BackingFound { size_bytes: BACKING_SIZE - 1, ..backing() }),
            created(&["create-storage", "create-metadata", "note Created"]),
            "",
        ),
        (true, Looked::Present(backing()), again(&[]), ""),
        // After a reboot the volume may have to be activated.
        (true, Looked::Present(BackingFound { active: false, ..backing() }), again(&["create-storage"]), ""),
        (true, Looked::Absent, vec![], "db.7-0 is missing though this replica was made on it"),
        (
            true,
            Looked::Present(BackingFound { size_bytes: BACKING_SIZE - 1, ..backing() }),
            vec![],
            "bytes where",
        ),
        (
            false,
            Looked::Present(BackingFound { mark: None, ..backing() }),
            vec![],
            "db.7-0 does not carry Hawser's mark",
        ),
        (
            true,
            Looked::Present(BackingFound { mark: Some(foreign), ..backing() }),
            vec![],
            "marked as volume 0 of db (incarnation 6)",
        ),
        (
            false,
            Looked::Unknown("lvs hangs".into()),
            vec![],
            "cannot tell whether db.7-0 is there: lvs hangs",
        ),
    ] {
        let mut scene = Scene::new();
        scene.remembered.created = ledger_knows;
        scene.found.backing.insert(0, found.clone());

        assert_eq!(scene.actions(), expected, "{ledger_knows} {found:?}");
        assert!(scene.waits().contains(reason), "{found:?} waits for {:?}", scene.waits());
        assert_eq!(scene.waits().is_empty(), reason.is_empty(), "{found:?}");
    }
}

#[test]
fn a_replica_starts_without_a_sync_only_as_the_document_says() {
    let day0 = |scene: &Scene| {
        scene.plan().actions.iter().find_map(|action| match action {
            Action::Run(Step::CreateMetadata(metadata)) => Some(metadata.day0),
            _ => None,
        })
    };
    let first = Scene::new();
    let mut joiner = Scene::new();
    joiner.wanted.day0_generation_id = 0;
    let mut known = Scene::new();
    known.remembered.created = true;
    known.found.backing.insert(0, Looked::Present(backing()));

    assert_eq!(day0(&first), Some(Some(0x1234_5678_9abc_def0)));
    assert_eq!(day0(&joiner), Some(None), "it syncs");
    assert_eq!(day0(&known), None, "metadata is made once in the life of an incarnation");
}

#[test]
fn under_a_running_resource_no_metadata_is_made_even_if_the_ledger_was_lost() {
    let mut scene = Scene::running();
    scene.remembered.created = false;
    assert_eq!(scene.actions(), ["note Created"]);

    scene.disk(DiskState::Inconsistent);
    assert_eq!(scene.actions(), ["note Created"]);
}

#[test]
fn under_a_running_resource_storage_need_not_be_looked_at() {
    let mut scene = Scene::owned();
    scene.arbitration.confirmed = true;
    scene.found.backing.clear();
    assert!(!scene.desired().needs_storage_looked_at(&scene.found));
    assert_eq!(scene.actions(), ["promote", "open-gate"], "a slow look holds up no promotion");

    scene.disk(DiskState::Diskless);
    assert!(scene.desired().needs_storage_looked_at(&scene.found));
    assert!(Scene::removing().desired().needs_storage_looked_at(&scene.found));
}

#[test]
fn storage_alone_needs_neither_metadata_nor_drbd() {
    let mut scene = Scene::new();
    scene.wanted.layers = vec![hawser_proto::v1::Layer::Storage.into()];
    assert_eq!(scene.actions(), ["create-storage", "note Created"]);

    scene.found.backing.insert(0, Looked::Present(backing()));
    scene.remembered.created = true;
    scene.wanted.owner = "n1".into();
    scene.wanted.attachment = hawser_proto::v1::DesiredAttachment::Attached.into();
    insta::assert_snapshot!("attach-without-drbd", shown(&scene.plan()));
}

#[test]
fn what_a_node_did_not_have_after_a_restore_is_not_made_empty() {
    for (found, reason) in [
        (Looked::Absent, "db.7-0 was removed after the backup that the cluster was restored from"),
        (Looked::Present(backing()), "nobody remembers that this replica was made"),
    ] {
        let mut scene = Scene::new();
        scene.wanted.not_made_anew = true;
        scene.found.backing.insert(0, found);
        let plan = scene.plan();
        assert!(plan.actions.is_empty(), "{plan:?}");
        assert!(plan.waits_for.as_deref().is_some_and(|waits| waits.contains(reason)), "{plan:?}");
    }
}
