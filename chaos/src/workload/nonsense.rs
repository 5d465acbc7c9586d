//! Somebody who asks for what cannot be. 15: it is refused with the field and the reason, and changes nothing.
//!
//! Everything that is asked for has a name of its own, so that whatever came of it would be found.

use std::{future::Future, time::Duration};

use hawser_proto::v1::{
    self, attachment_service_client::AttachmentServiceClient, node_service_client::NodeServiceClient,
    pool_service_client::PoolServiceClient, resource_group_service_client::ResourceGroupServiceClient,
    resource_service_client::ResourceServiceClient,
};
use tokio::time::sleep;
use tonic::{Response, Status, transport::Channel};
use tonic_types::StatusExt;

use super::{CALL, Staff};
use crate::api::Outcome;

/// What the names of all that must never be begin with.
pub(crate) const NEVER: &str = "never";

/// What a refusal has to name.
#[derive(Clone, Copy)]
enum Names {
    /// This field of the request.
    Field(&'static str),
    /// An object, in its words: nothing in the request is wrong by itself.
    Object(&'static str),
}

/// Who asks.
pub(crate) struct Nonsense {
    pub(crate) staff: Staff,
}

impl Nonsense {
    /// Asks until it is calm.
    pub(crate) async fn work(self) {
        while !self.staff.is_calm() {
            self.ask().await;
            sleep(Duration::from_millis(self.staff.draw(200..3_000 * self.staff.leisure))).await;
        }
        self.staff.finish();
    }

    async fn ask(&self) {
        let key = self.staff.administrator.key();
        let good = v1::CreateResourceRequest {
            request_key: key.clone(),
            name: "never-made".into(),
            volume_sizes: vec![8 << 20],
            replicas: 2,
            ..Default::default()
        };
        match self.staff.draw(0..12) {
            0 => {
                self.resource(
                    "no size",
                    v1::CreateResourceRequest { volume_sizes: vec![], ..good },
                    Names::Field("volume_sizes"),
                )
                .await
            }
            1 => {
                self.resource(
                    "size 0",
                    v1::CreateResourceRequest { volume_sizes: vec![0], ..good },
                    Names::Field("volume_sizes[0]"),
                )
                .await
            }
            2 => {
                self.resource(
                    "a size beyond counting",
                    v1::CreateResourceRequest { volume_sizes: vec![u64::MAX], ..good },
                    Names::Field("volume_sizes[0]"),
                )
                .await
            }
            3 => {
                self.resource(
                    "a name with a slash",
                    v1::CreateResourceRequest { name: "never/made".into(), ..good },
                    Names::Field("name"),
                )
                .await
            }
            4 => {
                self.resource(
                    "an unknown group",
                    v1::CreateResourceRequest { group: "never-was".into(), ..good },
                    Names::Field("group"),
                )
                .await
            }
            5 => {
                self.resource(
                    "a node twice",
                    v1::CreateResourceRequest { nodes: vec!["n1".into(), "n1".into()], ..good },
                    Names::Field("nodes[1]"),
                )
                .await
            }
            6 => {
                self.resource(
                    "more replicas than nodes",
                    v1::CreateResourceRequest { replicas: 99, ..good },
                    Names::Object(""),
                )
                .await
            }
            7 => {
                self.resource(
                    "no request key",
                    v1::CreateResourceRequest { request_key: String::new(), ..good },
                    Names::Field("request_key"),
                )
                .await
            }
            8 => {
                let request = v1::CreateAttachmentRequest {
                    request_key: key,
                    resource: "never-made".into(),
                    node: "n1".into(),
                    mode: v1::AttachmentMode::ReadWrite.into(),
                };
                let ask = |channel: Channel| {
                    let request = request.clone();
                    async move { AttachmentServiceClient::new(channel).create_attachment(request).await }
                };
                self.refused("attach what is not there", Names::Object("never-made"), ask).await;
            }
            9 => {
                let address = v1::Address { name: "default".into(), ip: "10.0.0.999".into() };
                let request = v1::CreateNodeRequest {
                    request_key: key,
                    name: "never-there".into(),
                    addresses: vec![address],
                    options: None,
                };
                let ask = |channel: Channel| {
                    let request = request.clone();
                    async move { NodeServiceClient::new(channel).create_node(request).await }
                };
                self.refused("a node without an address", Names::Field("addresses[0].ip"), ask).await;
            }
            10 => {
                let request = v1::CreatePoolRequest {
                    request_key: key,
                    node: "n1".into(),
                    name: "never-full".into(),
                    provider: None,
                    overcommit_percent: 0,
                };
                let ask = |channel: Channel| {
                    let request = request.clone();
                    async move { PoolServiceClient::new(channel).create_pool(request).await }
                };
                self.refused("a pool of no kind", Names::Field("provider"), ask).await;
            }
            _ => {
                let request = v1::CreateResourceGroupRequest {
                    request_key: key,
                    name: "never-grouped".into(),
                    replicas: 2,
                    layers: vec![v1::Layer::Storage.into(), v1::Layer::Drbd.into()],
                    ..Default::default()
                };
                let ask = |channel: Channel| {
                    let request = request.clone();
                    async move { ResourceGroupServiceClient::new(channel).create_resource_group(request).await }
                };
                self.refused("layers upside down", Names::Field("layers"), ask).await;
            }
        }
    }

    async fn resource(&self, what: &str, request: v1::CreateResourceRequest, names: Names) {
        let ask = |channel: Channel| {
            let request = request.clone();
            async move { ResourceServiceClient::new(channel).create_resource(request).await }
        };
        self.refused(what, names, ask).await;
    }

    async fn refused<T, F, Fut>(&self, what: &str, names: Names, ask: F)
    where
        F: FnMut(Channel) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let problem =
            match self.staff.administrator.call(&format!("ask for nonsense, {what}"), CALL, ask).await {
                Outcome::Unknown => return,
                Outcome::Done(_) => Some("it was done".to_owned()),
                Outcome::Refused(status) => objection(&status, names),
            };
        if let Some(problem) = problem {
            self.staff.violations.note(format!("invariant 15: nonsense, {what}: {problem}"));
        }
    }
}

/// What a refusal lacks, if it lacks something.
fn objection(status: &Status, names: Names) -> Option<String> {
    let message = status.message();
    match names {
        _ if message.is_empty() => Some("it was refused without a reason".to_owned()),
        Names::Object(object) if message.contains(object) => None,
        Names::Object(object) => Some(format!("the refusal does not name {object}: {message}")),
        Names::Field(field) => {
            let named = status.get_details_bad_request().map_or_else(Vec::new, |bad| bad.field_violations);
            let is_meant = named.iter().any(|violation| violation.field == field);
            let fields: Vec<String> = named.into_iter().map(|violation| violation.field).collect();
            (!is_meant).then(|| format!("the refusal names {fields:?}, not {field}: {message}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn a_refusal_has_to_say_which_field_and_why() {
        let naming = |field: &str| {
            let details = ErrorDetails::with_bad_request_violation(field, "is wrong");
            Status::with_error_details(tonic::Code::InvalidArgument, "it is wrong", details)
        };
        assert_eq!(objection(&naming("name"), Names::Field("name")), None);
        assert!(objection(&naming("size"), Names::Field("name")).is_some());
        assert!(objection(&Status::not_found("something"), Names::Field("name")).is_some());
        assert!(objection(&Status::not_found(""), Names::Object("")).is_some());
        assert!(objection(&Status::not_found("something"), Names::Object("data")).is_some());
        assert_eq!(objection(&Status::not_found("resource data"), Names::Object("data")), None);
    }
}
