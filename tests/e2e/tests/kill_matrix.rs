//! The kill matrix, shortened: in each phase of each operation somebody dies once, a process by -9 or a node by a
//! power cut, as the seed says. `make kill-matrix` kills everybody in each.
#![allow(clippy::print_stdout)]

use std::path::Path;

use anyhow::{Result, ensure};
use hawser_e2e::cluster::lab_or_skipped;
use hawser_e2e::kill_matrix::{Run, run, short};

const SEED: u64 = 1;

#[test]
fn whoever_dies_in_whichever_phase_every_operation_ends_and_nothing_is_lost_or_left() -> Result<()> {
    if !lab_or_skipped() {
        return Ok(());
    }
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/kill-matrix");
    let run_of_each = Run { cells: short(SEED), seed: SEED, labs: 1, tries: 1, directory };
    let matrix = run(&run_of_each, &|line| println!("{line}"))?;
    println!("\n{matrix}");
    let problems = matrix.problems();
    ensure!(problems.is_empty(), "{}", problems.join("; "));
    Ok(())
}
