//! How long to wait before a step that failed, or did nothing, is tried again.
//!
//! Doubling, with jitter, so that many replicas that fail for one reason do not come back at once. Randomness
//! comes from a seed.

use std::time::Duration;

use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::time::Instant;

const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(30);

/// The waiting of one worker.
#[derive(Debug)]
pub(super) struct Backoff {
    random: StdRng,
    attempts: u32,
    until: Option<Instant>,
}

impl Backoff {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: StdRng::seed_from_u64(seed), attempts: 0, until: None }
    }

    /// Another try went wrong. Returns how many did in a row.
    pub(super) fn failed(&mut self) -> u32 {
        let doubled = FIRST.saturating_mul(1 << self.attempts.min(16));
        let wait = doubled.min(LONGEST).mul_f64(self.random.random_range(0.75..1.25));
        self.until = Some(Instant::now() + wait);
        self.attempts = self.attempts.saturating_add(1);
        self.attempts
    }

    /// The last try did what it should.
    pub(super) fn succeeded(&mut self) {
        self.attempts = 0;
        self.until = None;
    }

    /// Until when to wait; `None` where nothing has to be waited for.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until.filter(|until| *until > Instant::now())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_double_up_to_the_longest_and_start_anew_after_a_success() {
        let mut backoff = Backoff::new(7);
        let mut waits = Vec::new();

        assert_eq!(backoff.until(), None);
        for attempt in 1..=12 {
            assert_eq!(backoff.failed(), attempt);
            waits.push(backoff.until().unwrap() - Instant::now());
        }

        for (at, wait) in waits.iter().enumerate() {
            let plain = FIRST.saturating_mul(1 << at).min(LONGEST);
            assert!(*wait >= plain.mul_f64(0.74) && *wait <= plain.mul_f64(1.26), "{at}: {wait:?}");
        }
        tokio::time::advance(LONGEST * 2).await;
        assert_eq!(backoff.until(), None, "the time is over");
        backoff.succeeded();
        assert_eq!(backoff.failed(), 1);
        assert!(backoff.until().unwrap() - Instant::now() <= FIRST.mul_f64(1.26));
    }
}
