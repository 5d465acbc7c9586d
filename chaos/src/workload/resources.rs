//! Making, showing and deleting a worker's resource.

use std::time::Duration;

use hawser_proto::v1::{self, resource_service_client::ResourceServiceClient};
use tokio::time::{Instant, sleep};

use super::{CALL, POLL, Worker};
use crate::api::Outcome;

const MEBIBYTE: u64 = 1 << 20;

impl Worker {
    pub(super) async fn create(&self) -> Option<Vec<String>> {
        let key = self.administrator.key();
        let request = v1::CreateResourceRequest {
            request_key: key,
            name: self.resource.clone(),
            volume_sizes: vec![self.draw(4..64) * MEBIBYTE],
            replicas: if self.draw(0..6) == 0 { 1 } else { 2 },
            ..Default::default()
        };
        let what = format!("create {} x{}", self.resource, request.replicas);
        let created = self
            .administrator
            .call(&what, CALL, |channel| {
                let request = request.clone();
                async move { ResourceServiceClient::new(channel).create_resource(request).await }
            })
            .await;
        if let Outcome::Refused(status) = &created
            && status.code() != tonic::Code::AlreadyExists
        {
            sleep(POLL).await;
            return None;
        }
        // One that is there already is what an earlier life has left: its records are not known any more.
        if matches!(created, Outcome::Refused(_)) {
            let nodes = self.seen().await?.0;
            self.delete(&nodes).await;
            return None;
        }
        self.until(Duration::from_secs(60), |resource| {
            (resource.lifecycle() == v1::ResourceLifecycle::Ready && resource.data_may_exist)
                .then(|| resource.replicas.iter().map(|replica| replica.node.clone()).collect())
        })
        .await
    }

    pub(super) async fn delete(&self, nodes: &[String]) {
        self.detach(nodes).await;
        let request =
            v1::DeleteResourceRequest { request_key: self.administrator.key(), name: self.resource.clone() };
        let deleted = self
            .administrator
            .call(&format!("delete {}", self.resource), CALL, |channel| {
                let request = request.clone();
                async move { ResourceServiceClient::new(channel).delete_resource(request).await }
            })
            .await;
        if deleted.done().is_none() {
            return;
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            if self.is_gone().await {
                return;
            }
            sleep(POLL).await;
        }
    }

    /// The nodes of the volume, and the volume, as the cluster says.
    pub(super) async fn seen(&self) -> Option<(Vec<String>, v1::Resource)> {
        let resource = self.listed().await?.into_iter().next()?;
        Some((resource.replicas.iter().map(|replica| replica.node.clone()).collect(), resource))
    }

    async fn is_gone(&self) -> bool {
        self.listed().await.is_some_and(|listed| listed.is_empty())
    }

    async fn listed(&self) -> Option<Vec<v1::Resource>> {
        let request = v1::ListResourcesRequest { name: self.resource.clone(), ..Default::default() };
        let answer = self
            .administrator
            .quietly(CALL, |channel| {
                let request = request.clone();
                async move { ResourceServiceClient::new(channel).list_resources(request).await }
            })
            .await
            .done()?;
        Some(answer.resources.into_iter().filter_map(|view| view.desired).collect())
    }

    pub(super) async fn until<T>(
        &self,
        within: Duration,
        holds: impl Fn(&v1::Resource) -> Option<T>,
    ) -> Option<T> {
        let deadline = Instant::now() + within;
        while Instant::now() < deadline {
            if let Some((_, resource)) = self.seen().await
                && let Some(found) = holds(&resource)
            {
                return Some(found);
            }
            sleep(POLL).await;
        }
        None
    }
}
