//! `make bench`: prints the figures of one run and writes them to target/bench/latest.json.

use std::path::Path;

use anyhow::Result;

fn main() -> Result<()> {
    hawser_e2e::bench::run()?.write(Path::new("target/bench/latest.json"))
}
