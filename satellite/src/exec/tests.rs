//! What the supervisor may wait for, and what a worker does that knows of a newer document than it was told.
#![allow(clippy::unwrap_used)]

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use hawser_plan::{
    Note, Question,
    observed::{Looked, PoolFound, ReplicaFound, Subject},
    step::{Provider, Step},
};
use hawser_proto::{ids::Incarnation, v1};
use prost::Message;
use tempfile::TempDir;
use tokio::time::timeout;

use super::*;
use crate::{
    arbiter::{Answer, Case},
    host::{self, HostError},
};

/// A node without anything, that counts the looks.
#[derive(Default)]
struct Nothing {
    looks: AtomicUsize,
    changes: watch::Sender<u64>,
}

#[async_trait]
impl Host for Nothing {
    async fn facts(&self) -> host::Facts {
        unreachable!("nobody asks")
    }

    async fn pool(&self, _: &Provider) -> Result<PoolFound, HostError> {
        unreachable!("nobody asks")
    }

    async fn look(&self, subjects: &[Subject]) -> Vec<ReplicaFound> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        let nothing = ReplicaFound {
            backing: BTreeMap::new(),
            configuration: Looked::Absent,
            kernel: Looked::Absent,
            gates: [(0, Looked::Absent)].into(),
            openers: Looked::Present(Vec::new()),
            opens_found: BTreeMap::new(),
            met: hawser_plan::observed::Met::Unknown,
        };
        vec![nothing; subjects.len()]
    }

    async fn execute(&self, step: &Step, _: Duration) -> Result<(), HostError> {
        unreachable!("there is nothing to do: {step:?}")
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

struct Silence;

#[async_trait]
impl Arbiter for Silence {
    async fn ask(&self, _: &Case, _: &Question, _: &str) -> Answer {
        std::future::pending().await
    }
}

struct Node {
    directory: TempDir,
    host: Arc<Nothing>,
    shared: Arc<Shared>,
}

fn node() -> Node {
    let directory = tempfile::tempdir().unwrap();
    let host = Arc::new(Nothing::default());
    let ledger = Ledger::open(directory.path(), "c1", "n1", "boot").unwrap();
    let shared = Arc::new(Shared {
        node: "n1".into(),
        host: Arc::clone(&host) as Arc<dyn Host>,
        ledger: ledger.clone(),
        observer: Observer::start(Arc::clone(&host) as Arc<dyn Host>, ledger),
        arbiter: Arc::new(Silence),
        desk: Desk::new(watch::Sender::new(0)),
        board: Board::default(),
        limits: Limits::new(),
        keys: Keys::new(7),
        metrics: Arc::new(Metrics::new()),
    });
    Node { directory, host, shared }
}

fn key(resource: &str) -> ReplicaKey {
    (resource.to_owned(), Incarnation::new(7))
}

impl Node {
    /// Hands the ledger a document that removes `resources`.
    async fn accept(&self, revision: u64, resources: &[&str]) -> Arc<crate::ledger::Accepted> {
        let removed = resources.iter().map(|resource| v1::RemovedReplica {
            resource: (*resource).into(),
            replica_incarnation: 7,
            layers: vec![v1::Layer::Drbd.into(), v1::Layer::Storage.into()],
            volumes: vec![v1::DesiredVolume {
                size_bytes: 1 << 20,
                gate_name: "gate".into(),
                ..Default::default()
            }],
            ..Default::default()
        });
        let document = v1::DesiredDocument {
            cluster_id: "c1".into(),
            lineage: 1,
            node: "n1".into(),
            revision,
            removed: removed.collect(),
            ..Default::default()
        };
        self.shared.ledger.accept(document.encode_to_vec()).await.unwrap()
    }

    async fn until(&self, what: &str, holds: impl Fn(&report::Facts) -> bool) {
        let mut version = self.shared.board.version();
        let waited = timeout(Duration::from_secs(20), async {
            while !holds(&self.shared.board.facts()) {
                version.changed().await.unwrap();
            }
        });
        assert!(waited.await.is_ok(), "never: {what}");
    }
}

/// A file whose writer hangs until this is dropped.
struct Hanging(PathBuf);

impl Hanging {
    fn at(path: &Path) -> Self {
        nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        Self(path.to_owned())
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        let reader: File =
            OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(&self.0).unwrap();
        // Whoever opens it later makes a file; whoever waited may have removed it already.
        let _ = std::fs::remove_file(&self.0);
        drop(reader);
    }
}

// The disk that hangs must hold up a thread of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_are_told_of_a_document_before_what_it_leaves_out_is_forgotten() {
    let node = node();
    node.shared.ledger.note(&key("db"), Note::Created).await.unwrap();
    node.accept(1, &["db"]).await;
    let (_news, heard) = watch::channel(0);
    let cancelled = CancellationToken::new();
    let supervisor = tokio::spawn(supervise(Arc::clone(&node.shared), heard, cancelled.clone()));
    node.until("db is removed", |facts| facts.removed.contains_key(&key("db"))).await;

    let hanging = Hanging::at(&node.directory.path().join("facts.new"));
    node.accept(2, &["log"]).await;

    node.until("log is removed", |facts| facts.removed.get(&key("log")) == Some(&DocumentVersion::new(1, 2)))
        .await;
    assert!(node.shared.ledger.remembered(&key("db")).created, "the disk has not answered");
    drop(hanging);
    cancelled.cancel();
    supervisor.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_was_not_told_of_a_newer_document_rests_until_it_is() {
    let node = node();
    let accepted = node.accept(1, &["db"]).await;
    let (_wanted, told) = watch::channel(wanted(&accepted).remove(&key("db")).unwrap());
    let (handed_over, heard) = watch::channel(DocumentVersion::new(1, 1));
    let cancelled = CancellationToken::new();
    node.accept(2, &["db"]).await;

    let worker = Worker::new(
        Arc::clone(&node.shared),
        key("db"),
        Orders { wanted: told, handed_over: heard },
        Arc::default(),
        cancelled.clone(),
    );
    let worker = tokio::spawn(worker.run());
    tokio::time::sleep(Duration::from_secs(1)).await;

    assert_eq!(node.host.looks.load(Ordering::Relaxed), 1);
    assert!(node.shared.board.facts().replicas.is_empty(), "it does not say what it does not know");

    handed_over.send_replace(DocumentVersion::new(1, 2));
    node.until("db is removed", |facts| facts.removed.get(&key("db")) == Some(&DocumentVersion::new(1, 2)))
        .await;
    assert_eq!(node.host.looks.load(Ordering::Relaxed), 1, "what it saw counts");
    cancelled.cancel();
    worker.await.unwrap();
}
