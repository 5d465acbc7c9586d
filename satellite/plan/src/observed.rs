//! What was found on the node.
//!
//! Every part is three-valued ([`Looked`]): not having been able to look is never the same as having found
//! nothing, and only the latter may justify a removal or new metadata.

use std::{collections::BTreeMap, path::PathBuf};

use hawser_proto::ids::Incarnation;

use crate::step::{Configuration, DrbdPeer, Generation, Mark, Provider};

/// The outcome of looking for one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Looked<T> {
    /// Certainly not there.
    Absent,
    /// It may be there: it was not looked for, or the look failed. The words say why, for people.
    Unknown(String),
    /// There, and as said.
    Present(T),
}

impl<T> Looked<T> {
    /// What is there, if it is known to be there.
    pub fn present(&self) -> Option<&T> {
        match self {
            Looked::Present(thing) => Some(thing),
            Looked::Absent | Looked::Unknown(_) => None,
        }
    }

    /// Certainly not there.
    pub fn is_absent(&self) -> bool {
        matches!(self, Looked::Absent)
    }
}

/// What to look at for one replica: all names under which something of it may be on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Hawser's name of the resource.
    pub resource: String,
    /// Incarnation of the replica on this node.
    pub replica_incarnation: Incarnation,
    /// Name of the DRBD resource; `None` where the resource has no DRBD layer.
    pub drbd_name: Option<String>,
    /// Pool of the backing volumes; `None` on a replica without storage.
    pub provider: Option<Provider>,
    /// Volumes, by number.
    pub volumes: Vec<SubjectVolume>,
    /// The other replicas, to name connections by node. Empty for a removal.
    pub peers: Vec<DrbdPeer>,
    /// Look for the processes that hold a gate, which takes a walk through `/proc`. Otherwise
    /// [`ReplicaFound::openers`] may stay unknown.
    pub openers: bool,
}

/// The names of one volume of a [`Subject`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectVolume {
    /// Number in the resource.
    pub number: u32,
    /// DRBD minor.
    pub minor: u32,
    /// Name of the LV, zvol or file.
    pub backing_name: String,
    /// Name of the device-mapper map.
    pub gate_name: String,
}

/// What is on the node of one replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaFound {
    /// Backing volumes, by volume number. A missing entry counts as unknown.
    pub backing: BTreeMap<u32, Looked<BackingFound>>,
    /// Fingerprint in the `.res` file ([`Configuration::fingerprint`]), as far as the kernel follows that: one that was
    /// written and that nothing was brought up by or adjusted to is there, and equals none.
    pub configuration: Looked<u64>,
    /// The resource in the kernel.
    pub kernel: Looked<KernelResource>,
    /// Gates, by volume number. A missing entry counts as unknown.
    pub gates: BTreeMap<u32, Looked<GateFound>>,
    /// Processes that hold a gate, or a file of a file system mounted from one, in any mount namespace.
    pub openers: Looked<Vec<Opener>>,
    /// How much of each gate's [`GateFound::open_count`] the processes and mounted file systems among `openers` make up,
    /// by volume number. Nothing for a missing entry. What the kernel itself opened is named and not counted: it lives.
    pub opens_found: BTreeMap<u32, u32>,
    /// What became of its connections.
    pub met: Met,
}

/// What became of a resource's connections, as far as every change of them was watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Met {
    /// Not known: not watched yet, or the watch has not reached what was looked at.
    #[default]
    Unknown,
    /// Up to this look.
    Watched(Watch),
}

/// What a watch has counted of one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Watch {
    /// Number of the watch. One that was interrupted goes on under another number.
    pub number: u64,
    /// How often a connection has led to a peer that was Primary, or may have: one whose role was not told counts, and one
    /// that tried when the watch began.
    pub meetings: u64,
    /// How often an end that tried to connect, or was connected, has come down.
    pub ended: u64,
}

/// A backing volume that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackingFound {
    /// Bytes that it has.
    pub size_bytes: u64,
    /// The mark on it; `None` where it carries none of Hawser's.
    pub mark: Option<Mark>,
    /// Whether its device can be opened now.
    pub active: bool,
    /// Its device.
    pub device: PathBuf,
}

/// Role of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Not known, e.g. of a peer without a connection.
    Unknown,
    /// May not be opened for writing.
    Secondary,
    /// May be opened for writing.
    Primary,
}

/// State of a disk, in DRBD's words, ordered as DRBD orders them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DiskState {
    /// No disk.
    Diskless,
    /// Metadata is being read.
    Attaching,
    /// On its way to diskless.
    Detaching,
    /// Failed; on its way to diskless.
    Failed,
    /// Attached while connected; the handshake is under way.
    Negotiating,
    /// Data is not usable.
    Inconsistent,
    /// Consistent, and known to be behind.
    Outdated,
    /// Of a peer that cannot be asked.
    Unknown,
    /// Consistent; whether it is current shows only when the peer is met.
    Consistent,
    /// Current.
    UpToDate,
}

/// Why DRBD holds I/O back. All false: it flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Suspended {
    /// Somebody ran `suspend-io`.
    pub user: bool,
    /// Waits for the fence-peer handler's answer.
    pub fencing: bool,
    /// No replica with usable data can be reached.
    pub no_data: bool,
    /// No quorum.
    pub quorum: bool,
}

impl Suspended {
    /// Whether I/O is held for any reason.
    pub fn any(&self) -> bool {
        self.user || self.fencing || self.no_data || self.quorum
    }
}

/// A DRBD resource in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelResource {
    /// Role here.
    pub role: Role,
    /// Why I/O is held.
    pub suspended: Suspended,
    /// Volumes, by number.
    pub volumes: BTreeMap<u32, KernelVolume>,
    /// Connections, by Hawser's name of the peer's node. One that does not exist in the kernel is missing,
    /// and counts as [`ConnectionState::StandAlone`].
    pub peers: BTreeMap<String, KernelPeer>,
    /// There is a connection, or a try to make one, to somebody who is not among the subject's peers.
    pub to_a_stranger: bool,
}

/// A volume of a DRBD resource in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelVolume {
    /// Its minor.
    pub minor: u32,
    /// State of the local disk.
    pub disk: DiskState,
    /// Usable bytes; 0 while the device has none.
    pub size_bytes: u64,
}

/// State of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConnectionState {
    /// Does not try, e.g. after a split brain, or because it keeps its peer away.
    StandAlone,
    /// On its way down.
    Disconnecting,
    /// No connection, tries.
    Connecting,
    /// Lost: `Unconnected`, `Timeout`, `BrokenPipe`, `NetworkFailure`, `ProtocolError`, `TearDown`.
    Broken,
    /// Connected.
    Connected,
}

/// A connection of a DRBD resource in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelPeer {
    /// State.
    pub connection: ConnectionState,
    /// DRBD's word for it, for reports.
    pub connection_word: String,
    /// The peer's role.
    pub role: Role,
    /// The peer's volumes, by number.
    pub volumes: BTreeMap<u32, KernelPeerVolume>,
}

/// A peer's volume as the kernel here knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelPeerVolume {
    /// State of the peer's disk.
    pub disk: DiskState,
    /// DRBD's word for the replication, e.g. "Established", "SyncTarget".
    pub replication: String,
    /// Bytes that differ.
    pub out_of_sync_bytes: u64,
    /// Of a resync under way, in hundredths of a percent; 0 if there is none.
    pub done_permyriad: u32,
}

/// What a gate's live table does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum GateTable {
    /// Leads linearly to the device that the document says.
    Linear,
    /// Fails everything.
    Error,
    /// Anything else, e.g. no live table or another device.
    Other,
}

/// A gate that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateFound {
    /// Live table.
    pub table: GateTable,
    /// Whether I/O is held at it.
    pub suspended: bool,
    /// How often it is open: processes, mounted file systems, maps above.
    pub open_count: u32,
}

/// How a process stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OpenerState {
    /// Will see the result of its writes.
    Living,
    /// Dead, or SIGKILL is pending: it never sees a result.
    Dying,
}

/// A process that holds a gate or a file on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opener {
    /// Process id, as the node's first namespace counts. 0 for what is no process, e.g. a mounted file
    /// system that nobody uses, or a map above.
    pub pid: i32,
    /// Command name, or the mount point.
    pub name: String,
    /// Whether it can still see a result.
    pub state: OpenerState,
}

/// What is known of one pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolFound {
    /// Bytes in all.
    pub capacity_bytes: u64,
    /// Bytes that are free.
    pub free_bytes: u64,
    /// Thin pools: how full the metadata is, in hundredths of a percent.
    pub metadata_used_permyriad: u32,
}

impl Configuration {
    /// A number that changes when anything that belongs in the file changes. The host writes it into the
    /// file's first line and reads it back, so that comparing needs neither a parser nor a process.
    /// FNV-1a over a rendering that is fixed here; bump the leading word when the writer's output changes.
    pub fn fingerprint(&self) -> u64 {
        let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
        hash.text("hawser-res-1");
        hash.text(&self.drbd_name);
        hash.text(&self.node);
        hash.number(match self.generation {
            Generation::V8_4 => 84,
            Generation::V9 => 90,
        });
        hash.text(&self.shared_secret.0);
        for options in [&self.resource_options, &self.net_options, &self.disk_options] {
            hash.number(options.len() as u64);
            for (name, value) in options {
                hash.text(name);
                hash.text(value);
            }
        }
        hash.number(u64::from(self.ask_arbiter));
        hash.number(self.volumes.len() as u64);
        for volume in &self.volumes {
            hash.number(u64::from(volume.number));
            hash.number(u64::from(volume.minor));
            hash.number(volume.size_bytes);
            match &volume.backing {
                None => hash.number(0),
                Some(backing) => {
                    hash.number(1);
                    hash.text(&format!("{:?}", backing.provider));
                    hash.text(&backing.name);
                }
            }
        }
        hash.number(self.peers.len() as u64);
        for peer in &self.peers {
            hash.text(&peer.node);
            hash.text(&peer.uname);
            hash.number(u64::from(peer.node_id));
            hash.text(&peer.ip.to_string());
            hash.number(u64::from(peer.port));
            hash.number(u64::from(peer.diskful));
        }
        hash.0
    }
}

/// FNV-1a with lengths, so that neighbouring texts cannot trade bytes.
struct Fnv(u64);

impl Fnv {
    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.bytes(text.as_bytes());
    }
    fn number(&mut self, number: u64) {
        self.bytes(&number.to_le_bytes());
    }
}
