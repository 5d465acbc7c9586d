//! How large everything is at one moment of a long run.

use std::{fmt, fs, io, path::Path, time::Duration};

use hawser_proto::v1::snapshot_record::Record;
use hawser_state::State;
use prost::Message;

/// How large everything is. Of what there are several of, the largest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Simulated time since the beginning.
    pub at: Duration,
    /// Requests whose answers are kept: all that changed something, or wanted to, in the last day.
    pub answers: usize,
    /// Operations, running and remembered.
    pub operations: usize,
    /// The state as it is stored, in bytes.
    pub state_bytes: usize,
    /// The same without the kept answers.
    pub objects_bytes: usize,
    /// Entries in a controller's log.
    pub log_entries: usize,
    /// Bytes of these entries.
    pub log_bytes: usize,
    /// Bytes in a controller's directory, with its snapshots.
    pub controller_bytes: u64,
    /// Bytes in a satellite's ledger.
    pub ledger_bytes: u64,
    /// Memory of this process: of all controllers and satellites together, with everything that simulates the rest.
    pub resident_bytes: u64,
}

impl Sample {
    /// Adds what the state holds.
    #[must_use]
    pub(crate) fn of_state(mut self, state: &State) -> Self {
        for record in state.records() {
            let bytes = record.encoded_len();
            self.state_bytes += bytes;
            match record.record {
                Some(Record::Idempotency(_)) => self.answers += 1,
                Some(Record::Operation(_)) => {
                    self.operations += 1;
                    self.objects_bytes += bytes;
                }
                _ => self.objects_bytes += bytes,
            }
        }
        self
    }
}

/// Columns of a table of samples.
pub(crate) const COLUMNS: &str = "  hour  answers  operations  state KiB  objects KiB  log entries  log KiB  \
     controller's directory KiB  ledger KiB  resident MiB";

impl fmt::Display for Sample {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const KIB: usize = 1 << 10;
        write!(
            formatter,
            "{:>6.1}  {:>7}  {:>10}  {:>9}  {:>11}  {:>11}  {:>7}  {:>26}  {:>10}  {:>12}",
            self.at.as_secs_f64() / 3600.0,
            self.answers,
            self.operations,
            self.state_bytes / KIB,
            self.objects_bytes / KIB,
            self.log_entries,
            self.log_bytes / KIB,
            self.controller_bytes >> 10,
            self.ledger_bytes >> 10,
            self.resident_bytes >> 20,
        )
    }
}

/// Bytes of all files below a directory; 0 where there is none.
pub(crate) fn bytes_below(directory: &Path) -> u64 {
    fn walk(directory: &Path) -> io::Result<u64> {
        let mut bytes = 0;
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            bytes += if metadata.is_dir() { walk(&entry.path())? } else { metadata.len() };
        }
        Ok(bytes)
    }
    // A file may go while it is looked at.
    walk(directory).unwrap_or(0)
}

/// Memory of this process, in bytes; 0 where the system does not say.
pub(crate) fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}
