//! Runs inside a lab node: writes or checks the records of a story. It must never do anything else there.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use hawser_e2e::records::{RecordWriter, verify};

#[derive(Parser)]
#[command(about = "Writes and checks numbered, checksummed records")]
struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Write records until ended or until COUNT; prints each number once it is durable.
    Write {
        path: PathBuf,
        /// Go on after this record.
        #[arg(long, default_value_t = 0)]
        after: u64,
        /// Stop after so many; 0: never.
        #[arg(long, default_value_t = 0)]
        count: u64,
        /// Pause between two records.
        #[arg(long, default_value_t = 20)]
        pause_ms: u64,
    },
    /// Check that records 1 to LAST are there; prints how many whole ones follow.
    Verify { path: PathBuf, last: u64 },
}

fn main() -> Result<()> {
    let mut output = std::io::stdout().lock();
    match Arguments::parse().action {
        Action::Write { path, after, count, pause_ms } => {
            let mut writer = RecordWriter::open(&path, after)?;
            loop {
                let number =
                    writer.append().with_context(|| format!("writing the record to {}", path.display()))?;
                writeln!(output, "{number}")?;
                output.flush()?;
                if count != 0 && number - after >= count {
                    return Ok(());
                }
                std::thread::sleep(Duration::from_millis(pause_ms));
            }
        }
        Action::Verify { path, last } => {
            let beyond = verify(&path, last)?;
            writeln!(output, "verified {last}, and {beyond} after them")?;
            Ok(())
        }
    }
}
