//! The switch of the cluster network: a thread that moves frames between the nodes' socket pairs as
//! [`Fabric`] decides. It must never wait for one port while another has frames.

use std::collections::{BTreeMap, VecDeque};
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::EventFd;

use super::delayed::Delayed;
use super::fabric::{Fabric, Port};

/// Frames that wait for a port whose socket pair is full; beyond it a frame is dropped, as a real switch does.
const QUEUE_FRAMES: usize = 2048;
/// Frames read from one port before the others get their turn.
const BURST: usize = 64;
const FRAME_BUFFER: usize = 70_000;
const STOP_TOKEN: u64 = u64::MAX;

struct PortState {
    socket: UnixDatagram,
    queue: VecDeque<Vec<u8>>,
    dropped: u64,
}

#[derive(Default)]
struct Inner {
    fabric: Fabric,
    ports: BTreeMap<Port, PortState>,
    delayed: Delayed,
    stopping: bool,
}

struct Shared {
    inner: Mutex<Inner>,
    epoll: Epoll,
    stop: EventFd,
}

/// A running switch; dropping it ends its thread and closes its ports.
pub struct Switch {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Switch {
    /// Starts a switch without ports.
    ///
    /// # Errors
    /// The system's error when it gives no epoll, event file or thread.
    pub fn start() -> std::io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let stop = EventFd::new()?;
        epoll.add(&stop, EpollEvent::new(EpollFlags::EPOLLIN, STOP_TOKEN))?;
        let shared = Arc::new(Shared { inner: Mutex::default(), epoll, stop });
        let worker = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("switch".into()).spawn(move || worker.run())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Plugs a node in; `socket` is the switch's end of its pair.
    ///
    /// # Errors
    /// The system's error when the socket cannot be watched.
    pub fn attach(&self, port: Port, socket: UnixDatagram) -> std::io::Result<()> {
        socket.set_nonblocking(true)?;
        let mut inner = self.shared.lock();
        self.shared.epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, u64::from(port)))?;
        inner.fabric.attach(port);
        inner.ports.insert(port, PortState { socket, queue: VecDeque::new(), dropped: 0 });
        Ok(())
    }

    /// Unplugs a node; a port that is not there is left alone.
    pub fn detach(&self, port: Port) {
        let mut inner = self.shared.lock();
        inner.fabric.detach(port);
        if let Some(state) = inner.ports.remove(&port) {
            // Closing the socket removes it from the epoll set as well; a failure here changes nothing.
            let _ = self.shared.epoll.delete(&state.socket);
        }
    }

    /// Reads or changes the rules between two frames.
    pub fn with_fabric<T>(&self, change: impl FnOnce(&mut Fabric) -> T) -> T {
        change(&mut self.shared.lock().fabric)
    }

    /// Frames dropped per port because its queue was full.
    pub fn dropped(&self) -> BTreeMap<Port, u64> {
        self.shared.lock().ports.iter().map(|(port, state)| (*port, state.dropped)).collect()
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        let _ = self.shared.stop.write(1);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut events = [EpollEvent::empty(); 64];
        let mut buffer = vec![0_u8; FRAME_BUFFER];
        let mut targets = Vec::new();
        loop {
            let next = self.lock().delayed.next(Instant::now());
            let ready = match self.epoll.wait(&mut events, next.map_or(EpollTimeout::NONE, timeout)) {
                Ok(ready) => ready,
                Err(Errno::EINTR) => continue,
                Err(error) => {
                    tracing::error!(%error, "the switch cannot wait for frames any more; the cluster network is down");
                    return;
                }
            };
            for event in &events[..ready] {
                let mut inner = self.lock();
                if inner.stopping {
                    return;
                }
                let Ok(port) = Port::try_from(event.data()) else { continue };
                if event.events().contains(EpollFlags::EPOLLOUT) {
                    self.drain(&mut inner, port);
                }
                if event.events().contains(EpollFlags::EPOLLIN) {
                    self.receive(&mut inner, port, &mut buffer, &mut targets);
                }
                if event.events().intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR)
                    && let Some(state) = inner.ports.get(&port)
                {
                    // The node is gone; without this the dead socket would be reported for ever.
                    let _ = self.epoll.delete(&state.socket);
                }
            }
            self.deliver();
        }
    }

    /// Hands out what has arrived over slow links.
    fn deliver(&self) {
        let mut inner = self.lock();
        let Inner { ports, delayed, .. } = &mut *inner;
        let now = Instant::now();
        while let Some((port, frame)) = delayed.take_arrived(now) {
            if let Some(state) = ports.get_mut(&port) {
                self.send(port, state, &frame);
            }
        }
    }

    fn receive(&self, inner: &mut Inner, from: Port, buffer: &mut [u8], targets: &mut Vec<(Port, Duration)>) {
        for _ in 0..BURST {
            let Some(state) = inner.ports.get(&from) else { return };
            let length = match state.socket.recv(buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return,
            };
            targets.clear();
            inner.fabric.route(from, &buffer[..length], targets);
            for (target, delay) in targets.drain(..) {
                let arrival = inner.delayed.arrival(from, target, delay, Instant::now());
                match (arrival, inner.ports.get_mut(&target)) {
                    (Some(arrival), _) => inner.delayed.send(from, target, arrival, &buffer[..length]),
                    (None, Some(state)) => self.send(target, state, &buffer[..length]),
                    (None, None) => {}
                }
            }
        }
    }

    fn send(&self, port: Port, state: &mut PortState, frame: &[u8]) {
        if state.queue.is_empty() {
            match state.socket.send(frame) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.watch(port, state, EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT);
                }
                // Any other error means that the node's end is closed: the frame is lost as on a dead wire.
                _ => return,
            }
        }
        if state.queue.len() < QUEUE_FRAMES {
            state.queue.push_back(frame.to_vec());
        } else {
            state.dropped += 1;
        }
    }

    fn drain(&self, inner: &mut Inner, port: Port) {
        let Some(state) = inner.ports.get_mut(&port) else { return };
        while let Some(frame) = state.queue.front() {
            if state.socket.send(frame).is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
                return;
            }
            state.queue.pop_front();
        }
        self.watch(port, state, EpollFlags::EPOLLIN);
    }

    fn watch(&self, port: Port, state: &PortState, flags: EpollFlags) {
        let mut event = EpollEvent::new(flags, u64::from(port));
        if let Err(error) = self.epoll.modify(&state.socket, &mut event) {
            tracing::warn!(port, %error, "the switch cannot change what it waits for at this port");
        }
    }
}

/// Rounded up to whole milliseconds, so that nobody wakes up for a frame that has not arrived.
fn timeout(wait: Duration) -> EpollTimeout {
    let milliseconds = wait.as_micros().div_ceil(1000);
    EpollTimeout::from(u16::try_from(milliseconds).unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn plug(switch: &Switch, port: Port) -> UnixDatagram {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        switch.attach(port, ours).unwrap();
        theirs.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        theirs
    }

    fn frame(to: u8, from: u8, content: u32) -> Vec<u8> {
        [&[2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from, 8, 0][..], &content.to_be_bytes()].concat()
    }

    #[test]
    fn frames_beyond_the_socket_pairs_ten_are_kept_in_order() {
        let switch = Switch::start().unwrap();
        let (one, two) = (plug(&switch, 1), plug(&switch, 2));
        for content in 0..500 {
            one.send(&frame(2, 1, content)).unwrap();
        }
        let mut buffer = [0; 64];
        for content in 0..500 {
            let length = two.recv(&mut buffer).unwrap();
            assert_eq!(buffer[..length], frame(2, 1, content));
        }
    }

    #[test]
    fn a_port_that_does_not_read_delays_no_other() {
        let switch = Switch::start().unwrap();
        let (one, two, _deaf) = (plug(&switch, 1), plug(&switch, 2), plug(&switch, 3));
        two.send(&frame(9, 2, 0)).unwrap();
        let mut buffer = [0; 64];
        one.recv(&mut buffer).unwrap();
        for content in 0..100 {
            one.send(&frame(3, 1, content)).unwrap();
        }
        one.send(&frame(2, 1, 7)).unwrap();
        loop {
            let length = two.recv(&mut buffer).unwrap();
            if buffer[..length] == frame(2, 1, 7) {
                break;
            }
        }
    }

    #[test]
    fn a_cut_link_passes_nothing_until_it_is_healed() {
        let switch = Switch::start().unwrap();
        let (one, two) = (plug(&switch, 1), plug(&switch, 2));
        switch.with_fabric(|fabric| fabric.cut(1, 2));
        one.send(&frame(2, 1, 1)).unwrap();
        // The return path is open: its frame shows that the switch has dealt with what came before.
        while switch.with_fabric(|fabric| fabric.counts().get(&(1, 2)).map_or(0, |count| count.cut)) == 0 {
            std::thread::yield_now();
        }
        switch.with_fabric(Fabric::heal);
        one.send(&frame(2, 1, 2)).unwrap();
        let mut buffer = [0; 64];
        let length = two.recv(&mut buffer).unwrap();
        assert_eq!(buffer[..length], frame(2, 1, 2), "the first one after the cut is the healed one");
    }

    #[test]
    fn a_slow_link_holds_its_frames_back_and_no_others() {
        let switch = Switch::start().unwrap();
        let (one, two, three) = (plug(&switch, 1), plug(&switch, 2), plug(&switch, 3));
        let mut buffer = [0; 64];
        for (socket, port) in [(&two, 2), (&three, 3)] {
            socket.send(&frame(9, port, 0)).unwrap();
            one.recv(&mut buffer).unwrap();
        }
        let delay = Duration::from_millis(200);
        switch.with_fabric(|fabric| fabric.delay(1, 2, delay));
        // What the two said to find each other is still in their sockets.
        for socket in [&two, &three] {
            socket.set_nonblocking(true).unwrap();
            while socket.recv(&mut buffer).is_ok() {}
            socket.set_nonblocking(false).unwrap();
        }

        let sent = Instant::now();
        for content in 0..100 {
            one.send(&frame(2, 1, content)).unwrap();
        }
        one.send(&frame(3, 1, 7)).unwrap();

        let length = three.recv(&mut buffer).unwrap();
        assert_eq!(buffer[..length], frame(3, 1, 7));
        let unhindered = sent.elapsed();
        for content in 0..100 {
            let length = two.recv(&mut buffer).unwrap();
            assert_eq!(buffer[..length], frame(2, 1, content), "in their order");
        }
        assert!(sent.elapsed() >= delay, "they came after {:?}", sent.elapsed());
        assert!(unhindered < delay, "the other link took {unhindered:?}");
    }
}
