//! `make kill-matrix`: kills every process and every node before and after every phase of every operation, and prints
//! what came of each. Exits with 1 if anything did not hold.

#![allow(clippy::print_stdout)]

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use hawser_e2e::kill_matrix::{Run, full, run, short};

#[derive(Parser)]
#[command(about = "Kills every process and every node in every phase of every operation on a volume")]
struct Arguments {
    /// Each phase once, with a victim that the seed chooses
    #[arg(long)]
    short: bool,
    /// Decides the order, and who dies in which phase of a short run
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Labs at once
    #[arg(long, default_value_t = 1)]
    labs: usize,
    /// How often a cell is tried whose moment was over before anybody saw it
    #[arg(long, default_value_t = 3)]
    tries: u32,
    /// Only this operation, e.g. create
    #[arg(long)]
    operation: Option<String>,
    /// Where the logs of labs are kept in which something did not hold
    #[arg(long, default_value = "target/kill-matrix")]
    directory: PathBuf,
}

fn main() -> Result<ExitCode> {
    let Arguments { short: is_short, seed, labs, tries, operation, directory } = Arguments::parse();
    let mut cells = if is_short { short(seed) } else { full(seed) };
    cells.retain(|cell| operation.as_ref().is_none_or(|only| cell.operation.word() == only));
    let matrix = run(&Run { cells, seed, labs, tries, directory }, &|line| println!("{line}"))?;
    println!("\n{matrix}");
    Ok(if matrix.problems().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
