//! What never happens, whatever is wanted, found, remembered and answered.

use hawser_plan::{
    Action, Note, Plan, Question,
    observed::{
        BackingFound, ConnectionState, DiskState, GateFound, GateTable, KernelPeer, KernelPeerVolume,
        KernelResource, KernelVolume, Looked, Met, Opener, OpenerState, ReplicaFound, Role, Suspended, Watch,
    },
    situation::{Arbitration, Remembered, Reunion},
    step::{Mark, Step},
};
use hawser_proto::{
    ids::{Incarnation, OutdateNumber, Revision},
    v1::DesiredAttachment,
};
use proptest::{collection::btree_set, option, prelude::*, sample::select};

use crate::scene::{BACKING_SIZE, SIZE, Scene, mark};

fn looked<T: Clone + std::fmt::Debug + 'static>(
    present: impl Strategy<Value = T> + 'static,
) -> impl Strategy<Value = Looked<T>> {
    prop_oneof![
        1 => Just(Looked::Absent),
        1 => Just(Looked::Unknown("it hangs".into())),
        4 => present.prop_map(Looked::Present),
    ]
}

fn role() -> impl Strategy<Value = Role> {
    select(vec![Role::Unknown, Role::Secondary, Role::Primary])
}

fn disk() -> impl Strategy<Value = DiskState> {
    select(vec![
        DiskState::Diskless,
        DiskState::Attaching,
        DiskState::Detaching,
        DiskState::Failed,
        DiskState::Negotiating,
        DiskState::Inconsistent,
        DiskState::Outdated,
        DiskState::Consistent,
        DiskState::UpToDate,
        DiskState::UpToDate,
        DiskState::UpToDate,
    ])
}

fn connection() -> impl Strategy<Value = ConnectionState> {
    select(vec![
        ConnectionState::StandAlone,
        ConnectionState::Disconnecting,
        ConnectionState::Connecting,
        ConnectionState::Broken,
        ConnectionState::Connected,
        ConnectionState::Connected,
    ])
}

fn backing() -> impl Strategy<Value = BackingFound> {
    let marks = vec![
        Some(mark()),
        Some(mark()),
        None,
        Some(Mark { replica_incarnation: Incarnation::new(6), ..mark() }),
    ];
    (select(vec![BACKING_SIZE, BACKING_SIZE - 1]), select(marks), any::<bool>()).prop_map(
        |(size_bytes, mark, active)| BackingFound { size_bytes, mark, active, device: "/dev/x".into() },
    )
}

fn kernel() -> impl Strategy<Value = KernelResource> {
    let peer = (connection(), role(), disk(), select(vec![0, 4096])).prop_map(
        |(connection, role, disk, out_of_sync_bytes)| KernelPeer {
            connection,
            connection_word: format!("{connection:?}"),
            role,
            volumes: [(
                0,
                KernelPeerVolume {
                    disk,
                    replication: "Established".into(),
                    out_of_sync_bytes,
                    done_permyriad: 0,
                },
            )]
            .into(),
        },
    );
    let suspended = prop_oneof![
        3 => Just((false, false, false)),
        1 => (any::<bool>(), any::<bool>(), any::<bool>()),
    ];
    (role(), suspended, option::weighted(0.9, disk()), option::weighted(0.9, peer)).prop_map(
        |(role, (user, fencing, no_data), disk, peer)| KernelResource {
            role,
            suspended: Suspended { user, fencing, no_data, quorum: false },
            volumes: disk
                .map(|disk| (0, KernelVolume { minor: 1000, disk, size_bytes: SIZE }))
                .into_iter()
                .collect(),
            peers: peer.map(|peer| ("n2".to_owned(), peer)).into_iter().collect(),
            to_a_stranger: false,
        },
    )
}

fn met() -> impl Strategy<Value = Met> {
    let watched = (1..3u64, 0..2u64, 0..2u64)
        .prop_map(|(number, meetings, ended)| Met::Watched(Watch { number, meetings, ended }));
    prop_oneof![1 => Just(Met::Unknown), 4 => watched]
}

fn found() -> impl Strategy<Value = ReplicaFound> {
    let gate = (
        select(vec![GateTable::Linear, GateTable::Linear, GateTable::Error, GateTable::Other]),
        any::<bool>(),
        0..3u32,
    )
        .prop_map(|(table, suspended, open_count)| GateFound { table, suspended, open_count });
    let opener = (1..9i32, select(vec![OpenerState::Living, OpenerState::Dying]))
        .prop_map(|(pid, state)| Opener { pid, name: "dd".into(), state });
    let written = match Scene::new().desired() {
        hawser_plan::desired::Desired::Replica(replica) => replica.drbd.unwrap().fingerprint(),
        hawser_plan::desired::Desired::Removal(_) => unreachable!("it is no removal"),
    };
    (
        looked(backing()),
        looked(select(vec![written, written, 1])),
        looked(kernel()),
        looked(gate),
        looked(proptest::collection::vec(opener, 0..3)),
        0..3u32,
        met(),
    )
        .prop_map(|(backing, configuration, kernel, gate, openers, opens_found, met)| ReplicaFound {
            backing: [(0, backing)].into(),
            configuration,
            kernel,
            gates: [(0, gate)].into(),
            openers,
            opens_found: [(0, opens_found)].into(),
            met,
        })
}

fn scene() -> impl Strategy<Value = Scene> {
    let nodes = || btree_set(select(vec!["n1".to_owned(), "n2".to_owned()]), 0..3);
    let numbers = || select(vec![39, 40, 41]);
    let granted = (nodes(), numbers());
    let arbitration = (any::<bool>(), granted, numbers(), nodes(), any::<bool>(), nodes(), nodes()).prop_map(
        |(confirmed, (granted, number), reported, refused, helper_asks, overdue, shut_out)| Arbitration {
            confirmed,
            granted: granted.into_iter().map(|node| (node, OutdateNumber::new(number))).collect(),
            reported: [("n2".to_owned(), Revision::new(reported))].into(),
            refused: refused.into_iter().map(|node| (node, "no".to_owned())).collect(),
            helper_asks,
            overdue,
            shut_out,
            synced: false,
        },
    );
    let reunions =
        vec![Reunion::None, Reunion::Watched(Watch { number: 1, meetings: 0, ended: 0 }), Reunion::Unwatched];
    let remembered = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), select(reunions)).prop_map(
        |(created, made_in_boot, current_in_boot, behind, reunion)| Remembered {
            created,
            made_in_boot: created && made_in_boot,
            current_in_boot: created && current_in_boot,
            behind,
            reunion,
        },
    );
    let attachments =
        vec![DesiredAttachment::Detached, DesiredAttachment::Attached, DesiredAttachment::Revoked];
    let wanted = (
        select(vec!["", "n1", "n1", "n2"]),
        select(attachments),
        select(vec![0, 0, 40]),
        select(vec![0, 40]),
        any::<bool>(),
        any::<bool>(),
        proptest::bool::weighted(0.3),
    );
    (found(), remembered, arbitration, wanted).prop_map(
        |(found, remembered, arbitration, (owner, attachment, own, peer, day0, removed, kept_away))| {
            let mut scene = if removed { Scene::removing() } else { Scene::new() };
            scene.wanted.owner = owner.into();
            scene.wanted.generation = 3;
            scene.wanted.peers[1].claim_number = if kept_away { 38 } else { 0 };
            scene.wanted.attachment = attachment.into();
            scene.wanted.outdated_number = own;
            scene.peer_outdated_in_document(peer);
            if !day0 {
                scene.wanted.day0_generation_id = 0;
            }
            Scene { found, remembered, arbitration, ..scene }
        },
    )
}

fn steps(plan: &Plan) -> Vec<&Step> {
    plan.actions
        .iter()
        .filter_map(|action| match action {
            Action::Run(step) => Some(step),
            Action::Note(_) => None,
        })
        .collect()
}

fn has(plan: &Plan, verb: &str) -> bool {
    steps(plan).iter().any(|step| step.verb() == verb)
}

/// n2 was outdated on this node's word, and nothing has cleared that.
fn granted_and_in_the_document(scene: &Scene) -> bool {
    let standing = scene.wanted.peers[1].outdated_number();
    scene.arbitration.granted.get("n2").is_some_and(|number| standing >= Some(*number))
}

/// It was let out to meet its peer, and that it met nobody is not certain.
fn may_have_met(scene: &Scene) -> bool {
    match (scene.remembered.reunion, scene.found.met) {
        (Reunion::None, _) => false,
        (Reunion::Watched(then), Met::Watched(now)) => {
            then.number != now.number || then.meetings != now.meetings
        }
        _ => true,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_removed_that_is_not_an_explicit_removal(scene in scene()) {
        let plan = scene.plan();
        if scene.removed.is_none() {
            prop_assert!(!has(&plan, "remove-storage") && !has(&plan, "remove-configuration"));
            prop_assert!(!plan.removed);
        } else {
            for verb in ["create-storage", "create-metadata", "bring-up", "promote", "open-gate", "connect"] {
                prop_assert!(!has(&plan, verb), "{}", verb);
            }
        }
    }

    #[test]
    fn only_an_owner_that_is_not_behind_is_promoted(scene in scene()) {
        let plan = scene.plan();
        if !has(&plan, "promote") {
            return Ok(());
        }
        prop_assert_eq!(&scene.wanted.owner, "n1");
        prop_assert_eq!(scene.wanted.attachment(), DesiredAttachment::Attached);
        prop_assert_eq!(scene.wanted.outdated_number, 0);
        prop_assert!(!scene.remembered.behind);
        prop_assert!(!may_have_met(&scene));
        let kernel = scene.found.kernel.present().unwrap();
        let peer = kernel.peers.get("n2").filter(|peer| peer.connection == ConnectionState::Connected);
        match peer {
            Some(peer) => prop_assert!(
                peer.role != Role::Primary
                    && scene.arbitration.confirmed
                    && kernel.volumes[&0].disk == DiskState::UpToDate
            ),
            None => prop_assert!(granted_and_in_the_document(&scene)),
        }
    }

    #[test]
    fn metadata_is_made_once_and_never_under_an_attached_disk(scene in scene()) {
        let plan = scene.plan();
        if has(&plan, "create-metadata") {
            prop_assert!(!scene.remembered.created);
            let position = |wanted: &dyn Fn(&Action) -> bool| plan.actions.iter().position(wanted);
            let made = position(&|action| matches!(action, Action::Run(Step::CreateMetadata(_)))).unwrap();
            let noted = position(&|action| matches!(action, Action::Note(Note::Created))).unwrap();
            let up = position(&|action| matches!(action, Action::Run(Step::BringUp { .. })));
            prop_assert!(made < noted);
            prop_assert!(up.is_none_or(|up| noted < up), "noted before anybody can write");
        }
    }

    #[test]
    fn no_disk_that_fell_behind_is_attached_alone(scene in scene()) {
        let plan = scene.plan();
        if !scene.remembered.behind {
            return Ok(());
        }
        for step in steps(&plan) {
            match step {
                Step::BringUp { attach, .. } => prop_assert!(!attach),
                Step::AttachDisk { .. } => {
                    let kernel = scene.found.kernel.present().unwrap();
                    prop_assert_eq!(kernel.peers["n2"].connection, ConnectionState::Connected);
                }
                Step::Adjust { .. } => {
                    let kernel = scene.found.kernel.present().unwrap();
                    prop_assert!(kernel.volumes[&0].disk != DiskState::Diskless);
                }
                _ => {}
            }
        }
    }

    #[test]
    fn no_peer_is_met_without_the_disk_of_a_replica_that_does_not_know_that_it_fell_behind(scene in scene()) {
        let plan = scene.plan();
        let steps = steps(&plan);
        let at = |verb: &str| steps.iter().position(|step| step.verb() == verb);
        if scene.removed.is_some() || scene.remembered.behind {
            return Ok(());
        }
        for (position, step) in steps.iter().enumerate() {
            match step {
                // Raft has a loser as outdated until it has synced, and that takes its disk.
                Step::BringUp { attach: false, connect: true, .. } => {
                    prop_assert!(at("demote").is_some_and(|demote| demote < position));
                }
                Step::Connect(_) => {
                    let kernel = scene.found.kernel.present().unwrap();
                    let disk = kernel.volumes.get(&0).map_or(DiskState::Diskless, |volume| volume.disk);
                    prop_assert!(disk != DiskState::Diskless || at("attach-disk").is_some_and(|attach| attach < position));
                }
                _ => {}
            }
        }
    }

    #[test]
    fn nothing_is_let_out_to_its_peer_before_the_ledger_has_it(scene in scene()) {
        let plan = scene.plan();
        let owns = scene.wanted.owner == "n1" && scene.wanted.attachment() == DesiredAttachment::Attached;
        let is_current = scene.found.kernel.present().is_some_and(|kernel| {
            kernel.volumes.get(&0).is_some_and(|volume| volume.disk == DiskState::UpToDate)
        });
        let remembered = scene.remembered;
        let is_new = !remembered.created || (remembered.made_in_boot && !remembered.current_in_boot);
        if scene.removed.is_some() || owns || is_current || is_new || has(&plan, "demote") {
            return Ok(());
        }
        let connects = |action: &Action| {
            matches!(action, Action::Run(Step::BringUp { connect: true, .. } | Step::Connect(_) | Step::Adjust { .. }))
        };
        let Some(begun) = plan.actions.iter().position(connects) else { return Ok(()) };
        let tried = scene.found.kernel.present().and_then(|kernel| kernel.peers.get("n2"))
            .is_some_and(|peer| peer.connection != ConnectionState::StandAlone);
        let noted = plan.actions[..begun].iter().any(|action| {
            matches!(action, Action::Note(Note::Reunion(_) | Note::Behind))
        });
        let stands = scene.remembered.reunion != Reunion::None
            && !plan.actions.contains(&Action::Note(Note::MetNobody));
        prop_assert!(tried || noted || stands || scene.remembered.behind);
    }

    #[test]
    fn that_nobody_was_met_is_noted_only_where_it_was_watched_and_nothing_tries(scene in scene()) {
        let plan = scene.plan();
        if !plan.actions.contains(&Action::Note(Note::MetNobody)) {
            return Ok(());
        }
        prop_assert!(!may_have_met(&scene));
        prop_assert!(matches!(scene.found.met, Met::Watched(now) if now.ended > 0), "it has come down since");
        let kernel = scene.found.kernel.present().unwrap();
        prop_assert!(kernel.peers.get("n2").is_none_or(|peer| peer.connection == ConnectionState::StandAlone));
        prop_assert!(!has(&plan, "connect") && !has(&plan, "bring-up") && !has(&plan, "adjust"));
    }

    #[test]
    fn what_is_noted_is_noted_once(scene in scene()) {
        let mut scene = scene;
        let notes = |plan: &Plan| -> Vec<Note> {
            plan.actions.iter().filter_map(|action| match action {
                Action::Note(note) => Some(*note),
                Action::Run(_) => None,
            }).collect()
        };
        for _ in 0..4 {
            let noted = notes(&scene.plan());
            if noted.is_empty() {
                return Ok(());
            }
            for note in noted {
                scene.note(note);
            }
        }
        prop_assert!(false, "it goes on noting: {:?}", notes(&scene.plan()));
    }

    #[test]
    fn frozen_writes_end_only_by_a_yes_or_without_a_living_writer(scene in scene()) {
        let plan = scene.plan();
        if !has(&plan, "resume-io") && !has(&plan, "detach-by-force") {
            return Ok(());
        }
        let kernel = scene.found.kernel.present().unwrap();
        let owner_goes_on = scene.removed.is_none()
            && scene.wanted.owner != "n2"
            && scene.wanted.attachment() != DesiredAttachment::Revoked;
        if owner_goes_on {
            prop_assert!(!has(&plan, "detach-by-force"));
            prop_assert!(granted_and_in_the_document(&scene));
            prop_assert!(kernel.suspended.fencing && !scene.arbitration.helper_asks);
        } else {
            let openers = scene.found.openers.present();
            prop_assert!(scene.found.openers.is_absent()
                || openers.unwrap().iter().all(|opener| opener.state == OpenerState::Dying));
            let gate = scene.found.gates[&0].present();
            let counted = gate.is_none_or(|gate| {
                gate.table == GateTable::Error || gate.open_count <= scene.found.opens_found[&0]
            });
            prop_assert!(counted, "an opener that was not found may live");
        }
    }

    #[test]
    fn no_connection_is_taken_down_before_one_side_is_outdated(scene in scene()) {
        let plan = scene.plan();
        if scene.removed.is_some() || !has(&plan, "adjust") && !has(&plan, "take-down") {
            return Ok(());
        }
        let kernel = scene.found.kernel.present().unwrap();
        let met = kernel.peers.get("n2").is_some_and(|peer| peer.connection == ConnectionState::Connected);
        let marks = [scene.wanted.outdated_number(), scene.wanted.peers[1].outdated_number()];
        prop_assert!(!met || marks.iter().flatten().any(|number| number.revision() > scene.arbitration.reported["n2"]));
        prop_assert!(!met || plan.proves_nothing_since == Some(OutdateNumber::new(40)));
    }

    #[test]
    fn only_a_peer_that_is_away_and_is_about_to_be_left_behind_is_kept_away_and_only_until_the_promotion(scene in scene()) {
        let plan = scene.plan();
        if !has(&plan, "turn-away") {
            return Ok(());
        }
        let kernel = scene.found.kernel.present().unwrap();
        prop_assert!(kernel.peers["n2"].connection != ConnectionState::Connected);
        prop_assert!(kernel.role != Role::Primary);
        prop_assert!(scene.wanted.outdated_number().is_none() && !scene.remembered.behind);
        let Arbitration { granted, refused, shut_out, .. } = &scene.arbitration;
        let leaves = scene.wanted.peers[1].outdated_number().is_some()
            || granted.contains_key("n2")
            || shut_out.contains("n2");
        let goes_on_alone = scene.wanted.owner == "n1"
            && scene.wanted.attachment() == DesiredAttachment::Attached
            && !refused.contains_key("n2")
            && leaves;
        prop_assert!(goes_on_alone || scene.wanted.peers[1].claim_number != 0);
    }

    #[test]
    fn nobody_asks_for_a_promotion_without_a_peer_that_can_still_come(scene in scene()) {
        let about_n2 = |question: &Question| matches!(question, Question::Outdate { peer, .. } if peer == "n2");
        let Some(kernel) = scene.found.kernel.present().filter(|kernel| kernel.role != Role::Primary) else {
            return Ok(());
        };
        let connection = kernel.peers.get("n2").map(|peer| peer.connection);
        if connection != Some(ConnectionState::Connected) && scene.plan().questions.iter().any(about_n2) {
            prop_assert!(matches!(connection, None | Some(ConnectionState::StandAlone)), "{:?}", connection);
        }
    }

    #[test]
    fn nothing_connects_a_peer_that_is_kept_away_from_a_disk_that_is_there_or_comes(scene in scene()) {
        let plan = scene.plan();
        let is_behind = scene.wanted.outdated_number().is_some() || scene.remembered.behind;
        if scene.removed.is_some() || scene.wanted.peers[1].claim_number().is_none() || is_behind {
            return Ok(());
        }
        let connects = |step: &&Step| matches!(step, Step::BringUp { attach: true, connect: true, .. });
        prop_assert!(!steps(&plan).iter().any(connects));
        let Some(kernel) = scene.found.kernel.present().filter(|kernel| kernel.role != Role::Primary) else {
            return Ok(());
        };
        let met = kernel.peers.get("n2").is_some_and(|peer| peer.connection == ConnectionState::Connected);
        let disk = kernel.volumes.get(&0).map_or(DiskState::Diskless, |volume| volume.disk);
        let is_there = matches!(disk, DiskState::UpToDate | DiskState::Consistent);
        if is_there || has(&plan, "attach-disk") {
            prop_assert!(!has(&plan, "connect"));
            prop_assert!(met || !has(&plan, "adjust"));
            let at = |verb: &str| steps(&plan).iter().position(|step| step.verb() == verb);
            let tries = kernel.peers.get("n2").is_some_and(|peer| peer.connection != ConnectionState::StandAlone);
            prop_assert!(met || !tries || at("attach-disk").is_none() || at("turn-away") < at("attach-disk"));
        }
    }

    #[test]
    fn storage_is_touched_only_under_this_replicas_mark(scene in scene()) {
        let plan = scene.plan();
        let touched = has(&plan, "remove-storage") || has(&plan, "create-metadata") || has(&plan, "create-storage");
        if touched {
            match &scene.found.backing[&0] {
                Looked::Absent => prop_assert!(!has(&plan, "remove-storage")),
                Looked::Present(found) => prop_assert_eq!(found.mark.clone(), Some(mark())),
                Looked::Unknown(_) => prop_assert!(false, "nothing is known of it"),
            }
        }
    }

    #[test]
    fn what_changes_nothing_either_is_as_wanted_or_says_why_it_waits(scene in scene()) {
        let plan = scene.plan();
        let attached = scene.removed.is_none()
            && scene.wanted.attachment() == DesiredAttachment::Attached
            && scene.found.kernel.present().is_none_or(|kernel| kernel.role != Role::Primary);
        if plan.actions.is_empty() && attached {
            prop_assert!(plan.waits_for.is_some());
        }
        if scene.removed.is_some() && plan.actions.is_empty() {
            prop_assert!(plan.removed != plan.waits_for.is_some());
        }
    }

    #[test]
    fn the_same_situation_gives_the_same_plan(scene in scene()) {
        prop_assert_eq!(scene.plan(), scene.plan());
    }
}
