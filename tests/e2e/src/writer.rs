//! A writer of records in a node, and what it has had acknowledged.
//!
//! A record counts once its number has reached the host. This module must never count one that the writer
//! only meant to write.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::cluster::Cluster;

/// How long a killed writer may take to be gone. What it wrote last may have to be acknowledged before.
const GONE: Duration = Duration::from_secs(30);

/// A `hawser-records write` that runs in a node.
pub struct Writer {
    node: String,
    child: Child,
    acknowledged: Arc<AtomicU64>,
    reader: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts writing to `path` on `node`, going on after record `after`.
    pub fn start(cluster: &Cluster, node: &str, path: &str, after: u64) -> Result<Self> {
        let program = cluster.program("hawser-records");
        let mut child = cluster
            .start(node, &[&program.to_string_lossy(), "write", path, "--after", &after.to_string()])?;
        let output = child.stdout.take().context("the writer has no standard output")?;
        let acknowledged = Arc::new(AtomicU64::new(after));
        let counter = acknowledged.clone();
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Ok(number) = line.trim().parse() {
                    counter.store(number, Ordering::SeqCst);
                }
            }
        });
        Ok(Self { node: node.to_owned(), child, acknowledged, reader: Some(reader) })
    }

    /// Number of the last acknowledged record.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// Waits until `more` records beyond the present ones are acknowledged, and says how long it took.
    pub fn wait_for_more(&mut self, more: u64, limit: Duration) -> Result<Duration> {
        let goal = self.acknowledged() + more;
        let began = Instant::now();
        while self.acknowledged() < goal {
            if let Some(status) = self.child.try_wait()? {
                let mut said = String::new();
                if let Some(mut error) = self.child.stderr.take() {
                    error.read_to_string(&mut said)?;
                }
                bail!("the writer ended with {status} at record {}: {said}", self.acknowledged());
            }
            ensure!(
                began.elapsed() < limit,
                "no {more} more records within {limit:?}; the last is {}",
                self.acknowledged()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(began.elapsed())
    }

    /// Waits until nothing has been acknowledged for `still`, and returns the last record.
    pub fn wait_until_frozen(&self, still: Duration, limit: Duration) -> Result<u64> {
        let began = Instant::now();
        let mut last = self.acknowledged();
        let mut since = Instant::now();
        while since.elapsed() < still {
            ensure!(began.elapsed() < limit, "writes still go on after {limit:?}, at record {last}");
            std::thread::sleep(Duration::from_millis(20));
            let now = self.acknowledged();
            if now != last {
                last = now;
                since = Instant::now();
            }
        }
        Ok(last)
    }

    /// Kills the process in its node, waits until it is gone and has let go of what it wrote to, and returns the last
    /// acknowledged record.
    pub fn kill(mut self, cluster: &Cluster) -> Result<u64> {
        cluster.must_exec(&self.node, &["pkill", "-9", "hawser-records"])?;
        let began = Instant::now();
        while self.child.try_wait()?.is_none() {
            ensure!(
                began.elapsed() < GONE,
                "the writer on {} is not gone {GONE:?} after its kill",
                self.node
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(self.end())
    }

    /// Ends the host's side and returns the last acknowledged record: the node of the process is gone, or its
    /// writes are frozen.
    pub fn end(mut self) -> u64 {
        self.stop();
        self.acknowledged()
    }

    fn stop(&mut self) {
        // The child may have ended with its node already: then there is nothing to end.
        if self.child.try_wait().ok().flatten().is_none()
            && let Err(error) = self.child.kill()
        {
            eprintln!("the writer's connection could not be ended: {error}");
        }
        if let Err(error) = self.child.wait() {
            eprintln!("the writer's connection could not be waited for: {error}");
        }
        if let Some(reader) = self.reader.take()
            && reader.join().is_err()
        {
            eprintln!("the reader of the writer's records panicked");
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop();
    }
}
