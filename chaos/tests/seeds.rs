//! The simulated cluster holds what it promises, under every kind of fault, and each seed can be run again.
#![allow(clippy::print_stdout)]

use std::{env, path::Path, thread, time::Duration};

use hawser_chaos::campaign::{Campaign, Summary};

const MINUTE: Duration = Duration::from_secs(60);

fn run(campaign: &Campaign) -> Summary {
    let summary = campaign.run(|_| ());
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/chaos");
    // The violations are printed in any case.
    let _ = summary.keep_traces(&kept);
    println!("{summary}");
    summary
}

fn processors() -> usize {
    thread::available_parallelism().map_or(1, Into::into)
}

/// How many seeds a full run has; `HAWSER_CHAOS_SEEDS` asks for another number.
fn seeds() -> u64 {
    env::var("HAWSER_CHAOS_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(200)
}

#[test]
fn nothing_is_lost_and_nothing_stays_stuck() {
    let seeds = seeds();
    let campaign =
        Campaign { seeds: 1..seeds + 1, time: MINUTE, jobs: processors(), twice: false, planted: None };

    let summary = run(&campaign);

    assert!(summary.failed.is_empty(), "{} of {seeds} seeds found something", summary.failed.len());
    // A short run may miss a rare one; a full one must not.
    if seeds >= 100 {
        assert_eq!(summary.never_fired(), [], "faults that never came about prove nothing");
        assert_eq!(
            summary.never_interrupted(),
            [],
            "phases that no fault fell into are not known to survive one"
        );
    }
}

#[test]
fn a_seed_runs_the_same_each_time() {
    let campaign =
        Campaign { seeds: 1_001..1_005, time: MINUTE / 2, jobs: processors(), twice: true, planted: None };

    let summary = run(&campaign);

    assert!(summary.failed.is_empty(), "{:?}", summary.failed);
}
