//! One end of a simulated connection, and the pipes that it is made of.
//!
//! A pipe carries segments in one direction; each is readable from the moment at which it arrives.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{Buf, Bytes};
use hawser_process::tls::PeerIdentity;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep_until},
};
use tonic::transport::server::Connected;

use crate::{
    clock::{self, Moment},
    network::Network,
};

/// What may be under way in one direction; whoever sends more waits.
const WINDOW: usize = 256 * 1024;

/// One direction of a connection.
pub(crate) struct Pipe {
    from: String,
    sender: u64,
    to: String,
    receiver: u64,
    /// How late it is when connections are out of order, in parts of 255.
    lag: u8,
    flow: Mutex<Flow>,
}

#[derive(Default)]
struct Flow {
    segments: VecDeque<Segment>,
    bytes: usize,
    /// The last segment that has a moment arrives then; none overtakes it.
    latest: Moment,
    sender_gone: bool,
    receiver_gone: bool,
    reset: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

struct Segment {
    /// `None` while its link is cut.
    arrives: Option<Moment>,
    content: Content,
}

enum Content {
    Data(Bytes),
    End,
}

impl Pipe {
    /// A pipe from one host and process to another.
    pub(crate) fn new((from, sender): (&str, u64), (to, receiver): (&str, u64), lag: u8) -> Arc<Self> {
        Arc::new(Self {
            from: from.to_owned(),
            sender,
            to: to.to_owned(),
            receiver,
            lag,
            flow: Mutex::default(),
        })
    }

    /// How late it is where the latest is late by `most`.
    pub(crate) fn lag(&self, most: Duration) -> Duration {
        most * u32::from(self.lag) / u32::from(u8::MAX)
    }

    /// Closes the end, or both, that a process has.
    pub(crate) fn close(&self, network: &Network, process: u64) {
        if self.sender == process {
            self.end(network);
        }
        if self.receiver == process {
            self.forget(network);
        }
    }

    /// Nobody reads any more.
    fn forget(&self, network: &Network) {
        // Whoever cannot be reached is not told.
        let told = network.passes(&self.to, &self.from);
        let mut flow = self.flow();
        if told && !std::mem::replace(&mut flow.receiver_gone, true) {
            flow.wake();
        }
    }

    pub(crate) fn from(&self) -> &str {
        &self.from
    }

    pub(crate) fn to(&self) -> &str {
        &self.to
    }

    pub(crate) fn goes(&self, from: &str, to: &str) -> bool {
        self.from == from && self.to == to
    }

    pub(crate) fn touches(&self, host: &str) -> bool {
        self.from == host || self.to == host
    }

    /// Nobody will use it any more.
    pub(crate) fn is_over(&self) -> bool {
        let flow = self.flow();
        flow.receiver_gone && (flow.sender_gone || flow.reset)
    }

    /// Both ends find it broken.
    pub(crate) fn reset(&self) {
        let mut flow = self.flow();
        flow.reset = true;
        flow.wake();
    }

    /// What was held back arrives `way` after the moment at which the network was mended.
    pub(crate) fn release(&self, way: Duration) {
        let mut flow = self.flow();
        let arrival = flow.latest.max(clock::now() + way);
        for segment in flow.segments.iter_mut().filter(|segment| segment.arrives.is_none()) {
            segment.arrives = Some(arrival);
        }
        flow.latest = arrival;
        flow.wake();
    }

    fn send(&self, arrives: Option<Moment>, content: Content) {
        tracing::trace!(from = self.from, to = self.to, now = ?clock::now(), ?arrives, bytes = content.len(), "segment");
        let mut flow = self.flow();
        let held_back = flow.segments.back().is_some_and(|segment| segment.arrives.is_none());
        let arrives = arrives.filter(|_| !held_back).map(|moment| moment.max(flow.latest));
        flow.latest = arrives.unwrap_or(flow.latest);
        flow.bytes += content.len();
        flow.segments.push_back(Segment { arrives, content });
        if let Some(reader) = flow.reader.take() {
            reader.wake();
        }
    }

    fn flow(&self) -> MutexGuard<'_, Flow> {
        self.flow.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Taken {
    Some,
    End,
    /// What comes next arrives then, if that is known.
    NotBefore(Option<Moment>),
}

impl Flow {
    fn take(&mut self, buffer: &mut ReadBuf<'_>) -> Taken {
        let now = clock::now();
        let Some(segment) = self.segments.front_mut() else { return Taken::NotBefore(None) };
        if segment.arrives.is_none_or(|moment| moment > now) {
            return Taken::NotBefore(segment.arrives);
        }
        let Content::Data(bytes) = &mut segment.content else { return Taken::End };
        let taken = bytes.len().min(buffer.remaining());
        buffer.put_slice(&bytes[..taken]);
        bytes.advance(taken);
        if bytes.is_empty() {
            self.segments.pop_front();
        }
        self.bytes -= taken;
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
        Taken::Some
    }

    fn wake(&mut self) {
        for waker in self.reader.take().into_iter().chain(self.writer.take()) {
            waker.wake();
        }
    }
}

/// One end of a connection. Dropping it closes the connection, in order.
pub struct SimulatedStream {
    network: Network,
    inward: Arc<Pipe>,
    outward: Arc<Pipe>,
    arrival: Option<Pin<Box<Sleep>>>,
}

impl SimulatedStream {
    pub(crate) fn new(network: Network, inward: Arc<Pipe>, outward: Arc<Pipe>) -> Self {
        Self { network, inward, outward, arrival: None }
    }
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "connection reset by peer")
}

impl AsyncRead for SimulatedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let pipe = Arc::clone(&self.inward);
        let mut flow = pipe.flow();
        if flow.reset {
            return Poll::Ready(Err(broken()));
        }
        let moment = match flow.take(buffer) {
            Taken::Some | Taken::End => return Poll::Ready(Ok(())),
            Taken::NotBefore(moment) => moment,
        };
        flow.reader = Some(context.waker().clone());
        drop(flow);
        let Some(moment) = moment else { return Poll::Pending };
        let mut arrival = Box::pin(sleep_until(clock::instant(moment)));
        if arrival.as_mut().poll(context).is_ready() {
            context.waker().wake_by_ref();
        }
        self.arrival = Some(arrival);
        Poll::Pending
    }
}

impl AsyncWrite for SimulatedStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        {
            let mut flow = self.outward.flow();
            if flow.reset || flow.receiver_gone {
                return Poll::Ready(Err(broken()));
            }
            if flow.bytes >= WINDOW {
                flow.writer = Some(context.waker().clone());
                return Poll::Pending;
            }
        }
        let arrives = self.network.arrival(&self.outward);
        self.outward.send(arrives, Content::Data(Bytes::copy_from_slice(bytes)));
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outward.end(&self.network);
        Poll::Ready(Ok(()))
    }
}

impl Content {
    fn len(&self) -> usize {
        match self {
            Self::Data(bytes) => bytes.len(),
            Self::End => 0,
        }
    }
}

impl Pipe {
    fn end(&self, network: &Network) {
        if std::mem::replace(&mut self.flow().sender_gone, true) {
            return;
        }
        self.send(network.arrival_of_end(&self.from, &self.to), Content::End);
    }
}

impl Drop for SimulatedStream {
    fn drop(&mut self) {
        self.outward.end(&self.network);
        self.inward.forget(&self.network);
    }
}

/// The end of a connection that was accepted, and who is at the other one.
pub struct ServerStream {
    stream: SimulatedStream,
    peer: PeerIdentity,
}

impl ServerStream {
    pub(crate) fn new(stream: SimulatedStream, peer: PeerIdentity) -> Self {
        Self { stream, peer }
    }
}

impl Connected for ServerStream {
    type ConnectInfo = PeerIdentity;

    fn connect_info(&self) -> PeerIdentity {
        self.peer.clone()
    }
}

impl AsyncRead for ServerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for ServerStream {
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
}
