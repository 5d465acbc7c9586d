//! What has to be there before anybody can work: nodes and pools.

use hawser_proto::v1::{
    self, create_pool_request::Provider, node_service_client::NodeServiceClient,
    pool_service_client::PoolServiceClient,
};
use tokio::time::sleep;
use tonic::{Code, transport::Channel};

use super::{CALL, POLL};
use crate::api::{Administrator, Outcome};

/// A node that is to be made.
pub(crate) struct Furnished {
    pub(crate) node: String,
    pub(crate) ip: String,
    /// What its pool is.
    pub(crate) provider: Provider,
}

/// Makes the nodes and their pools.
pub(crate) async fn furnish(administrator: &Administrator, nodes: &[Furnished]) {
    for Furnished { node, ip, .. } in nodes {
        let request = v1::CreateNodeRequest {
            request_key: administrator.key(),
            name: node.clone(),
            addresses: vec![v1::Address { name: "default".into(), ip: ip.clone() }],
            options: None,
        };
        administrator
            .call(&format!("create node {node}"), CALL, |channel| {
                let request = request.clone();
                async move { NodeServiceClient::new(channel).create_node(request).await }
            })
            .await;
    }
    for Furnished { node, provider, .. } in nodes {
        let request = v1::CreatePoolRequest {
            node: node.clone(),
            name: "fast".into(),
            provider: Some(provider.clone()),
            ..Default::default()
        };
        let what = format!("create pool fast on {node}");
        // A node that has just been registered may not be connected yet.
        loop {
            let request = v1::CreatePoolRequest { request_key: administrator.key(), ..request.clone() };
            let ask = |channel: Channel| {
                let request = request.clone();
                async move { PoolServiceClient::new(channel).create_pool(request).await }
            };
            match administrator.call(&what, CALL, ask).await {
                Outcome::Done(_) => break,
                // The answer to an earlier request was lost, not the request.
                Outcome::Refused(refused) if refused.code() == Code::AlreadyExists => break,
                Outcome::Refused(_) | Outcome::Unknown => sleep(POLL).await,
            }
        }
    }
}
