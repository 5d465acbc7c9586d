//! The newest entries of the log, in memory: all that the writer has not written, and as many others as fit.
//!
//! It must never let go of an entry that the engine does not hold yet.

use std::collections::VecDeque;

use super::types::Entry;

/// Bytes of written entries that are kept for replication and apply, which read them right afterwards.
const BYTES_KEPT: usize = 4 * 1024 * 1024;

#[derive(Debug)]
struct Held {
    /// Of the append that brought it.
    number: u64,
    size: usize,
    entry: Entry,
}

/// A run of consecutive entries that ends with the last one of the log.
#[derive(Debug, Default)]
pub(super) struct Recent {
    entries: VecDeque<Held>,
    bytes: usize,
}

impl Recent {
    /// Adds the next entry, of `size` bytes, that came with the append of this number.
    pub(super) fn push(&mut self, number: u64, size: usize, entry: Entry) {
        self.bytes += size;
        self.entries.push_back(Held { number, size, entry });
    }

    /// The entries from `start` up to, not including, `end`, with their sizes; those of them that are here.
    pub(super) fn range(&self, start: u64, end: u64) -> Vec<(usize, Entry)> {
        let Some(first) = self.entries.front().map(|held| held.entry.log_id.index) else {
            return Vec::new();
        };
        let skipped = usize::try_from(start.saturating_sub(first)).unwrap_or(usize::MAX);
        self.entries
            .iter()
            .skip(skipped)
            .take_while(|held| held.entry.log_id.index < end)
            .map(|held| (held.size, held.entry.clone()))
            .collect()
    }

    /// Notes that the engine holds all appends up to this number, and lets go of what is too much.
    pub(super) fn written(&mut self, number: u64) {
        while self.bytes > BYTES_KEPT {
            match self.entries.front() {
                Some(oldest) if oldest.number <= number => self.drop_oldest(),
                _ => return,
            }
        }
    }

    /// Drops all entries after the index; all for `None`.
    pub(super) fn truncate_after(&mut self, index: Option<u64>) {
        while let Some(last) = self.entries.back() {
            if index.is_some_and(|index| last.entry.log_id.index <= index) {
                return;
            }
            self.bytes -= last.size;
            self.entries.pop_back();
        }
    }

    /// Drops all entries up to the index.
    pub(super) fn purge(&mut self, index: u64) {
        while self.entries.front().is_some_and(|held| held.entry.log_id.index <= index) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(held) = self.entries.pop_front() {
            self.bytes -= held.size;
        }
    }
}

#[cfg(test)]
mod tests {
    use openraft::EntryPayload;

    use super::*;
    use crate::consensus::types::log_id;

    fn entry(index: u64) -> Entry {
        Entry { log_id: log_id(1, index), payload: EntryPayload::Blank }
    }

    fn indices(recent: &Recent, start: u64, end: u64) -> Vec<u64> {
        recent.range(start, end).into_iter().map(|(_, entry)| entry.log_id.index).collect()
    }

    #[test]
    fn an_entry_stays_until_it_is_written() {
        // Given two appends that are too much together.
        let mut recent = Recent::default();
        recent.push(1, BYTES_KEPT, entry(5));
        recent.push(2, BYTES_KEPT, entry(6));
        assert_eq!(indices(&recent, 0, 10), [5, 6]);

        // When the first is written, it goes; the second stays, although it is too much alone with nothing.
        recent.written(1);
        assert_eq!(indices(&recent, 0, 10), [6]);
    }

    #[test]
    fn an_entry_that_took_the_place_of_a_truncated_one_stays_until_it_is_written_itself() {
        let mut recent = Recent::default();
        recent.push(1, BYTES_KEPT, entry(5));
        recent.push(1, BYTES_KEPT, entry(6));
        recent.truncate_after(Some(4));
        recent.push(2, 2 * BYTES_KEPT, entry(5));

        recent.written(1);

        assert_eq!(indices(&recent, 0, 10), [5]);
    }

    #[test]
    fn ranges_are_cut_to_what_is_here() {
        let mut recent = Recent::default();
        for index in 5..10 {
            recent.push(1, 1, entry(index));
        }
        recent.purge(5);
        recent.truncate_after(Some(8));
        let cases: [(u64, u64, &[u64]); 5] =
            [(0, 100, &[6, 7, 8]), (7, 8, &[7]), (8, 100, &[8]), (9, 100, &[]), (0, 6, &[])];
        for (start, end, expected) in cases {
            assert_eq!(indices(&recent, start, end), expected, "{start}..{end}");
        }
        recent.truncate_after(None);
        assert_eq!(indices(&recent, 0, 100), [0_u64; 0]);
    }
}
