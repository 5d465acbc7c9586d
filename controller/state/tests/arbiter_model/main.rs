//! A model of Raft as the arbiter of two replicas, over the real apply functions.
//!
//! Two kernels, as DRBD 8.4 behaves with `fencing resource-and-stonith`, two satellites with their
//! ledgers, a leader, and Raft: everything that can happen to them, in every order, within a budget of
//! faults. Each run prints its budget and how many states it saw. The model is told to break one rule
//! at a time, too, and has to find out by itself what comes of it.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, unreachable_pub)]

mod kernel;
mod possible;
mod raft;
mod steps;
mod witnesses;
mod world;

use std::{collections::BTreeSet, time::Instant};

use stateright::{Checker, HasDiscoveries, Model, Property};

use crate::{
    raft::StateMachine,
    steps::{Arbiter, NO_WRITE_IS_LOST, NONE_IS_LEFT_BEHIND_IN_SECRET, OWNER_IS_NO_TARGET, Planted},
    world::Budget,
};

const NOTHING: Budget = Budget {
    writes: 1,
    cuts: 0,
    crashes: 0,
    disk_failures: 0,
    leaves: 0,
    detaches: 0,
    duplicates: 0,
    withdrawals: 0,
    generations: 2,
};

/// Sees every state within the budget.
fn check(budget: Budget, witnesses: &'static [fn() -> Property<Arbiter>]) {
    let started = Instant::now();
    let model = Arbiter {
        state_machine: StateMachine::new(),
        budget: budget.clone(),
        planted: Planted::Nothing,
        witnesses,
    };
    let checker = model.checker().threads(1).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    println!(
        "{} states, {} steps deep, in {:.1} s, within {budget:?}",
        checker.unique_state_count(),
        checker.max_depth(),
        started.elapsed().as_secs_f32(),
    );
    checker.assert_properties();
}

/// Breaks a rule, and wants to see the way to a lost write.
fn find(planted: Planted, budget: Budget) {
    find_broken(NO_WRITE_IS_LOST, planted, budget);
}

/// Breaks a rule, and wants to see how a property comes to be broken by it.
fn find_broken(property: &'static str, planted: Planted, budget: Budget) {
    let model =
        Arbiter { state_machine: StateMachine::new(), budget: budget.clone(), planted, witnesses: &[] };
    let broken = HasDiscoveries::AnyOf(BTreeSet::from([property]));
    let checker = model.checker().threads(1).finish_when(broken).spawn_bfs().join();
    let Some(path) = checker.discovery(property) else {
        panic!("{planted:?} does no harm within {budget:?}");
    };
    println!("{planted:?} breaks \"{property}\", found in {} states:", checker.unique_state_count());
    for step in path.into_actions() {
        println!("    {step:?}");
    }
}

#[test]
fn the_link_breaks_twice() {
    check(
        Budget { writes: 2, cuts: 2, ..NOTHING },
        &[
            witnesses::the_owner_goes_on_alone,
            witnesses::the_peer_takes_over,
            witnesses::the_loser_has_returned,
        ],
    );
}

#[test]
fn the_right_goes_there_and_back() {
    check(Budget { cuts: 2, generations: 3, ..NOTHING }, &[witnesses::it_came_back_to_the_first_owner]);
}

#[test]
fn a_node_crashes_while_the_link_is_down() {
    check(
        Budget { cuts: 1, crashes: 1, ..NOTHING },
        &[witnesses::the_peer_takes_over, witnesses::the_loser_has_returned],
    );
}

#[test]
fn a_disk_fails_while_the_link_is_down() {
    check(Budget { cuts: 1, disk_failures: 1, ..NOTHING }, &[witnesses::an_owner_goes_on_through_its_peer]);
}

#[test]
fn a_disk_fails_and_a_node_crashes() {
    check(
        Budget { disk_failures: 1, crashes: 1, ..NOTHING },
        &[witnesses::an_owner_goes_on_through_its_peer],
    );
}

#[test]
fn a_node_leaves_in_order_and_the_link_breaks() {
    check(Budget { cuts: 1, leaves: 1, ..NOTHING }, &[witnesses::one_left_in_order_and_the_other_went_on]);
}

#[test]
fn a_node_leaves_in_order_and_the_other_crashes() {
    check(Budget { leaves: 1, crashes: 1, ..NOTHING }, &[witnesses::one_left_in_order_and_the_other_went_on]);
}

#[test]
fn a_consumer_moves_in_order_while_the_link_breaks() {
    check(
        Budget { cuts: 1, detaches: 1, ..NOTHING },
        &[witnesses::nobody_owns_it, witnesses::the_peer_owns_it],
    );
}

#[test]
fn a_consumer_moves_in_order_while_a_node_crashes() {
    check(
        Budget { crashes: 1, detaches: 1, ..NOTHING },
        &[witnesses::nobody_owns_it, witnesses::the_peer_owns_it],
    );
}

#[test]
fn messages_come_twice() {
    check(Budget { cuts: 1, duplicates: 1, ..NOTHING }, &[witnesses::the_loser_has_returned]);
}

#[test]
fn a_claim_is_withdrawn() {
    check(
        Budget { cuts: 1, withdrawals: 1, ..NOTHING },
        &[witnesses::the_peer_takes_over, witnesses::the_owner_is_not_kept_away_any_more],
    );
    check(
        Budget { crashes: 1, withdrawals: 1, ..NOTHING },
        &[witnesses::the_peer_takes_over, witnesses::the_owner_is_not_kept_away_any_more],
    );
}

#[test]
fn a_take_over_before_the_owner_is_kept_away_would_leave_no_copy_that_counts() {
    find_broken(OWNER_IS_NO_TARGET, Planted::TakeOverWithoutKeepingAway, Budget { crashes: 1, ..NOTHING });
}

#[test]
fn a_take_over_that_ignored_its_claim_would_leave_no_copy_that_counts() {
    find_broken(
        OWNER_IS_NO_TARGET,
        Planted::TakeOverIgnoresItsClaim,
        Budget { crashes: 1, withdrawals: 1, ..NOTHING },
    );
}

#[test]
fn a_question_before_the_peer_is_kept_away_would_leave_no_copy_that_counts() {
    find_broken(
        OWNER_IS_NO_TARGET,
        Planted::AsksBeforeKeepingAway,
        Budget { crashes: 1, detaches: 1, ..NOTHING },
    );
}

#[test]
fn a_synced_that_ignored_its_number_would_lose_writes() {
    find(Planted::SyncedIgnoresItsNumber, Budget { cuts: 2, ..NOTHING });
}

#[test]
fn a_promotion_that_trusted_its_document_would_lose_writes() {
    find(
        Planted::PromotionTrustsTheDocument,
        Budget { cuts: 1, leaves: 1, detaches: 1, generations: 3, ..NOTHING },
    );
}

#[test]
fn a_yes_that_outlived_a_report_would_leave_a_peer_behind_in_secret() {
    find_broken(
        NONE_IS_LEFT_BEHIND_IN_SECRET,
        Planted::YesOutlivesAReport,
        Budget { cuts: 2, detaches: 1, generations: 3, ..NOTHING },
    );
}

#[test]
fn one_report_of_a_sync_would_not_be_enough() {
    find(Planted::OneReportIsEnough, Budget { cuts: 1, ..NOTHING });
}

#[test]
fn a_leaving_copy_that_reported_up_to_date_would_lose_writes() {
    find(Planted::LeavingCopyReportsUpToDate, Budget { leaves: 1, ..NOTHING });
}

#[test]
fn a_down_before_its_outdate_would_lose_writes() {
    find(Planted::DownBeforeOutdate, Budget { leaves: 1, ..NOTHING });
}

#[test]
fn a_primary_and_its_peer_crash() {
    check(
        Budget { crashes: 2, ..NOTHING },
        &[witnesses::the_peer_takes_over, witnesses::one_met_the_other_after_a_boot],
    );
}

#[test]
fn a_reunion_that_was_forgotten_would_lose_writes() {
    find(Planted::ReunionIsForgotten, Budget { crashes: 2, ..NOTHING });
}

#[test]
fn a_failed_disk_that_was_forgotten_would_lose_writes() {
    find(Planted::FailedDiskIsForgotten, Budget { crashes: 1, disk_failures: 1, ..NOTHING });
}
