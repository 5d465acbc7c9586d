//! Defects that a test plants in production code, to prove that the ordinary checks would find them.
//!
//! One is planted for the thread that runs, and a simulated cluster is one thread: whatever runs beside it goes without.
//! A release build has none of them: [`is_planted`] is a constant there. Nothing but a test may plant one, and
//! it must never have a dependency: the crates that only decide link it too.

use std::{fmt, str::FromStr};

/// A defect, by what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Defect {
    /// The log's sync does nothing: the fdatasync barrier is taken out.
    NoBarrier,
    /// A minor is free as soon as a deletion is ordered, before any node has confirmed the removal.
    MinorReusedEarly,
    /// A `Synced` clears whatever outdating stands, whatever number it names.
    SyncedIgnoresNumber,
    /// A satellite obeys a document of a lower revision than the one that it has.
    OlderOrderObeyed,
    /// What was said of a replica is taken for the next one under that name.
    LateReportBelieved,
    /// A one-shot order that is found started after a crash is taken for one that never was.
    OrderRunTwice,
    /// A voter elects a leader whose log lacks what has been acknowledged.
    AcknowledgedDropped,
    /// A restored cluster orders the removal of what it does not know.
    UnknownDeleted,
}

impl Defect {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::NoBarrier,
        Self::MinorReusedEarly,
        Self::SyncedIgnoresNumber,
        Self::OlderOrderObeyed,
        Self::LateReportBelieved,
        Self::OrderRunTwice,
        Self::AcknowledgedDropped,
        Self::UnknownDeleted,
    ];

    /// Its name on a command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NoBarrier => "no-barrier",
            Self::MinorReusedEarly => "minor-reused-early",
            Self::SyncedIgnoresNumber => "synced-ignores-number",
            Self::OlderOrderObeyed => "older-order-obeyed",
            Self::LateReportBelieved => "late-report-believed",
            Self::OrderRunTwice => "order-run-twice",
            Self::AcknowledgedDropped => "acknowledged-dropped",
            Self::UnknownDeleted => "unknown-deleted",
        }
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Defect {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let all = || Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|defect| defect.name() == name)
            .ok_or_else(|| format!("there is no defect {name:?}; there are {}", all()))
    }
}

#[cfg(debug_assertions)]
mod plot {
    use std::cell::Cell;

    use super::Defect;

    thread_local! {
        static PLANTED: Cell<Option<Defect>> = const { Cell::new(None) };
    }

    /// Holds a defect in place until it is dropped.
    #[derive(Debug)]
    #[must_use]
    pub struct Planted(Option<Defect>);

    /// Plants a defect for this thread, in place of the one that was there.
    pub fn plant(defect: Defect) -> Planted {
        Planted(PLANTED.replace(Some(defect)))
    }

    impl Drop for Planted {
        fn drop(&mut self) {
            PLANTED.set(self.0);
        }
    }

    /// Whether this defect is planted for this thread.
    #[must_use]
    pub fn is_planted(defect: Defect) -> bool {
        PLANTED.get() == Some(defect)
    }
}

#[cfg(debug_assertions)]
pub use plot::{Planted, is_planted, plant};

/// Whether this defect is planted: never, in a release.
#[cfg(not(debug_assertions))]
#[must_use]
pub const fn is_planted(_: Defect) -> bool {
    false
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_defect_is_planted_for_one_thread_and_as_long_as_it_is_held() {
        let held = plant(Defect::NoBarrier);
        assert!(is_planted(Defect::NoBarrier));
        assert!(!is_planted(Defect::OrderRunTwice), "only one is");
        let elsewhere = thread::scope(|scope| {
            scope.spawn(|| is_planted(Defect::NoBarrier)).join().is_ok_and(|planted| planted)
        });
        assert!(!elsewhere, "others go without");

        drop(held);
        assert!(!is_planted(Defect::NoBarrier));
    }

    #[test]
    fn each_is_found_by_its_name() {
        for defect in Defect::ALL {
            assert_eq!(defect.name().parse(), Ok(defect));
        }
        assert!("fast".parse::<Defect>().is_err_and(|words| words.contains("no-barrier")));
    }
}
