//! Asking consensus: commit a command, or wait for a point from which a read is linearizable.
//!
//! It must never hide that an outcome is unknown: a write that was not answered in time may still be
//! committed.

use std::time::Duration;

use hawser_proto::v1;
use openraft::{
    ReadPolicy,
    errors::{ClientWriteError, Fatal, ForwardReason, ForwardToLeader, LinearizableReadError, RaftError},
    impls::ProgressResponder,
    raft::ClientWriteResult,
};
use prost::Message;
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    COMMAND_LIMIT, ProposeError, ReadError,
    handle::Consensus,
    types::{Proposal, TypeConfig},
};

/// How long a command may take to be committed.
const PROPOSE_DEADLINE: Duration = Duration::from_secs(10);
/// How long a read point may take.
const READ_DEADLINE: Duration = Duration::from_secs(3);
/// A leader without a fresh answer of the majority gets one with the next heartbeat.
const LEASE_PAUSE: Duration = Duration::from_millis(10);
/// A command that was committed and applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Committed {
    /// Log index of its entry.
    pub revision: u64,
    /// What applying it came to. A rejection is an outcome, too.
    pub outcome: v1::Outcome,
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
                    if matches!(
                        forward.reason,
                        ForwardReason::LeaseExpired | ForwardReason::LeadershipTransfer
                    ) && self.inner.metrics().state.is_leader()
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
