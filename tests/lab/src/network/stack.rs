//! User-space TCP at the host's end of one management link: connections in both directions, each joined to
//! a byte stream of the lab's process. One node's stack must never wait for another's.

use std::pin::Pin;
use std::task::{Context, Poll};

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr, Ipv4Address};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::{mpsc, oneshot};

use super::addresses::HOST;
use super::frame_socket::FrameSocket;

const SOCKET_BUFFER: usize = 256 * 1024;
const STREAM_BUFFER: usize = 128 * 1024;
/// Connections from a node that may arrive at one port at the same moment.
const BACKLOG: usize = 8;
const FIRST_LOCAL_PORT: u16 = 20_000;
const PREFIX: u8 = 24;

struct Connection {
    handle: SocketHandle,
    stream: Option<DuplexStream>,
    answer: Option<(oneshot::Sender<DuplexStream>, DuplexStream)>,
    host_ended: bool,
    node_ended: bool,
}

struct Listener {
    port: u16,
    sockets: Vec<SocketHandle>,
    incoming: mpsc::UnboundedSender<DuplexStream>,
}

/// The stack of one link.
pub(super) struct Stack {
    device: FrameSocket,
    interface: Interface,
    sockets: SocketSet<'static>,
    connections: Vec<Connection>,
    listeners: Vec<Listener>,
    next_port: u16,
    started: tokio::time::Instant,
}

impl Stack {
    /// A stack with the host's address on this link.
    pub(super) fn new(mut device: FrameSocket) -> Self {
        let address = EthernetAddress([0x02, 0, 0x0a, 0x4e, 0, 0xfe]);
        let started = tokio::time::Instant::now();
        let config = Config::new(HardwareAddress::Ethernet(address));
        let mut interface = Interface::new(config, &mut device, Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            // The list is empty and holds at least one.
            let _ = addresses.push(IpCidr::new(IpAddress::Ipv4(HOST), PREFIX));
        });
        let sockets = SocketSet::new(Vec::new());
        Self {
            device,
            interface,
            sockets,
            connections: Vec::new(),
            listeners: Vec::new(),
            next_port: FIRST_LOCAL_PORT,
            started,
        }
    }

    /// Begins a connection; `answer` gets the stream when the node has accepted, and is dropped when it refuses.
    pub(super) fn connect(&mut self, node: Ipv4Address, port: u16, answer: oneshot::Sender<DuplexStream>) {
        let mut socket = new_socket();
        let local = self.next_port;
        self.next_port = if local == u16::MAX { FIRST_LOCAL_PORT } else { local + 1 };
        if socket.connect(self.interface.context(), (IpAddress::Ipv4(node), port), local).is_err() {
            return;
        }
        let (near, far) = tokio::io::duplex(STREAM_BUFFER);
        let handle = self.sockets.add(socket);
        let answer = Some((answer, far));
        let connection =
            Connection { handle, stream: Some(near), answer, host_ended: false, node_ended: false };
        self.connections.push(connection);
    }

    /// Accepts connections of the node to `port` of the host's address from now on.
    pub(super) fn listen(&mut self, port: u16, incoming: mpsc::UnboundedSender<DuplexStream>) {
        self.listeners.push(Listener { port, sockets: Vec::new(), incoming });
    }

    /// Moves everything that can be moved; answers when the stack wants to be polled again without an event
    /// (none: only an event matters).
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Option<tokio::time::Instant> {
        for _ in 0..256 {
            let ready = self.device.poll_ready(context);
            let now = self.now();
            self.interface.poll(now, &mut self.device, &mut self.sockets);
            self.accept();
            let moved = self.pump(context);
            if !ready && !moved {
                if self.device.is_full() {
                    // The stack would answer "now", again and again; the device wakes this task instead.
                    return None;
                }
                let now = self.now();
                let delay = self.interface.poll_delay(now, &self.sockets)?;
                return Some(tokio::time::Instant::now() + std::time::Duration::from(delay));
            }
        }
        // Others on this thread get their turn.
        context.waker().wake_by_ref();
        None
    }

    fn now(&self) -> Instant {
        let micros = self.started.elapsed().as_micros();
        Instant::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
    }

    fn accept(&mut self) {
        let Self { listeners, sockets, connections, .. } = self;
        listeners.retain(|listener| !listener.incoming.is_closed());
        for listener in listeners {
            listener.sockets.retain(|handle| {
                let socket = sockets.get_mut::<Socket<'_>>(*handle);
                if matches!(socket.state(), State::Listen | State::SynReceived) {
                    return true;
                }
                let (near, far) = tokio::io::duplex(STREAM_BUFFER);
                let connection = Connection {
                    handle: *handle,
                    stream: Some(near),
                    answer: None,
                    host_ended: false,
                    node_ended: false,
                };
                connections.push(connection);
                let _ = listener.incoming.send(far);
                false
            });
            while listener.sockets.len() < BACKLOG {
                let mut socket = new_socket();
                if socket.listen(listener.port).is_err() {
                    break;
                }
                listener.sockets.push(sockets.add(socket));
            }
        }
    }

    fn pump(&mut self, context: &mut Context<'_>) -> bool {
        let mut moved = false;
        let Self { connections, sockets, .. } = self;
        connections.retain_mut(|connection| {
            let socket = sockets.get_mut::<Socket<'_>>(connection.handle);
            moved |= connection.pump(socket, context);
            let ended = socket.state() == State::Closed
                || (socket.state() == State::TimeWait && connection.node_ended);
            if ended && !socket.can_recv() {
                sockets.remove(connection.handle);
                return false;
            }
            true
        });
        moved
    }
}

impl Connection {
    /// Moves bytes both ways; answers whether the stack has something new to do.
    fn pump(&mut self, socket: &mut Socket<'_>, context: &mut Context<'_>) -> bool {
        if let Some((answer, far)) = self.answer.take() {
            if socket.may_send() {
                let _ = answer.send(far);
            } else if answer.is_closed() {
                socket.abort();
                return true;
            } else if socket.state() != State::Closed {
                self.answer = Some((answer, far));
                return false;
            }
        }
        self.pump_to_node(socket, context) | self.pump_to_host(socket, context)
    }

    fn pump_to_node(&mut self, socket: &mut Socket<'_>, context: &mut Context<'_>) -> bool {
        let mut moved = false;
        while !self.host_ended && socket.can_send() {
            let Some(stream) = &mut self.stream else { break };
            let read = socket.send(|space| {
                let mut buffer = ReadBuf::new(space);
                match Pin::new(stream).poll_read(context, &mut buffer) {
                    Poll::Pending => (0, None),
                    Poll::Ready(Err(_)) => (0, Some(0)),
                    Poll::Ready(Ok(())) => (buffer.filled().len(), Some(buffer.filled().len())),
                }
            });
            match read {
                Ok(Some(0)) => {
                    socket.close();
                    self.host_ended = true;
                    moved = true;
                }
                Ok(Some(_)) => moved = true,
                Ok(None) | Err(_) => break,
            }
        }
        moved
    }

    fn pump_to_host(&mut self, socket: &mut Socket<'_>, context: &mut Context<'_>) -> bool {
        let mut moved = false;
        while socket.can_recv() {
            let Some(stream) = &mut self.stream else { break };
            let written = socket.recv(|data| match Pin::new(stream).poll_write(context, data) {
                Poll::Pending => (0, None),
                Poll::Ready(Err(_)) => (0, Some(0)),
                Poll::Ready(Ok(count)) => (count, Some(count)),
            });
            match written {
                Ok(Some(0)) => {
                    // The host's side is gone: the node learns it at once instead of filling a window.
                    self.stream = None;
                    socket.abort();
                    return true;
                }
                Ok(Some(_)) => moved = true,
                Ok(None) | Err(_) => break,
            }
        }
        let open = matches!(socket.state(), State::SynSent | State::SynReceived) || socket.may_recv();
        if !self.node_ended && !open && !socket.can_recv() {
            self.node_ended = true;
            if let Some(stream) = &mut self.stream {
                // A duplex stream's end takes no time.
                let _ = Pin::new(stream).poll_shutdown(context);
            }
            moved = true;
        }
        moved
    }
}

fn new_socket() -> Socket<'static> {
    let buffer = || SocketBuffer::new(vec![0; SOCKET_BUFFER]);
    let mut socket = Socket::new(buffer(), buffer());
    socket.set_nagle_enabled(false);
    socket.set_ack_delay(Some(Duration::from_millis(1)));
    socket
}
