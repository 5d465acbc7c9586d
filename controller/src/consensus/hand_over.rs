//! The leadership from one member to another, because a person wants it or because this one ends.
//!
//! openraft stops heartbeats and writes once it has begun, and never takes that back: a successor that cannot take
//! over costs an election. So it must never begin with one that does not answer.

use std::time::Duration;

use hawser_proto::v1;
use openraft::{Instant as _, async_runtime::watch::WatchReceiver};
use tokio::time::{Instant, sleep, timeout};

use super::{handle::Consensus, membership::answering, next_change::successor};

/// How long an orderly end waits for a successor, and a person for the one that was named.
const DEADLINE: Duration = Duration::from_secs(2);
/// Between two looks at who has answered.
const HEARING: Duration = Duration::from_millis(50);

/// Why the leadership was not handed over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandOverError {
    /// This member does not lead.
    #[error("this controller does not lead any more; ask again")]
    NotLeading,
    /// It could not lead, and nothing was tried.
    #[error("{0}")]
    Unfit(String),
    /// It did not lead in time.
    #[error("{0}")]
    InVain(String),
}

impl Consensus {
    /// Lets the member of this name lead, and says in which term it does.
    ///
    /// # Errors
    /// See [`HandOverError`]; only after [`HandOverError::InVain`] may the leader be another than before.
    pub async fn transfer_leadership(&self, successor: &v1::Member) -> Result<u64, HandOverError> {
        let Some(term) = self.leadership().borrow().leading_term() else {
            return Err(HandOverError::NotLeading);
        };
        if successor.raft_id == self.inner.myself.identity.raft_id {
            return Ok(term);
        }
        self.wait_until_it_can_lead(successor).await?;
        tracing::info!(successor = %successor.name, "handing the leadership over");
        self.hand_over_to(successor.raft_id, DEADLINE).await.map_err(HandOverError::InVain)
    }

    /// It votes, has nearly the whole log, and has answered since it was asked for: whoever went silent a moment ago
    /// would cost an election.
    async fn wait_until_it_can_lead(&self, successor: &v1::Member) -> Result<(), HandOverError> {
        let (name, raft_id) = (&successor.name, successor.raft_id);
        let asked = Instant::now();
        loop {
            let metrics = self.inner.metrics();
            let members = metrics.membership_config.membership();
            if !members.voter_ids().any(|voter| voter == raft_id) {
                return Err(HandOverError::Unfit(format!(
                    "controller {name} does not vote, so it cannot lead; `hawser cluster status` says why"
                )));
            }
            let sent = metrics.heartbeat.as_ref().and_then(|sent| sent.get(&raft_id).copied().flatten());
            let answers = sent.is_some_and(|sent| sent.elapsed() < asked.elapsed());
            if answers && answering(&metrics, self.inner.timing).caught_up.contains(&raft_id) {
                return Ok(());
            }
            if asked.elapsed() >= self.inner.timing.election_max * 2 {
                return Err(HandOverError::Unfit(if answers {
                    format!("controller {name} is still catching up with the log; ask again when it has")
                } else {
                    format!("controller {name} at {} does not answer; nothing was changed", successor.address)
                }));
            }
            sleep(HEARING).await;
        }
    }

    /// Hands the leadership over if this member leads and another can take it.
    pub(super) async fn hand_over(&self) {
        let metrics = self.inner.metrics();
        if !metrics.state.is_leader() || metrics.running_state.is_err() {
            return;
        }
        let matched = |raft_id| {
            let matched = metrics.replication.as_ref()?.get(&raft_id).copied().flatten();
            matched.map(|matched| matched.index)
        };
        let alive = answering(&metrics, self.inner.timing).alive;
        let members = metrics.membership_config.membership();
        let Some(successor) = successor(metrics.id, members, &alive, matched) else { return };
        if let Err(reason) = self.hand_over_to(successor, DEADLINE).await {
            tracing::warn!(%reason, "the leadership was not handed over");
        }
    }

    /// Lets a voter lead and waits until it does; says in which term.
    pub(super) async fn hand_over_to(&self, successor: u64, limit: Duration) -> Result<u64, String> {
        let own = self.inner.myself.identity.raft_id;
        let mut metrics = self.inner.raft.metrics();
        if self.inner.raft.trigger().transfer_leader(successor).await.is_err() {
            return Err("consensus has stopped".to_owned());
        }
        let handed_over = async {
            loop {
                let now = metrics.borrow_watched().clone();
                if let Some(leader) = now.current_leader.filter(|leader| *leader != own) {
                    return Ok((leader, now.current_term));
                }
                if metrics.changed().await.is_err() {
                    return Err("consensus has stopped".to_owned());
                }
            }
        };
        match timeout(limit, handed_over).await {
            Ok(Ok((leader, term))) if leader == successor => Ok(term),
            Ok(Ok((leader, _))) => Err(format!(
                "{} did not take over, and {} leads now; `hawser cluster status` shows how the controllers stand",
                self.name_of(successor),
                self.name_of(leader)
            )),
            Ok(Err(reason)) => Err(reason),
            Err(_) => Err(format!(
                "{} did not take over within {} s; the controllers elect a leader by themselves",
                self.name_of(successor),
                limit.as_secs_f32()
            )),
        }
    }

    fn name_of(&self, raft_id: u64) -> String {
        let metrics = self.inner.metrics();
        let name = metrics.membership_config.membership().get_node(&raft_id).map(|node| node.name.clone());
        name.map_or_else(|| format!("member {raft_id}"), |name| format!("controller {name}"))
    }
}
