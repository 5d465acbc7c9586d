//! Resources: create, delete, show.
//!
//! Creating places on the state and on what is observed, then proposes the placement with its revision; should
//! the world have moved, it places again.

use std::collections::BTreeSet;

use hawser_proto::{
    names, sizes,
    v1::{self, command::Command, resource_service_server::ResourceService},
};
use hawser_state::placement::{Placement, PlacementRequest, place};
use tonic::{Request, Response, Status};

use super::patience::with_patience;
use crate::{
    api::{
        context::{Context, Write, result},
        error::ApiError,
        read_mask::ReadMask,
        view,
    },
    leader::{conditions, numbers, placement_facts},
};

/// Group of a request that names none.
const DEFAULT_GROUP: &str = "default";
/// Placements that are tried while others change the cluster.
pub(super) const PLACEMENT_ATTEMPTS: usize = 8;
/// More volumes no resource can have.
const MOST_VOLUMES: usize = 64;

/// `ResourceService`.
pub struct Resources(pub Context);

#[tonic::async_trait]
impl ResourceService for Resources {
    async fn create_resource(
        &self,
        request: Request<v1::CreateResourceRequest>,
    ) -> Result<Response<v1::CreateResourceResponse>, Status> {
        let (write, request, answered) = self.0.begin(request, |request| &request.request_key, checked)?;
        let decide = async {
            self.0.settled()?;
            self.create(&write, &request).await
        };
        let applied = write.once(answered, decide).await?;
        let state = self.0.consensus.view().state();
        let nodes = state
            .resource(&request.name)
            .map(|resource| resource.replicas.iter().map(|replica| replica.node.clone()).collect())
            .unwrap_or_default();
        Ok(Response::new(v1::CreateResourceResponse { result: result(&applied), nodes }))
    }

    async fn delete_resource(
        &self,
        request: Request<v1::DeleteResourceRequest>,
    ) -> Result<Response<v1::DeleteResourceResponse>, Status> {
        let write = self.0.write(&request, &request.get_ref().request_key)?;
        let v1::DeleteResourceRequest { name, .. } = request.into_inner();
        names::resource_name("name", &name).map_err(ApiError::from)?;
        let applied = write.propose(Command::DeleteResource(v1::DeleteResource { name })).await?;
        Ok(Response::new(v1::DeleteResourceResponse { result: result(&applied) }))
    }

    async fn list_resources(
        &self,
        request: Request<v1::ListResourcesRequest>,
    ) -> Result<Response<v1::ListResourcesResponse>, Status> {
        let request = request.into_inner();
        let mask = ReadMask::new(request.read_mask.as_ref(), &view::RESOURCE_FIELDS)?;
        let page = self.0.page(request.consistency(), request.page.clone()).await?;
        let reading = &page.reading;
        let differs = |found: &v1::Resource| {
            !conditions::of_resource(&reading.state, reading.observed.as_ref(), found).is_empty()
        };
        let all = reading.state.resources().filter(|found| {
            (request.name.is_empty() || found.name == request.name)
                && (request.group.is_empty() || found.group == request.group)
                && (request.node.is_empty() || has_replica_on(found, &request.node))
                && (!request.differing_only || differs(found))
        });
        let (resources, next_page_token) = self.0.take(&page, all.map(|found| (found.name.clone(), found)));
        let resources = resources.into_iter().map(|found| view::resource(reading, found, &mask)).collect();
        Ok(Response::new(v1::ListResourcesResponse {
            resources,
            revision: page.reading.revision,
            next_page_token,
        }))
    }
}

fn has_replica_on(resource: &v1::Resource, node: &str) -> bool {
    let mut replicas = resource.replicas.iter();
    replicas.any(|replica| replica.node == node && replica.lifecycle() != v1::ReplicaLifecycle::Removed)
}

impl Resources {
    async fn create(
        &self,
        write: &Write,
        request: &v1::CreateResourceRequest,
    ) -> Result<v1::Applied, ApiError> {
        let (shared_secret, day0_generation_id) = self.0.random.secrets();
        let mut stale = String::new();
        for _ in 0..PLACEMENT_ATTEMPTS {
            let placement =
                with_patience(&self.0, v1::RejectionReason::NoCapacity, || self.place(request)).await?;
            let observed = self.0.reign()?.observed.picture();
            let state = self.0.consensus.view().state();
            let cluster = state.cluster();
            let command = v1::CreateResource {
                avoided_minors: numbers::avoided_minors(cluster, &observed, &placement.replicas),
                name: request.name.clone(),
                group: request.group.clone(),
                volume_sizes: request.volume_sizes.clone(),
                placed: numbers::with_avoided_ports(cluster, &observed, placement.replicas),
                computed_at_revision: placement.computed_at_revision,
                shared_secret: shared_secret.clone(),
                day0_generation_id,
            };
            match write.propose(Command::CreateResource(command)).await {
                Err(ApiError::Stale(message)) => stale = message,
                other => return other,
            }
        }
        Err(ApiError::Stale(stale))
    }

    fn place(&self, request: &v1::CreateResourceRequest) -> Result<Placement, ApiError> {
        let reign = self.0.reign()?;
        let state = self.0.consensus.view().state();
        if let Some(present) = state.resource(&request.name) {
            let going = present.lifecycle() == v1::ResourceLifecycle::Deleting;
            let hint = if going { "is still being deleted" } else { "exists already" };
            return Err(ApiError::Rejected(v1::Rejected {
                reason: v1::RejectionReason::AlreadyExists.into(),
                field: "name".into(),
                message: format!("resource {} {hint}; choose another name", request.name),
            }));
        }
        let group = state.group(&request.group).ok_or_else(|| {
            ApiError::Rejected(v1::Rejected {
                reason: v1::RejectionReason::NotFound.into(),
                field: "group".into(),
                message: format!(
                    "there is no group {}; create it with `hawser group create {}`",
                    request.group, request.group
                ),
            })
        })?;
        let wanted = PlacementRequest {
            replicas: if request.replicas == 0 { group.replicas } else { request.replicas },
            pool: if request.pool.is_empty() { group.pool.clone() } else { request.pool.clone() },
            nodes: request.nodes.clone(),
            layers: group.layers().collect(),
            volume_sizes: request.volume_sizes.clone(),
        };
        let facts = placement_facts::gather(&state, &reign.observed.picture());
        Ok(place(&state, &facts, &wanted)?)
    }
}

/// The request with everything that can be checked without a state, and the sizes that volumes really get.
fn checked(mut request: v1::CreateResourceRequest) -> Result<v1::CreateResourceRequest, ApiError> {
    names::resource_name("name", &request.name)?;
    if request.group.is_empty() {
        DEFAULT_GROUP.clone_into(&mut request.group);
    }
    names::group_name("group", &request.group)?;
    if !request.pool.is_empty() {
        names::pool_name("pool", &request.pool)?;
    }
    if request.volume_sizes.is_empty() || request.volume_sizes.len() > MOST_VOLUMES {
        return Err(ApiError::invalid(
            "volume_sizes",
            format!(
                "a resource has 1 to {MOST_VOLUMES} volumes, but {} sizes are given",
                request.volume_sizes.len()
            ),
        ));
    }
    for (number, size) in request.volume_sizes.iter_mut().enumerate() {
        *size = sizes::volume(&format!("volume_sizes[{number}]"), *size)?;
    }
    let mut seen = BTreeSet::new();
    for (position, node) in request.nodes.iter().enumerate() {
        let field = format!("nodes[{position}]");
        names::node_name(&field, node)?;
        if !seen.insert(node) {
            return Err(ApiError::invalid(field, format!("node {node} is named twice")));
        }
    }
    Ok(request)
}
