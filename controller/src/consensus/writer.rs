//! The one thread that writes the log.
//!
//! It takes all that is waiting, writes it in order, syncs once, and only then answers for all of it. The
//! first error ends it for good: after a failed sync nobody knows what is on the disk.

use std::{
    io,
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use openraft::storage::IOFlushed;
use tokio::sync::oneshot;

use super::{
    engine::{Engine, Meta},
    log_store::Log,
    types::TypeConfig,
    witness::{Testimony, Witness},
};

/// What one sync covers at most, so that the first of many does not wait for the last.
const WRITES_AT_ONCE: usize = 1_024;
/// Entries of a purge that are removed between two syncs: a purge never holds up a commit for long.
const PURGED_AT_ONCE: usize = 256;
/// After so long without a write, what nobody waits for is synced, too.
const IDLE_SYNC: Duration = Duration::from_millis(100);

/// How far the witness may lag behind: it costs a sync of its own.
const SYNCS_BETWEEN_TESTIMONIES: u32 = 64;

/// Tells who asked how it went.
pub(super) type Done = oneshot::Sender<io::Result<()>>;

/// One thing to write.
pub(super) enum Write {
    /// Entries, with their indices.
    Append { number: u64, values: Vec<(u64, Vec<u8>)>, done: IOFlushed<TypeConfig> },
    /// The vote, of this term.
    Vote { term: u64, value: Vec<u8>, done: Done },
    /// The committed log id. Nobody waits for it: it may fall back by a few entries in a power cut.
    Committed { value: Vec<u8> },
    /// Removes all entries after the index.
    Truncate { index: Option<u64>, done: Done },
    /// Notes that entries up to the index are gone, then removes them little by little.
    Purge { index: u64, value: Vec<u8> },
    /// Ends the thread after what came before.
    Stop,
}

/// Hands writes to the thread.
#[derive(Debug)]
pub(super) struct Writer {
    writes: Sender<Write>,
    appends: AtomicU64,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    /// Starts the thread. `found` is how far the log has come.
    pub(super) fn spawn(
        engine: Arc<dyn Engine>,
        log: Arc<Mutex<Log>>,
        witness: Witness,
        found: Testimony,
    ) -> io::Result<Self> {
        let (writes, waiting) = mpsc::channel();
        let mut work =
            Loop { engine, log, witness, reached: found, untestified: 0, purge: None, unsynced: false };
        let thread =
            thread::Builder::new().name("log-writer".to_owned()).spawn(move || work.run(&waiting))?;
        Ok(Self { writes, appends: AtomicU64::new(0), thread: Mutex::new(Some(thread)) })
    }

    /// The number for the next append; rises.
    pub(super) fn next_number(&self) -> u64 {
        self.appends.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Hands over a write without waiting for it.
    pub(super) fn write(&self, write: Write) -> io::Result<()> {
        self.writes.send(write).map_err(|_| stopped())
    }

    /// Hands over a write and waits until it is on disk.
    pub(super) async fn write_and_wait(&self, write: impl FnOnce(Done) -> Write) -> io::Result<()> {
        let (done, outcome) = oneshot::channel();
        self.write(write(done))?;
        outcome.await.map_err(|_| stopped())?
    }

    /// Waits until everything that was handed over is on disk, and ends the thread.
    pub(super) fn stop(&self) {
        // If the thread has ended already, there is nothing to wait for.
        let _ = self.writes.send(Write::Stop);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the log's writer ended in a panic");
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn stopped() -> io::Error {
    io::Error::other("the log's writer has stopped; an earlier message says why")
}

struct Loop {
    engine: Arc<dyn Engine>,
    log: Arc<Mutex<Log>>,
    witness: Witness,
    /// How far the log has come with all that is written.
    reached: Testimony,
    /// Syncs since the witness was told.
    untestified: u32,
    /// Entries up to this index remain to be removed.
    purge: Option<u64>,
    unsynced: bool,
}

impl Loop {
    fn run(&mut self, waiting: &Receiver<Write>) {
        let Err(failure) = self.serve(waiting) else { return };
        tracing::error!(reason = %failure.1, "the log cannot be written; this controller stops");
        for write in waiting {
            if matches!(write, Write::Stop) {
                return;
            }
            answer(write, Some(&failure));
        }
    }

    /// Works until it is told to stop, or the first error.
    fn serve(&mut self, waiting: &Receiver<Write>) -> Result<(), Failure> {
        while let Some(first) = self.next(waiting)? {
            let mut batch = vec![first];
            batch.extend(waiting.try_iter().take(WRITES_AT_ONCE - 1));
            let stop = batch.iter().any(|write| matches!(write, Write::Stop));
            // sled panics at some errors of the disk.
            let outcome = panic::catch_unwind(AssertUnwindSafe(|| self.write(&batch)))
                .unwrap_or_else(|_| Err(io::Error::other("the engine panicked")))
                .map_err(failure);
            if outcome.is_ok() {
                self.note_written(&batch);
            }
            for write in batch {
                answer(write, outcome.as_ref().err());
            }
            outcome?;
            if stop {
                break;
            }
        }
        Ok(())
    }

    /// The next write to do; `None` when nobody is left to ask for one. Uses idle time for what nobody waits
    /// for.
    fn next(&mut self, waiting: &Receiver<Write>) -> Result<Option<Write>, Failure> {
        loop {
            if self.purge.is_some() {
                match waiting.try_recv() {
                    Ok(write) => return Ok(Some(write)),
                    Err(TryRecvError::Empty) => self.purge_some().map_err(failure)?,
                    Err(TryRecvError::Disconnected) => return Ok(None),
                }
            } else if self.unsynced || self.untestified > 0 {
                match waiting.recv_timeout(IDLE_SYNC) {
                    Ok(write) => return Ok(Some(write)),
                    Err(RecvTimeoutError::Timeout) => self.settle().map_err(failure)?,
                    Err(RecvTimeoutError::Disconnected) => return Ok(None),
                }
            } else {
                return Ok(waiting.recv().ok());
            }
        }
    }

    fn write(&mut self, batch: &[Write]) -> io::Result<()> {
        let mut awaited = false;
        let latest_committed = batch.iter().rev().find_map(|write| match write {
            Write::Committed { value } => Some(value),
            _ => None,
        });
        for write in batch {
            match write {
                Write::Append { values, .. } => {
                    for (index, value) in values {
                        self.engine.append(*index, value)?;
                        self.reached.length = index + 1;
                    }
                    awaited = true;
                }
                Write::Vote { term, value, .. } => {
                    self.engine.put_meta(Meta::Vote, Some(value))?;
                    self.reached.term = *term;
                    // Votes are rare, and one that is forgotten is the worst.
                    self.untestified = SYNCS_BETWEEN_TESTIMONIES;
                    awaited = true;
                }
                Write::Truncate { index, .. } => {
                    let length = index.map_or(0, |index| index + 1);
                    // Before, or the witness would be ahead of the log.
                    let before = self.witness.testimony();
                    self.witness.testify(Testimony { length: before.length.min(length), ..before })?;
                    self.reached.length = self.reached.length.min(length);
                    self.engine.truncate_after(*index)?;
                    awaited = true;
                }
                Write::Purge { index, value } => {
                    // Noted durably first, so that entries are never found missing without a reason.
                    self.engine.put_meta(Meta::Purged, Some(value))?;
                    self.sync()?;
                    self.purge = self.purge.max(Some(*index));
                    self.reached.length = self.reached.length.max(index + 1);
                }
                Write::Committed { .. } => self.unsynced = true,
                Write::Stop => {
                    self.untestified = SYNCS_BETWEEN_TESTIMONIES;
                    awaited = true;
                }
            }
        }
        // Written last: it may only name entries that are written.
        if let Some(value) = latest_committed {
            self.engine.put_meta(Meta::Committed, Some(value))?;
        }
        if awaited { self.sync() } else { Ok(()) }
    }

    fn sync(&mut self) -> io::Result<()> {
        self.engine.sync()?;
        self.unsynced = false;
        self.untestified += 1;
        if self.untestified > SYNCS_BETWEEN_TESTIMONIES { self.testify() } else { Ok(()) }
    }

    /// Tells the witness how far the log has come. Everything must be synced.
    fn testify(&mut self) -> io::Result<()> {
        self.witness.testify(self.reached)?;
        self.untestified = 0;
        Ok(())
    }

    /// Syncs and testifies, so that an idle log lacks nothing.
    fn settle(&mut self) -> io::Result<()> {
        if self.unsynced {
            self.sync()?;
        }
        self.testify()
    }

    fn purge_some(&mut self) -> io::Result<()> {
        if let Some(index) = self.purge
            && self.engine.purge(index, PURGED_AT_ONCE)?
        {
            self.purge = None;
        }
        self.unsynced = true;
        Ok(())
    }

    fn note_written(&self, batch: &[Write]) {
        let newest = batch.iter().rev().find_map(|write| match write {
            Write::Append { number, .. } => Some(*number),
            _ => None,
        });
        if let Some(number) = newest {
            self.log.lock().unwrap_or_else(PoisonError::into_inner).recent.written(number);
        }
    }
}

/// What went wrong. Everybody who asks is told the same.
type Failure = (io::ErrorKind, String);

fn failure(error: io::Error) -> Failure {
    (error.kind(), error.to_string())
}

fn answer(write: Write, failure: Option<&Failure>) {
    let outcome = match failure {
        Some((kind, reason)) => Err(io::Error::new(*kind, reason.clone())),
        None => Ok(()),
    };
    match write {
        Write::Append { done, .. } => done.io_completed(outcome),
        // Whoever asked may have gone.
        Write::Vote { done, .. } | Write::Truncate { done, .. } => drop(done.send(outcome)),
        Write::Committed { .. } | Write::Purge { .. } | Write::Stop => {}
    }
}
