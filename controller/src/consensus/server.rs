//! The gRPC service that the other members speak to.
//!
//! It must never hand a request to openraft before it is certain who sent it and for which store it is
//! meant.

use std::{sync::Arc, time::Duration};

use hawser_planted::{Defect, is_planted};
use hawser_process::beside::beside;
use hawser_proto::v1::{
    self,
    append_entries_response::Result as Answer,
    raft_service_server::{RaftService, RaftServiceServer},
};
use openraft::{
    async_runtime::watch::WatchReceiver,
    errors::{Fatal, RaftError},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, TransferLeaderError, TransferLeaderRequest, VoteRequest,
        VoteResponse,
    },
    type_config::alias::SnapshotOf,
};
use tokio::time::timeout;
use tonic::{Extensions, Request, Response, Status, Streaming};

use super::{
    codec::{
        entry_from_stored, log_id_from_stored, log_id_to_stored, meta_from_header, vote_from_stored,
        vote_to_stored,
    },
    handle::Consensus,
    join,
    network::MESSAGE_LIMIT,
    parties::Known,
    types::{TypeConfig, Vote, log_id},
};
use crate::view::Published;

/// Longest silence of the sender of a snapshot.
const SNAPSHOT_SILENCE: Duration = Duration::from_secs(10);

/// What answers the other members.
#[derive(Clone)]
pub struct RaftDoor {
    consensus: Consensus,
    /// One snapshot is received at a time.
    receiving: Arc<tokio::sync::Mutex<()>>,
}

impl RaftDoor {
    /// The service, ready to be added to the member's gRPC server.
    pub(super) fn service(consensus: Consensus) -> RaftServiceServer<Self> {
        RaftServiceServer::new(Self { consensus, receiving: Arc::default() })
            .max_decoding_message_size(MESSAGE_LIMIT)
            .max_encoding_message_size(MESSAGE_LIMIT)
    }

    fn check(
        &self,
        extensions: &Extensions,
        parties: Option<&v1::Parties>,
        vote: Option<&v1::StoredVote>,
    ) -> Result<(), Status> {
        let inner = &self.consensus.inner;
        let name = inner.transport.controller_name(extensions)?;
        // These numbers change with the members, others with every entry.
        let members = inner.raft.server_metrics().borrow_watched().membership_config.clone();
        let Published { state, revision } = inner.view.published();
        let known = Known { members: members.membership(), state: &state, applied: revision };
        inner.myself.check(parties, vote, &name, known).inspect_err(|refusal| {
            tracing::warn!(sender = %name, reason = refusal.message(), "refused a Raft request");
        })
    }

    async fn answer_vote(
        &self,
        request: Request<v1::VoteRequest>,
        is_real: bool,
    ) -> Result<Response<v1::VoteResponse>, Status> {
        let (asked, extensions) = (request.get_ref(), request.extensions());
        self.check(extensions, asked.parties.as_ref(), asked.vote.as_ref())?;
        let request = request.into_inner();
        let mut candidates_last = request.last_log_id.as_ref().map(log_id_from_stored);
        if is_planted(Defect::AcknowledgedDropped) {
            candidates_last = Some(log_id(u64::MAX, u64::MAX));
        }
        let mut rpc = VoteRequest::new(required_vote(request.vote.as_ref())?, candidates_last);
        rpc.leadership_transfer = request.leader_lease_ignored;
        let raft = &self.consensus.inner.raft;
        let answer = if is_real { raft.vote(rpc).await } else { raft.pre_vote(rpc).await };
        let VoteResponse { vote, vote_granted, last_log_id } = answer.map_err(stopped)?;
        Ok(Response::new(v1::VoteResponse {
            vote: Some(vote_to_stored(&vote)),
            granted: vote_granted,
            last_log_id: last_log_id.as_ref().map(log_id_to_stored),
        }))
    }
}

#[tonic::async_trait]
impl RaftService for RaftDoor {
    async fn append_entries(
        &self,
        request: Request<v1::AppendEntriesRequest>,
    ) -> Result<Response<v1::AppendEntriesResponse>, Status> {
        let (asked, extensions) = (request.get_ref(), request.extensions());
        self.check(extensions, asked.parties.as_ref(), asked.vote.as_ref())?;
        let request = request.into_inner();
        let rpc = AppendEntriesRequest::<TypeConfig> {
            vote: required_vote(request.vote.as_ref())?,
            prev_log_id: request.previous.as_ref().map(log_id_from_stored),
            entries: request
                .entries
                .into_iter()
                .map(entry_from_stored)
                .collect::<Result<_, _>>()
                .map_err(|malformed| Status::invalid_argument(malformed.0))?,
            leader_commit: request.leader_commit.as_ref().map(log_id_from_stored),
        };
        let inner = &self.consensus.inner;
        let answer = inner.raft.append_entries(rpc).await.map_err(stopped)?;
        if !matches!(answer, AppendEntriesResponse::HigherVote(_)) {
            inner.heard.note();
        }
        let (result, matched, higher_vote) = match answer {
            AppendEntriesResponse::Success => (Answer::Success, None, None),
            AppendEntriesResponse::PartialSuccess(matched) => (Answer::PartialSuccess, matched, None),
            AppendEntriesResponse::Conflict => (Answer::Conflict, None, None),
            AppendEntriesResponse::HigherVote(vote) => (Answer::HigherVote, None, Some(vote)),
        };
        Ok(Response::new(v1::AppendEntriesResponse {
            result: result.into(),
            matched: matched.as_ref().map(log_id_to_stored),
            higher_vote: higher_vote.as_ref().map(vote_to_stored),
        }))
    }

    async fn vote(&self, request: Request<v1::VoteRequest>) -> Result<Response<v1::VoteResponse>, Status> {
        self.answer_vote(request, true).await
    }

    async fn pre_vote(
        &self,
        request: Request<v1::VoteRequest>,
    ) -> Result<Response<v1::VoteResponse>, Status> {
        self.answer_vote(request, false).await
    }

    async fn transfer_leader(
        &self,
        request: Request<v1::TransferLeaderRequest>,
    ) -> Result<Response<v1::TransferLeaderResponse>, Status> {
        let (asked, extensions) = (request.get_ref(), request.extensions());
        self.check(extensions, asked.parties.as_ref(), asked.from_leader.as_ref())?;
        let request = request.into_inner();
        let rpc = TransferLeaderRequest::new(
            required_vote(request.from_leader.as_ref())?,
            request.to,
            request.last_log_id.as_ref().map(log_id_from_stored),
        );
        let answer = self
            .consensus
            .inner
            .raft
            .handle_transfer_leader(rpc)
            .await
            .map_err(|fatal| stopped(RaftError::Fatal(fatal)))?;
        Ok(Response::new(match answer {
            Ok(()) => v1::TransferLeaderResponse::default(),
            Err(TransferLeaderError::VoteChanged { actual, .. }) => v1::TransferLeaderResponse {
                other_vote: Some(vote_to_stored(&actual)),
                ..v1::TransferLeaderResponse::default()
            },
            Err(TransferLeaderError::LogNotFlushed { actual, .. }) => v1::TransferLeaderResponse {
                behind: true,
                last_log_id: actual.as_ref().map(log_id_to_stored),
                ..v1::TransferLeaderResponse::default()
            },
        }))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<v1::InstallSnapshotRequest>>,
    ) -> Result<Response<v1::InstallSnapshotResponse>, Status> {
        let (_, extensions, mut messages) = request.into_parts();
        let first = next_message(&mut messages)
            .await?
            .ok_or_else(|| Status::invalid_argument("a snapshot without a first message"))?;
        self.check(&extensions, first.parties.as_ref(), first.vote.as_ref())?;
        let vote = required_vote(first.vote.as_ref())?;
        let header = first.header.ok_or_else(|| Status::invalid_argument("a snapshot without a header"))?;
        let meta = meta_from_header(&header).map_err(|malformed| Status::invalid_argument(malformed.0))?;

        let _one_at_a_time = self.receiving.lock().await;
        let inner = &self.consensus.inner;
        let mut incoming = inner.snapshots.receive(&header).map_err(storing)?;
        while let Some(message) = next_message(&mut messages).await? {
            // A chunk is small and goes to the page cache; only `finish` waits for the disk.
            incoming.write(&message.chunk).map_err(storing)?;
        }
        let snapshot = beside(move || incoming.finish()).await.map_err(storing)?;
        if *snapshot.header() != header {
            return Err(Status::data_loss("the snapshot is another one than was announced"));
        }
        // openraft takes a snapshot that cannot be installed for a failure of this member's own disk and
        // stops for good; so what was damaged on the way is found out before.
        let verified = snapshot.clone();
        beside(move || verified.load()).await.map_err(|error| Status::data_loss(error.to_string()))?;
        let answer = inner
            .raft
            .install_full_snapshot(vote, SnapshotOf::<TypeConfig, _> { meta, snapshot })
            .await
            .map_err(|fatal| stopped(RaftError::Fatal(fatal)))?;
        inner.heard.note();
        Ok(Response::new(v1::InstallSnapshotResponse { vote: Some(vote_to_stored(&answer.vote)) }))
    }

    async fn join(&self, request: Request<v1::JoinRequest>) -> Result<Response<v1::JoinResponse>, Status> {
        join::answer(&self.consensus, request).await
    }
}

async fn next_message(
    messages: &mut Streaming<v1::InstallSnapshotRequest>,
) -> Result<Option<v1::InstallSnapshotRequest>, Status> {
    timeout(SNAPSHOT_SILENCE, messages.message())
        .await
        .map_err(|_| Status::deadline_exceeded("the sender of the snapshot fell silent"))?
}

fn required_vote(vote: Option<&v1::StoredVote>) -> Result<Vote, Status> {
    vote.map(vote_from_stored).ok_or_else(|| Status::invalid_argument("a Raft request without a vote"))
}

fn storing(error: std::io::Error) -> Status {
    Status::internal(format!("cannot store the snapshot: {error}"))
}

fn stopped(error: RaftError<TypeConfig>) -> Status {
    let RaftError::Fatal(fatal) = error;
    match fatal {
        Fatal::Stopped => Status::unavailable("this controller's consensus has stopped"),
        other => Status::unavailable(format!("this controller's consensus has failed: {other}")),
    }
}
