//! The simulation's time: what has passed since it began, the same for all its processes.
//!
//! Each process has a runtime with a paused clock of its own. While one runs, this module knows how its clock
//! stands to the simulation's. It must never look at the real time.

use std::{cell::Cell, time::Duration};

use tokio::time::Instant;

/// Time since the simulation began.
pub type Moment = Duration;

#[derive(Clone, Copy)]
struct Running {
    began: Instant,
    at: Moment,
}

thread_local! {
    static RUNNING: Cell<Option<Running>> = const { Cell::new(None) };
    static BETWEEN: Cell<Moment> = const { Cell::new(Moment::ZERO) };
}

/// Runs `work` in a process whose clock showed `began` at the simulated moment `at`.
pub(crate) fn within<T>(began: Instant, at: Moment, work: impl FnOnce() -> T) -> T {
    RUNNING.set(Some(Running { began, at }));
    let done = work();
    RUNNING.set(None);
    done
}

/// Whether a process runs in this thread.
pub(crate) fn is_within() -> bool {
    RUNNING.get().is_some()
}

/// Notes the moment up to which all processes have run.
pub(crate) fn all_have_reached(moment: Moment) {
    BETWEEN.set(moment);
}

/// The moment: as the process that runs sees it; between processes, the one up to which all have run.
pub fn now() -> Moment {
    RUNNING.get().map_or_else(|| BETWEEN.get(), |running| running.at + running.began.elapsed())
}

/// When a moment comes on the clock of the process that runs.
pub(crate) fn instant(moment: Moment) -> Instant {
    Instant::now() + moment.saturating_sub(now())
}
