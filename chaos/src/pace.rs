//! How hard a cluster is worked and how often it is hurt.
//!
//! It must never change what the seeds of an ordinary run decide: whatever draws a number for a slower pace alone draws it
//! only there.

use std::time::Duration;

/// How hard a cluster is worked, how often it is hurt, and how often somebody looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// A fault comes in each such time, at no particular moment; `None`: as soon as one can fall into a phase that it
    /// has not fallen into, some seconds after the last.
    pub fault_every: Option<Duration>,
    /// Between two looks at the invariants.
    pub step: Duration,
    /// People pause so many times as long.
    pub leisure: u64,
    /// Between two samples of how large everything is.
    pub sample_every: Option<Duration>,
}

impl Pace {
    /// Faults one after another: what an ordinary seed runs.
    pub const DENSE: Self =
        Self { fault_every: None, step: Duration::from_millis(100), leisure: 1, sample_every: None };
    /// About one request a second and a fault a minute: what a soak runs.
    pub const SOAK: Self = Self {
        fault_every: Some(Duration::from_secs(60)),
        // As often as otherwise: a right that is given and given back between two looks would never be seen.
        step: Duration::from_millis(100),
        leisure: 22,
        sample_every: Some(Duration::from_secs(3600)),
    };
}
