//! How controllers reach and recognise each other; what TLS gives, seen from consensus.

use tonic::{
    Extensions, Status,
    transport::{Channel, Endpoint},
};

/// Dials controllers and says who dialled.
pub trait Transport: Send + Sync + 'static {
    /// An endpoint for the gRPC port of the controller at `address` (host:port), not yet connected. It
    /// verifies that whoever answers there is a controller of this cluster.
    ///
    /// # Errors
    /// If the address cannot be dialled, with the reason.
    fn endpoint(&self, address: &str) -> Result<Endpoint, String>;

    /// A channel to an endpoint, which connects when it is first used and again when it broke.
    fn channel(&self, endpoint: &Endpoint) -> Channel {
        endpoint.connect_lazy()
    }

    /// Name in the certificate of the controller that sent a request.
    ///
    /// # Errors
    /// Refuses whoever is not a controller of this cluster.
    fn controller_name(&self, request: &Extensions) -> Result<String, Status>;
}
