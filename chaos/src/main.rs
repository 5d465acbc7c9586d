//! `hawser-chaos`: runs seeds of the simulation, and says how to run a failing one again.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    thread,
    time::Duration,
};

use clap::Parser;
use hawser_chaos::campaign::Campaign;
use tracing_subscriber::EnvFilter;

/// Runs simulated clusters under faults. Each seed decides everything: size, work and faults.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// How many seeds.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Simulated seconds with faults.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Print the whole trace of each run.
    #[arg(long)]
    trace: bool,
    /// Run each seed twice and compare the traces.
    #[arg(long)]
    twice: bool,
    /// Plant a defect in the programs, to see that it is found.
    #[cfg(debug_assertions)]
    #[arg(long)]
    plant: Option<hawser_planted::Defect>,
    /// Seeds at once; as many as the machine has processors where it is not given.
    #[arg(long)]
    jobs: Option<usize>,
    /// Where the traces of failing seeds are kept.
    #[arg(long, default_value = "target/chaos")]
    directory: PathBuf,
}

fn main() -> anyhow::Result<ExitCode> {
    // Without times: two runs of a seed can be compared line by line.
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::from_default_env())
        .with_writer(io::stderr)
        .without_time()
        .init();
    let arguments = Arguments::parse();
    let campaign = Campaign {
        seeds: arguments.from..arguments.from + arguments.seeds,
        time: Duration::from_secs(arguments.seconds),
        jobs: arguments.jobs.unwrap_or_else(|| thread::available_parallelism().map_or(1, Into::into)),
        twice: arguments.twice,
        #[cfg(debug_assertions)]
        planted: arguments.plant,
        #[cfg(not(debug_assertions))]
        planted: None,
    };
    let summary = campaign.run(|outcome| {
        if arguments.trace {
            // Whoever reads may have gone.
            let _ = writeln!(io::stdout().lock(), "{}", outcome.trace);
        }
    });
    summary.keep_traces(&arguments.directory)?;
    let mut out = io::stdout().lock();
    writeln!(out, "{summary}")?;
    if summary.failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "the traces are in {}", arguments.directory.display())?;
    Ok(ExitCode::FAILURE)
}
