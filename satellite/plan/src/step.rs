//! The verbs: every action of a satellite that changes the system, with all the data that it needs.
//!
//! A step is an "ensure": run on a system that is already as it says, it succeeds and changes nothing, so a
//! step whose outcome was lost may be run again. A step looks for itself before it destroys: it never
//! overwrites metadata that it did not find blank, and never removes what does not carry Hawser's mark.
//! This file decides nothing; which steps are due is the business of the layers' files.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use hawser_proto::ids::Incarnation;

/// Which DRBD a resource is made for. The two never mix in one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Generation {
    /// The module of the mainline kernel: one peer, one volume per resource.
    V8_4,
    /// The current one: up to 31 peers, quorum.
    V9,
}

/// Where volumes are cut from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Provider {
    /// A thin pool in an LVM volume group.
    LvmThin {
        /// Volume group.
        volume_group: String,
        /// Thin pool in it.
        thin_pool: String,
    },
    /// An LVM volume group; volumes take their whole size at once.
    Lvm {
        /// Volume group.
        volume_group: String,
    },
    /// A ZFS dataset; volumes are zvols below it.
    Zfs {
        /// Name of the dataset, pool first.
        dataset: String,
    },
    /// A directory; volumes are files in it.
    Directory {
        /// Absolute path.
        path: String,
    },
}

impl Provider {
    /// What storage commands are limited by: two commands on one such domain would only wait for each
    /// other's lock.
    pub fn contention_domain(&self) -> &str {
        match self {
            Provider::LvmThin { volume_group, .. } | Provider::Lvm { volume_group } => volume_group,
            Provider::Zfs { dataset } => dataset.split('/').next().unwrap_or(dataset),
            Provider::Directory { path } => path,
        }
    }
}

/// Whose something is. Hawser writes it on what it makes (LV tags, ZFS user properties) and changes or
/// removes only what carries exactly this.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark {
    /// Cluster id.
    pub cluster_id: String,
    /// Hawser's name of the resource.
    pub resource: String,
    /// Incarnation of the replica on this node.
    pub replica_incarnation: Incarnation,
    /// Number of the volume in its resource.
    pub volume: u32,
}

/// The piece of a pool that one volume of one replica lies on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackingVolume {
    /// The pool's kind and place.
    pub provider: Provider,
    /// Name of the LV, zvol or file, as the document has it; never computed.
    pub name: String,
    /// Bytes to provide, DRBD's metadata included. The provider may round up.
    pub size_bytes: u64,
    /// Mark that it carries, or has to carry.
    pub mark: Mark,
}

/// DRBD's internal metadata on one backing volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// Name of the DRBD resource.
    pub drbd_name: String,
    /// Volume number in it.
    pub volume: u32,
    /// DRBD minor.
    pub minor: u32,
    /// Where the metadata lies, at the end.
    pub backing: BackingVolume,
    /// Bytes that the DRBD device offers. The same on every node, whatever the storage below rounded up to.
    pub size_bytes: u64,
    /// Form of the metadata.
    pub generation: Generation,
    /// Peers to have room for; 8.4 ignores it.
    pub maximum_peers: u32,
    /// `Some`: start from this current UUID, flagged consistent and up to date, so that no first sync is
    /// needed. Only on a volume that was made in this very creation. `None`: start inconsistent and sync.
    pub day0: Option<u64>,
    /// Peers start from the same UUID: refused where new volumes do not read zero, for then they are not equal.
    pub equal_peers: bool,
}

/// One volume as the configuration has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrbdVolume {
    /// Number in the resource.
    pub number: u32,
    /// Minor on this node.
    pub minor: u32,
    /// Bytes that the DRBD device offers; part of the configuration, since replicas whose storage was
    /// rounded up differently would otherwise refuse each other.
    pub size_bytes: u64,
    /// What it lies on here. `None` on a replica without storage.
    pub backing: Option<BackingVolume>,
}

/// One replica of the resource as the configuration has it, this node's own included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrbdPeer {
    /// Hawser's name of the node.
    pub node: String,
    /// What `uname -n` prints there; the name of the `on` section.
    pub uname: String,
    /// DRBD's node-id; 8.4 has none.
    pub node_id: u32,
    /// Address that DRBD uses there.
    pub ip: IpAddr,
    /// TCP port there.
    pub port: u16,
    /// Whether it has storage.
    pub diskful: bool,
}

/// Everything DRBD has to know of one resource on this node; the content of its `.res` file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    /// Name of the DRBD resource.
    pub drbd_name: String,
    /// Hawser's name of the node that this is written for.
    pub node: String,
    /// Which DRBD it is written for.
    pub generation: Generation,
    /// The connections authenticate with it. Never logged.
    pub shared_secret: SharedSecret,
    /// Options of the resource section.
    pub resource_options: BTreeMap<String, String>,
    /// Options of the net section, over the product's own.
    pub net_options: BTreeMap<String, String>,
    /// Options of the disk section, over the product's own.
    pub disk_options: BTreeMap<String, String>,
    /// A Primary that loses its peer freezes and asks the arbiter by the fence-peer handler. True for two
    /// diskful replicas without a third voter.
    pub ask_arbiter: bool,
    /// Volumes, by number.
    pub volumes: Vec<DrbdVolume>,
    /// All replicas, this node's own included, by node-id.
    pub peers: Vec<DrbdPeer>,
}

/// A secret that `Debug` does not print.
#[derive(Clone, PartialEq, Eq)]
pub struct SharedSecret(pub String);

impl fmt::Debug for SharedSecret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("SharedSecret(…)")
    }
}

/// A connection of a DRBD resource, as seen from this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// The configuration that the connection belongs to; already written to the file.
    pub configuration: Configuration,
    /// Hawser's name of the peer.
    pub peer: String,
}

/// What a gate leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GateTarget {
    /// A DRBD device, by minor.
    Drbd {
        /// Minor.
        minor: u32,
    },
    /// A backing volume itself, for a resource without DRBD.
    Backing(BackingVolume),
}

/// The linear device-mapper map that a consumer opens in place of the device below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gate {
    /// Name of the map, as the document has it.
    pub name: String,
    /// What it leads to, from first to last sector.
    pub target: GateTarget,
}

/// One action on the system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The backing volume is there, active, of at least its size, and carries the mark. One that is there
    /// under another mark or none is an error, never taken over.
    EnsureBackingVolume(BackingVolume),
    /// The backing volume is gone. Refused where it is there without exactly this mark.
    RemoveBackingVolume(BackingVolume),
    /// Metadata is there. On blank storage it is created. Metadata that is there already is accepted if it
    /// is as this step leaves it (`day0` unchanged, or just created); anything else is an error and stays.
    CreateMetadata(Metadata),
    /// The `.res` file says this. Written aside, validated, synced, renamed. It does not count as the configuration of
    /// what runs before a `BringUp` of what was not there, or an `Adjust`, has ended.
    WriteConfiguration(Configuration),
    /// The `.res` file is gone.
    RemoveConfiguration {
        /// Name of the DRBD resource.
        drbd_name: String,
    },
    /// The resource and its minors are in the kernel, Secondary.
    BringUp {
        /// What to bring up; already written to the file.
        configuration: Configuration,
        /// Attach the disks (before connecting).
        attach: bool,
        /// Connect to every peer.
        connect: bool,
    },
    /// The disks of the resource are attached.
    AttachDisk {
        /// The configuration that names them; already written to the file.
        configuration: Configuration,
    },
    /// The connection exists and is trying or connected. A `StandAlone` one is started again.
    Connect(Connection),
    /// This end of the connection is down, and nobody can come. A peer that had come just before sees a broken link: a
    /// Primary freezes and asks, as at any other.
    TurnAway(Connection),
    /// A running resource follows its changed configuration.
    Adjust {
        /// The configuration to follow; already written to the file.
        configuration: Configuration,
    },
    /// The resource is Primary here. Never forced.
    Promote {
        /// Name of the DRBD resource.
        drbd_name: String,
        /// Its minors here; 8.4 addresses by minor.
        minors: Vec<u32>,
    },
    /// The resource is Secondary here.
    Demote {
        /// Name of the DRBD resource.
        drbd_name: String,
        /// Its minors here; 8.4 addresses by minor.
        minors: Vec<u32>,
    },
    /// The gate is there, leads to its target and lets I/O through.
    OpenGate(Gate),
    /// The gate is gone. Refused while something holds it open.
    CloseGate {
        /// Name of the map.
        name: String,
    },
    /// The gate's live table is `error`: new I/O fails at once. Starting the swap is enough: it ends when
    /// what is in flight below has ended, which a later step brings about.
    FailGate {
        /// Name of the map.
        name: String,
    },
    /// The disk is detached by force and the kernel says `Diskless` (not `Failed`).
    DetachForce {
        /// Name of the DRBD resource.
        drbd_name: String,
        /// Minor.
        minor: u32,
    },
    /// DRBD's I/O flows again. On 8.4 this clears every reason of the suspension at once.
    ResumeIo {
        /// Name of the DRBD resource.
        drbd_name: String,
        /// Minor.
        minor: u32,
    },
    /// The resource is not in the kernel any more.
    TakeDown {
        /// Name of the DRBD resource.
        drbd_name: String,
    },
}

impl Step {
    /// A short word for logs, metrics and the report's `StepFailure`.
    pub fn verb(&self) -> &'static str {
        match self {
            Step::EnsureBackingVolume(_) => "create-storage",
            Step::RemoveBackingVolume(_) => "remove-storage",
            Step::CreateMetadata(_) => "create-metadata",
            Step::WriteConfiguration(_) => "write-configuration",
            Step::RemoveConfiguration { .. } => "remove-configuration",
            Step::BringUp { .. } => "bring-up",
            Step::AttachDisk { .. } => "attach-disk",
            Step::Connect(_) => "connect",
            Step::TurnAway(_) => "turn-away",
            Step::Adjust { .. } => "adjust",
            Step::Promote { .. } => "promote",
            Step::Demote { .. } => "demote",
            Step::OpenGate(_) => "open-gate",
            Step::CloseGate { .. } => "close-gate",
            Step::FailGate { .. } => "fail-gate",
            Step::DetachForce { .. } => "detach-by-force",
            Step::ResumeIo { .. } => "resume-io",
            Step::TakeDown { .. } => "take-down",
        }
    }

    /// The provider whose storage this step reads or changes, if it does: on a node whose disks do not answer,
    /// no such step is started.
    pub fn storage(&self) -> Option<&Provider> {
        match self {
            Step::EnsureBackingVolume(volume) | Step::RemoveBackingVolume(volume) => Some(&volume.provider),
            Step::CreateMetadata(metadata) => Some(&metadata.backing.provider),
            Step::BringUp { configuration, attach: true, .. } | Step::AttachDisk { configuration } => {
                configuration.volumes.iter().find_map(|volume| volume.backing.as_ref()).map(|it| &it.provider)
            }
            _ => None,
        }
    }

    /// Whether this step changes what is in its pool: two such steps would only wait for the pool's lock.
    pub fn changes_pool(&self) -> bool {
        matches!(self, Step::EnsureBackingVolume(_) | Step::RemoveBackingVolume(_))
    }

    /// Whether a consumer's I/O may hang on this step: it waits for no other one.
    pub fn is_urgent(&self) -> bool {
        matches!(
            self,
            Step::OpenGate(_)
                | Step::CloseGate { .. }
                | Step::FailGate { .. }
                | Step::DetachForce { .. }
                | Step::ResumeIo { .. }
        )
    }
}
