//! The latest changes, in log order, bounded by their number. It must never hold back the newest ones.

use std::{collections::VecDeque, sync::Arc};

use hawser_proto::v1;

use super::Compacted;

/// What one log entry changed. Its changes belong together.
#[derive(Clone, Debug, PartialEq)]
pub struct ChangeSet {
    /// Log index of the entry.
    pub revision: u64,
    /// Never empty.
    pub changes: Vec<v1::Change>,
}

/// The change sets of all entries after `floor`.
#[derive(Debug)]
pub(super) struct Ring {
    sets: VecDeque<Arc<ChangeSet>>,
    changes: usize,
    capacity: usize,
    floor: u64,
}

impl Ring {
    /// Keeps `capacity` changes, and the newest entry's in any case.
    pub(super) fn new(capacity: usize) -> Self {
        Self { sets: VecDeque::new(), changes: 0, capacity, floor: 0 }
    }

    pub(super) fn push(&mut self, set: ChangeSet) {
        if set.changes.is_empty() {
            return;
        }
        self.changes += set.changes.len();
        self.sets.push_back(Arc::new(set));
        while self.changes > self.capacity && self.sets.len() > 1 {
            if let Some(oldest) = self.sets.pop_front() {
                self.changes -= oldest.changes.len();
                self.floor = oldest.revision;
            }
        }
    }

    /// Forgets everything: what led to the state of `revision` is not known.
    pub(super) fn restart(&mut self, revision: u64) {
        self.sets.clear();
        self.changes = 0;
        self.floor = revision;
    }

    pub(super) fn check(&self, after: u64) -> Result<(), Compacted> {
        if after < self.floor { Err(Compacted { oldest: self.floor }) } else { Ok(()) }
    }

    /// At most `limit` change sets after the revision, oldest first.
    pub(super) fn after(&self, revision: u64, limit: usize) -> Result<Vec<Arc<ChangeSet>>, Compacted> {
        self.check(revision)?;
        let start = self.sets.partition_point(|set| set.revision <= revision);
        Ok(self.sets.iter().skip(start).take(limit).cloned().collect())
    }
}
