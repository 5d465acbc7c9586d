//! Attaching and detaching a worker's resource.

use std::time::Duration;

use hawser_proto::v1::{self, attachment_service_client::AttachmentServiceClient};
use tokio::time::{Instant, sleep};

use super::{CALL, POLL, Worker};

impl Worker {
    /// Attaches the volume on `node`. Returns the name of its gate.
    pub(super) async fn attach(&self, node: &str) -> Option<String> {
        let request = v1::CreateAttachmentRequest {
            request_key: self.administrator.key(),
            resource: self.resource.clone(),
            node: node.to_owned(),
            mode: v1::AttachmentMode::ReadWrite.into(),
        };
        let answer = self
            .administrator
            .call(&format!("attach {} on {node}", self.resource), CALL, |channel| {
                let request = request.clone();
                async move { AttachmentServiceClient::new(channel).create_attachment(request).await }
            })
            .await
            .done()?;
        let gate = answer.device_paths.first()?.strip_prefix("/dev/mapper/")?.to_owned();
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            let attachments = self.attachments().await.unwrap_or_default();
            let ours = attachments.iter().find(|attachment| attachment.node == node)?;
            match ours.lifecycle() {
                v1::AttachmentLifecycle::Attached => return Some(gate),
                v1::AttachmentLifecycle::Revoked => return None,
                _ => sleep(POLL).await,
            }
        }
        None
    }

    pub(super) async fn detach(&self, nodes: &[String]) {
        for node in nodes {
            // A consumer lets go first.
            self.world.kill_holders(node, &format!("hawser-{}.", self.resource));
            let request = v1::DeleteAttachmentRequest {
                request_key: self.administrator.key(),
                resource: self.resource.clone(),
                node: node.clone(),
            };
            let attached = self.attachments().await.is_none_or(|all| all.iter().any(|one| one.node == *node));
            if !attached {
                continue;
            }
            let what = format!("detach {} from {node}", self.resource);
            self.administrator
                .call(&what, CALL, |channel| {
                    let request = request.clone();
                    async move { AttachmentServiceClient::new(channel).delete_attachment(request).await }
                })
                .await;
        }
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline && self.attachments().await.is_none_or(|all| !all.is_empty()) {
            sleep(POLL).await;
        }
    }

    async fn attachments(&self) -> Option<Vec<v1::Attachment>> {
        let request = v1::ListAttachmentsRequest { resource: self.resource.clone(), ..Default::default() };
        let answer = self
            .administrator
            .quietly(CALL, |channel| {
                let request = request.clone();
                async move { AttachmentServiceClient::new(channel).list_attachments(request).await }
            })
            .await
            .done()?;
        Some(answer.attachments.into_iter().filter_map(|view| view.desired).collect())
    }
}
