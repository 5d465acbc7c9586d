//! How controllers reach and recognise each other: consensus' view of mutual TLS and of the door.

use std::time::Duration;

use hawser_process::tls::{Identity, Role};
use tonic::{Extensions, Status, transport::Endpoint};

use super::{caller::Caller, error::ApiError};
use crate::consensus::Transport;

/// A member that does not accept a connection within this time counts as unreachable.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// A power cut sends no reset: a silent connection is given up after these.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(1);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_millis(1_500);

/// Dials with a controller's identity.
pub struct MutualTls(pub Identity);

/// An endpoint that is surely a controller of this identity's cluster, not yet connected.
///
/// # Errors
/// If the address cannot be dialled.
pub fn endpoint(identity: &Identity, address: &str) -> Result<Endpoint, tonic::transport::Error> {
    attentive(Endpoint::from_shared(format!("https://{address}"))?).tls_config(identity.client_tls())
}

/// The endpoint with the times after which the other end counts as gone.
#[must_use]
pub fn attentive(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
}

impl Transport for MutualTls {
    fn endpoint(&self, address: &str) -> Result<Endpoint, String> {
        endpoint(&self.0, address).map_err(|error| error.to_string())
    }

    fn controller_name(&self, request: &Extensions) -> Result<String, Status> {
        controller_behind_the_door(request)
    }
}

/// Name of the controller that sent a request, which the door has found out and noted in it.
///
/// # Errors
/// Refuses whoever is not a controller.
pub fn controller_behind_the_door(request: &Extensions) -> Result<String, Status> {
    // The door has compared the certificate's cluster.
    match request.get::<Caller>() {
        Some(caller) if caller.role == Role::Controller => Ok(caller.name.clone()),
        Some(caller) => Err(ApiError::Forbidden {
            reason: "WRONG_ROLE",
            message: format!("{} {} is not a controller", caller.role, caller.name),
        }
        .into()),
        None => Err(ApiError::Internal("the call did not pass the door".into()).into()),
    }
}
