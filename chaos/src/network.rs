//! The network between the simulated processes: connections as TCP's are, links that are slow, lossy or cut.
//!
//! What is sent arrives in order or, while a link is cut, not yet: TCP sends again. A lost segment arrives late. A
//! host without power answers nothing, not even a refusal. It must never lose or change a byte of a connection that
//! both ends hold.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hawser_process::{
    dial::{Connect, Dialer},
    tls::PeerIdentity,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::{sync::mpsc, time::sleep};
use tokio_stream::{StreamExt, wrappers::UnboundedReceiverStream};
use tonic::codegen::http::Uri;

use crate::{
    clock::{self, Moment},
    faults::FaultKind,
    fired::Fired,
    stream::{Pipe, ServerStream, SimulatedStream},
};

/// Shortest way of a segment.
const NEAREST: Duration = Duration::from_millis(1);
/// Longest way of a segment on a link without faults.
const FARTHEST: Duration = Duration::from_millis(4);
/// A segment is late that arrives so long after one that was sent after it.
const OVERTAKEN: Duration = Duration::from_millis(50);
/// TCP's first retransmission.
const RETRANSMISSION: Duration = Duration::from_millis(200);

/// The network. Cheap to share.
#[derive(Clone)]
pub struct Network(Arc<Mutex<Wires>>);

struct Wires {
    random: StdRng,
    hosts: BTreeMap<String, bool>,
    /// By address.
    listeners: BTreeMap<String, Listener>,
    /// Directions in which nothing passes.
    cuts: BTreeSet<(String, String)>,
    /// What a segment takes beyond its way, at most.
    slow: BTreeMap<(String, String), Duration>,
    /// Percentage of segments that are lost once.
    loss: u32,
    /// Connections are late by up to this, each by its own part of it.
    disorder: Duration,
    /// When the latest segment of each direction arrives.
    latest: BTreeMap<(String, String), Moment>,
    fired: Fired,
    pipes: Vec<Arc<Pipe>>,
}

struct Listener {
    host: String,
    owner: u64,
    connections: mpsc::UnboundedSender<ServerStream>,
}

impl Network {
    /// A network whose chances come from `seed`. It counts what overtakes something else.
    #[must_use]
    pub fn new(seed: u64, fired: Fired) -> Self {
        Self(Arc::new(Mutex::new(Wires {
            random: StdRng::seed_from_u64(seed),
            hosts: BTreeMap::new(),
            listeners: BTreeMap::new(),
            cuts: BTreeSet::new(),
            slow: BTreeMap::new(),
            loss: 0,
            disorder: Duration::ZERO,
            latest: BTreeMap::new(),
            fired,
            pipes: Vec::new(),
        })))
    }

    /// Connects a host, with power.
    pub fn add_host(&self, host: &str) {
        self.wires().hosts.insert(host.to_owned(), true);
    }

    /// Takes connections to `address` on `host` for the process `owner`, until they are dropped.
    pub fn listen(
        &self,
        host: &str,
        owner: u64,
        address: &str,
    ) -> impl tokio_stream::Stream<Item = io::Result<ServerStream>> + Send + use<> {
        let (connections, incoming) = mpsc::unbounded_channel();
        self.wires()
            .listeners
            .insert(address.to_owned(), Listener { host: host.to_owned(), owner, connections });
        UnboundedReceiverStream::new(incoming).map(Ok)
    }

    /// What the process `owner` on `host` dials with: the other end sees `identity`.
    pub fn dialer(&self, host: &str, owner: u64, identity: PeerIdentity) -> Dialer {
        let (network, host) = (self.clone(), host.to_owned());
        let connect: Arc<Connect> = Arc::new(move |uri: Uri| {
            let (network, host, identity) = (network.clone(), host.clone(), identity.clone());
            Box::pin(async move {
                let stream = network.connect(&host, owner, &uri, identity).await?;
                Ok(Box::new(stream) as Box<dyn hawser_process::dial::Stream>)
            })
        });
        Dialer::through(connect)
    }

    async fn connect(
        &self,
        from: &str,
        owner: u64,
        uri: &Uri,
        identity: PeerIdentity,
    ) -> io::Result<SimulatedStream> {
        let address = uri.authority().map(ToString::to_string).unwrap_or_default();
        loop {
            let (way, to) = {
                let mut wires = self.wires();
                let Some(to) = wires.host_of(&address) else {
                    return Err(io::Error::new(io::ErrorKind::NotFound, format!("no route to {address}")));
                };
                (wires.way(from, &to) + wires.way(&to, from), to)
            };
            sleep(way).await;
            if self.passes(from, &to) && self.passes(&to, from) {
                return self.join((from, owner), &to, &address, identity);
            }
            // The first segment is sent again until somebody gives up.
            sleep(RETRANSMISSION).await;
        }
    }

    fn join(
        &self,
        (from, dialled): (&str, u64),
        to: &str,
        address: &str,
        identity: PeerIdentity,
    ) -> io::Result<SimulatedStream> {
        let refused = || io::Error::new(io::ErrorKind::ConnectionRefused, format!("{address} refuses"));
        let (connections, there, back) = {
            let mut wires = self.wires();
            let listener = wires.listeners.get(address).ok_or_else(refused)?;
            let (connections, owner) = (listener.connections.clone(), listener.owner);
            let there = Pipe::new((from, dialled), (to, owner), wires.random.random());
            let back = Pipe::new((to, owner), (from, dialled), wires.random.random());
            wires.pipes.retain(|pipe| !pipe.is_over());
            wires.pipes.extend([Arc::clone(&there), Arc::clone(&back)]);
            (connections, there, back)
        };
        let far = SimulatedStream::new(self.clone(), Arc::clone(&there), Arc::clone(&back));
        connections.send(ServerStream::new(far, identity)).map_err(|_| refused())?;
        Ok(SimulatedStream::new(self.clone(), back, there))
    }

    /// Lets nothing pass from one host to another, or lets it pass again.
    pub fn cut(&self, from: &str, to: &str, cut: bool) {
        let mut wires = self.wires();
        let link = (from.to_owned(), to.to_owned());
        if cut {
            wires.cuts.insert(link);
        } else if wires.cuts.remove(&link) {
            wires.release(|pipe| pipe.goes(from, to));
        }
    }

    /// Whether anything passes from one host to another.
    #[must_use]
    pub fn passes(&self, from: &str, to: &str) -> bool {
        self.wires().passes(from, to)
    }

    /// Makes a direction slower by at most `most`; as fast as ever with zero.
    pub fn slow_down(&self, from: &str, to: &str, most: Duration) {
        let link = (from.to_owned(), to.to_owned());
        if most.is_zero() {
            self.wires().slow.remove(&link);
        } else {
            self.wires().slow.insert(link, most);
        }
    }

    /// Percentage of segments that are lost on their first way.
    pub fn lose(&self, percent: u32) {
        self.wires().loss = percent;
    }

    /// Makes each connection late by a part of `most` that is its own, so that what is sent on one overtakes what was sent
    /// before on another; in time again with zero.
    pub fn disorder(&self, most: Duration) {
        self.wires().disorder = most;
    }

    /// Closes the connections of a process that is killed, in the order in which they were made: its runtime forgets
    /// them in one that no seed decides.
    pub fn close(&self, owner: u64) {
        let pipes: Vec<_> = {
            let mut wires = self.wires();
            wires.listeners.retain(|_, listener| listener.owner != owner);
            wires.pipes.clone()
        };
        for pipe in pipes {
            pipe.close(self, owner);
        }
    }

    /// Takes the power from a host: its connections fall silent, and nobody is told.
    pub fn power_off(&self, host: &str) {
        let mut wires = self.wires();
        wires.hosts.insert(host.to_owned(), false);
        wires.listeners.retain(|_, listener| listener.host != host);
    }

    /// Gives a host its power back. It resets connections that it does not know any more.
    pub fn power_on(&self, host: &str) {
        let mut wires = self.wires();
        wires.hosts.insert(host.to_owned(), true);
        for pipe in wires.pipes.iter().filter(|pipe| pipe.touches(host)) {
            pipe.reset();
        }
    }

    /// When a segment that is sent now through a pipe arrives; `None` while it does not.
    pub(crate) fn arrival(&self, pipe: &Pipe) -> Option<Moment> {
        let mut wires = self.wires();
        let (from, to) = (pipe.from(), pipe.to());
        wires.passes(from, to).then(|| {
            let way = wires.way(from, to) + pipe.lag(wires.disorder);
            wires.note_order(from, to, clock::now() + way)
        })
    }

    /// When the end of a connection that is closed now arrives. No chance is drawn: a process that is killed closes its
    /// connections in whatever order its runtime forgets them.
    pub(crate) fn arrival_of_end(&self, from: &str, to: &str) -> Option<Moment> {
        self.wires().passes(from, to).then(|| clock::now() + FARTHEST)
    }

    fn wires(&self) -> MutexGuard<'_, Wires> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wires {
    fn host_of(&self, address: &str) -> Option<String> {
        // Addresses are "<host>:<port>".
        let (host, _) = address.rsplit_once(':')?;
        self.hosts.contains_key(host).then(|| host.to_owned())
    }

    fn passes(&self, from: &str, to: &str) -> bool {
        let powered = |host: &str| self.hosts.get(host).copied().unwrap_or(false);
        powered(from) && powered(to) && !self.cuts.contains(&(from.to_owned(), to.to_owned()))
    }

    fn way(&mut self, from: &str, to: &str) -> Duration {
        let mut way = self.random.random_range(NEAREST..=FARTHEST);
        if let Some(most) = self.slow.get(&(from.to_owned(), to.to_owned())) {
            way += self.random.random_range(Duration::ZERO..=*most);
        }
        if self.loss > 0 && self.random.random_range(0..100) < self.loss {
            way += RETRANSMISSION;
        }
        way
    }

    /// Counts a segment that arrives well before one that was sent before it.
    fn note_order(&mut self, from: &str, to: &str, arrival: Moment) -> Moment {
        let latest = self.latest.entry((from.to_owned(), to.to_owned())).or_default();
        if !self.disorder.is_zero() && arrival + OVERTAKEN < *latest {
            self.fired.note(FaultKind::Reordering);
        }
        *latest = arrival.max(*latest);
        arrival
    }

    /// What was held back is sent again, and arrives after a retransmission.
    fn release(&mut self, concerned: impl Fn(&Pipe) -> bool) {
        let pipes: Vec<_> = self.pipes.iter().filter(|pipe| concerned(pipe)).cloned().collect();
        for pipe in pipes {
            let way = self.way(pipe.from(), pipe.to()) + RETRANSMISSION;
            pipe.release(way);
        }
    }
}
