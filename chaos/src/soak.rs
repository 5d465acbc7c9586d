//! A long run at a moderate pace: whether what is kept stays bounded.
//!
//! It must never pass a run that ended early.

use std::{
    fmt,
    time::{Duration, Instant},
};

use crate::{
    pace::Pace,
    sample::{COLUMNS, Sample},
    simulation::{Outcome, Setup, run_with},
};

/// Samples of the first hours are not held against the later ones: everything fills up at first.
const WARM_UP: Duration = Duration::from_secs(4 * 3600);
/// What is bounded may be so much larger in the last half than in the first, for it swings.
const SWING: f64 = 1.5;

/// What came of a soak.
#[derive(Debug)]
pub struct Soak {
    /// Of the run.
    pub outcome: Outcome,
    /// What grew without bound.
    pub grown: Vec<String>,
    took: Duration,
}

/// Runs one seed for a long time at [`Pace::SOAK`].
#[must_use]
pub fn soak(seed: u64, time: Duration) -> Soak {
    let began = Instant::now();
    let outcome = run_with(&Setup { pace: Pace::SOAK, ..Setup::new(seed, time) });
    let grown = grown(&outcome.samples);
    Soak { outcome, grown, took: began.elapsed() }
}

impl Soak {
    /// Nothing was found, and nothing grew.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.outcome.violations.is_empty() && self.grown.is_empty()
    }
}

/// What is larger in the last half of the samples than the first half's largest allows. The answers that are kept for a
/// day are no sign: they grow for a day.
fn grown(samples: &[Sample]) -> Vec<String> {
    type Measure = fn(&Sample) -> f64;
    let measures: [(&str, Measure); 5] = [
        ("the state without kept answers", |sample| sample.objects_bytes as f64),
        ("the log's entries", |sample| sample.log_entries as f64),
        ("the log's bytes", |sample| sample.log_bytes as f64),
        ("operations", |sample| sample.operations as f64),
        ("a satellite's ledger", |sample| sample.ledger_bytes as f64),
    ];
    let warm: Vec<&Sample> = samples.iter().filter(|sample| sample.at >= WARM_UP).collect();
    let (first, last) = warm.split_at(warm.len() / 2);
    let most = |samples: &[&Sample], measure: Measure| {
        samples.iter().map(|sample| measure(sample)).fold(0.0, f64::max)
    };
    measures
        .into_iter()
        .map(|(what, measure)| (what, most(first, measure), most(last, measure)))
        .filter(|(_, early, late)| *late > early * SWING)
        .map(|(what, early, late)| format!("{what} grew from {early:.0} to {late:.0}"))
        .collect()
}

impl fmt::Display for Soak {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{COLUMNS}")?;
        for sample in &self.outcome.samples {
            writeln!(formatter, "{sample}")?;
        }
        for violation in self.outcome.violations.iter().chain(&self.grown) {
            writeln!(formatter, "found: {violation}")?;
        }
        let faults: u64 = self.outcome.faults;
        let simulated = self.outcome.simulated.as_secs_f64();
        write!(
            formatter,
            "seed {}: {:.1} simulated hours, {faults} faults, {:.2} requests per second; {:.0} s ({:.0} simulated seconds \
             per second)",
            self.outcome.seed,
            simulated / 3600.0,
            self.outcome.samples.last().map_or(0.0, |sample| sample.answers as f64 / sample.at.as_secs_f64()),
            self.took.as_secs_f64(),
            simulated / self.took.as_secs_f64().max(0.001),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(log_entries: impl Fn(usize) -> usize) -> Vec<Sample> {
        let hour = |hour: usize| Sample {
            at: Duration::from_secs(3600 * hour as u64),
            answers: 3600 * hour,
            log_entries: log_entries(hour),
            ..Sample::default()
        };
        (1..=24).map(hour).collect()
    }

    #[test]
    fn what_swings_is_bounded_and_what_rises_all_day_is_not() {
        assert_eq!(grown(&samples(|hour| 300 + 40 * (hour % 3))), Vec::<String>::new());
        assert_eq!(grown(&samples(|hour| if hour < 3 { 10 } else { 400 })), Vec::<String>::new());
        assert_eq!(grown(&samples(|hour| 100 * hour)), ["the log's entries grew from 1300 to 2400"]);
    }
}
