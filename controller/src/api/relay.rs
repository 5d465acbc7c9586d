//! Passes whole gRPC calls on to the leader, unary and streaming alike, without looking into them.
//!
//! A call is passed on once: a member that received it from another and does not lead refuses it. The only
//! thing ever read of a body is whether a list may be stale, which decides where it is answered.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use hawser_proto::v1;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use prost::Message;
use tonic::{body::Body, transport::Channel};
use tower::ServiceExt;

use super::{
    authorization::service_and_method,
    caller::{Caller, HOPS, ON_BEHALF_OF},
    error::ApiError,
};
use crate::consensus::Transport;

/// No list request comes near it.
const LIST_REQUEST_LIMIT: usize = 64 * 1024;

/// Where a call is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// By the member that was asked.
    Here,
    /// By the leader, unless the request says that it may be stale.
    LeaderUnlessStale,
    /// By the leader.
    Leader,
}

/// Where the call with this path is answered.
#[must_use]
pub fn place_of(path: &str) -> Place {
    match service_and_method(path) {
        Some(("RaftService" | "WatchService", _)) | Some(("ClusterService", "GetStatus")) => Place::Here,
        Some((_, method)) if method.starts_with("List") => Place::LeaderUnlessStale,
        _ => Place::Leader,
    }
}

/// The field that all list requests have in common. Everything else is skipped.
#[derive(Clone, PartialEq, Message)]
struct ListRequest {
    #[prost(enumeration = "v1::Consistency", tag = "1")]
    consistency: i32,
}

/// Reads whether a list may be stale, and gives the request back as it was.
///
/// # Errors
/// A body that is too large or broke off.
pub async fn may_be_stale(request: Request<Body>) -> Result<(bool, Request<Body>), ApiError> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, LIST_REQUEST_LIMIT).collect().await.map_err(|error| {
        if error.downcast_ref::<LengthLimitError>().is_some() {
            ApiError::TooLarge { size: LIST_REQUEST_LIMIT + 1, limit: LIST_REQUEST_LIMIT }
        } else {
            ApiError::Protocol(format!("the request broke off: {error}"))
        }
    })?;
    let bytes = body.to_bytes();
    let stale = asks_for_stale(&bytes);
    Ok((stale, Request::from_parts(head, Body::new(Full::new(bytes)))))
}

/// The five bytes before the message are gRPC's flag and length. What does not decode is left for the service
/// to refuse.
fn asks_for_stale(frame: &Bytes) -> bool {
    frame
        .get(5..)
        .and_then(|message| ListRequest::decode(message).ok())
        .is_some_and(|request| request.consistency() == v1::Consistency::Stale)
}

/// Connections to the other members, made when they are first needed.
pub struct Relay {
    transport: Arc<dyn Transport>,
    channels: Mutex<BTreeMap<String, Channel>>,
}

impl Relay {
    /// A relay that dials so.
    #[must_use]
    pub fn new(transport: Arc<dyn Transport>) -> Self {
        Self { transport, channels: Mutex::default() }
    }

    /// Passes a call on, on behalf of its caller.
    ///
    /// # Errors
    /// [`ApiError::Unavailable`] where the leader cannot be reached; the call may have been done all the same.
    pub async fn forward(
        &self,
        leader: &v1::Member,
        caller: &Caller,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, ApiError> {
        let behalf = HeaderValue::from_str(&caller.id())
            .map_err(|_| ApiError::Protocol(format!("{} cannot be relayed: a strange name", caller.id())))?;
        request.headers_mut().insert(ON_BEHALF_OF, behalf);
        request.headers_mut().insert(HOPS, HeaderValue::from_static("1"));
        // Extensions speak of this member's connection to the caller, not of the next one.
        *request.extensions_mut() = http::Extensions::new();
        let channel = self.channel(leader)?;
        channel.oneshot(request).await.map_err(|error| {
            ApiError::Unavailable(format!(
                "the leader {} at {} could not be reached: {}",
                leader.name,
                leader.address,
                innermost(&error)
            ))
        })
    }

    fn channel(&self, leader: &v1::Member) -> Result<Channel, ApiError> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get(&leader.address) {
            return Ok(channel.clone());
        }
        let endpoint = self.transport.endpoint(&leader.address).map_err(|error| {
            ApiError::Internal(format!("{} has an unusable address {}: {error}", leader.name, leader.address))
        })?;
        let channel = self.transport.channel(&endpoint);
        channels.insert(leader.address.clone(), channel.clone());
        Ok(channel)
    }
}

/// The last cause says what happened; the outer ones say "transport error".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use hawser_hostile::{bytes, check};

    use super::*;

    #[test]
    fn calls_are_answered_where_they_must_be() {
        let table = [
            ("/hawser.v1.RaftService/AppendEntries", Place::Here),
            ("/hawser.v1.WatchService/Watch", Place::Here),
            ("/hawser.v1.ClusterService/GetStatus", Place::Here),
            ("/hawser.v1.ClusterService/AddMember", Place::Leader),
            ("/hawser.v1.ClusterService/TransferLeadership", Place::Leader),
            ("/hawser.v1.NodeService/ListNodes", Place::LeaderUnlessStale),
            ("/hawser.v1.NodeService/CreateNode", Place::Leader),
            ("/hawser.v1.OperationService/WaitOperation", Place::Leader),
            ("/hawser.v1.SessionService/Open", Place::Leader),
            ("/hawser.v1.ArbiterService/Outdate", Place::Leader),
        ];
        for (path, expected) in table {
            assert_eq!(place_of(path), expected, "{path}");
        }
    }

    #[test]
    fn every_list_request_shows_its_consistency_in_the_same_field() {
        let stale: i32 = v1::Consistency::Stale.into();
        let page = Some(v1::PageRequest { size: 7, token: "x".into() });
        let requests = [
            v1::ListNodesRequest { consistency: stale, page: page.clone(), ..Default::default() }
                .encode_to_vec(),
            v1::ListPoolsRequest { consistency: stale, ..Default::default() }.encode_to_vec(),
            v1::ListResourceGroupsRequest { consistency: stale, ..Default::default() }.encode_to_vec(),
            v1::ListResourcesRequest { consistency: stale, ..Default::default() }.encode_to_vec(),
            v1::ListReplicasRequest { consistency: stale, ..Default::default() }.encode_to_vec(),
            v1::ListAttachmentsRequest { consistency: stale, ..Default::default() }.encode_to_vec(),
            v1::ListOperationsRequest { consistency: stale, ..Default::default() }.encode_to_vec(),
        ];
        for message in requests {
            let mut frame = vec![0, 0, 0, 0, 0];
            frame.extend(&message);
            assert!(asks_for_stale(&frame.into()));
        }
        let fresh = v1::ListNodesRequest { page, ..Default::default() }.encode_to_vec();
        let mut frame = vec![0, 0, 0, 0, 0];
        frame.extend(&fresh);
        assert!(!asks_for_stale(&frame.into()));
        assert!(!asks_for_stale(&Bytes::from_static(&[1, 2])), "garbage is left to the service");
    }

    #[test]
    fn hostile_list_requests_are_left_to_the_service() {
        let stale = v1::ListNodesRequest { consistency: v1::Consistency::Stale.into(), ..Default::default() };
        let frame = [&[0; 5][..], &stale.encode_to_vec()].concat();
        check(&bytes(&[&frame], &[]), |frame| {
            let decoded = frame.get(5..).and_then(|message| v1::ListNodesRequest::decode(message).ok());
            if let Some(request) = decoded {
                let is_stale = request.consistency() == v1::Consistency::Stale;
                assert_eq!(asks_for_stale(&frame.into()), is_stale);
            }
        });
    }
}
