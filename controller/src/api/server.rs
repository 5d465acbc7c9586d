//! One port for all of gRPC: API, sessions, arbiter and Raft, behind mutual TLS and the door.

use std::{sync::Arc, time::Duration};

use hawser_process::tls::Identity;
use hawser_proto::v1::{
    arbiter_service_server::ArbiterServiceServer, attachment_service_server::AttachmentServiceServer,
    cluster_service_server::ClusterServiceServer, node_service_server::NodeServiceServer,
    operation_service_server::OperationServiceServer, pool_service_server::PoolServiceServer,
    replica_service_server::ReplicaServiceServer, resource_group_service_server::ResourceGroupServiceServer,
    resource_service_server::ResourceServiceServer, session_service_server::SessionServiceServer,
    watch_service_server::WatchServiceServer,
};
use tokio::{net::TcpListener, sync::watch};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Error, Server};

use super::{
    context::Context,
    door::{DoorContext, DoorLayer},
    grpc::{
        arbiter::Arbiter, attachments::Attachments, cluster::Cluster, nodes::Nodes, operations::Operations,
        pools::Pools, replicas::Replicas, resource_groups::ResourceGroups, resources::Resources,
        sessions::Sessions, watch::Watch,
    },
    pages::Pages,
    random::Random,
    relay::Relay,
};
use crate::{consensus::Consensus, leader::Standing};

/// Calls of one connection that are worked on at once; a relaying member carries many satellites' sessions.
const CONCURRENT_CALLS: usize = 1024;
/// A request holds names and sizes only. Reports, of all replicas of a node, are larger.
const REQUEST_LIMIT: usize = 256 * 1024;
const REPORT_LIMIT: usize = 16 * 1024 * 1024;
/// A power cut sends no goodbye: whoever does not answer a ping is taken for gone.
const PING_INTERVAL: Duration = Duration::from_secs(1);
const PING_TIMEOUT: Duration = Duration::from_millis(1_500);
/// No call takes that long to begin its answer; the slowest waits for a take-over or receives a snapshot.
const CALL_LIMIT: Duration = Duration::from_secs(60);

/// What the server needs.
pub struct Parts {
    /// This controller's certificate.
    pub identity: Identity,
    /// The state.
    pub consensus: Consensus,
    /// Who leads.
    pub standing: watch::Receiver<Standing>,
    /// For secrets.
    pub random: Random,
}

/// Serves until `stopped`; calls under way are then given up by their own tokens.
///
/// # Errors
/// If TLS or the listener cannot be used.
pub async fn serve(parts: Parts, listener: TcpListener, stopped: CancellationToken) -> Result<(), Error> {
    let Parts { identity, consensus, standing, random } = parts;
    let of_members = consensus.clone();
    let door = DoorLayer(Arc::new(DoorContext {
        cluster_id: identity.own().cluster_id.clone(),
        member: identity.own().name.clone(),
        standing: standing.clone(),
        relay: Relay::new(identity.clone()),
        members: Box::new(move || of_members.members()),
    }));
    let raft = consensus.raft_service();
    let context = Context { consensus, standing, pages: Arc::new(Pages::default()), random };
    macro_rules! service {
        ($server:ident, $service:expr, $limit:expr) => {
            $server::new($service).max_decoding_message_size($limit)
        };
    }
    Server::builder()
        .tls_config(identity.server_tls())?
        .tcp_nodelay(true)
        .timeout(CALL_LIMIT)
        .concurrency_limit_per_connection(CONCURRENT_CALLS)
        .max_concurrent_streams(u32::try_from(CONCURRENT_CALLS).ok())
        .http2_keepalive_interval(Some(PING_INTERVAL))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .layer(door)
        .add_service(raft)
        .add_service(service!(SessionServiceServer, Sessions(context.clone()), REPORT_LIMIT))
        .add_service(service!(ArbiterServiceServer, Arbiter(context.clone()), REQUEST_LIMIT))
        .add_service(service!(ClusterServiceServer, Cluster(context.clone()), REQUEST_LIMIT))
        .add_service(service!(NodeServiceServer, Nodes(context.clone()), REQUEST_LIMIT))
        .add_service(service!(PoolServiceServer, Pools(context.clone()), REQUEST_LIMIT))
        .add_service(service!(ResourceGroupServiceServer, ResourceGroups(context.clone()), REQUEST_LIMIT))
        .add_service(service!(ResourceServiceServer, Resources(context.clone()), REQUEST_LIMIT))
        .add_service(service!(ReplicaServiceServer, Replicas(context.clone()), REQUEST_LIMIT))
        .add_service(service!(AttachmentServiceServer, Attachments(context.clone()), REQUEST_LIMIT))
        .add_service(service!(OperationServiceServer, Operations(context.clone()), REQUEST_LIMIT))
        .add_service(service!(WatchServiceServer, Watch(context), REQUEST_LIMIT))
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stopped.cancelled_owned())
        .await
}
