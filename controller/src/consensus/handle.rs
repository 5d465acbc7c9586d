//! What the rest of the controller holds: propose, read, follow.
//!
//! It must never hide that an outcome is unknown: a write that was not answered in time may still be
//! committed.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use hawser_proto::v1::{self, raft_service_server::RaftServiceServer};
use openraft::{
    RaftMetrics, ReadPolicy,
    async_runtime::watch::WatchReceiver,
    errors::{ClientWriteError, Fatal, ForwardReason, ForwardToLeader, LinearizableReadError, RaftError},
    impls::ProgressResponder,
    raft::ClientWriteResult,
};
use prost::Message;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    COMMAND_LIMIT, ProposeError, ReadError,
    leadership::{Heard, Leadership, has_lease},
    log_store::LogStore,
    parties::Myself,
    server::RaftDoor,
    snapshot::Snapshots,
    start::Timing,
    status::{MemberStatus, Status},
    transport::Transport,
    types::{HawserRaft, Proposal, TypeConfig},
};
use crate::view::View;

/// How long a command may take to be committed.
const PROPOSE_DEADLINE: Duration = Duration::from_secs(10);
/// How long a read point may take.
const READ_DEADLINE: Duration = Duration::from_secs(3);
/// A leader without a fresh answer of the majority gets one with the next heartbeat.
const LEASE_PAUSE: Duration = Duration::from_millis(10);
/// How long an orderly end waits for a successor.
const HAND_OVER_DEADLINE: Duration = Duration::from_secs(2);

/// A command that was committed and applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Committed {
    /// Log index of its entry.
    pub revision: u64,
    /// What applying it came to. A rejection is an outcome, too.
    pub outcome: v1::Outcome,
}

/// This member's consensus. Cheap to clone; all clones are the same member.
#[derive(Clone)]
pub struct Consensus {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) raft: HawserRaft,
    pub(super) log: LogStore,
    pub(super) view: View,
    pub(super) snapshots: Snapshots,
    pub(super) myself: Arc<Myself>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) timing: Timing,
    pub(super) heard: Arc<Heard>,
    pub(super) leadership: watch::Receiver<Leadership>,
    /// Something about the members may have to be done.
    pub(super) membership_changed: Notify,
    pub(super) tasks: TaskTracker,
    pub(super) ending: CancellationToken,
}

impl Inner {
    /// openraft's numbers, copied at once: holding on to them would stop it.
    pub(super) fn metrics(&self) -> RaftMetrics<TypeConfig> {
        self.raft.metrics().borrow_watched().clone()
    }

    /// Runs the future until it is done or this member ends.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let ending = self.ending.clone();
        self.tasks.spawn(async move { ending.run_until_cancelled_owned(task).await });
    }
}

impl Consensus {
    /// Commits a command and applies it, if this member leads.
    ///
    /// # Errors
    /// See [`ProposeError`]; after [`ProposeError::Unavailable`] the command may still be committed.
    pub async fn propose(&self, command: v1::Command) -> Result<Committed, ProposeError> {
        self.write(None, command).await
    }

    /// Commits a command if this member leads and still does so in `term`. It is never handed on, nor
    /// proposed again in another term.
    ///
    /// # Errors
    /// [`ProposeError::TermEnded`] if the reign has ended; else as [`Consensus::propose`].
    pub async fn propose_in_term(&self, term: u64, command: v1::Command) -> Result<Committed, ProposeError> {
        self.write(Some(term), command).await
    }

    async fn write(&self, term: Option<u64>, command: v1::Command) -> Result<Committed, ProposeError> {
        let size = command.encoded_len();
        if size > COMMAND_LIMIT {
            return Err(ProposeError::TooLarge { size, limit: COMMAND_LIMIT });
        }
        let deadline = Instant::now() + PROPOSE_DEADLINE;
        loop {
            let answer = timeout_at(deadline, self.write_once(term, command.clone()));
            let answer = answer.await.unwrap_or_else(|_| Err(Refusal::Final(no_majority())));
            match answer {
                Ok(committed) => return Ok(committed),
                Err(Refusal::Final(error)) => return Err(error),
                Err(Refusal::Passing) if Instant::now() + LEASE_PAUSE < deadline => {
                    sleep(LEASE_PAUSE).await;
                }
                Err(Refusal::Passing) => return Err(no_majority()),
            }
        }
    }

    async fn write_once(&self, term: Option<u64>, command: v1::Command) -> Result<Committed, Refusal> {
        let (responder, answer) =
            ProgressResponder::<TypeConfig, ClientWriteResult<TypeConfig>>::complete_only();
        let request = self.inner.raft.write(Proposal(command)).responder(responder);
        let request = match term {
            Some(term) => request.with_leader(term),
            None => request,
        };
        request.await.map_err(|fatal| stopped(&fatal))?;
        match answer.await {
            Ok(Ok(response)) => Ok(Committed {
                revision: response.log_id.index,
                // Only openraft's own entries have none.
                outcome: response.data.0.unwrap_or_default(),
            }),
            Ok(Err(ClientWriteError::ForwardToLeader(forward))) => Err(self.not_leading(term, forward)),
            Ok(Err(ClientWriteError::LogEntryDiscarded(_))) => Err(Refusal::Final(match term {
                Some(_) => ProposeError::TermEnded,
                None => ProposeError::Unavailable(
                    "the leader changed before the answer was known; ask again with the same request key"
                        .to_owned(),
                ),
            })),
            Ok(Err(other)) => Err(Refusal::Final(ProposeError::Unavailable(other.to_string()))),
            Err(_) => Err(Refusal::Final(ProposeError::Stopped)),
        }
    }

    fn not_leading(&self, term: Option<u64>, forward: ForwardToLeader<TypeConfig>) -> Refusal {
        let own = self.inner.myself.identity.raft_id;
        let metrics = self.inner.metrics();
        let leads = metrics.state.is_leader();
        match (forward.reason, term) {
            // Nothing was written: right after an election no majority has answered yet.
            (ForwardReason::LeaseExpired, _) if leads => Refusal::Passing,
            (ForwardReason::LeadershipTransfer, None) if leads => Refusal::Passing,
            (_, Some(term)) if leads && metrics.current_term == term => Refusal::Passing,
            (_, Some(_)) => Refusal::Final(ProposeError::TermEnded),
            (_, None) => Refusal::Final(ProposeError::NotLeader { leader: other_leader(own, forward) }),
        }
    }

    /// Waits until [`Consensus::view`] shows everything that was committed before the call. The leader
    /// alone can; another member relays the whole question.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn read_barrier(&self) -> Result<(), ReadError> {
        let deadline = Instant::now() + READ_DEADLINE;
        let unanswered = || {
            ReadError::Unavailable(
                "no majority of the controllers answers; see `hawser cluster status`, or read with --stale"
                    .to_owned(),
            )
        };
        loop {
            let barrier = self.inner.raft.ensure_linearizable(ReadPolicy::ReadIndex);
            let error = match timeout_at(deadline, barrier).await {
                Ok(Ok(read)) => {
                    // Applied entries are published before openraft hears of them.
                    return timeout_at(deadline, self.inner.view.wait_for(read.index()))
                        .await
                        .map_err(|_| unanswered());
                }
                Ok(Err(RaftError::APIError(error))) => error,
                Ok(Err(RaftError::Fatal(_))) => return Err(ReadError::Stopped),
                Err(_) => return Err(unanswered()),
            };
            match error {
                LinearizableReadError::ForwardToLeader(forward)
                    if forward.reason == ForwardReason::LeaseExpired
                        && self.inner.metrics().state.is_leader()
                        && Instant::now() + LEASE_PAUSE < deadline =>
                {
                    sleep(LEASE_PAUSE).await;
                }
                LinearizableReadError::ForwardToLeader(forward) => {
                    let own = self.inner.myself.identity.raft_id;
                    return Err(ReadError::NotLeader { leader: other_leader(own, forward) });
                }
                LinearizableReadError::QuorumNotEnough(_) => return Err(unanswered()),
            }
        }
    }

    /// Who leads, as this member may rely on it.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.clone()
    }

    /// What this member has applied.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.inner.view
    }

    /// This member.
    #[must_use]
    pub fn member(&self) -> v1::Member {
        self.inner.myself.member()
    }

    /// Learners and voters, by raft id.
    #[must_use]
    pub fn members(&self) -> Vec<v1::Member> {
        let members = self.inner.metrics().membership_config;
        members.membership().nodes().map(|(raft_id, node)| node.member(*raft_id)).collect()
    }

    /// Whether this member has been admitted, as learner or voter.
    #[must_use]
    pub fn is_member(&self) -> bool {
        let own = self.inner.myself.identity.raft_id;
        self.inner.metrics().membership_config.membership().get_node(&own).is_some()
    }

    /// This member's numbers.
    #[must_use]
    pub fn status(&self) -> Status {
        let metrics = self.inner.metrics();
        let identity = &self.inner.myself.identity;
        let index = |id: Option<super::types::LogId>| id.map_or(0, |id| id.index);
        let timing = self.inner.timing;
        Status {
            member: self.inner.myself.member(),
            cluster_id: identity.cluster_id.clone(),
            cluster_name: identity.cluster_name.clone(),
            lineage: identity.lineage,
            term: metrics.current_term,
            leader: metrics.current_leader,
            last_log: metrics.last_log_index.unwrap_or(0),
            committed: index(metrics.local_committed),
            applied: index(metrics.last_applied),
            snapshot: index(metrics.snapshot),
            purged: index(metrics.purged),
            has_quorum: if metrics.state.is_leader() {
                has_lease(&metrics, timing)
            } else {
                metrics.current_leader.is_some() && self.inner.heard.within(timing.election_max)
            },
            running: metrics.running_state.is_ok(),
            changing_voters: metrics.committed_membership_config.get_joint_config().len() > 1
                || metrics.membership_config.get_joint_config().len() > 1,
            members: self.member_statuses(&metrics),
        }
    }

    fn member_statuses(&self, metrics: &RaftMetrics<TypeConfig>) -> Vec<MemberStatus> {
        let membership = metrics.membership_config.membership();
        let voters: Vec<u64> = membership.voter_ids().collect();
        let state = self.inner.view.state();
        let announced = state
            .members()
            .filter(|member| membership.get_node(&member.raft_id).is_none())
            .map(|member| (member.clone(), v1::MemberRole::Announced));
        let admitted = membership.nodes().map(|(raft_id, node)| {
            let is_voter = voters.contains(raft_id);
            (node.member(*raft_id), if is_voter { v1::MemberRole::Voter } else { v1::MemberRole::Learner })
        });
        let mut members: Vec<MemberStatus> = admitted
            .chain(announced)
            .map(|(member, role)| {
                let replication = metrics.replication.as_ref();
                let matched = replication
                    .and_then(|replication| replication.get(&member.raft_id).copied().flatten())
                    .map(|id| id.index);
                MemberStatus { member, role, matched }
            })
            .collect();
        members.sort_by_key(|status| status.member.raft_id);
        members
    }

    /// The service for the other members, to be added to the gRPC server.
    #[must_use]
    pub fn raft_service(&self) -> RaftServiceServer<RaftDoor> {
        RaftDoor::service(self.clone())
    }

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

    /// Waits until this member's numbers are as wanted, and returns them.
    ///
    /// # Errors
    /// If consensus has ended.
    pub async fn wait_until(&self, mut wanted: impl FnMut(&Status) -> bool) -> Result<Status, ReadError> {
        let mut metrics = self.inner.raft.metrics();
        loop {
            // Marks the numbers as seen before they are looked at.
            drop(metrics.borrow_and_update());
            let status = self.status();
            if wanted(&status) {
                return Ok(status);
            }
            metrics.changed().await.map_err(|_| ReadError::Stopped)?;
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

/// Why one attempt to write did not succeed.
enum Refusal {
    /// Nothing was written, and it will pass.
    Passing,
    Final(ProposeError),
}

impl From<ProposeError> for Refusal {
    fn from(error: ProposeError) -> Self {
        Self::Final(error)
    }
}

/// The leader that openraft names, unless it is this member, which does not lead any more.
fn other_leader(own: u64, forward: ForwardToLeader<TypeConfig>) -> Option<v1::Member> {
    let (leader, node) = forward.leader_id.zip(forward.leader_node)?;
    (leader != own).then(|| node.member(leader))
}

fn no_majority() -> ProposeError {
    ProposeError::Unavailable(
        "no majority of the controllers has confirmed the request in time; it may still be carried out. Ask \
         again with the same request key; see `hawser cluster status`"
            .to_owned(),
    )
}

fn stopped(_: &Fatal<TypeConfig>) -> ProposeError {
    ProposeError::Stopped
}

/// A command of consensus itself, which nobody else asked for.
pub(super) fn own_command(command: v1::command::Command) -> v1::Command {
    let at_unix_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
    v1::Command { at_unix_ms, request: None, command: Some(command) }
}
