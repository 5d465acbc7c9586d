//! How controllers reach and recognise each other; what TLS gives, seen from consensus.

use tonic::{Extensions, Status, transport::Endpoint};

/// Dials controllers and says who dialled.
pub trait Transport: Send + Sync + 'static {
    /// An endpoint for the gRPC port of the controller at `address` (host:port), not yet connected. It
    /// verifies that whoever answers there is a controller of this cluster.
    ///
    /// # Errors
    /// If the address cannot be dialled, with the reason.
    fn endpoint(&self, address: &str) -> Result<Endpoint, String>;

    /// Name in the certificate of the controller that sent a request.
    ///
    /// # Errors
    /// Refuses whoever is not a controller of this cluster.
    fn controller_name(&self, request: &Extensions) -> Result<String, Status>;
}
