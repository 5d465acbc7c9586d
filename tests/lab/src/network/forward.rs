//! Joins loopback ports of the host to ports of the nodes, and the other way round.
//! It listens on loopback only: a lab must never be reachable from outside its machine.

use std::net::Ipv4Addr;

use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::link::Link;

/// Forwards every connection to `listener` to `port` of the node whose link stands in `link` at that moment.
///
/// A connection is closed at once while the node is off or nothing listens there: the host's client sees a
/// reset, as from a machine that is down.
pub async fn into_node(listener: TcpListener, link: watch::Receiver<Option<Link>>, port: u16) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a forwarded connection");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(link) = link.borrow().clone() else { continue };
        tokio::spawn(async move {
            match link.connect(port).await {
                Ok(node) => join(stream, node).await,
                Err(error) => tracing::debug!(%error, "a forwarded connection was not taken"),
            }
        });
    }
}

/// Forwards the node's connections to `port` of the host's management address to the same port of the host's
/// loopback, until the link ends.
pub async fn out_of_node(link: Link, port: u16) {
    let Ok(mut incoming) = link.listen(port) else { return };
    // The link must end with its node: a handle kept here would hold it.
    drop(link);
    while let Some(node) = incoming.recv().await {
        tokio::spawn(async move {
            match TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
                Ok(stream) => join(stream, node).await,
                Err(error) => tracing::debug!(port, %error, "nothing took a connection out of a node"),
            }
        });
    }
}

async fn join(stream: TcpStream, mut node: impl AsyncRead + AsyncWrite + Unpin) {
    let mut stream = stream;
    let _ = stream.set_nodelay(true);
    // An error here is one side's reset: both ends are closed by the drop, which is all there is to do.
    let _ = copy_bidirectional(&mut stream, &mut node).await;
}
