//! `hawser-chaos`: runs seeds of the simulation, and says how to run a failing one again.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    thread,
    time::Duration,
};

use clap::Parser;
use hawser_chaos::{campaign::Campaign, loaded_satellite, soak::soak};
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
    /// Instead: one seed for so many simulated hours, with about one request a second and a fault a minute; prints each
    /// hour how large everything is that is kept.
    #[arg(long, value_name = "HOURS")]
    soak: Option<u64>,
    /// Instead: a satellite with so many replicas over a simulated system; prints how many bytes of memory it takes.
    #[arg(long, value_name = "REPLICAS")]
    satellite_with: Option<u32>,
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
    if let Some(replicas) = arguments.satellite_with {
        writeln!(io::stdout(), "{}", loaded_satellite::hold(replicas)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(hours) = arguments.soak {
        return run_soak(&arguments, hours);
    }
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

fn run_soak(arguments: &Arguments, hours: u64) -> anyhow::Result<ExitCode> {
    let soak = soak(arguments.from, Duration::from_secs(hours * 3600));
    let mut out = io::stdout().lock();
    writeln!(out, "{soak}")?;
    if soak.passed() {
        return Ok(ExitCode::SUCCESS);
    }
    let path = arguments.directory.join(format!("soak-{}.trace", arguments.from));
    std::fs::create_dir_all(&arguments.directory)?;
    std::fs::write(&path, &soak.outcome.trace)?;
    writeln!(out, "the end of the trace is in {}", path.display())?;
    Ok(ExitCode::FAILURE)
}
