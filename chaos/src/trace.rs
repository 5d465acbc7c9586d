//! What happened, in the order in which it happened: for a person who looks for the cause, and as a number that two
//! runs of one seed must share.
//!
//! It must never contain what is not decided by the seed: real times, paths, addresses of memory.

use std::{
    collections::VecDeque,
    fmt::Display,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::clock;

/// Lines that are kept; of a longer run, the last ones.
const KEPT: usize = 500_000;

/// The trace of a run. Cheap to share.
#[derive(Clone, Default)]
pub struct Trace(Arc<Mutex<Lines>>);

#[derive(Default)]
struct Lines {
    lines: VecDeque<String>,
    hash: u64,
}

impl Trace {
    /// Adds a line: who did what, and what came of it.
    pub fn add(&self, who: &str, what: impl Display) {
        let moment = clock::now();
        let line = format!("{:>10.3}  {who:<12} {what}", moment.as_secs_f64());
        let mut lines = self.lines();
        // FNV-1a: any number that depends on each byte and their order will do.
        lines.hash = line.bytes().fold(lines.hash ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        if lines.lines.len() == KEPT {
            lines.lines.pop_front();
        }
        lines.lines.push_back(line);
    }

    /// A number that two runs share only if their traces are the same.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.lines().hash
    }

    /// How many lines are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lines().lines.len()
    }

    /// Whether nothing happened.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The lines that are kept.
    #[must_use]
    pub fn text(&self) -> String {
        self.lines().lines.make_contiguous().join("\n")
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
