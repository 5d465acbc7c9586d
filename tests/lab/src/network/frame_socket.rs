//! A socket pair's end as a network device of the user-space TCP stack.
//! It must never drop a frame that the stack has made: a lost one costs the stack a time-out, a refused one nothing.

use std::io::ErrorKind;
use std::task::{Context, Poll};

use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;
use tokio::net::UnixDatagram;

use super::addresses::PACKET_SIZE;

const ETHERNET_HEADER: usize = 14;

/// The device; at most one frame waits in it while the pair is full.
pub(super) struct FrameSocket {
    socket: UnixDatagram,
    waiting: Option<Vec<u8>>,
    closed: bool,
    received: Vec<u8>,
}

impl FrameSocket {
    /// Wraps the host's end of a link.
    pub(super) fn new(socket: std::os::unix::net::UnixDatagram) -> std::io::Result<Self> {
        socket.set_nonblocking(true)?;
        let received = vec![0; PACKET_SIZE + ETHERNET_HEADER];
        Ok(Self { socket: UnixDatagram::from_std(socket)?, waiting: None, closed: false, received })
    }

    /// Sends the waiting frame if there is room now. Answers whether there is anything to poll the stack for,
    /// and arranges a wake-up for what there is not.
    pub(super) fn poll_ready(&mut self, context: &mut Context<'_>) -> bool {
        if self.closed {
            return false;
        }
        let mut sent = false;
        while let Some(frame) = self.waiting.take() {
            if self.socket.poll_send_ready(context).is_pending() {
                self.waiting = Some(frame);
                // Not even received frames can be dealt with: an answer to them would have no place.
                return false;
            }
            self.send(frame);
            sent = true;
        }
        let readable = matches!(self.socket.poll_recv_ready(context), Poll::Ready(Ok(())));
        sent || readable
    }

    /// Whether the pair is full: the stack can do nothing until the node has read.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.is_some()
    }

    fn send(&mut self, frame: Vec<u8>) {
        match self.socket.try_send(&frame) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.waiting = Some(frame),
            Err(_) => self.closed = true,
        }
    }
}

impl Device for FrameSocket {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received<'_>, Sending<'_>)> {
        if self.waiting.is_some() || self.closed {
            return None;
        }
        let length = self.socket.try_recv(&mut self.received).ok()?;
        let frame = self.received[..length].to_vec();
        Some((Received(frame, std::marker::PhantomData), Sending(self)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending<'_>> {
        (self.waiting.is_none() && !self.closed).then_some(Sending(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = PACKET_SIZE + ETHERNET_HEADER;
        capabilities
    }
}

/// A frame that came from the node.
pub(super) struct Received<'a>(Vec<u8>, std::marker::PhantomData<&'a ()>);

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

/// The place for one frame to the node.
pub(super) struct Sending<'a>(&'a mut FrameSocket);

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        let mut frame = vec![0; length];
        let result = write(&mut frame);
        self.0.send(frame);
        result
    }
}
