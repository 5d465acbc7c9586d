//! How a new controller becomes a member: it asks any member, which hands the question to the leader.
//!
//! The leader admits a store only under the id and name that an administrator announced, and only one store
//! per id for ever. It must never admit a second store under an id: the first may have voted.

use std::time::Duration;

use hawser_proto::v1::{self, raft_service_client::RaftServiceClient};
use tokio::time::{sleep, timeout};
use tonic::{Code, Request, Response, Status};

use super::{ProposeError, handle::Consensus, leadership::Role, network};

/// For one question to one member.
const DEADLINE: Duration = Duration::from_secs(5);
/// Between two rounds of questions.
const PAUSE: Duration = Duration::from_millis(500);

/// Answers a new controller, or hands its question to the leader.
pub(super) async fn answer(
    consensus: &Consensus,
    request: Request<v1::JoinRequest>,
) -> Result<Response<v1::JoinResponse>, Status> {
    let inner = &consensus.inner;
    let sender = inner.transport.controller_name(request.extensions())?;
    let request = request.into_inner();
    let was_handed_on = !request.handed_on_for.is_empty();
    // The sender is a controller of this cluster, so it may speak for another one.
    let name = if was_handed_on { request.handed_on_for.clone() } else { sender };
    let leadership = consensus.leadership().borrow().clone();
    match leadership.role {
        Role::Leader => {
            admit(consensus, leadership.term, &name, &request).await?;
            Ok(Response::new(v1::JoinResponse {}))
        }
        Role::Follower { leader: Some(leader) } if !was_handed_on => {
            ask(consensus, &leader, v1::JoinRequest { handed_on_for: name, ..request }).await
        }
        Role::Follower { .. } => Err(Status::unavailable("no leader is known; ask again")),
    }
}

/// The leader's decision.
async fn admit(
    consensus: &Consensus,
    term: u64,
    name: &str,
    request: &v1::JoinRequest,
) -> Result<(), Status> {
    let inner = &consensus.inner;
    let (raft_id, store) = (request.raft_id, request.store_incarnation);
    if request.cluster_id != inner.myself.identity.cluster_id {
        return Err(Status::failed_precondition(format!(
            "this is cluster {:?}, not {:?}",
            inner.myself.identity.cluster_id, request.cluster_id
        )));
    }
    if store == 0 {
        return Err(Status::invalid_argument("store_incarnation: a store has to name itself"));
    }
    let state = consensus.view().state();
    let Some(member) = state.member(raft_id) else {
        return Err(Status::not_found(format!(
            "no member {raft_id} was announced; run `hawser cluster add-member` for {name}"
        )));
    };
    if member.name != name {
        return Err(Status::permission_denied(format!(
            "member {raft_id} was announced as {}, the certificate says {name}",
            member.name
        )));
    }
    if member.store_incarnation == 0 {
        record(consensus, term, raft_id, store).await?;
    } else if member.store_incarnation != store {
        return Err(Status::failed_precondition(format!(
            "member {raft_id} ({name}) has joined with another store before; a lost store cannot be replaced \
             under the same id: remove the member and run `hawser cluster add-member` again"
        )));
    }
    inner.membership_changed.notify_one();
    Ok(())
}

async fn record(consensus: &Consensus, term: u64, raft_id: u64, store: u64) -> Result<(), Status> {
    let command = v1::RecordMemberJoined { raft_id, store_incarnation: store };
    let command = v1::command::Command::RecordMemberJoined(command);
    let committed =
        consensus.propose_in_term(term, super::handle::own_command(command)).await.map_err(|error| {
            match error {
                ProposeError::TooLarge { .. } => Status::internal(error.to_string()),
                _ => Status::unavailable(error.to_string()),
            }
        })?;
    match committed.outcome.outcome {
        Some(v1::outcome::Outcome::Applied(_)) => Ok(()),
        Some(v1::outcome::Outcome::Rejected(rejected)) => Err(Status::failed_precondition(rejected.message)),
        Some(v1::outcome::Outcome::Stale(stale)) => Err(Status::unavailable(stale.message)),
        None => Err(Status::internal("an outcome that this release does not know")),
    }
}

async fn ask(
    consensus: &Consensus,
    member: &v1::Member,
    request: v1::JoinRequest,
) -> Result<Response<v1::JoinResponse>, Status> {
    let endpoint = network::endpoint(consensus.inner.transport.as_ref(), &member.address)
        .map_err(|reason| Status::unavailable(format!("{} at {}: {reason}", member.name, member.address)))?;
    let mut client = RaftServiceClient::new(endpoint.connect_lazy());
    timeout(DEADLINE, client.join(request)).await.unwrap_or_else(|_| {
        Err(Status::deadline_exceeded(format!("{} at {} did not answer", member.name, member.address)))
    })
}

/// Asks the members that introduced this one, in turn, until it is a member itself.
pub(super) async fn ask_until_member(consensus: Consensus) {
    let identity = &consensus.inner.myself.identity;
    let request = v1::JoinRequest {
        cluster_id: identity.cluster_id.clone(),
        raft_id: identity.raft_id,
        store_incarnation: identity.incarnation,
        handed_on_for: String::new(),
    };
    let mut said = String::new();
    while !consensus.is_member() {
        for member in &identity.introduced_by {
            let Err(refusal) = ask(&consensus, member, request.clone()).await else {
                break;
            };
            // The same words once, not twice a second.
            if said != refusal.message() {
                said = refusal.message().to_owned();
                let final_refusal = matches!(
                    refusal.code(),
                    Code::NotFound
                        | Code::PermissionDenied
                        | Code::FailedPrecondition
                        | Code::InvalidArgument
                );
                if final_refusal {
                    tracing::error!(member = %member.name, reason = %said, "the cluster does not admit this controller");
                } else {
                    tracing::warn!(member = %member.name, reason = %said, "cannot join yet");
                }
            }
        }
        sleep(PAUSE).await;
    }
    tracing::info!(member = identity.raft_id, "this controller is a member of the cluster");
}
