//! `make bench`: prints the figures of one run and writes them to target/bench/latest.json.

use std::path::Path;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use hawser_e2e::bench::Part;

/// Measures, and prints each figure beside its budget.
#[derive(Parser)]
struct Arguments {
    /// These parts; else all
    parts: Vec<Part>,
}

fn main() -> Result<()> {
    let Arguments { parts } = Arguments::parse();
    let parts = if parts.is_empty() { Part::value_variants().to_vec() } else { parts };
    hawser_e2e::bench::run(&parts)?.write(Path::new("target/bench/latest.json"))
}
