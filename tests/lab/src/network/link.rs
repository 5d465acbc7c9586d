//! One node's management link: the host's way in and the node's way out, untouched by partitions.
//! The link lives as long as its handle; everything on it ends with it, as when a cable is pulled.

use std::future::poll_fn;
use std::io::{Error, ErrorKind};
use std::os::unix::net::UnixDatagram;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::io::DuplexStream;
use tokio::sync::{mpsc, oneshot};

use super::addresses::management;
use super::frame_socket::FrameSocket;
use super::stack::Stack;

/// How long a node may take to answer the opening of a connection.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// The stack is polled at least this often, also when it names no time.
const IDLE: Duration = Duration::from_secs(3600);

enum Order {
    Connect { port: u16, answer: oneshot::Sender<DuplexStream> },
    Listen { port: u16, incoming: mpsc::UnboundedSender<DuplexStream> },
}

/// A handle on a running link; when the last one is dropped the link ends.
#[derive(Clone)]
pub struct Link {
    number: u8,
    orders: mpsc::UnboundedSender<Order>,
}

impl Link {
    /// Starts the stack on the host's end of a node's link.
    ///
    /// # Errors
    /// The system's error when the socket cannot be watched.
    pub fn start(number: u8, socket: UnixDatagram) -> std::io::Result<Self> {
        let stack = Stack::new(FrameSocket::new(socket)?);
        let (orders, inbox) = mpsc::unbounded_channel();
        tokio::spawn(run(number, stack, inbox));
        Ok(Self { number, orders })
    }

    /// Opens a connection to a port of the node's management address.
    ///
    /// # Errors
    /// `ConnectionRefused` when nothing listens there, `TimedOut` when the node does not answer, `BrokenPipe`
    /// when the link has ended.
    pub async fn connect(&self, port: u16) -> std::io::Result<DuplexStream> {
        let (answer, opened) = oneshot::channel();
        let gone = |_| Error::new(ErrorKind::BrokenPipe, format!("node n{} was switched off", self.number));
        self.orders.send(Order::Connect { port, answer }).map_err(|_| gone(()))?;
        match tokio::time::timeout(CONNECT_DEADLINE, opened).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(_)) => Err(Error::new(
                ErrorKind::ConnectionRefused,
                format!("nothing listens on port {port} of node n{}", self.number),
            )),
            Err(_) => Err(Error::new(
                ErrorKind::TimedOut,
                format!("node n{} did not answer on port {port} within {CONNECT_DEADLINE:?}", self.number),
            )),
        }
    }

    /// Accepts the node's connections to `port` of the host's address; ends when the receiver is dropped.
    ///
    /// # Errors
    /// `BrokenPipe` when the link has ended.
    pub fn listen(&self, port: u16) -> std::io::Result<mpsc::UnboundedReceiver<DuplexStream>> {
        let (incoming, accepted) = mpsc::unbounded_channel();
        self.orders.send(Order::Listen { port, incoming }).map_err(|_| {
            Error::new(ErrorKind::BrokenPipe, format!("node n{} was switched off", self.number))
        })?;
        Ok(accepted)
    }
}

async fn run(number: u8, mut stack: Stack, mut inbox: mpsc::UnboundedReceiver<Order>) {
    let mut timer = pin!(tokio::time::sleep(Duration::ZERO));
    poll_fn(|context| {
        loop {
            match inbox.poll_recv(context) {
                Poll::Ready(Some(Order::Connect { port, answer })) => {
                    stack.connect(management(number), port, answer);
                }
                Poll::Ready(Some(Order::Listen { port, incoming })) => stack.listen(port, incoming),
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        loop {
            let next = stack.poll(context).unwrap_or_else(|| tokio::time::Instant::now() + IDLE);
            timer.as_mut().reset(next);
            if timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
    })
    .await;
}
