//! Speaks to the other members for openraft.
//!
//! Heartbeats and snapshots have connections of their own, so that a snapshot never delays a heartbeat.
//! Every call has a deadline; a member that is down is reported as unreachable, so that openraft backs off.

use std::{future::Future, io, sync::Arc, time::Duration};

use hawser_process::beside::beside;
use hawser_proto::v1::{self, raft_service_client::RaftServiceClient};
use openraft::{
    OptionalSend, RPCTypes, RaftNetworkFactory,
    errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable},
    network::{RPCOption, RaftNetworkV2},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderError,
        TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
    },
    type_config::alias::SnapshotOf,
};
use tokio::sync::mpsc;
use tonic::{Code, Response, Status, transport::Channel};

use super::{
    codec::{entry_to_stored, log_id_from_stored, log_id_to_stored, vote_from_stored, vote_to_stored},
    parties::Myself,
    snapshot::SnapshotFile,
    transport::Transport,
    types::{LogId, Node, TypeConfig, Vote},
};

/// Largest message between members: a batch of entries is at most a quarter of it.
pub(super) const MESSAGE_LIMIT: usize = 4 * 1024 * 1024;
/// Time to reach a member. A power cut answers nothing.
const CONNECT_DEADLINE: Duration = Duration::from_secs(1);
/// How soon a silent connection is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// Time for a member to store entries. Its disk may take longer than a heartbeat may; heartbeats go their
/// own way, so waiting costs nothing but the order of the entries.
const STORE_DEADLINE: Duration = Duration::from_secs(2);
const SNAPSHOT_CHUNK: usize = 256 * 1024;
/// Chunks of a snapshot under way.
const SNAPSHOT_CHUNKS_AHEAD: usize = 4;

type Failure = RPCError<TypeConfig>;

/// A channel with the settings that all connections between members have.
pub(super) fn channel(transport: &dyn Transport, address: &str) -> Result<Channel, String> {
    let endpoint = transport
        .endpoint(address)?
        .connect_timeout(CONNECT_DEADLINE)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true);
    Ok(transport.channel(&endpoint))
}

/// Makes the connections.
#[derive(Clone)]
pub(super) struct Network {
    pub(super) myself: Arc<Myself>,
    pub(super) transport: Arc<dyn Transport>,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Peer;

    // Each call makes a connection of its own, also for heartbeats and snapshots.
    async fn new_client(&mut self, target: u64, node: &Node) -> Peer {
        let client = channel(self.transport.as_ref(), &node.address).map(|channel| {
            RaftServiceClient::new(channel)
                .max_decoding_message_size(MESSAGE_LIMIT)
                .max_encoding_message_size(MESSAGE_LIMIT)
        });
        Peer { target, own_id: self.myself.identity.raft_id, parties: self.myself.to(target, node), client }
    }
}

/// One connection to another member.
pub(super) struct Peer {
    target: u64,
    own_id: u64,
    parties: v1::Parties,
    client: Result<RaftServiceClient<Channel>, String>,
}

impl Peer {
    async fn call<Answer, Call, Answered>(
        &self,
        action: RPCTypes,
        deadline: Duration,
        call: Call,
    ) -> Result<Answer, Failure>
    where
        Call: FnOnce(RaftServiceClient<Channel>) -> Answered,
        Answered: Future<Output = Result<Response<Answer>, Status>>,
    {
        let client = self.client.clone().map_err(Unreachable::from_string)?;
        match tokio::time::timeout(deadline, call(client)).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(self.failure(action, deadline, &status)),
            Err(_) => Err(self.timeout(action, deadline)),
        }
    }

    fn timeout(&self, action: RPCTypes, timeout: Duration) -> Failure {
        Timeout { action, id: self.own_id, target: self.target, timeout }.into()
    }

    fn failure(&self, action: RPCTypes, deadline: Duration, status: &Status) -> Failure {
        match status.code() {
            Code::DeadlineExceeded | Code::Cancelled => self.timeout(action, deadline),
            Code::FailedPrecondition | Code::PermissionDenied | Code::Unauthenticated => {
                // Will not change by itself, so an operator has to read it.
                tracing::warn!(member = self.target, reason = status.message(), "a member refuses this one");
                Unreachable::from_string(status.message()).into()
            }
            Code::Unavailable | Code::Unknown | Code::Unimplemented => {
                Unreachable::from_string(status.message()).into()
            }
            _ => NetworkError::from_string(status.message()).into(),
        }
    }
}

fn malformed(what: &str) -> Failure {
    NetworkError::from_string(format!("an answer without {what}")).into()
}

impl RaftNetworkV2<TypeConfig> for Peer {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, Failure> {
        let deadline =
            if rpc.entries.is_empty() { option.soft_ttl() } else { option.soft_ttl().max(STORE_DEADLINE) };
        let request = v1::AppendEntriesRequest {
            parties: Some(self.parties.clone()),
            vote: Some(vote_to_stored(&rpc.vote)),
            previous: rpc.prev_log_id.as_ref().map(log_id_to_stored),
            entries: rpc.entries.iter().map(entry_to_stored).collect(),
            leader_commit: rpc.leader_commit.as_ref().map(log_id_to_stored),
        };
        let answer = self
            .call(RPCTypes::AppendEntries, deadline, |mut client| async move {
                client.append_entries(request).await
            })
            .await?;
        use v1::append_entries_response::Result as Answer;
        match answer.result() {
            Answer::Success => Ok(AppendEntriesResponse::Success),
            Answer::PartialSuccess => {
                Ok(AppendEntriesResponse::PartialSuccess(answer.matched.as_ref().map(log_id_from_stored)))
            }
            Answer::Conflict => Ok(AppendEntriesResponse::Conflict),
            Answer::HigherVote => {
                let vote = answer.higher_vote.as_ref().ok_or_else(|| malformed("the higher vote"))?;
                Ok(AppendEntriesResponse::HigherVote(vote_from_stored(vote)))
            }
            Answer::Unspecified => Err(malformed("a result")),
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Failure> {
        let request = vote_request(&self.parties, &rpc);
        let answer = self
            .call(RPCTypes::Vote, option.soft_ttl(), |mut client| async move { client.vote(request).await })
            .await?;
        vote_response(&answer)
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Failure> {
        let request = vote_request(&self.parties, &rpc);
        let answer =
            self.call(RPCTypes::Vote, option.soft_ttl(), |mut client| async move {
                client.pre_vote(request).await
            })
            .await?;
        vote_response(&answer)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<TypeConfig, SnapshotFile>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let file = snapshot.snapshot;
        let first = v1::InstallSnapshotRequest {
            parties: Some(self.parties.clone()),
            vote: Some(vote_to_stored(&vote)),
            header: Some(file.header().clone()),
            chunk: Vec::new(),
        };
        let (chunks, outgoing) = mpsc::channel(SNAPSHOT_CHUNKS_AHEAD);
        // Ends when the file or the receiver does. A file that cannot be read ends the stream early, and
        // the receiver refuses what is incomplete.
        let reading = tokio::spawn(send_file(file, first, chunks));
        let stream = tokio_stream::wrappers::ReceiverStream::new(outgoing);
        let transfer = self.call(RPCTypes::InstallSnapshot, option.soft_ttl(), |mut client| async move {
            client.install_snapshot(stream).await
        });
        let answer = tokio::select! {
            answer = transfer => answer?,
            closed = cancel => return Err(StreamingError::Closed(closed)),
        };
        if let Ok(Err(error)) = reading.await {
            return Err(StreamingError::Network(NetworkError::new(&error)));
        }
        let vote = answer.vote.as_ref().ok_or_else(|| malformed("a vote"))?;
        Ok(SnapshotResponse::new(vote_from_stored(vote)))
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, Failure> {
        let request = v1::TransferLeaderRequest {
            parties: Some(self.parties.clone()),
            from_leader: Some(vote_to_stored(rpc.from_leader())),
            to: *rpc.to_node_id(),
            last_log_id: rpc.last_log_id().map(log_id_to_stored),
        };
        let answer = self
            .call(RPCTypes::TransferLeader, option.soft_ttl(), |mut client| async move {
                client.transfer_leader(request).await
            })
            .await?;
        if let Some(actual) = &answer.other_vote {
            return Ok(Err(TransferLeaderError::VoteChanged {
                expected: *rpc.from_leader(),
                actual: vote_from_stored(actual),
            }));
        }
        if answer.behind {
            return Ok(Err(TransferLeaderError::LogNotFlushed {
                expected: rpc.last_log_id().copied(),
                actual: answer.last_log_id.as_ref().map(log_id_from_stored),
            }));
        }
        Ok(Ok(()))
    }
}

fn vote_request(parties: &v1::Parties, rpc: &VoteRequest<TypeConfig>) -> v1::VoteRequest {
    v1::VoteRequest {
        parties: Some(parties.clone()),
        vote: Some(vote_to_stored(&rpc.vote)),
        last_log_id: rpc.last_log_id.as_ref().map(log_id_to_stored),
        leader_lease_ignored: rpc.leadership_transfer,
    }
}

fn vote_response(answer: &v1::VoteResponse) -> Result<VoteResponse<TypeConfig>, Failure> {
    let vote = answer.vote.as_ref().ok_or_else(|| malformed("a vote"))?;
    let last: Option<LogId> = answer.last_log_id.as_ref().map(log_id_from_stored);
    Ok(VoteResponse::new(vote_from_stored(vote), last, answer.granted))
}

async fn send_file(
    file: SnapshotFile,
    first: v1::InstallSnapshotRequest,
    chunks: mpsc::Sender<v1::InstallSnapshotRequest>,
) -> io::Result<()> {
    let mut message = first;
    let mut offset = 0;
    loop {
        if chunks.send(message).await.is_err() {
            return Ok(());
        }
        let reader = file.clone();
        let chunk = beside(move || reader.read_at(offset, SNAPSHOT_CHUNK)).await?;
        if chunk.is_empty() {
            return Ok(());
        }
        offset += chunk.len() as u64;
        message = v1::InstallSnapshotRequest { chunk, ..v1::InstallSnapshotRequest::default() };
    }
}
