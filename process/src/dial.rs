//! How connections are made: over TCP, or through whatever a simulation puts in its place.
//!
//! It must never decide whom to trust: TLS, where an endpoint asks for it, runs over either.

use std::{
    fmt, io,
    sync::Arc,
    task::{Context, Poll},
};

use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tonic::{
    codegen::{BoxFuture, http::Uri},
    transport::{Channel, Endpoint, Error},
};

/// Both directions of a connection.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connects to the host and port of a URI.
pub type Connect = dyn Fn(Uri) -> BoxFuture<Box<dyn Stream>, io::Error> + Send + Sync;

/// Makes connections. Cheap to clone.
#[derive(Clone, Default)]
pub struct Dialer(Option<Arc<Connect>>);

impl Dialer {
    /// Over TCP.
    #[must_use]
    pub fn tcp() -> Self {
        Self(None)
    }

    /// Through `connect`.
    #[must_use]
    pub fn through(connect: Arc<Connect>) -> Self {
        Self(Some(connect))
    }

    /// A bare connection to the host and port of `uri`.
    ///
    /// # Errors
    /// If there is none.
    pub async fn stream(&self, uri: Uri) -> io::Result<Box<dyn Stream>> {
        match &self.0 {
            Some(connect) => connect(uri).await,
            None => {
                let address = uri.authority().map(ToString::to_string).unwrap_or_default();
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
        }
    }

    /// A channel that connects when it is first used, and again when it broke.
    #[must_use]
    pub fn lazy(&self, endpoint: &Endpoint) -> Channel {
        match &self.0 {
            None => endpoint.connect_lazy(),
            Some(connect) => endpoint.connect_with_connector_lazy(Connector(Arc::clone(connect))),
        }
    }

    /// A channel that is connected.
    ///
    /// # Errors
    /// If there is no connection within the endpoint's time.
    pub async fn connect(&self, endpoint: &Endpoint) -> Result<Channel, Error> {
        match &self.0 {
            None => endpoint.connect().await,
            Some(connect) => endpoint.connect_with_connector(Connector(Arc::clone(connect))).await,
        }
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.0.is_some() { "Dialer(simulated)" } else { "Dialer(tcp)" })
    }
}

/// What tonic asks for connections.
#[derive(Clone)]
struct Connector(Arc<Connect>);

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<Box<dyn Stream>>;
    type Error = io::Error;
    type Future = BoxFuture<Self::Response, io::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.0(uri);
        Box::pin(async { connecting.await.map(TokioIo::new) })
    }
}
