//! How simulated controllers reach and recognise each other: as over TLS, without its arithmetic.

use hawser_controller::{
    api::transport::{attentive, controller_behind_the_door},
    consensus::Transport,
};
use hawser_process::{
    dial::Dialer,
    tls::{PeerError, PeerIdentity},
};
use tonic::{
    Extensions, Status,
    codegen::http,
    transport::{Channel, Endpoint},
};

/// The way through a simulated network.
pub(crate) struct Simulated(pub(crate) Dialer);

impl Transport for Simulated {
    fn endpoint(&self, address: &str) -> Result<Endpoint, String> {
        endpoint(address)
    }

    fn channel(&self, endpoint: &Endpoint) -> Channel {
        self.0.lazy(endpoint)
    }

    fn controller_name(&self, request: &Extensions) -> Result<String, Status> {
        controller_behind_the_door(request)
    }
}

/// An endpoint with the settings that the real ones have.
pub(crate) fn endpoint(address: &str) -> Result<Endpoint, String> {
    Endpoint::from_shared(format!("http://{address}")).map(attentive).map_err(|error| error.to_string())
}

/// The peer, as the connection says.
pub(crate) fn identify(extensions: &http::Extensions) -> Result<PeerIdentity, PeerError> {
    extensions.get::<PeerIdentity>().cloned().ok_or(PeerError::NoCertificate)
}
