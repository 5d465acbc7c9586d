//! Nodes: the machines with a satellite.

use std::{collections::BTreeSet, time::Duration};

use hawser_proto::{
    names,
    v1::{self, RejectionReason, command::Command, node_service_server::NodeService},
};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::options;
use crate::{
    api::{
        context::{Context, Reading, result},
        error::ApiError,
        read_mask::ReadMask,
    },
    leader::conditions,
};

/// Fields of a node's view. Whether it is online and how old its report is come with what is observed.
const FIELDS: [&str; 3] = ["desired", "observed", "conditions"];
/// Satellites are back by then under a new leader. Before, it cannot tell which nodes answer.
const HEARING: Duration = Duration::from_secs(4);

/// `NodeService`.
pub struct Nodes(pub Context);

#[tonic::async_trait]
impl NodeService for Nodes {
    async fn create_node(
        &self,
        request: Request<v1::CreateNodeRequest>,
    ) -> Result<Response<v1::CreateNodeResponse>, Status> {
        let write = self.0.write(&request, &request.get_ref().request_key)?;
        let v1::CreateNodeRequest { name, addresses, options, .. } = request.into_inner();
        names::node_name("name", &name).map_err(ApiError::from)?;
        check_addresses(&addresses)?;
        if let Some(options) = &options {
            options::check(options)?;
        }
        let applied = write.propose(Command::CreateNode(v1::CreateNode { name, addresses, options })).await?;
        Ok(Response::new(v1::CreateNodeResponse { result: result(&applied) }))
    }

    async fn delete_node(
        &self,
        request: Request<v1::DeleteNodeRequest>,
    ) -> Result<Response<v1::DeleteNodeResponse>, Status> {
        let write = self.0.write(&request, &request.get_ref().request_key)?;
        let v1::DeleteNodeRequest { name, .. } = request.into_inner();
        names::node_name("name", &name).map_err(ApiError::from)?;
        let applied = write.propose(Command::DeleteNode(v1::DeleteNode { name })).await?;
        Ok(Response::new(v1::DeleteNodeResponse { result: result(&applied) }))
    }

    async fn lose_node(
        &self,
        request: Request<v1::LoseNodeRequest>,
    ) -> Result<Response<v1::LoseNodeResponse>, Status> {
        let (write, request, answered) =
            self.0.begin(request, |request| &request.request_key, checked_loss)?;
        let decide = async {
            let v1::LoseNodeRequest { name, accept_data_loss, .. } = request;
            let incarnation = self.silent(&name)?.incarnation;
            let lost = v1::NodeLost { node: name, incarnation, accept_data_loss };
            write.propose(Command::NodeLost(lost)).await
        };
        let applied = write.once(answered, decide).await?;
        Ok(Response::new(v1::LoseNodeResponse { result: result(&applied) }))
    }

    async fn list_nodes(
        &self,
        request: Request<v1::ListNodesRequest>,
    ) -> Result<Response<v1::ListNodesResponse>, Status> {
        let request = request.into_inner();
        let mask = ReadMask::new(request.read_mask.as_ref(), &FIELDS)?;
        let page = self.0.page(request.consistency(), request.page.clone()).await?;
        let reading = &page.reading;
        let differs = |node: &v1::Node| {
            !conditions::of_node(&reading.state, reading.observed.as_ref(), node).is_empty()
        };
        let all = reading.state.nodes().filter(|node| {
            (request.name.is_empty() || node.name == request.name)
                && (!request.differing_only || differs(node))
        });
        let (nodes, next_page_token) = self.0.take(&page, all.map(|node| (node.name.clone(), node)));
        let nodes = nodes.into_iter().map(|node| view(reading, node, &mask)).collect();
        Ok(Response::new(v1::ListNodesResponse { nodes, revision: reading.revision, next_page_token }))
    }
}

impl Nodes {
    /// The node, which does not answer.
    fn silent(&self, name: &str) -> Result<v1::Node, ApiError> {
        let reign = self.0.reign()?;
        let state = self.0.consensus.view().state();
        let Some(node) = state.node(name) else {
            let message = format!("node {name} does not exist; `hawser node list` shows what there is");
            let reason = RejectionReason::NotFound.into();
            return Err(ApiError::Rejected(v1::Rejected { reason, field: "name".into(), message }));
        };
        if reign.observed.picture().node(name).is_some_and(|seen| seen.online) {
            return Err(ApiError::rejected(
                RejectionReason::Precondition,
                format!(
                    "node {name} answers: its satellite is connected. Only a node that is off for good is lost; switch \
                     the machine off and see to it that it stays off, then ask again"
                ),
            ));
        }
        if reign.began.elapsed() < HEARING && !node.is_lost() {
            return Err(ApiError::Unavailable(
                "this controller has just begun to lead and cannot tell yet which nodes answer; try again"
                    .into(),
            ));
        }
        Ok(node.clone())
    }
}

fn checked_loss(request: v1::LoseNodeRequest) -> Result<v1::LoseNodeRequest, ApiError> {
    names::node_name("name", &request.name)?;
    for (position, name) in request.accept_data_loss.iter().enumerate() {
        names::resource_name(&format!("accept_data_loss[{position}]"), name)?;
    }
    Ok(request)
}

fn check_addresses(addresses: &[v1::Address]) -> Result<(), ApiError> {
    if addresses.is_empty() {
        return Err(ApiError::invalid("addresses", "a node needs at least one address that DRBD can use"));
    }
    let mut purposes = BTreeSet::new();
    for (position, address) in addresses.iter().enumerate() {
        names::address_name(&format!("addresses[{position}].name"), &address.name)?;
        names::ip(&format!("addresses[{position}].ip"), &address.ip)?;
        if !purposes.insert(&address.name) {
            return Err(ApiError::invalid(
                format!("addresses[{position}].name"),
                format!("the purpose {} occurs twice", address.name),
            ));
        }
    }
    Ok(())
}

fn view(reading: &Reading, node: &v1::Node, mask: &ReadMask) -> v1::NodeView {
    let seen = reading.observed.as_ref().and_then(|observed| observed.node(&node.name));
    let seen = seen.filter(|_| mask.wants("observed"));
    let now = Instant::now();
    v1::NodeView {
        desired: mask.take("desired", || Some(node.clone())),
        observed: seen.map(|seen| seen.node.clone()),
        online: seen.is_some_and(|seen| seen.online),
        observed_age_ms: seen.map_or(0, |seen| {
            u64::try_from(now.saturating_duration_since(seen.heard_at).as_millis()).unwrap_or(u64::MAX)
        }),
        conditions: mask
            .take("conditions", || conditions::of_node(&reading.state, reading.observed.as_ref(), node)),
    }
}
