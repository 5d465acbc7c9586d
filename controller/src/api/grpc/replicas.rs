//! Replicas, as a table across resources.

use hawser_proto::v1::{self, replica_service_server::ReplicaService};
use tonic::{Request, Response, Status};

use crate::{
    api::{context::Context, pages::pair_key, view},
    leader::conditions,
};

/// `ReplicaService`.
pub struct Replicas(pub Context);

#[tonic::async_trait]
impl ReplicaService for Replicas {
    async fn list_replicas(
        &self,
        request: Request<v1::ListReplicasRequest>,
    ) -> Result<Response<v1::ListReplicasResponse>, Status> {
        let request = request.into_inner();
        let page = self.0.page(request.consistency(), request.page.clone()).await?;
        let reading = &page.reading;
        let resources = reading
            .state
            .resources()
            .filter(|resource| request.resource.is_empty() || resource.name == request.resource);
        // In the order of the keys, whatever the order in the resource is.
        let all = resources.flat_map(|resource| {
            let mut replicas: Vec<_> = resource
                .replicas
                .iter()
                .filter(|replica| replica.lifecycle() != v1::ReplicaLifecycle::Removed)
                .filter(|replica| request.node.is_empty() || replica.node == request.node)
                .map(|replica| (pair_key(&resource.name, &replica.node), (resource, replica)))
                .collect();
            replicas.sort_by(|(one, _), (other, _)| one.cmp(other));
            replicas
        });
        let (replicas, next_page_token) = self.0.take(&page, all);
        let replicas = replicas
            .into_iter()
            .map(|(resource, replica)| v1::NamedReplicaView {
                resource: resource.name.clone(),
                replica: Some(view::replica(reading, &resource.name, replica)),
                conditions: conditions::of_replica(
                    &reading.state,
                    reading.observed.as_ref(),
                    resource,
                    replica,
                ),
            })
            .collect();
        Ok(Response::new(v1::ListReplicasResponse { replicas, revision: reading.revision, next_page_token }))
    }
}
