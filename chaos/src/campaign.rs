//! Many seeds, several at once, and what came of all of them.

use std::{
    collections::BTreeMap,
    fmt, fs,
    ops::Range,
    path::Path,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use hawser_planted::Defect;

use crate::{
    faults::FaultKind,
    invariants::operations::PHASES,
    simulation::{self, Interrupted, Outcome, Setup},
};

/// What is run.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// The seeds.
    pub seeds: Range<u64>,
    /// Simulated time with faults, of each.
    pub time: Duration,
    /// How many run at once.
    pub jobs: usize,
    /// Each is run twice, and the traces are compared.
    pub twice: bool,
    /// A defect of the programs, to be found.
    pub planted: Option<Defect>,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Summary {
    /// Seeds that were run.
    pub seeds: usize,
    /// Seeds with violations; their traces are kept.
    pub failed: Vec<Failed>,
    /// How often each fault came about.
    pub fired: BTreeMap<FaultKind, u64>,
    /// How often each kind of fault fell into each phase of an operation.
    pub interrupted: Interrupted,
    /// Simulated time.
    pub simulated: Duration,
    /// Real time.
    pub took: Duration,
}

/// A seed that found something.
#[derive(Debug)]
pub struct Failed {
    /// The seed.
    pub seed: u64,
    /// Simulated seconds with faults.
    pub seconds: u64,
    /// The defect that was planted.
    pub planted: Option<Defect>,
    /// What was found.
    pub violations: Vec<String>,
    /// What happened.
    pub trace: String,
}

impl Campaign {
    /// Runs all seeds. `seen` is told of each when it has ended.
    pub fn run(&self, seen: impl Fn(&Outcome) + Sync) -> Summary {
        let began = Instant::now();
        let next = Mutex::new(self.seeds.clone());
        let summary = Mutex::new(Summary::default());
        thread::scope(|scope| {
            for _ in 0..self.jobs {
                scope.spawn(|| {
                    // Taken by a function: the lock must not be held while the seed runs.
                    while let Some(seed) = take(&next) {
                        let outcome = self.one(seed);
                        seen(&outcome);
                        summary.lock().unwrap_or_else(PoisonError::into_inner).add(outcome, self);
                    }
                });
            }
        });
        let mut summary = summary.into_inner().unwrap_or_else(PoisonError::into_inner);
        summary.failed.sort_by_key(|failed| failed.seed);
        summary.took = began.elapsed();
        summary
    }

    fn one(&self, seed: u64) -> Outcome {
        let setup = Setup { planted: self.planted, ..Setup::new(seed, self.time) };
        let mut outcome = simulation::run_with(&setup);
        if self.twice {
            let again = simulation::run_with(&setup);
            if again.hash != outcome.hash {
                let at =
                    outcome.trace.lines().zip(again.trace.lines()).find(|(first, second)| first != second);
                outcome.violations.push(format!("the seed does not replay: {at:?}"));
            }
        }
        outcome
    }
}

fn take(seeds: &Mutex<Range<u64>>) -> Option<u64> {
    seeds.lock().unwrap_or_else(PoisonError::into_inner).next()
}

impl Summary {
    fn add(&mut self, outcome: Outcome, campaign: &Campaign) {
        self.seeds += 1;
        self.simulated += outcome.simulated;
        for (kind, count) in outcome.fired {
            *self.fired.entry(kind).or_default() += count;
        }
        for (cell, count) in outcome.interrupted {
            *self.interrupted.entry(cell).or_default() += count;
        }
        if !outcome.violations.is_empty() {
            self.failed.push(Failed {
                seed: outcome.seed,
                seconds: campaign.time.as_secs(),
                planted: campaign.planted,
                violations: outcome.violations,
                trace: outcome.trace,
            });
        }
    }

    /// The kinds of fault that never came about.
    #[must_use]
    pub fn never_fired(&self) -> Vec<FaultKind> {
        FaultKind::ALL.into_iter().filter(|kind| !self.fired.contains_key(kind)).collect()
    }

    /// The phases of operations that no fault fell into: kind and phase.
    #[must_use]
    pub fn never_interrupted(&self) -> Vec<(&'static str, &'static str)> {
        let fell = |phase| self.interrupted.keys().any(|(interrupted, _)| *interrupted == phase);
        PHASES.into_iter().filter(|phase| !fell(*phase)).collect()
    }

    /// How often each kind of fault fell into each phase: a row for each phase, a column for each kind, numbered.
    fn write_table(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "phases of operations that they fell into, by the numbers of the faults:")?;
        write!(formatter, "    {:<24}", "")?;
        for number in 1..=FaultKind::ALL.len() {
            write!(formatter, "{number:>5}")?;
        }
        writeln!(formatter)?;
        for phase in PHASES {
            write!(formatter, "    {:<24}", format!("{}: {}", phase.0, phase.1))?;
            for kind in FaultKind::ALL {
                write!(formatter, "{:>5}", self.interrupted.get(&(phase, kind)).copied().unwrap_or(0))?;
            }
            writeln!(formatter)?;
        }
        Ok(())
    }

    /// Writes the traces of the seeds that failed into `directory`.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn keep_traces(&self, directory: &Path) -> std::io::Result<()> {
        fs::create_dir_all(directory)?;
        self.failed.iter().try_for_each(|failed| fs::write(failed.trace_in(directory), &failed.trace))
    }
}

impl Failed {
    /// Where its trace is kept.
    #[must_use]
    pub fn trace_in(&self, directory: &Path) -> std::path::PathBuf {
        directory.join(format!("seed-{}.trace", self.seed))
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "seed {}:", self.seed)?;
        for violation in &self.violations {
            writeln!(formatter, "    {violation}")?;
        }
        write!(
            formatter,
            "    again: target/debug/hawser-chaos --seeds 1 --from {} --seconds {} --trace",
            self.seed, self.seconds
        )?;
        self.planted.map_or(Ok(()), |defect| write!(formatter, " --plant {defect}"))
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for failed in &self.failed {
            writeln!(formatter, "{failed}")?;
        }
        writeln!(formatter, "faults:")?;
        for (number, kind) in (1..).zip(FaultKind::ALL) {
            let fired = self.fired.get(&kind).copied().unwrap_or(0);
            writeln!(formatter, "    {number:>2}. {kind:?}: {fired}")?;
        }
        self.write_table(formatter)?;
        write!(
            formatter,
            "{} seeds, {} failed; {:.0} simulated seconds in {:.0} s ({:.0} per second)",
            self.seeds,
            self.failed.len(),
            self.simulated.as_secs_f64(),
            self.took.as_secs_f64(),
            self.simulated.as_secs_f64() / self.took.as_secs_f64().max(0.001)
        )
    }
}
