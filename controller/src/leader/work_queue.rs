//! Commands under way and commands that did not help: what keeps level-triggered loops from proposing the same
//! thing twice at once, or a refused one over and over.
//!
//! It must never lose a command: whatever is still needed is decided again at the next look.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

const FIRST_DELAY: Duration = Duration::from_millis(500);
const LONGEST_DELAY: Duration = Duration::from_secs(30);
/// Commands that may be under way at once: the others are decided again.
const IN_FLIGHT_LIMIT: usize = 256;

/// What the queue knows, by the encoded command.
#[derive(Debug, Default)]
pub(super) struct WorkQueue {
    in_flight: usize,
    entries: BTreeMap<Vec<u8>, Entry>,
}

#[derive(Debug)]
enum Entry {
    InFlight { failures: u32 },
    Delayed { failures: u32, until: Instant },
}

impl WorkQueue {
    /// Whether the command may be proposed now; if so, it counts as under way.
    pub(super) fn admit(&mut self, key: &[u8], now: Instant) -> bool {
        if self.in_flight >= IN_FLIGHT_LIMIT {
            return false;
        }
        let failures = match self.entries.get(key) {
            None => 0,
            Some(Entry::Delayed { failures, until }) if *until <= now => *failures,
            Some(Entry::Delayed { .. } | Entry::InFlight { .. }) => return false,
        };
        self.entries.insert(key.to_vec(), Entry::InFlight { failures });
        self.in_flight += 1;
        true
    }

    /// The command has been committed and did what it should: it is forgotten, unless it has to rest.
    pub(super) fn done(&mut self, key: &[u8], rest: Duration, now: Instant) {
        self.leave(key);
        if rest.is_zero() {
            self.entries.remove(key);
        } else {
            self.entries.insert(key.to_vec(), Entry::Delayed { failures: 0, until: now + rest });
        }
    }

    /// The command was refused or not committed: it may be tried again after a growing delay.
    pub(super) fn failed(&mut self, key: &[u8], now: Instant) {
        let failures = self.leave(key).saturating_add(1);
        let delay = FIRST_DELAY.saturating_mul(1 << failures.min(8).saturating_sub(1)).min(LONGEST_DELAY);
        self.entries.insert(key.to_vec(), Entry::Delayed { failures, until: now + delay });
    }

    /// Forgets what has rested for long enough, and says when the next delay ends.
    pub(super) fn next_due(&mut self, now: Instant) -> Option<Instant> {
        self.entries.retain(|_, entry| match entry {
            Entry::InFlight { .. } => true,
            // Kept a while longer, so that the next failure of the same command waits longer.
            Entry::Delayed { until, .. } => *until + LONGEST_DELAY > now,
        });
        let due = self.entries.values().filter_map(|entry| match entry {
            Entry::Delayed { until, .. } if *until > now => Some(*until),
            Entry::Delayed { .. } | Entry::InFlight { .. } => None,
        });
        due.min()
    }

    fn leave(&mut self, key: &[u8]) -> u32 {
        match self.entries.get(key) {
            Some(Entry::InFlight { failures }) => {
                self.in_flight = self.in_flight.saturating_sub(1);
                *failures
            }
            Some(Entry::Delayed { failures, .. }) => *failures,
            None => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_command_is_under_way_once() {
        let mut queue = WorkQueue::default();
        let now = Instant::now();
        assert!(queue.admit(b"a", now));
        assert!(!queue.admit(b"a", now));
        assert!(queue.admit(b"b", now));
        queue.done(b"a", Duration::ZERO, now);
        assert!(queue.admit(b"a", now));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_command_waits_longer_each_time() {
        let mut queue = WorkQueue::default();
        let mut now = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..9 {
            assert!(queue.admit(b"a", now));
            queue.failed(b"a", now);
            assert!(!queue.admit(b"a", now));
            let due = queue.next_due(now);
            waits.extend(due.map(|due| due.duration_since(now).as_millis()));
            now = due.unwrap_or(now);
        }
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_rested_is_forgotten() {
        let mut queue = WorkQueue::default();
        let now = Instant::now();
        assert!(queue.admit(b"a", now));
        queue.done(b"a", Duration::from_secs(5), now);
        assert!(!queue.admit(b"a", now + Duration::from_secs(4)));
        assert!(queue.admit(b"a", now + Duration::from_secs(5)));
        queue.done(b"a", Duration::ZERO, now);
        assert_eq!(queue.next_due(now), None);
        assert!(queue.entries.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_a_limit_to_what_is_under_way() {
        let mut queue = WorkQueue::default();
        let now = Instant::now();
        let admitted = (0..1000_u32).filter(|key| queue.admit(&key.to_be_bytes(), now)).count();
        assert_eq!(admitted, IN_FLIGHT_LIMIT);
        queue.done(&0_u32.to_be_bytes(), Duration::ZERO, now);
        assert!(queue.admit(b"next", now));
    }
}
