//! Adding and removing replicas of a worker's resource, whether or not it is attached.

use std::time::Duration;

use hawser_proto::v1::{self, replica_service_client::ReplicaServiceClient};
use rand::seq::IndexedRandom;
use tokio::time::sleep;

use super::{CALL, POLL, Worker};

/// For this long a worker waits at most for what it has begun.
const PATIENCE: Duration = Duration::from_secs(40);

impl Worker {
    /// Gives the volume another replica where it has one, or takes one of two away; perhaps waits for the end of it.
    /// Returns the nodes that have one then, as far as they are known.
    pub(super) async fn reshape(&self, nodes: Vec<String>) -> Vec<String> {
        let Some((now, _)) = self.seen().await else { return nodes };
        let waits = self.draw(0..3) > 0;
        let (node, stays) =
            if now.len() == 1 { (self.join(&now).await, true) } else { (self.leave(&now).await, false) };
        if let Some(node) = node.filter(|_| waits) {
            let is_done = |resource: &v1::Resource| {
                let found = resource.replicas.iter().find(|replica| replica.node == node);
                let done = match found {
                    Some(replica) => stays && replica.lifecycle() == v1::ReplicaLifecycle::Ready,
                    None => !stays,
                };
                done.then_some(())
            };
            // What has not ended by then has to end when the faults do.
            let _ = self.until(PATIENCE, is_done).await;
        }
        self.seen().await.map_or(now, |(nodes, _)| nodes)
    }

    /// The node that was asked to join.
    async fn join(&self, nodes: &[String]) -> Option<String> {
        let others: Vec<String> = self
            .world
            .inspect()
            .into_iter()
            .map(|node| node.name)
            .filter(|name| !nodes.contains(name))
            .collect();
        let node = self.administrator.draw(|random| others.choose(random).cloned())?;
        let request = v1::CreateReplicaRequest {
            request_key: self.administrator.key(),
            resource: self.resource.clone(),
            node: node.clone(),
            pool: String::new(),
        };
        let asked = self
            .administrator
            .call(&format!("add {} on {node}", self.resource), CALL, |channel| {
                let request = request.clone();
                async move { ReplicaServiceClient::new(channel).create_replica(request).await }
            })
            .await;
        if asked.done().is_none() {
            sleep(POLL).await;
            return None;
        }
        Some(node)
    }

    /// The node that was asked to leave.
    async fn leave(&self, nodes: &[String]) -> Option<String> {
        let node = self.administrator.draw(|random| nodes.choose(random).cloned())?;
        let request = v1::DeleteReplicaRequest {
            request_key: self.administrator.key(),
            resource: self.resource.clone(),
            node: node.clone(),
        };
        let asked = self
            .administrator
            .call(&format!("remove {} from {node}", self.resource), CALL, |channel| {
                let request = request.clone();
                async move { ReplicaServiceClient::new(channel).delete_replica(request).await }
            })
            .await;
        if asked.done().is_none() {
            sleep(POLL).await;
            return None;
        }
        Some(node)
    }
}
