//! What all services share: proposing a request once, reading a state, and the reign, where there is one.
//!
//! It must never answer a write from anything but a committed outcome.

use std::sync::Arc;

use hawser_process::wall_clock;
use hawser_proto::v1::{self, command::Command, outcome};
use hawser_state::State;
use prost::Message;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tonic::Request;

use super::{caller::Caller, error::ApiError, pages::Pages, random::Random};
use crate::{
    consensus::Consensus,
    leader::{Reign, Standing, loops, observed::Observed},
};

/// Longest request key, in bytes. A UUID has 36.
const LONGEST_REQUEST_KEY: usize = 128;

/// What a service needs.
#[derive(Clone)]
pub struct Context {
    /// The state and the way to change it.
    pub consensus: Consensus,
    /// Who leads.
    pub standing: watch::Receiver<Standing>,
    /// States that unfinished lists go on in.
    pub pages: Arc<Pages>,
    /// Secrets for new resources.
    pub random: Random,
}

/// A read: the state, and what is observed where this member leads.
pub struct Reading {
    /// As of `revision`.
    pub state: Arc<State>,
    /// Revision of the state.
    pub revision: u64,
    /// `None` on a member that does not lead.
    pub observed: Option<Observed>,
}

/// A write under its request key.
pub struct Write {
    context: Context,
    key: v1::RequestKey,
}

impl Context {
    /// A read as fresh as asked for.
    ///
    /// # Errors
    /// Where a linearizable read cannot be had now.
    pub async fn read(&self, consistency: v1::Consistency) -> Result<Reading, ApiError> {
        if consistency != v1::Consistency::Stale {
            self.consensus.read_barrier().await?;
        }
        let published = self.consensus.view().published();
        let observed = self.standing.borrow().reign().map(|reign| reign.observed.picture());
        Ok(Reading { state: published.state, revision: published.revision, observed })
    }

    /// The reign of this member.
    ///
    /// # Errors
    /// Where it does not lead (any more).
    pub fn reign(&self) -> Result<Arc<Reign>, ApiError> {
        self.standing.borrow().reign().cloned().ok_or_else(no_longer_leads)
    }

    /// Refuses what a restored cluster does not do before every node has said what it holds: to be asked before a door
    /// looks at what is observed, for nothing is then.
    ///
    /// # Errors
    /// Whom the cluster waits for.
    pub fn settled(&self) -> Result<(), ApiError> {
        let state = self.consensus.view().state();
        if !state.is_settling() {
            return Ok(());
        }
        Err(ApiError::rejected(v1::RejectionReason::Precondition, state.settling_words()))
    }

    /// Begins a write: who asks for what, under which key.
    ///
    /// # Errors
    /// A request without a key.
    pub fn write<T: Message>(&self, request: &Request<T>, key: &str) -> Result<Write, ApiError> {
        let caller = Caller::of(request)?;
        let printable = key.bytes().all(|byte| byte.is_ascii_graphic());
        if key.is_empty() || key.len() > LONGEST_REQUEST_KEY || !printable {
            return Err(ApiError::invalid(
                "request_key",
                format!(
                    "a request key has 1 to {LONGEST_REQUEST_KEY} printable ASCII characters without spaces; use a new \
                     UUID for each request and the same one when you repeat it"
                ),
            ));
        }
        let request_sha256 = Sha256::digest(request.get_ref().encode_to_vec()).to_vec();
        let key = v1::RequestKey { caller: caller.id(), key: key.to_owned(), request_sha256 };
        Ok(Write { context: self.clone(), key })
    }

    /// Begins a write about which something has to be decided before it can be proposed: the write, the request
    /// as checked, and the answer that it has already got. A repeated request is answered before anything is
    /// decided, for the first one may have changed what a decision would come to.
    ///
    /// # Errors
    /// A request without a key, one that the check refuses, and the refusal that was committed for it.
    pub fn begin<T: Message, Checked>(
        &self,
        request: Request<T>,
        key: impl FnOnce(&T) -> &str,
        check: impl FnOnce(T) -> Result<Checked, ApiError>,
    ) -> Result<(Write, Checked, Option<v1::Applied>), ApiError> {
        let write = self.write(&request, key(request.get_ref()))?;
        let request = check(request.into_inner())?;
        let answered = write.answered()?;
        Ok((write, request, answered))
    }

    /// Proposes a step on the way to an answer, which is not the answer itself and has no request key.
    ///
    /// # Errors
    /// The committed refusal, `Stale`, or that nothing can be committed in this reign.
    pub async fn propose_for(&self, reign: &Reign, command: Command) -> Result<v1::Applied, ApiError> {
        let command = loops::command(command);
        applied(self.consensus.propose_in_term(reign.term, command).await?.outcome)
    }
}

impl Write {
    /// The answer that this very request has already got, if it was made before.
    ///
    /// # Errors
    /// The committed refusal, or that the key was used for another request.
    fn answered(&self) -> Result<Option<v1::Applied>, ApiError> {
        let state = self.context.consensus.view().state();
        state.answer_to(&self.key).map(applied).transpose()
    }

    /// The answer that the request has already got; where it has none, what `decide` comes to.
    ///
    /// What `decide` refuses without a committed outcome is refused only by a member that still leads afterwards, and
    /// only if no other try of the request was answered meanwhile: one that is sent to several members happens once, and
    /// each of them says so.
    ///
    /// # Errors
    /// What `decide` came to, or that this member no longer leads.
    pub async fn once(
        &self,
        answered: Option<v1::Applied>,
        decide: impl Future<Output = Result<v1::Applied, ApiError>>,
    ) -> Result<v1::Applied, ApiError> {
        if let Some(applied) = answered {
            return Ok(applied);
        }
        let reign = self.context.reign()?;
        let decided = decide.await;
        let Err(ApiError::Rejected(_)) = decided else { return decided };
        self.context.consensus.read_barrier().await?;
        if reign.ended.is_cancelled() {
            return Err(no_longer_leads());
        }
        self.answered()?.map_or(decided, Ok)
    }

    /// Proposes the command and waits for what it comes to.
    ///
    /// # Errors
    /// The committed refusal, `Stale`, or that nothing can be committed now.
    pub async fn propose(&self, command: Command) -> Result<v1::Applied, ApiError> {
        let command = v1::Command {
            at_unix_ms: wall_clock::unix_ms(),
            request: Some(self.key.clone()),
            command: Some(command),
        };
        applied(self.context.consensus.propose(command).await?.outcome)
    }
}

fn no_longer_leads() -> ApiError {
    ApiError::Unavailable("this controller no longer leads; try again".into())
}

fn applied(outcome: v1::Outcome) -> Result<v1::Applied, ApiError> {
    match outcome.outcome {
        Some(outcome::Outcome::Applied(applied)) => Ok(applied),
        Some(outcome::Outcome::Rejected(rejected)) => Err(ApiError::Rejected(rejected)),
        Some(outcome::Outcome::Stale(stale)) => Err(ApiError::Stale(stale.message)),
        None => Err(ApiError::Internal("the command came to an outcome of a later release".into())),
    }
}

/// What a write answers.
#[must_use]
pub fn result(applied: &v1::Applied) -> Option<v1::WriteResult> {
    Some(v1::WriteResult { revision: applied.revision, operation: applied.operation })
}
