//! The end of a member: by itself, when its store fails, or in order, with the leadership handed over.
//!
//! It must never leave the store open behind it.

use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use tokio::time::timeout;

use super::handle::Consensus;

/// How long an orderly end waits for a successor.
const HAND_OVER_DEADLINE: Duration = Duration::from_secs(2);

impl Consensus {
    /// Completes when consensus has ended by itself: the store failed, or a committed entry cannot be
    /// applied here. The process has to end then.
    pub async fn failed(&self) -> String {
        let mut metrics = self.inner.raft.metrics();
        loop {
            if let Err(fatal) = &metrics.borrow_watched().running_state {
                return fatal.to_string();
            }
            if metrics.changed().await.is_err() {
                return "consensus has stopped".to_owned();
            }
        }
    }

    /// Hands the leadership over if this member leads, and stops.
    pub async fn shutdown(&self) {
        self.hand_over().await;
        self.stop().await;
    }

    /// Stops without looking for a successor, and closes the store.
    pub async fn stop(&self) {
        self.inner.ending.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
        if let Err(error) = self.inner.raft.shutdown().await {
            tracing::error!(%error, "consensus did not stop in order");
        }
        let log = self.inner.log.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || log.close()).await {
            tracing::error!(%error, "the log was not closed in order");
        }
    }

    async fn hand_over(&self) {
        let metrics = self.inner.metrics();
        let own = self.inner.myself.identity.raft_id;
        if !metrics.state.is_leader() || metrics.running_state.is_err() {
            return;
        }
        let voters: Vec<u64> = metrics.membership_config.membership().voter_ids().collect();
        // The one with the longest log can take over at once.
        let successor = metrics
            .replication
            .iter()
            .flatten()
            .filter(|(raft_id, _)| **raft_id != own && voters.contains(raft_id))
            .max_by_key(|(_, matched)| matched.map(|id| id.index))
            .map(|(raft_id, _)| *raft_id);
        let Some(successor) = successor else { return };
        if self.inner.raft.trigger().transfer_leader(successor).await.is_err() {
            return;
        }
        let mut metrics = self.inner.raft.metrics();
        let handed_over = async {
            while metrics.borrow_watched().current_leader.is_none_or(|leader| leader == own) {
                if metrics.changed().await.is_err() {
                    return;
                }
            }
        };
        if timeout(HAND_OVER_DEADLINE, handed_over).await.is_err() {
            tracing::warn!(successor, "the leadership was not taken over in time");
        }
    }
}
