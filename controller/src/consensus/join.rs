//! How a new controller becomes a member, and how one that was removed learns of it: it asks any member, which hands
//! the question to the leader.
//!
//! The leader admits a store only under the id and name that an administrator announced, and only one store
//! per id for ever. It must never admit a second store under an id: the first may have voted.

use std::time::Duration;

use hawser_proto::v1::{self, raft_service_client::RaftServiceClient};
use tokio::time::{sleep, timeout};
use tonic::{Code, Request, Response, Status};

use super::{ProposeError, handle::Consensus, leadership::Role, network, types::StoredMembership};
use crate::view::Published;

/// For one question to one member.
const DEADLINE: Duration = Duration::from_secs(5);
/// Between two rounds of questions, and between two looks whether there is anything to ask.
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
            let refused_for_ever = admit(consensus, leadership.term, &name, &request).await?;
            Ok(Response::new(v1::JoinResponse { refused_for_ever }))
        }
        Role::Follower { leader: Some(leader) } if !was_handed_on => {
            ask(consensus, &leader, v1::JoinRequest { handed_on_for: name, ..request }).await
        }
        Role::Follower { .. } => Err(Status::unavailable("no leader is known; ask again")),
    }
}

/// The leader's decision. Returns why the store can never be a member; nothing where it is one.
async fn admit(
    consensus: &Consensus,
    term: u64,
    name: &str,
    request: &v1::JoinRequest,
) -> Result<String, Status> {
    let inner = &consensus.inner;
    let (raft_id, store) = (request.raft_id, request.store_incarnation);
    if request.cluster_id != inner.myself.identity.cluster_id {
        return Err(Status::failed_precondition(format!(
            "this is cluster {:?}, not {:?}",
            inner.myself.identity.cluster_id, request.cluster_id
        )));
    }
    let (ours, theirs) = (inner.myself.identity.lineage, request.lineage);
    if theirs != 0 && theirs < ours {
        return Ok(words::before_the_restore(name, theirs, ours));
    }
    if theirs > ours {
        return Err(Status::failed_precondition(format!(
            "controller {name} is of lineage {theirs}, and this one of lineage {ours}: the cluster was restored since, and \
             this controller has to go"
        )));
    }
    if store == 0 {
        return Err(Status::invalid_argument("store_incarnation: a store has to name itself"));
    }
    let Published { state, revision } = inner.view.published();
    let Some(member) = state.member(raft_id) else {
        // Raft may still need what it has promised.
        let is_leaving = inner.metrics().membership_config.membership().get_node(&raft_id).is_some();
        return match state.removed_member(raft_id) {
            Some(_) if is_leaving => Ok(String::new()),
            Some(removed) => Ok(words::removed(removed)),
            // Ids are log indices: this one is never given any more.
            None if raft_id <= revision => Ok(words::never_announced(raft_id, name)),
            None => Err(Status::not_found(format!(
                "no member {raft_id} was announced; run `hawser cluster add-member` for {name}"
            ))),
        };
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
        return Ok(words::lost_store(member));
    }
    inner.membership_changed.notify_one();
    Ok(String::new())
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
    let channel = network::channel(consensus.inner.transport.as_ref(), &member.address)
        .map_err(|reason| Status::unavailable(format!("{} at {}: {reason}", member.name, member.address)))?;
    let mut client = RaftServiceClient::new(channel);
    timeout(DEADLINE, client.join(request)).await.unwrap_or_else(|_| {
        Err(Status::deadline_exceeded(format!("{} at {} did not answer", member.name, member.address)))
    })
}

/// Asks the other members whether this one is a member, as long as it hears no leader; gives up where it was removed
/// or can never be one.
pub(super) async fn ask_while_unheard(consensus: Consensus) {
    let identity = &consensus.inner.myself.identity;
    let request = v1::JoinRequest {
        cluster_id: identity.cluster_id.clone(),
        raft_id: identity.raft_id,
        store_incarnation: identity.incarnation,
        handed_on_for: String::new(),
        lineage: identity.lineage,
    };
    let mut said = String::new();
    let mut was_member = consensus.is_member();
    loop {
        if let Some(removed) = removed_here(&consensus) {
            give_up(&consensus, words::removed(&removed));
            return;
        }
        if consensus.is_member() && !was_member {
            was_member = true;
            tracing::info!(member = identity.raft_id, "this controller is a member of the cluster");
        }
        if !consensus.hears_the_cluster() {
            for member in others(&consensus) {
                match ask(&consensus, &member, request.clone()).await {
                    Ok(answer) if answer.get_ref().refused_for_ever.is_empty() => break,
                    Ok(answer) => {
                        give_up(&consensus, answer.into_inner().refused_for_ever);
                        return;
                    }
                    // The same words once, not twice a second. Of a member, silence of the others is nothing new.
                    Err(refusal) if !was_member && said != refusal.message() => {
                        said = refusal.message().to_owned();
                        report(&member, &refusal);
                    }
                    Err(_) => {}
                }
            }
        }
        sleep(PAUSE).await;
    }
}

/// This member, if what it has applied says that it was removed and Raft needs its vote no more.
fn removed_here(consensus: &Consensus) -> Option<v1::Member> {
    let metrics = consensus.inner.metrics();
    let votes = |members: &StoredMembership| members.membership().voter_ids().any(|id| id == metrics.id);
    let is_needed = metrics.state.is_leader()
        || votes(&metrics.membership_config)
        || votes(&metrics.committed_membership_config);
    let state = consensus.view().state();
    state.removed_member(metrics.id).filter(|_| !is_needed).cloned()
}

/// Who may know whether this one is a member: the members that it knows, else those that introduced it.
fn others(consensus: &Consensus) -> Vec<v1::Member> {
    let identity = &consensus.inner.myself.identity;
    let mut others = consensus.members();
    others.extend(identity.introduced_by.iter().cloned());
    let mut addresses = std::collections::BTreeSet::from([identity.address.clone()]);
    others.retain(|member| addresses.insert(member.address.clone()));
    others
}

fn report(member: &v1::Member, refusal: &Status) {
    let reason = refusal.message();
    match refusal.code() {
        Code::NotFound | Code::PermissionDenied | Code::FailedPrecondition | Code::InvalidArgument => {
            tracing::error!(member = %member.name, reason, "the cluster does not admit this controller");
        }
        _ => tracing::warn!(member = %member.name, reason, "cannot join yet"),
    }
}

fn give_up(consensus: &Consensus, reason: String) {
    tracing::error!(%reason, "this controller is no member of the cluster and ends");
    consensus.inner.given_up.send_replace(reason);
}

/// What is told to a controller that can never be a member, and so to whoever runs it.
mod words {
    use hawser_proto::v1::Member;

    pub(super) fn removed(member: &Member) -> String {
        let Member { raft_id, name, address, .. } = member;
        format!(
            "controller {name} (member {raft_id}) was removed from the cluster, and its store is of no more use; to \
             have a controller here again, move its data directory away, run `hawser cluster add-member {name} \
             {address}` and start it with the order that this writes"
        )
    }

    pub(super) fn before_the_restore(name: &str, theirs: u64, ours: u64) -> String {
        format!(
            "the cluster was restored from a backup and is at lineage {ours}; the store of this controller is of lineage \
             {theirs} and is of no more use. Move the data directory away, run `hawser cluster add-member` for {name} and \
             start it with the order that this writes"
        )
    }

    pub(super) fn never_announced(raft_id: u64, name: &str) -> String {
        format!(
            "no member {raft_id} was ever announced, or it was removed long ago; move the data directory away, run \
             `hawser cluster add-member` for {name} and start it with the order that this writes"
        )
    }

    pub(super) fn lost_store(member: &Member) -> String {
        let Member { raft_id, name, address, .. } = member;
        format!(
            "controller {name} (member {raft_id}) has joined with another store before, and that one may have \
             promised what this one does not know: a lost store is not replaced under the same id. Run `hawser cluster \
             remove-member {name}`, then `hawser cluster add-member {name} {address}`, move the data directory away \
             and start the controller with the order that this writes"
        )
    }
}
