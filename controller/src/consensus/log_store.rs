//! openraft's log storage on an [`Engine`].
//!
//! Every write, votes and entries alike, goes through the one writer thread in the order in which it was
//! asked for. An entry can be read as soon as it was handed over: what the writer has not written yet, and
//! the newest that it has, is kept in memory. It must never answer for a write before it is on disk.

use std::{
    fmt::Debug,
    io,
    ops::{Bound, RangeBounds},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use openraft::{
    LogState, OptionalSend, RaftLogReader,
    storage::{IOFlushed, RaftLogStorage},
};
use prost::Message;

use super::{
    codec::{entry_to_stored, log_id_to_stored, vote_to_stored},
    engine::{Engine, Pace},
    recent::Recent,
    types::{Entry, LogId, TypeConfig, Vote},
    verify::{self, Verified},
    witness::{Testimony, Witness},
    writer::{Write, Writer},
};

/// Entries that are sent to another member at once hold at most so many bytes, and one entry in any case.
const BYTES_READ_AT_ONCE: usize = 1024 * 1024;

/// The log of this member. Cheap to clone; all clones are the same log.
#[derive(Clone, Debug)]
pub struct LogStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// `None` once the store is closed.
    engine: RwLock<Option<Arc<dyn Engine>>>,
    writer: Writer,
    log: Arc<Mutex<Log>>,
}

/// What is known of the log without asking the engine.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) recent: Recent,
    /// Index of the first entry, where there is one.
    first: u64,
    last: Option<LogId>,
    purged: Option<LogId>,
    committed: Option<LogId>,
    vote: Option<Vote>,
}

impl LogStore {
    /// Verifies everything that the engine holds and starts the writer.
    ///
    /// `witness` tells how far the log had come, `snapshot` is the last entry that the newest snapshot
    /// contains.
    ///
    /// # Errors
    /// If the engine cannot be read (with its error), or what it holds cannot be what was acknowledged
    /// ([`io::ErrorKind::InvalidData`], with what is wrong). Nothing is repaired.
    pub fn open(engine: Arc<dyn Engine>, witness: Witness, snapshot: Option<LogId>) -> io::Result<Self> {
        Self::paced(engine, Pace::Thread, witness, snapshot)
    }

    /// As [`LogStore::open`], with a writer that waits for the disk as `pace` says.
    ///
    /// # Errors
    /// As [`LogStore::open`].
    ///
    /// # Panics
    /// With [`Pace::Task`], outside a tokio runtime.
    pub fn paced(
        engine: Arc<dyn Engine>,
        pace: Pace,
        witness: Witness,
        snapshot: Option<LogId>,
    ) -> io::Result<Self> {
        let Verified { last, purged, committed, vote } =
            verify::verify(engine.as_ref(), witness.testimony(), snapshot)?;
        let first = purged.map_or(0, |id| id.index + 1);
        let length = last.map_or(0, |id| id.index + 1);
        let found = Testimony { term: vote.map_or(0, |vote| vote.leader_id.term), length };
        let log =
            Arc::new(Mutex::new(Log { recent: Recent::default(), first, last, purged, committed, vote }));
        let writer = Writer::spawn(pace, Arc::clone(&engine), Arc::clone(&log), witness, found)?;
        Ok(Self { shared: Arc::new(Shared { engine: RwLock::new(Some(engine)), writer, log }) })
    }

    /// Writes and syncs what is under way and lets go of the engine. Whatever is asked later fails.
    pub fn close(&self) {
        self.shared.writer.stop();
        *self.shared.engine.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.shared.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn engine(&self) -> io::Result<Arc<dyn Engine>> {
        self.shared
            .engine
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
            .ok_or_else(|| io::Error::other("the log is closed"))
    }

    /// The entries from `start` up to, not including, `end` that the log holds, until they exceed `bytes`.
    fn read(&self, start: u64, end: u64, bytes: usize) -> io::Result<Vec<Entry>> {
        let (recent, first, end) = {
            let log = self.log();
            let first = start.max(log.first);
            let end = end.min(log.last.map_or(0, |id| id.index + 1));
            if first >= end {
                return Ok(Vec::new());
            }
            (log.recent.range(first, end), first, end)
        };
        // Only what the writer has written leaves the memory, so the engine has all that is older.
        let older_end = recent.first().map_or(end, |(_, entry)| entry.log_id.index);
        let mut entries = Vec::new();
        let mut size = 0;
        if first < older_end {
            let engine = self.engine()?;
            let mut next = first;
            while next < older_end && (size < bytes || entries.is_empty()) {
                let slice_end = older_end.min(next + verify::ENTRIES_AT_ONCE);
                for (index, value) in engine.range(next..=slice_end - 1)? {
                    if index != next {
                        return Err(verify::damaged(format!("entry {next} is missing")));
                    }
                    next += 1;
                    if size >= bytes && !entries.is_empty() {
                        return Ok(entries);
                    }
                    size += value.len();
                    entries.push(verify::decode_entry(index, &value)?);
                }
                if next != slice_end {
                    return Err(verify::damaged(format!("entry {next} is missing")));
                }
            }
        }
        for (entry_size, entry) in recent {
            if size >= bytes && !entries.is_empty() {
                break;
            }
            size += entry_size;
            entries.push(entry);
        }
        Ok(entries)
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(end) => end.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        self.read(start, end, usize::MAX)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        self.read(start, end, BYTES_READ_AT_ONCE)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.log().vote)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let log = self.log();
        Ok(LogState { last_purged_log_id: log.purged, last_log_id: log.last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let value = vote_to_stored(vote).encode_to_vec();
        let term = vote.leader_id.term;
        self.shared.writer.write_and_wait(|done| Write::Vote { term, value, done }).await?;
        self.log().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        let Some(id) = committed else { return Ok(()) };
        self.log().committed = committed;
        self.shared.writer.write(Write::Committed { value: log_id_to_stored(&id).encode_to_vec() })
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.log().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<(Vec<u8>, Entry)> =
            entries.into_iter().map(|entry| (entry_to_stored(&entry).encode_to_vec(), entry)).collect();
        let mut log = self.log();
        let number = self.shared.writer.next_number();
        let mut values = Vec::with_capacity(entries.len());
        for (value, entry) in entries {
            let id = entry.log_id;
            if log.last == log.purged {
                log.first = id.index;
            }
            log.recent.push(number, value.len(), entry);
            log.last = Some(id);
            values.push((id.index, value));
        }
        // Handed over under the lock, so that the writer sees appends in the order of their numbers.
        self.shared.writer.write(Write::Append { number, values, done: callback })
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        {
            let mut log = self.log();
            log.recent.truncate_after(last_log_id.map(|id| id.index));
            log.last = log.last.min(last_log_id).max(log.purged);
        }
        let index = last_log_id.map(|id| id.index);
        self.shared.writer.write_and_wait(|done| Write::Truncate { index, done }).await
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        {
            let mut log = self.log();
            log.recent.purge(log_id.index);
            log.purged = log.purged.max(Some(log_id));
            log.first = log.first.max(log_id.index + 1);
            log.last = log.last.max(Some(log_id));
        }
        let value = log_id_to_stored(&log_id).encode_to_vec();
        self.shared.writer.write(Write::Purge { index: log_id.index, value })
    }
}
