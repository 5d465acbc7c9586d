//! One controller's address and the channel to it. Nothing is dialled before the first call.

use std::time::Duration;

use hawser_process::tls::Identity;
use hawser_proto::names;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tonic::{
    codegen::http::Uri,
    transport::{Channel, Endpoint as TonicEndpoint},
};

use crate::ClientError;

/// From the first packet to the end of the TLS handshake. Ample, for a machine that is busy is not gone; who is
/// gone costs no time where there are others to ask.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A peer that lost its power sends no reset: it is asked this often whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(2);

pub(crate) struct Endpoint {
    /// host:port.
    pub(crate) address: String,
    pub(crate) channel: Channel,
}

impl Endpoint {
    pub(crate) fn new(address: &str, identity: &Identity) -> Result<Self, ClientError> {
        let bad = |reason: String| ClientError::BadEndpoint { endpoint: address.to_owned(), reason };
        names::endpoint("controllers", address).map_err(|error| bad(error.message))?;
        let endpoint = TonicEndpoint::from_shared(format!("https://{address}"))
            .map_err(|error| bad(error.to_string()))?
            .tls_config(identity.client_tls())
            .map_err(|error| bad(error.to_string()))?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .keep_alive_while_idle(true);
        let target = address.to_owned();
        // With a connector of our own, the connect time-out covers the TLS handshake too: a stopped
        // process still accepts connections, for its kernel does.
        let channel = endpoint.connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
            let target = target.clone();
            async move {
                let stream = TcpStream::connect(target).await?;
                stream.set_nodelay(true)?;
                Ok::<_, std::io::Error>(TokioIo::new(stream))
            }
        }));
        Ok(Self { address: address.to_owned(), channel })
    }
}
