//! A model of the system below several satellites: LVM, DRBD 8.4, gates, processes, power cuts and
//! links that break. It passes the same suite as the real host, and answers with the words of the real tools.
//!
//! One [`SimWorld`] holds all nodes, so that what replicates between them is one consistent state. Time is
//! tokio's, which a test may pause; nothing is random. It must never know of anything that the real system
//! could not know.
//!
//! * [`state`]: nodes, storage, gates and processes. * [`replication`]: what DRBD does with them.
//! * [`storage`]: volumes and what they are cut from. * [`host`]: the door of one node. * [`inspect`]: what an onlooker
//!   sees.

mod host;
mod inspect;
mod replication;
mod state;
mod storage;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{runtime::Handle, sync::watch};

use self::state::{Effect, Group, Node, State};
pub use self::{
    host::SimHost,
    inspect::{NodeSeen, ResourceSeen, VolumeSeen},
};

/// How long DRBD takes to notice a cut with Hawser's intervals.
const CUT_IS_NOTICED: Duration = Duration::from_millis(2500);
/// How long DRBD waits after a broken handshake, with Hawser's `connect-int`.
const CONNECTS_AGAIN: Duration = Duration::from_secs(2);
/// How long a resync takes, whatever its size.
const RESYNC: Duration = Duration::from_millis(500);
/// Blocks of a volume group on which something lies from the beginning.
const REMNANT_BLOCKS: u64 = 4;
/// What was never written by a consumer of a volume, but lies on storage that does not read zero when it is new, is at
/// least this: no record of a consumer's is.
const REMNANT: u64 = 1 << 63;

/// The record of a volume's consumers in a block: 0 where there is none, whatever lay on the storage before.
pub fn record_in(block: Option<u64>) -> u64 {
    block.filter(|found| *found < REMNANT).unwrap_or(0)
}

/// What the kernel's fence-peer handler does on the nodes of a world.
#[async_trait]
pub trait FencePeer: Send + Sync {
    /// The handler was started on `node` for a resource; returns its exit status. It may wait for ever.
    async fn ask(&self, node: &str, drbd_name: &str) -> i32;
}

/// Several nodes and the network between them. Cheap to share.
#[derive(Clone)]
pub struct SimWorld {
    inner: Arc<Inner>,
}

struct Inner {
    state: Mutex<State>,
    /// Where what takes time goes on, whoever set it in motion: DRBD outlives the satellites.
    runtime: Handle,
    handler: Box<dyn FencePeer>,
    changes: watch::Sender<u64>,
}

/// How a write through a gate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteState {
    /// Not answered yet.
    Pending,
    /// Acknowledged.
    Acknowledged,
    /// Answered with an error.
    Failed,
}

impl SimWorld {
    /// A world without nodes, whose time is that of the current runtime.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(handler: impl FencePeer + 'static) -> Self {
        let inner = Inner {
            state: Mutex::default(),
            runtime: Handle::current(),
            handler: Box::new(handler),
            changes: watch::Sender::new(0),
        };
        SimWorld { inner: Arc::new(inner) }
    }

    /// Adds a running node with one address and one thin pool of a volume group.
    pub fn add_node(&self, node: &str, ip: IpAddr, volume_group: &str, thin_pool: &str, capacity_bytes: u64) {
        self.change(|state| {
            let mut new = Node::new(ip);
            new.pools.insert((volume_group.to_owned(), thin_pool.to_owned()), capacity_bytes);
            state.nodes.insert(node.to_owned(), new);
        });
    }

    /// Gives a node a volume group that volumes are cut from. Its disks are not empty, and differ from any other's.
    pub fn add_volume_group(&self, node: &str, volume_group: &str, capacity_bytes: u64) {
        self.change(|state| {
            let number = state.nodes.len() as u64;
            let blocks = (0..REMNANT_BLOCKS).map(|block| (block, REMNANT + number * REMNANT_BLOCKS + block));
            state.add_group(node, volume_group, Group { capacity_bytes, remnants: blocks.collect() });
        });
    }

    /// Gives a node a directory that volumes are files in.
    pub fn add_directory(&self, node: &str, path: &str, capacity_bytes: u64) {
        self.change(|state| state.add_group(node, path, Group { capacity_bytes, remnants: BTreeMap::new() }));
    }

    /// The door of a node.
    pub fn host(&self, node: &str) -> SimHost {
        SimHost::new(self.clone(), node)
    }

    /// Breaks or mends the link between two nodes, both ways.
    pub fn link(&self, a: &str, b: &str, up: bool) {
        self.change(|state| state.set_link(a, b, up));
    }

    /// Takes the power from a node: memory and processes are gone, disks stay.
    pub fn cut_power(&self, node: &str) {
        self.change(|state| state.cut_power(node));
    }

    /// Boots a node that has no power.
    pub fn boot(&self, node: &str) {
        self.change(|state| state.boot(node));
    }

    /// Makes a volume that is not Hawser's.
    pub fn make_foreign_volume(&self, node: &str, volume_group: &str, name: &str) {
        self.change(|state| state.make_foreign_volume(node, volume_group, name));
    }

    /// Fills all pools of a node with what is not Hawser's until no volume can be made in them any more, or frees them
    /// again.
    pub fn fill_pools(&self, node: &str, full: bool) {
        self.change(|state| {
            if let Some(node) = state.nodes.get_mut(node) {
                node.full = full;
            }
        });
    }

    /// Removes a volume by hand, whatever it is.
    pub fn remove_volume(&self, node: &str, volume_group: &str, name: &str) {
        self.change(|state| {
            if let Some(node) = state.nodes.get_mut(node) {
                node.volumes.remove(&(volume_group.to_owned(), name.to_owned()));
            }
        });
    }

    /// Starts a process that opens a gate, writes `record` to a block and keeps the gate open. Returns its pid.
    /// `None`: there is no such gate.
    pub fn write(&self, node: &str, gate: &str, block: u64, record: u64) -> Option<i32> {
        self.change(|state| state.start_writer(node, gate, block, record))
    }

    /// How the write of a process stands. `None`: there is no such process any more.
    pub fn write_state(&self, node: &str, pid: i32) -> Option<WriteState> {
        self.lock().nodes.get(node)?.processes.get(&pid).map(|process| process.write)
    }

    /// Lets a process map its gate into its memory and close it: the kernel counts it among the gate's openers, and
    /// no look at `/proc` finds it.
    pub fn hide(&self, node: &str, pid: i32) {
        self.change(|state| state.hide(node, pid));
    }

    /// Sends SIGKILL. The process lingers while its write is frozen.
    pub fn kill(&self, node: &str, pid: i32) {
        self.change(|state| state.kill(node, pid));
    }

    /// The record in a block of a gate; 0 where nothing was written. `None`: it cannot be read.
    pub fn read(&self, node: &str, gate: &str, block: u64) -> Option<u64> {
        self.lock().read(node, gate, block)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, lets DRBD draw the consequences, and sets in motion what takes time.
    fn change<T>(&self, action: impl FnOnce(&mut State) -> T) -> T {
        let (result, effects) = {
            let mut state = self.lock();
            let result = action(&mut state);
            state.settle();
            (result, std::mem::take(&mut state.effects))
        };
        for effect in effects {
            let world = self.clone();
            self.inner.runtime.spawn(async move { world.bring_about(effect).await });
        }
        self.inner.changes.send_modify(|count| *count += 1);
        result
    }

    async fn bring_about(self, effect: Effect) {
        match effect {
            Effect::NoticeCut { a, b } => {
                tokio::time::sleep(CUT_IS_NOTICED).await;
                self.change(|state| state.notice_cut(&a, &b));
            }
            Effect::FinishResync { drbd_name } => {
                tokio::time::sleep(RESYNC).await;
                self.change(|state| state.finish_resync(&drbd_name));
            }
            Effect::ConnectAgain { a, b, drbd_name } => {
                tokio::time::sleep(CONNECTS_AGAIN).await;
                self.change(|state| state.connect_again(&a, &b, &drbd_name));
            }
            Effect::AskArbiter { node, boots, drbd_name } => {
                let status = self.inner.handler.ask(&node, &drbd_name).await;
                self.change(|state| {
                    if state.nodes.get(&node).is_some_and(|found| found.running && found.boots == boots) {
                        state.arbiter_answered(&node, &drbd_name, status);
                    }
                });
            }
        }
    }
}
