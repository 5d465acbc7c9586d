//! The satellite as a whole: puts the rooms together and starts them.
//!
//! Starting reads, connects and reports; what it changes on the node is only what the ledger's document says.
//! Ending touches nothing: what runs goes on running.

use std::{io, path::PathBuf, sync::Arc};

use hawser_process::{
    health::{Health, Readiness},
    tls::RestoreVerifier,
};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    arbiter::Arbiter,
    controllers::Controllers,
    exec::{self, Limits, Shared},
    fence::{desk::Desk, socket::FenceDoor},
    host::{Facts, Host},
    keys::Keys,
    ledger::Ledger,
    link::Link,
    metrics::Metrics,
    numbers,
    observe::Observer,
    orders, pools,
    report::Board,
    unknown,
};

/// What a satellite is made of.
pub struct Parts {
    /// Id of the cluster.
    pub cluster_id: String,
    /// Hawser's name of this node.
    pub node: String,
    /// What the node is.
    pub facts: Facts,
    /// The system below.
    pub host: Arc<dyn Host>,
    /// The memory.
    pub ledger: Ledger,
    /// Recognises what an administrator signed for a restore.
    pub restores: RestoreVerifier,
    /// Where the controllers are.
    pub controllers: Arc<Controllers>,
    /// Who answers for Raft.
    pub arbiter: Arc<dyn Arbiter>,
    /// Where the fence-peer helper asks.
    pub socket: PathBuf,
    /// Seed of everything that is drawn by chance.
    pub seed: u64,
}

/// A running satellite.
pub struct Satellite {
    cancelled: CancellationToken,
    tracker: TaskTracker,
    metrics: Arc<Metrics>,
    shared: Arc<Shared>,
}

impl Satellite {
    /// Starts a satellite.
    ///
    /// # Errors
    /// If the socket for the fence-peer helper cannot be opened.
    pub async fn start(parts: Parts) -> io::Result<Self> {
        let listener = FenceDoor::listen(&parts.socket).await?;
        let keys = Keys::new(parts.seed);
        let metrics = Arc::new(Metrics::new());
        let board = Board::default();
        let (news, heard) = watch::channel(0);
        let desk = Desk::new(news);
        let shared = Arc::new(Shared {
            node: parts.node.clone(),
            host: Arc::clone(&parts.host),
            ledger: parts.ledger.clone(),
            observer: Observer::start(Arc::clone(&parts.host), parts.ledger.clone()),
            arbiter: Arc::clone(&parts.arbiter),
            desk: desk.clone(),
            board: board.clone(),
            limits: Limits::new(),
            keys: keys.clone(),
            metrics: Arc::clone(&metrics),
        });
        let cancelled = CancellationToken::new();
        let tracker = TaskTracker::new();
        let door = FenceDoor {
            node: parts.node.clone(),
            ledger: parts.ledger.clone(),
            arbiter: parts.arbiter,
            desk,
            keys: keys.clone(),
        };
        tracker.spawn(door.serve(listener, cancelled.clone()));
        tracker.spawn(exec::supervise(Arc::clone(&shared), heard, cancelled.clone()));
        tracker.spawn(pools::watch(
            Arc::clone(&parts.host),
            parts.ledger.clone(),
            board.clone(),
            cancelled.clone(),
        ));
        tracker.spawn(numbers::watch(
            Arc::clone(&parts.host),
            parts.ledger.clone(),
            board.clone(),
            cancelled.clone(),
        ));
        tracker.spawn(unknown::watch(
            shared.observer.clone(),
            parts.ledger.clone(),
            board.clone(),
            cancelled.clone(),
        ));
        tracker.spawn(orders::watch(parts.ledger.clone(), board.clone(), cancelled.clone()));
        let link = Link {
            cluster_id: parts.cluster_id,
            node: parts.node,
            facts: parts.facts,
            restores: parts.restores,
            controllers: parts.controllers,
            ledger: parts.ledger,
            board,
            host: parts.host,
            metrics: Arc::clone(&metrics),
            seed: keys.seed(),
        };
        tracker.spawn(link.run(cancelled.clone()));
        tracker.close();
        Ok(Self { cancelled, tracker, metrics, shared })
    }

    /// What the read-only port answers from.
    pub fn health(&self) -> Health {
        let (metrics, shared) = (Arc::clone(&self.metrics), Arc::clone(&self.shared));
        let (connected, ready) = (self.metrics.connected.clone(), Arc::clone(&self.shared));
        Health::new(
            move || match (connected.get(), ready.limits.stuck()) {
                (_, stuck @ 1..) => Readiness::NotReady(format!("{stuck} commands are stuck in the kernel")),
                (0, _) => Readiness::NotReady("no session with a controller".to_owned()),
                _ => Readiness::Ready,
            },
            move || {
                metrics.stuck.set(shared.limits.stuck().into());
                metrics.text()
            },
        )
    }

    /// What there is to report.
    pub fn board(&self) -> &Board {
        &self.shared.board
    }

    /// Ends. Steps that run are finished first; nothing of DRBD is touched.
    pub async fn end(self) {
        self.cancelled.cancel();
        self.tracker.wait().await;
    }
}
