//! Each planted defect of the programs turns the ordinary checks red, by the name of what it breaks.
#![cfg(debug_assertions)]
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::{ops::RangeInclusive, time::Duration};

use hawser_chaos::{
    campaign::Campaign,
    simulation::{Setup, run_with},
};
use hawser_planted::{Defect, plant};
use hawser_proto::v1::{self, DesiredDocument, command::Command};
use hawser_satellite::ledger::{Ledger, OrderProgress};
use hawser_state::{Restoration, State};
use prost::Message;

const MINUTE: Duration = Duration::from_secs(60);

/// The first of `seeds` that finds something, and what it finds first.
fn first_found(seeds: RangeInclusive<u64>, setup: impl Fn(u64) -> Setup) -> (u64, String) {
    let found = seeds.clone().find_map(|seed| {
        let outcome = run_with(&setup(seed));
        outcome.violations.into_iter().next().map(|violation| (seed, violation))
    });
    found.unwrap_or_else(|| panic!("seeds {seeds:?} found nothing"))
}

/// Asserts that one of these seeds of the ordinary campaign finds a defect, as a breach of one of these invariants. The
/// first ones, or those from the first that does where many would be run in vain.
fn is_found(defect: Defect, seeds: RangeInclusive<u64>, invariants: &[u32]) {
    let (seed, violation) =
        first_found(seeds, |seed| Setup { planted: Some(defect), ..Setup::new(seed, MINUTE) });

    println!("{defect}: seed {seed} found: {violation}");
    let is_meant = |number: &u32| violation.starts_with(&format!("invariant {number}:"));
    assert!(invariants.iter().any(is_meant), "{defect} was found as something else: {violation}");
}

#[test]
fn a_log_without_its_barrier() {
    is_found(Defect::NoBarrier, 1..=40, &[1]);
}

#[test]
fn a_minor_that_is_reused_before_its_removal_is_confirmed() {
    is_found(Defect::MinorReusedEarly, 1..=10, &[2]);
}

#[test]
fn a_synced_that_ignores_its_number() {
    is_found(Defect::SyncedIgnoresNumber, 14..=60, &[5]);
}

#[test]
fn an_order_of_a_lower_revision_that_is_obeyed() {
    is_found(Defect::OlderOrderObeyed, 1..=10, &[6]);
}

#[test]
fn a_late_report_that_is_taken_for_a_new_incarnation() {
    is_found(Defect::LateReportBelieved, 1..=10, &[2, 10]);
}

#[test]
fn an_acknowledged_command_that_a_new_leader_drops() {
    is_found(Defect::AcknowledgedDropped, 25..=90, &[1]);
}

/// Nothing carries out a one-shot order yet; whoever will asks the ledger first, and that is what forgets.
#[test]
fn a_one_shot_order_that_is_run_twice() {
    /// How often the order runs when the satellite is killed during its first run and started again.
    fn runs() -> usize {
        let directory = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let document = DesiredDocument {
            cluster_id: "c".into(),
            node: "n1".into(),
            lineage: 1,
            revision: 1,
            ..DesiredDocument::default()
        };
        let start = || {
            let ledger = Ledger::open(directory.path(), "c", "n1", "boot-1").unwrap();
            runtime.block_on(ledger.accept(document.encode_to_vec())).unwrap();
            let runs = ledger.order(7).is_none();
            if runs {
                runtime.block_on(ledger.note_order(7, OrderProgress::Started)).unwrap();
            }
            usize::from(runs)
        };
        start() + start()
    }
    assert_eq!(runs(), 1);

    let _planted = plant(Defect::OrderRunTwice);

    assert_eq!(runs(), 2);
}

/// No fault of the simulation restores a cluster, so the story is told to the state itself: what a node would be ordered
/// to remove that only its last document from before the restore named.
#[test]
fn a_restored_cluster_that_deletes_what_it_does_not_know() {
    let ordered_away = || -> usize {
        let mut state = State::new();
        let mut index = 0;
        let commit = |state: &mut State, index: &mut u64, command: Command| {
            *index += 1;
            let command = v1::Command { at_unix_ms: 1, request: None, command: Some(command) };
            let effect = hawser_state::apply(state, *index, 1, &command);
            assert!(
                matches!(effect.outcome.outcome, Some(v1::outcome::Outcome::Applied(_))),
                "{:?}",
                effect.outcome
            );
        };
        let member =
            v1::Member { raft_id: 1, name: "c1".into(), address: "c1:6470".into(), store_incarnation: 5 };
        let initialize = v1::InitializeCluster {
            cluster_id: "c".into(),
            name: "test".into(),
            lineage: 1,
            first_member: Some(member),
            numbers: None,
        };
        commit(&mut state, &mut index, Command::InitializeCluster(initialize));
        let addresses = vec![v1::Address { name: "default".into(), ip: "10.0.0.1".into() }];
        let node = v1::CreateNode { name: "n1".into(), addresses, ..Default::default() };
        commit(&mut state, &mut index, Command::CreateNode(node));
        let restoration = Restoration {
            lineage: 2,
            restore_id: 7,
            record: v1::RestoreRecord::default(),
            member_name: "c1".into(),
            member_address: "c1:6470".into(),
        };
        let mut restored = state.restore(index, restoration).unwrap();
        let mut index = restored.revision();
        let newer = v1::HeldReplica {
            node: "n1".into(),
            resource: "newer".into(),
            resource_incarnation: 9,
            replica_incarnation: 9,
            lineage: 1,
            revision: 9,
            ..Default::default()
        };
        let node_incarnation = restored.node("n1").unwrap().incarnation;
        let record = v1::RecordHeld {
            node: "n1".into(),
            node_incarnation,
            before: 0,
            replicas: vec![newer],
            total: 1,
        };
        commit(&mut restored, &mut index, Command::RecordHeld(record));
        assert!(!restored.is_settling());
        assert_eq!(restored.unknown().count(), 1);
        restored.document("n1").unwrap().removed.len()
    };
    assert_eq!(ordered_away(), 0);

    let _planted = plant(Defect::UnknownDeleted);

    assert_eq!(ordered_away(), 1);
}

/// Not a defect of the programs: people who read what is at hand. The checker of answers has to notice.
#[test]
fn reads_of_what_is_at_hand() {
    let (seed, violation) =
        first_found(1..=20, |seed| Setup { stale_reads: true, ..Setup::new(seed, MINUTE) });

    println!("stale reads: seed {seed} found: {violation}");
    assert!(violation.starts_with("invariant 1: no single "), "{violation}");
}

#[test]
fn a_seed_that_fails_says_how_to_run_it_again_and_what_happened() {
    let campaign = Campaign {
        seeds: 1..4,
        time: MINUTE,
        jobs: 1,
        twice: false,
        planted: Some(Defect::LateReportBelieved),
    };

    let summary = campaign.run(|_| ());

    let words = summary.to_string();
    let failed = summary.failed.first().unwrap_or_else(|| panic!("nothing was found: {words}"));
    let again = format!(
        "again: target/debug/hawser-chaos --seeds 1 --from {} --seconds 60 --trace --plant late-report-believed",
        failed.seed
    );
    assert!(words.contains(&again), "{words}");
    let told = |what: &str| failed.trace.lines().any(|line| line.contains(what));
    for what in ["violation    invariant 2: ", "the controller starts", "create r0 ", "during"] {
        assert!(told(what), "the trace does not tell {what:?}:\n{}", failed.trace);
    }
}
