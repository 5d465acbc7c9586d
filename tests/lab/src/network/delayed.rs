//! Frames on links that the lab has made slow, by the time at which they arrive. Pure: it is told what time it is.
//!
//! It must never let a frame overtake another one of its link, also where the link has become faster meanwhile.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::fabric::Port;

/// Frames that are on their way on all links together; beyond it a frame is lost, as in a network that is overloaded.
const MOST: usize = 32_768;

/// The frames that are on their way.
#[derive(Debug, Default)]
pub(super) struct Delayed {
    /// By time of arrival, then in the order in which they were sent.
    frames: BTreeMap<(Instant, u64), (Port, Vec<u8>)>,
    /// When the last frame of a link arrives.
    last: BTreeMap<(Port, Port), Instant>,
    sent: u64,
}

impl Delayed {
    /// When a frame arrives that is sent now on a link with this delay; `None` if that is at once.
    pub(super) fn arrival(&self, from: Port, to: Port, delay: Duration, now: Instant) -> Option<Instant> {
        let earliest = self.last.get(&(from, to)).copied().unwrap_or(now);
        Some(earliest.max(now + delay)).filter(|arrival| *arrival > now)
    }

    /// Sends a frame on its way.
    pub(super) fn send(&mut self, from: Port, to: Port, arrival: Instant, frame: &[u8]) {
        if self.frames.len() < MOST {
            self.last.insert((from, to), arrival);
            self.frames.insert((arrival, self.sent), (to, frame.to_vec()));
            self.sent += 1;
        }
    }

    /// How long until the next frame arrives; `None` if none is on its way.
    pub(super) fn next(&self, now: Instant) -> Option<Duration> {
        self.frames.first_key_value().map(|((arrival, _), _)| arrival.saturating_duration_since(now))
    }

    /// A frame that has arrived, and where.
    pub(super) fn take_arrived(&mut self, now: Instant) -> Option<(Port, Vec<u8>)> {
        let first = self.frames.first_entry()?;
        if first.key().0 > now {
            return None;
        }
        Some(first.remove())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_arrive_after_their_delay_and_in_their_order() {
        let mut delayed = Delayed::default();
        let began = Instant::now();
        let after = |milliseconds| began + Duration::from_millis(milliseconds);
        let slow = delayed.arrival(1, 2, Duration::from_millis(50), began).expect("it takes time");
        delayed.send(1, 2, slow, b"first");
        // The link is fast again; what is on its way comes first all the same.
        let behind = delayed.arrival(1, 2, Duration::ZERO, after(10)).expect("it waits for the one before");
        delayed.send(1, 2, behind, b"second");
        assert_eq!(delayed.arrival(2, 1, Duration::ZERO, after(10)), None, "the other direction is free");

        assert_eq!(delayed.next(began), Some(Duration::from_millis(50)));
        assert_eq!(delayed.take_arrived(after(49)), None);
        assert_eq!(delayed.take_arrived(after(50)), Some((2, b"first".to_vec())));
        assert_eq!(delayed.take_arrived(after(50)), Some((2, b"second".to_vec())));
        assert_eq!(delayed.next(after(50)), None);
        assert_eq!(delayed.arrival(1, 2, Duration::ZERO, after(51)), None, "and then it is free");
    }
}
