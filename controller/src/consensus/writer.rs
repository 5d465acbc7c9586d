//! The one place that writes the log: a thread, or a task where the disk is simulated.
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

use hawser_planted::{Defect, is_planted};
use openraft::storage::IOFlushed;
use tokio::{
    sync::{mpsc::UnboundedReceiver, mpsc::UnboundedSender, oneshot},
    time::{sleep, timeout},
};

use super::{
    engine::{Engine, Meta, Pace},
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
    /// Ends the writer after what came before.
    Stop,
}

/// Hands writes to whoever writes.
#[derive(Debug)]
pub(super) struct Writer {
    writes: Queue,
    appends: AtomicU64,
}

#[derive(Debug)]
enum Queue {
    Thread { writes: Sender<Write>, thread: Mutex<Option<JoinHandle<()>>> },
    Task(UnboundedSender<Write>),
}

impl Writer {
    /// Starts whoever writes. `found` is how far the log has come.
    pub(super) fn spawn(
        pace: Pace,
        engine: Arc<dyn Engine>,
        log: Arc<Mutex<Log>>,
        witness: Witness,
        found: Testimony,
    ) -> io::Result<Self> {
        let mut work =
            Loop { engine, log, witness, reached: found, untestified: 0, purge: None, unsynced: false };
        let writes = match pace {
            Pace::Thread => {
                let (writes, waiting) = mpsc::channel();
                let thread =
                    thread::Builder::new().name("log-writer".to_owned()).spawn(move || work.run(&waiting))?;
                Queue::Thread { writes, thread: Mutex::new(Some(thread)) }
            }
            Pace::Task(sync_takes) => {
                let (writes, waiting) = tokio::sync::mpsc::unbounded_channel();
                tokio::spawn(work.run_on_the_clock(waiting, sync_takes));
                Queue::Task(writes)
            }
        };
        Ok(Self { writes, appends: AtomicU64::new(0) })
    }

    /// The number for the next append; rises.
    pub(super) fn next_number(&self) -> u64 {
        self.appends.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Hands over a write without waiting for it.
    pub(super) fn write(&self, write: Write) -> io::Result<()> {
        match &self.writes {
            Queue::Thread { writes, .. } => writes.send(write).map_err(|_| stopped()),
            Queue::Task(writes) => writes.send(write).map_err(|_| stopped()),
        }
    }

    /// Hands over a write and waits until it is on disk.
    pub(super) async fn write_and_wait(&self, write: impl FnOnce(Done) -> Write) -> io::Result<()> {
        let (done, outcome) = oneshot::channel();
        self.write(write(done))?;
        outcome.await.map_err(|_| stopped())?
    }

    /// Ends whoever writes; a thread once everything that was handed over is on disk.
    pub(super) fn stop(&self) {
        // If it has ended already, there is nothing to wait for.
        let _ = self.write(Write::Stop);
        let Queue::Thread { thread, .. } = &self.writes else { return };
        let thread = thread.lock().unwrap_or_else(PoisonError::into_inner).take();
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
            // sled panics at some errors of the disk.
            let outcome = panic::catch_unwind(AssertUnwindSafe(|| self.write_and_sync(&batch)))
                .unwrap_or_else(|_| Err(io::Error::other("the engine panicked")));
            if self.complete(batch, outcome)? {
                break;
            }
        }
        Ok(())
    }

    /// As [`Loop::run`], on tokio's clock: half of `sync_takes` passes before a write and half before its sync, so
    /// that a crash can fall on either side of each.
    async fn run_on_the_clock(mut self, mut waiting: UnboundedReceiver<Write>, sync_takes: Duration) {
        let Err(failure) = self.serve_on_the_clock(&mut waiting, sync_takes).await else { return };
        tracing::error!(reason = %failure.1, "the log cannot be written; this controller stops");
        while let Some(write) = waiting.recv().await {
            answer(write, Some(&failure));
        }
    }

    async fn serve_on_the_clock(
        &mut self,
        waiting: &mut UnboundedReceiver<Write>,
        sync_takes: Duration,
    ) -> Result<(), Failure> {
        loop {
            if self.purge.is_some() {
                self.purge_some().map_err(failure)?;
            }
            let first = match timeout(IDLE_SYNC, waiting.recv()).await {
                Ok(Some(write)) => write,
                Ok(None) => return Ok(()),
                Err(_) if self.unsynced || self.untestified > 0 => {
                    self.settle().map_err(failure)?;
                    continue;
                }
                Err(_) => continue,
            };
            sleep(sync_takes / 2).await;
            let mut batch = vec![first];
            while let Ok(write) = waiting.try_recv() {
                batch.push(write);
            }
            let outcome = match self.write(&batch) {
                Ok(true) => {
                    sleep(sync_takes / 2).await;
                    self.sync()
                }
                written => written.map(drop),
            };
            if self.complete(batch, outcome)? {
                return Ok(());
            }
        }
    }

    fn write_and_sync(&mut self, batch: &[Write]) -> io::Result<()> {
        if self.write(batch)? { self.sync() } else { Ok(()) }
    }

    /// Answers for a batch; true if it was the last one.
    fn complete(&mut self, batch: Vec<Write>, outcome: io::Result<()>) -> Result<bool, Failure> {
        let outcome = outcome.map_err(failure);
        if outcome.is_ok() {
            self.note_written(&batch);
        }
        let stop = batch.iter().any(|write| matches!(write, Write::Stop));
        for write in batch {
            answer(write, outcome.as_ref().err());
        }
        outcome.map(|()| stop)
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

    /// Writes a batch; true if somebody waits for its sync.
    fn write(&mut self, batch: &[Write]) -> io::Result<bool> {
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
        Ok(awaited)
    }

    fn sync(&mut self) -> io::Result<()> {
        if !is_planted(Defect::NoBarrier) {
            self.engine.sync()?;
        }
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
