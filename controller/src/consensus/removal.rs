//! A member is taken out: whether it may be, and when it is.
//!
//! The command takes it out of the state; the task in `membership` lets Raft follow. It must never let a member go
//! whose absence would cost the quorum.

use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use tokio::time::{Instant, sleep, timeout};

use super::{
    handle::Consensus,
    membership::with_situation,
    next_change::{Obstacle, obstacle_to_removing},
};

/// A leader that has just been elected has not heard everybody yet.
const HEARING: Duration = Duration::from_millis(50);

/// This member does not lead any more, so it cannot tell when a member has left. Another can.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the leadership changed while a controller was being removed; that goes on, ask again with the same key"
)]
pub struct LeadershipLost;

impl Consensus {
    /// Checks on the leader that the cluster keeps its quorum without a member.
    ///
    /// # Errors
    /// Why it would not, and what to do.
    pub async fn check_removal(&self, raft_id: u64) -> Result<(), String> {
        let patience = Instant::now() + self.inner.timing.election_max * 2;
        loop {
            let metrics = self.inner.metrics();
            let obstacle = with_situation(self, &metrics, |now| obstacle_to_removing(now, raft_id));
            let Some(obstacle) = obstacle else { return Ok(()) };
            if Instant::now() >= patience {
                return Err(self.words_for(&obstacle));
            }
            sleep(HEARING).await;
        }
    }

    fn words_for(&self, obstacle: &Obstacle) -> String {
        let metrics = self.inner.metrics();
        let members = metrics.membership_config.membership();
        match obstacle {
            Obstacle::NobodyElse => "no other controller votes or could: add another one with `hawser cluster \
                                     add-member` and wait until `hawser cluster status` shows that it has caught up"
                .to_owned(),
            Obstacle::Silent(silent) => {
                let names: Vec<_> = silent
                    .iter()
                    .filter_map(|raft_id| members.get_node(raft_id))
                    .map(|node| node.name.as_str())
                    .collect();
                let (names, verb) = (names.join(" and "), if names.len() == 1 { "does" } else { "do" });
                format!(
                    "without it fewer than a majority of the others would answer, for {names} {verb} not; bring \
                     {names} back, or remove what is lost for good first"
                )
            }
        }
    }

    /// Waits on the leader until Raft has let a removed member go; false if it has not within `limit`.
    ///
    /// # Errors
    /// If this member does not lead any more.
    pub async fn wait_until_left(&self, raft_id: u64, limit: Duration) -> Result<bool, LeadershipLost> {
        self.inner.membership_changed.notify_one();
        let mut metrics = self.inner.raft.server_metrics();
        let left = async {
            loop {
                let now = metrics.borrow_watched().clone();
                if !now.state.is_leader() {
                    return Err(LeadershipLost);
                }
                let is_committed = now.membership_config.log_id() == now.committed_membership_config.log_id();
                if is_committed && now.membership_config.membership().get_node(&raft_id).is_none() {
                    return Ok(true);
                }
                if metrics.changed().await.is_err() {
                    return Err(LeadershipLost);
                }
            }
        };
        timeout(limit, left).await.unwrap_or(Ok(false))
    }
}
