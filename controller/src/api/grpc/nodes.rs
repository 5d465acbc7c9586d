//! Nodes: the machines with a satellite.

use std::collections::BTreeSet;

use hawser_proto::{
    names,
    v1::{self, command::Command, node_service_server::NodeService},
};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use crate::{
    api::{
        context::{Context, Reading, result},
        error::ApiError,
    },
    leader::conditions,
};

/// `NodeService`.
pub struct Nodes(pub Context);

#[tonic::async_trait]
impl NodeService for Nodes {
    async fn create_node(
        &self,
        request: Request<v1::CreateNodeRequest>,
    ) -> Result<Response<v1::CreateNodeResponse>, Status> {
        let write = self.0.write(&request, &request.get_ref().request_key)?;
        let v1::CreateNodeRequest { name, addresses, .. } = request.into_inner();
        names::node_name("name", &name).map_err(ApiError::from)?;
        check_addresses(&addresses)?;
        let applied = write.propose(Command::CreateNode(v1::CreateNode { name, addresses })).await?;
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

    async fn list_nodes(
        &self,
        request: Request<v1::ListNodesRequest>,
    ) -> Result<Response<v1::ListNodesResponse>, Status> {
        let request = request.into_inner();
        let page = self.0.page(request.consistency(), request.page.clone()).await?;
        let all =
            page.reading.state.nodes().filter(|node| request.name.is_empty() || node.name == request.name);
        let (nodes, next_page_token) = self.0.take(&page, all.map(|node| (node.name.clone(), node)));
        let nodes = nodes.into_iter().map(|node| view(&page.reading, node)).collect();
        Ok(Response::new(v1::ListNodesResponse { nodes, revision: page.reading.revision, next_page_token }))
    }
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

fn view(reading: &Reading, node: &v1::Node) -> v1::NodeView {
    let seen = reading.observed.as_ref().and_then(|observed| observed.node(&node.name));
    let now = Instant::now();
    v1::NodeView {
        desired: Some(node.clone()),
        observed: seen.map(|seen| seen.node.clone()),
        online: seen.is_some_and(|seen| seen.online),
        observed_age_ms: seen.map_or(0, |seen| {
            u64::try_from(now.saturating_duration_since(seen.heard_at).as_millis()).unwrap_or(u64::MAX)
        }),
        conditions: conditions::of_node(reading.observed.as_ref(), node),
    }
}
