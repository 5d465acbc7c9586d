//! One port for all of gRPC: API, sessions, arbiter and Raft, behind mutual TLS and the door.

use std::{io, sync::Arc, time::Duration};

use hawser_proto::v1::{
    arbiter_service_server::ArbiterServiceServer, attachment_service_server::AttachmentServiceServer,
    cluster_service_server::ClusterServiceServer, node_service_server::NodeServiceServer,
    operation_service_server::OperationServiceServer, pool_service_server::PoolServiceServer,
    replica_service_server::ReplicaServiceServer, resource_group_service_server::ResourceGroupServiceServer,
    resource_service_server::ResourceServiceServer, session_service_server::SessionServiceServer,
    watch_service_server::WatchServiceServer,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{
    Error, Server,
    server::{Connected, ServerTlsConfig},
};

use super::{
    calls::Calls,
    context::Context,
    door::{DoorContext, DoorLayer, Identify},
    grpc::{
        arbiter::Arbiter, attachments::Attachments, cluster::Cluster, nodes::Nodes, operations::Operations,
        pools::Pools, replicas::Replicas, resource_groups::ResourceGroups, resources::Resources,
        sessions::Sessions, watch::Watch,
    },
    pages::Pages,
    random::Random,
    relay::Relay,
};
use crate::{
    consensus::{Consensus, Transport},
    leader::Standing,
};

/// Calls of one connection that are worked on at once; a relaying member carries many satellites' sessions.
const CONCURRENT_CALLS: usize = 1024;
/// A request holds names and sizes only. Reports, of all replicas of a node, are larger.
const REQUEST_LIMIT: usize = 256 * 1024;
const REPORT_LIMIT: usize = 16 * 1024 * 1024;
/// A power cut sends no goodbye: whoever does not answer a ping is taken for gone.
const PING_INTERVAL: Duration = Duration::from_secs(1);
const PING_TIMEOUT: Duration = Duration::from_millis(1_500);
/// Names of methods, callers and traces. HTTP/2 has no limit of its own.
const HEADERS_LIMIT: u32 = 16 * 1024;
/// Calls that a peer began and took back before this end had looked at them; more, and the connection is closed.
const TAKEN_BACK_LIMIT: usize = 20;
/// No call takes that long to begin its answer; the slowest waits for a take-over or receives a snapshot.
const CALL_LIMIT: Duration = Duration::from_secs(60);

/// What the server needs.
pub struct Parts {
    /// Id of the cluster that callers must belong to.
    pub cluster_id: String,
    /// This controller's name.
    pub name: String,
    /// Its certificate; none where connections say by themselves who is at their other end.
    pub tls: Option<ServerTlsConfig>,
    /// Tells who that is.
    pub identify: Identify,
    /// The way to the other controllers.
    pub transport: Arc<dyn Transport>,
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
pub async fn serve<Connections, Connection>(
    parts: Parts,
    connections: Connections,
    stopped: CancellationToken,
) -> Result<(), Error>
where
    Connections: Stream<Item = io::Result<Connection>>,
    Connection: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let Parts { cluster_id, name, tls, identify, transport, consensus, standing, random } = parts;
    let of_members = consensus.clone();
    let door = DoorLayer(Arc::new(DoorContext {
        cluster_id,
        identify,
        member: name,
        standing: standing.clone(),
        relay: Relay::new(transport),
        calls: Calls::default(),
        members: Box::new(move || of_members.members()),
    }));
    let raft = consensus.raft_service();
    let context = Context { consensus, standing, pages: Arc::new(Pages::default()), random };
    macro_rules! service {
        ($server:ident, $service:expr, $limit:expr) => {
            $server::new($service).max_decoding_message_size($limit)
        };
    }
    let mut server = Server::builder();
    if let Some(tls) = tls {
        server = server.tls_config(tls)?;
    }
    server
        .timeout(CALL_LIMIT)
        .concurrency_limit_per_connection(CONCURRENT_CALLS)
        .max_concurrent_streams(u32::try_from(CONCURRENT_CALLS).ok())
        .http2_max_header_list_size(HEADERS_LIMIT)
        .http2_max_pending_accept_reset_streams(Some(TAKEN_BACK_LIMIT))
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
        .serve_with_incoming_shutdown(connections, stopped.cancelled_owned())
        .await
}
