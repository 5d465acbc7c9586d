//! What a satellite asks before it lets a Primary go on without its peer.
//!
//! It answers a committed yes or a committed no, and nothing else: whatever is not known for certain is a gRPC
//! error, which tells the satellite to go on asking while its I/O stays frozen.

use hawser_process::tls::Role;
use hawser_proto::{
    ids::Lineage,
    names,
    v1::{self, arbiter_service_server::ArbiterService, command::Command},
};
use tonic::{Request, Response, Status};

use crate::api::{caller::Caller, context::Context, error::ApiError};

/// `ArbiterService`.
pub struct Arbiter(pub Context);

#[tonic::async_trait]
impl ArbiterService for Arbiter {
    async fn outdate(
        &self,
        request: Request<v1::OutdateRequest>,
    ) -> Result<Response<v1::OutdateResponse>, Status> {
        own_node(&request, &request.get_ref().node)?;
        self.own_lineage(request.get_ref().lineage())?;
        let write = self.0.write(&request, &request.get_ref().request_key)?;
        let request = request.into_inner();
        names::resource_name("resource", &request.resource).map_err(ApiError::from)?;
        names::node_name("peer", &request.peer).map_err(ApiError::from)?;
        let outdate = v1::Outdate {
            resource: request.resource,
            resource_incarnation: request.resource_incarnation,
            node: request.peer,
            owner: request.node,
            generation: request.generation,
        };
        tracing::info!(?outdate, "a Primary asks to go on without its peer");
        let answer = match write.propose(Command::Outdate(outdate)).await {
            Ok(applied) => {
                v1::OutdateResponse { granted: true, number: applied.number, reason: String::new() }
            }
            Err(ApiError::Rejected(rejected)) if is_verdict(rejected.reason()) => {
                v1::OutdateResponse { granted: false, number: 0, reason: rejected.message }
            }
            Err(error) => return Err(error.into()),
        };
        tracing::info!(granted = answer.granted, reason = answer.reason, "the arbiter has answered");
        Ok(Response::new(answer))
    }

    async fn confirm_owner(
        &self,
        request: Request<v1::ConfirmOwnerRequest>,
    ) -> Result<Response<v1::ConfirmOwnerResponse>, Status> {
        own_node(&request, &request.get_ref().node)?;
        let request = request.into_inner();
        self.own_lineage(request.lineage())?;
        let reading = self.0.read(v1::Consistency::Unspecified).await?;
        let confirmed = reading.state.resource(&request.resource).is_some_and(|resource| {
            resource.incarnation() == request.resource_incarnation()
                && resource.arbitration.as_ref().is_some_and(|arbitration| {
                    arbitration.owner == request.node && arbitration.generation() == request.generation()
                })
        });
        Ok(Response::new(v1::ConfirmOwnerResponse { confirmed }))
    }
}

impl Arbiter {
    /// Generations and incarnations of another history mean nothing here: that is neither a yes nor a no.
    fn own_lineage(&self, theirs: Lineage) -> Result<(), ApiError> {
        let state = self.0.consensus.view().state();
        let ours = state.cluster().lineage();
        if theirs == ours && state.is_settling() {
            // A restored state does not know yet who owns what.
            return Err(ApiError::Unavailable(
                "the cluster was restored, and not every node has said what it holds; ask again".into(),
            ));
        }
        if theirs == ours {
            return Ok(());
        }
        Err(ApiError::rejected(
            v1::RejectionReason::Precondition,
            format!(
                "the question is asked under orders of lineage {theirs}, but this cluster is at lineage {ours}: the node \
                 has to store this cluster's orders first"
            ),
        ))
    }
}

/// What the arbitration itself decided. A full table or a reused key decides nothing about who may write.
fn is_verdict(reason: v1::RejectionReason) -> bool {
    use v1::RejectionReason::{NotFound, NotOwner, Outdated, Precondition};
    matches!(reason, NotOwner | Outdated | NotFound | Precondition)
}

/// A satellite asks for its own node only.
fn own_node<T>(request: &Request<T>, node: &str) -> Result<(), ApiError> {
    let caller = Caller::of(request)?;
    if caller.role == Role::Satellite && caller.name == node {
        return Ok(());
    }
    Err(ApiError::Forbidden {
        reason: "WRONG_NODE",
        message: format!(
            "the certificate belongs to {} {}, which may not ask for node {node}: a satellite asks for its own node only",
            caller.role, caller.name
        ),
    })
}
