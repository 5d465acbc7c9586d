//! One controller, ready to be asked: a gRPC client for each noun of the API.

use hawser_proto::v1::{
    attachment_service_client::AttachmentServiceClient, cluster_service_client::ClusterServiceClient,
    node_service_client::NodeServiceClient, operation_service_client::OperationServiceClient,
    pool_service_client::PoolServiceClient, replica_service_client::ReplicaServiceClient,
    resource_group_service_client::ResourceGroupServiceClient,
    resource_service_client::ResourceServiceClient, watch_service_client::WatchServiceClient,
};
use tokio::time::Instant;
use tonic::{
    Request, Status,
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

/// A page of 500 resources is well below this.
const LARGEST_ANSWER: usize = 16 << 20;

/// What carries a call: a channel that tells the server when the caller gives up.
pub type Carrier = InterceptedService<Channel, GiveUpAt>;

/// One controller and the time until which its answer is of use.
#[derive(Clone)]
pub struct Controller {
    carrier: Carrier,
}

impl Controller {
    pub(crate) fn new(channel: Channel, deadline: Instant) -> Self {
        Self { carrier: InterceptedService::new(channel, GiveUpAt(deadline)) }
    }
}

macro_rules! nouns {
    ($($name:ident: $client:ident, $what:literal;)*) => {
        impl Controller {
            $(
                #[doc = concat!("Its service for ", $what, ".")]
                #[must_use]
                pub fn $name(&self) -> $client<Carrier> {
                    $client::new(self.carrier.clone()).max_decoding_message_size(LARGEST_ANSWER)
                }
            )*
        }
    };
}

nouns! {
    attachments: AttachmentServiceClient, "attachments";
    cluster: ClusterServiceClient, "the cluster itself";
    nodes: NodeServiceClient, "nodes";
    operations: OperationServiceClient, "operations";
    pools: PoolServiceClient, "storage pools";
    replicas: ReplicaServiceClient, "replicas";
    resource_groups: ResourceGroupServiceClient, "resource groups";
    resources: ResourceServiceClient, "resources";
    watch: WatchServiceClient, "changes";
}

/// Writes the time that is left into each request.
#[derive(Clone)]
pub struct GiveUpAt(Instant);

impl Interceptor for GiveUpAt {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.set_timeout(self.0.saturating_duration_since(Instant::now()));
        Ok(request)
    }
}
