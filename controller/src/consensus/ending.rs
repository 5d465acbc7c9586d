//! The end of a member: by itself, when its store fails or the cluster has removed it, or in order, with the
//! leadership handed over.
//!
//! It must never leave the store open behind it.

use hawser_process::beside::beside;
use openraft::async_runtime::watch::WatchReceiver;

use super::handle::Consensus;

impl Consensus {
    /// Completes when this member cannot go on: its store failed, a committed entry cannot be applied here, or
    /// the cluster has removed it. The process has to end then.
    pub async fn failed(&self) -> String {
        let mut given_up = self.inner.given_up.subscribe();
        let given_up = async move {
            let reason = given_up.wait_for(|reason| !reason.is_empty()).await.map(|reason| reason.clone());
            match reason {
                Ok(reason) => reason,
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            reason = given_up => reason,
            reason = self.stopped() => reason,
        }
    }

    async fn stopped(&self) -> String {
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
        beside(move || log.close()).await;
    }
}
