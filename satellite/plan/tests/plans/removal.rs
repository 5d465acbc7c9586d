//! Leaving nothing.

use hawser_plan::observed::{BackingFound, GateTable, Looked, OpenerState, Role};

use crate::scene::{Scene, backing, nothing, shown};

#[test]
fn a_replica_is_removed_from_the_top_down() {
    insta::assert_snapshot!("remove", shown(&Scene::removing().plan()));
}

#[test]
fn when_nothing_is_left_it_says_so() {
    let mut scene = Scene::removing();
    scene.found = nothing();

    assert_eq!(shown(&scene.plan()), "removed\n");
}

#[test]
fn only_what_is_there_costs_a_step() {
    type Change = fn(&mut Scene);
    let cases: [(&[&str], Change); 4] = [
        (&["remove-configuration"], |scene| {
            scene.found = nothing();
            scene.found.configuration = Looked::Present(1);
        }),
        (&["remove-storage"], |scene| {
            scene.found = nothing();
            scene.found.backing.insert(0, Looked::Present(backing()));
        }),
        (&["close-gate", "take-down", "remove-configuration", "remove-storage"], |scene| {
            scene.gate(GateTable::Linear, 0);
        }),
        (&["demote", "take-down", "remove-configuration", "remove-storage"], |scene| {
            scene.kernel().role = Role::Primary;
        }),
    ];
    for (expected, change) in cases {
        let mut scene = Scene::removing();
        change(&mut scene);
        assert_eq!(scene.actions(), expected);
    }
}

#[test]
fn what_cannot_be_seen_is_not_removed_and_not_called_gone() {
    type Change = fn(&mut Scene);
    let why = || Looked::<()>::Unknown("it hangs".into());
    assert_eq!(why(), Looked::Unknown("it hangs".into()));
    let cases: [(&str, Change); 4] = [
        ("cannot see db.5 in the kernel: it hangs", |scene| {
            scene.found.kernel = Looked::Unknown("it hangs".into());
        }),
        ("cannot tell who holds the gate", |scene| {
            scene.found.gates.insert(0, Looked::Unknown("it hangs".into()));
            scene.found.openers = Looked::Unknown("it hangs".into());
        }),
        ("cannot tell whether db.7-0 is there: it hangs", |scene| {
            scene.found.backing.insert(0, Looked::Unknown("it hangs".into()));
        }),
        ("db.7-0 has not been looked for yet", |scene| scene.found.backing.clear()),
    ];
    for (reason, change) in cases {
        let mut scene = Scene::removing();
        scene.found = nothing();
        change(&mut scene);

        assert_eq!(scene.actions(), [""; 0], "{reason}");
        assert!(scene.waits().contains(reason), "{reason}: {}", scene.waits());
        assert!(!scene.plan().removed, "{reason}");
    }
}

#[test]
fn storage_without_this_replicas_mark_is_left_alone() {
    for found in [
        BackingFound { mark: None, ..backing() },
        BackingFound {
            mark: backing().mark.map(|mark| hawser_plan::step::Mark { cluster_id: "c2".into(), ..mark }),
            ..backing()
        },
    ] {
        let mut scene = Scene::removing();
        scene.found = nothing();
        scene.found.backing.insert(0, Looked::Present(found));

        assert_eq!(scene.actions(), [""; 0]);
        assert!(scene.waits().contains("it is left alone"), "{}", scene.waits());
        assert!(!scene.plan().removed);
    }
}

#[test]
fn what_somebody_uses_is_not_removed() {
    let mut scene = Scene::removing();
    scene.gate(GateTable::Linear, 1);
    scene.opener(812, "postgres", OpenerState::Living);

    assert_eq!(scene.actions(), [""; 0]);
    assert!(scene.waits().contains("postgres (pid 812)"), "{}", scene.waits());
}
