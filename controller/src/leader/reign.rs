//! One member's leadership in one term: what it observes, who is connected to it, and the tasks that run for it.
//!
//! It must never live on when its term has ended: every task of it waits for the same token.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{loops, observed::ObservedTable, sessions::Sessions, take_over_requests::TakeOverRequests};
use crate::consensus::Consensus;

/// How often a satellite hears that the leader still has a majority. It redials after 1.5 s of silence.
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(500);
/// A confirmation that took longer than a satellite waits is worth nothing.
const CONFIRMATION_LIMIT: Duration = Duration::from_millis(1_500);

/// One member's leadership in one term, from the first confirmed read on.
#[derive(Debug)]
pub struct Reign {
    /// Raft's term.
    pub term: u64,
    /// When it began.
    pub began: Instant,
    /// What satellites reported to it.
    pub observed: ObservedTable,
    /// Who is connected.
    pub sessions: Sessions,
    /// Who asks for a take-over.
    pub take_over_requests: TakeOverRequests,
    /// Cancelled when the reign ends.
    pub ended: CancellationToken,
    /// Counts the confirmations by a majority.
    pulse: watch::Sender<u64>,
}

impl Reign {
    /// The beginning: nothing observed, nobody connected. The count goes on from reign to reign.
    #[must_use]
    pub fn new(term: u64, sessions_opened: Arc<AtomicU64>) -> Self {
        Self {
            term,
            began: Instant::now(),
            observed: ObservedTable::default(),
            sessions: Sessions::new(term, sessions_opened),
            take_over_requests: TakeOverRequests::default(),
            ended: CancellationToken::new(),
            pulse: watch::Sender::new(0),
        }
    }

    /// Changes with each confirmation by a majority; a session passes it on as a heartbeat.
    #[must_use]
    pub fn pulse(&self) -> watch::Receiver<u64> {
        self.pulse.subscribe()
    }

    /// Starts what runs for as long as the reign lasts. The tracker is empty once all of it has ended.
    pub(super) fn run(self: Arc<Self>, consensus: Consensus) -> TaskTracker {
        let tasks = TaskTracker::new();
        tasks.spawn(beat(self.clone(), consensus.clone()));
        tasks.spawn(loops::tick::run(self.clone(), consensus.clone()));
        tasks.spawn(loops::run(self, consensus));
        tasks.close();
        tasks
    }
}

/// A leader that cannot reach a majority falls silent, so that satellites look for another.
async fn beat(reign: Arc<Reign>, consensus: Consensus) {
    let mut beats = interval(HEARTBEAT_INTERVAL);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = beats.tick() => {}
            () = reign.ended.cancelled() => return,
        }
        let confirmed = tokio::select! {
            confirmed = timeout(CONFIRMATION_LIMIT, consensus.read_barrier()) => confirmed,
            () = reign.ended.cancelled() => return,
        };
        if matches!(confirmed, Ok(Ok(()))) {
            reign.pulse.send_modify(|count| *count += 1);
        }
    }
}
