//! Which TCP connections come to the gRPC port at all, before anybody has shown a certificate.
//!
//! It must never wait for a connection that says nothing: TLS does, for as long as `tls::HANDSHAKE`.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::stream::{self, Stream};
use hawser_process::admission::{Admission, Admitted, Limits};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep},
};
use tonic::transport::server::{Connected, TcpConnectInfo};

/// What is admitted where the system lets this process have enough files open. A satellite and a member have two
/// connections each, a command line one; many of these may come from behind one address.
pub const LIMITS: Limits = Limits { in_all: 4096, per_address: 512, when_scarce: 8 };
/// Files that a controller needs for everything else: its store, its connections to other members, its other port.
const KEPT_BACK: usize = 256;
/// Between two words in the log about connections that were turned away.
const PAUSE: Duration = Duration::from_secs(60);
const AFTER_AN_ERROR: Duration = Duration::from_millis(100);

/// The limits for a process that may have so many files open.
#[must_use]
pub fn limits(open_files: usize) -> Limits {
    let room = open_files.saturating_sub(KEPT_BACK).max(KEPT_BACK / 2);
    Limits { in_all: LIMITS.in_all.min(room), per_address: LIMITS.per_address.min(room / 2), ..LIMITS }
}

/// The connections that find room. It goes on for ever: whatever is wrong with one connection, or with the system for
/// a while, must not end the port.
pub fn admitted(listener: TcpListener, limits: Limits) -> impl Stream<Item = io::Result<Guarded>> + Send {
    let entrance = Entrance { listener, admission: Admission::new(limits), limits, told: None };
    stream::unfold(entrance, |mut entrance| async move {
        let guarded = entrance.next().await;
        Some((Ok(guarded), entrance))
    })
}

struct Entrance {
    listener: TcpListener,
    admission: Admission,
    limits: Limits,
    /// When the log was last told that connections are turned away.
    told: Option<Instant>,
}

impl Entrance {
    async fn next(&mut self) -> Guarded {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    // It is gone already if that fails.
                    let is_there = stream.set_nodelay(true).is_ok();
                    if is_there && let Some(admitted) = self.admit(peer) {
                        return Guarded { stream, _admitted: admitted };
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "the gRPC port cannot accept a connection");
                    // Out of memory or open files, most likely; trying again at once would spin.
                    sleep(AFTER_AN_ERROR).await;
                }
            }
        }
    }

    fn admit(&mut self, peer: SocketAddr) -> Option<Admitted> {
        let admitted = self.admission.admit(peer.ip());
        if admitted.is_none() && self.told.is_none_or(|told| told.elapsed() > PAUSE) {
            self.told = Some(Instant::now());
            tracing::warn!(%peer, limits = ?self.limits, "connections are turned away: too many are open");
        }
        admitted
    }
}

/// A connection that has found room, and gives it back when it ends.
#[derive(Debug)]
pub struct Guarded {
    stream: TcpStream,
    _admitted: Admitted,
}

impl Connected for Guarded {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_admitted_than_files_can_be_open() {
        assert_eq!(limits(1 << 20), LIMITS);
        let few = limits(1024);
        assert_eq!((few.in_all, few.per_address), (768, 384));
        assert!(limits(0).in_all > 0, "a controller that admits nobody is none");
    }
}
