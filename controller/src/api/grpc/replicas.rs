//! Replicas: a table across resources; one is added, one is removed.
//!
//! What may join and what has to stay is decided by the state. This only chooses a pool, and refuses what is certain to
//! leave nothing usable at the moment that it is asked for.

use hawser_proto::{
    names,
    v1::{self, command::Command, replica_service_server::ReplicaService},
};
use hawser_state::{
    State,
    placement::{Placement, place_beside},
};
use tonic::{Request, Response, Status};

use super::{patience::with_patience, resources::PLACEMENT_ATTEMPTS};
use crate::{
    api::{
        context::{Context, Write, result},
        error::ApiError,
        pages::pair_key,
        read_mask::ReadMask,
        view,
    },
    leader::{
        conditions,
        loops::release::{has_usable_copy_beside, staying},
        numbers,
        observed::Observed,
        placement_facts,
    },
};

/// Fields of an item, but for the resource's name, which says what it is.
const FIELDS: [&str; 2] = ["replica", "conditions"];

/// `ReplicaService`.
pub struct Replicas(pub Context);

#[tonic::async_trait]
impl ReplicaService for Replicas {
    async fn create_replica(
        &self,
        request: Request<v1::CreateReplicaRequest>,
    ) -> Result<Response<v1::CreateReplicaResponse>, Status> {
        let (write, request, answered) = self.0.begin(request, |request| &request.request_key, checked)?;
        let decide = async {
            self.0.settled()?;
            self.create(&write, &request).await
        };
        let applied = write.once(answered, decide).await?;
        let state = self.0.consensus.view().state();
        let made = state.resource(&request.resource).and_then(|resource| on(resource, &request.node));
        let pool = made.map(|replica| replica.pool.clone()).unwrap_or_default();
        Ok(Response::new(v1::CreateReplicaResponse { result: result(&applied), pool }))
    }

    async fn delete_replica(
        &self,
        request: Request<v1::DeleteReplicaRequest>,
    ) -> Result<Response<v1::DeleteReplicaResponse>, Status> {
        let check = |request: v1::DeleteReplicaRequest| {
            names::resource_name("resource", &request.resource)?;
            names::node_name("node", &request.node)?;
            Ok(request)
        };
        let (write, request, answered) = self.0.begin(request, |request| &request.request_key, check)?;
        let decide = async {
            self.0.settled()?;
            let lack = v1::RejectionReason::Precondition;
            with_patience(&self.0, lack, || self.leaves_a_usable_copy(&request)).await?;
            let (resource, node) = (request.resource.clone(), request.node.clone());
            write.propose(Command::DeleteReplica(v1::DeleteReplica { resource, node })).await
        };
        let applied = write.once(answered, decide).await?;
        Ok(Response::new(v1::DeleteReplicaResponse { result: result(&applied) }))
    }

    async fn list_replicas(
        &self,
        request: Request<v1::ListReplicasRequest>,
    ) -> Result<Response<v1::ListReplicasResponse>, Status> {
        let request = request.into_inner();
        let mask = ReadMask::new(request.read_mask.as_ref(), &FIELDS)?;
        let page = self.0.page(request.consistency(), request.page.clone()).await?;
        let reading = &page.reading;
        let resources = reading
            .state
            .resources()
            .filter(|resource| request.resource.is_empty() || resource.name == request.resource);
        let conditions_of = |resource: &v1::Resource, replica: &v1::Replica| {
            conditions::of_replica(&reading.state, reading.observed.as_ref(), resource, replica)
        };
        // In the order of the keys, whatever the order in the resource is.
        let all = resources.flat_map(|resource| {
            let mut replicas: Vec<_> = resource
                .replicas
                .iter()
                .filter(|replica| replica.lifecycle() != v1::ReplicaLifecycle::Removed)
                .filter(|replica| request.node.is_empty() || replica.node == request.node)
                .filter(|replica| !request.differing_only || !conditions_of(resource, replica).is_empty())
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
                replica: mask.take("replica", || Some(view::replica(reading, &resource.name, replica))),
                conditions: mask.take("conditions", || conditions_of(resource, replica)),
            })
            .collect();
        Ok(Response::new(v1::ListReplicasResponse { replicas, revision: reading.revision, next_page_token }))
    }
}

impl Replicas {
    async fn create(
        &self,
        write: &Write,
        request: &v1::CreateReplicaRequest,
    ) -> Result<v1::Applied, ApiError> {
        let mut stale = String::new();
        for _ in 0..PLACEMENT_ATTEMPTS {
            let lack = v1::RejectionReason::NoCapacity;
            let (resource_incarnation, placement) =
                with_patience(&self.0, lack, || self.place(request)).await?;
            let observed = self.0.reign()?.observed.picture();
            let state = self.0.consensus.view().state();
            let placed = numbers::with_avoided_ports(state.cluster(), &observed, placement.replicas);
            let command = v1::CreateReplica {
                resource: request.resource.clone(),
                resource_incarnation,
                placed: placed.into_iter().next(),
                computed_at_revision: placement.computed_at_revision,
            };
            match write.propose(Command::CreateReplica(command)).await {
                Err(ApiError::Stale(message)) => stale = message,
                other => return other,
            }
        }
        Err(ApiError::Stale(stale))
    }

    /// The resource's incarnation, and a place beside its replicas.
    fn place(&self, request: &v1::CreateReplicaRequest) -> Result<(u64, Placement), ApiError> {
        let reign = self.0.reign()?;
        let state = self.0.consensus.view().state();
        let observed = reign.observed.picture();
        let resource = named(&state, &request.resource)?;
        let group = state.group(&resource.group);
        let pool = match (request.pool.as_str(), group) {
            ("", Some(group)) => group.pool.as_str(),
            (asked, _) => asked,
        };
        check_absent(resource, &request.node)?;
        check_minors(resource, &observed, &request.node)?;
        let facts = placement_facts::gather(&state, &observed);
        let placement = place_beside(&state, &facts, resource, (&request.node, pool))?;
        Ok((resource.incarnation, placement))
    }

    /// Whether another replica has a disk that can be used. What cannot be removed at all is refused by the state.
    fn leaves_a_usable_copy(&self, request: &v1::DeleteReplicaRequest) -> Result<(), ApiError> {
        let observed = self.0.reign()?.observed.picture();
        let state = self.0.consensus.view().state();
        let resource = named(&state, &request.resource)?;
        let node = &request.node;
        let others: Vec<&str> = staying(resource, node).map(|replica| replica.node.as_str()).collect();
        let stays_so_far = staying(resource, "").any(|replica| replica.node == *node);
        if !stays_so_far || others.is_empty() || has_usable_copy_beside(&observed, resource, node) {
            return Ok(());
        }
        Err(ApiError::rejected(
            v1::RejectionReason::Precondition,
            format!(
                "the replica of resource {0} on node {node} stays: no other one, on {1}, is seen right now with a complete \
                 copy on a disk that can be used; `hawser resource show {0}` says why",
                resource.name,
                others.join(", ")
            ),
        ))
    }
}

fn named<'a>(state: &'a State, resource: &str) -> Result<&'a v1::Resource, ApiError> {
    state.resource(resource).ok_or_else(|| {
        ApiError::Rejected(v1::Rejected {
            reason: v1::RejectionReason::NotFound.into(),
            field: "resource".into(),
            message: format!(
                "resource {resource} does not exist; `hawser resource list` shows what there is"
            ),
        })
    })
}

fn on<'a>(resource: &'a v1::Resource, node: &str) -> Option<&'a v1::Replica> {
    resource.replicas.iter().find(|replica| replica.node == node)
}

fn check_absent(resource: &v1::Resource, node: &str) -> Result<(), ApiError> {
    let Some(there) = on(resource, node) else { return Ok(()) };
    let name = &resource.name;
    let message = if staying(resource, "").any(|replica| replica == there) {
        format!("resource {name} has a replica on node {node} already")
    } else {
        format!("the replica of resource {name} on node {node} is being removed: wait until it is gone")
    };
    Err(ApiError::Rejected(v1::Rejected {
        reason: v1::RejectionReason::AlreadyExists.into(),
        field: "node".into(),
        message,
    }))
}

/// The minors of a resource are given once, for all nodes that it will ever have.
fn check_minors(resource: &v1::Resource, observed: &Observed, node: &str) -> Result<(), ApiError> {
    let Some(seen) = observed.node(node) else { return Ok(()) };
    let is_held = |minor: u32| {
        seen.numbers.foreign_minors.iter().any(|range| (range.first..=range.last).contains(&minor))
    };
    match resource.volumes.iter().find(|volume| volume.minor != 0 && is_held(volume.minor)) {
        None => Ok(()),
        Some(volume) => Err(ApiError::rejected(
            v1::RejectionReason::Precondition,
            format!(
                "something else on node {node} holds DRBD minor {}, which resource {} has on every node: free it there, \
                 or choose another node",
                volume.minor, resource.name
            ),
        )),
    }
}

fn checked(request: v1::CreateReplicaRequest) -> Result<v1::CreateReplicaRequest, ApiError> {
    names::resource_name("resource", &request.resource)?;
    names::node_name("node", &request.node)?;
    if !request.pool.is_empty() {
        names::pool_name("pool", &request.pool)?;
    }
    Ok(request)
}
