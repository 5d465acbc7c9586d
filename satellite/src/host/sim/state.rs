//! Nodes of a simulated world: their storage, gates and processes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use hawser_plan::{
    observed::{ConnectionState, DiskState, GateTable, Role, Suspended},
    step::{Configuration, Mark},
};

use super::WriteState;

/// Volume group and name of a volume.
pub(super) type VolumeKey = (String, String);

/// The whole world.
#[derive(Default)]
pub(super) struct State {
    pub(super) nodes: BTreeMap<String, Node>,
    /// Broken links, the lesser name first.
    pub(super) cuts: BTreeSet<(String, String)>,
    pub(super) effects: Vec<Effect>,
    /// What consumers were told is written: by DRBD resource and block, the newest record.
    pub(super) acknowledged: BTreeMap<String, BTreeMap<u64, u64>>,
    /// Who told them since an onlooker last asked: node and DRBD resource.
    pub(super) acknowledgers: BTreeSet<(String, String)>,
    pub(super) next_uuid: u64,
    pub(super) next_pid: i32,
    /// Number of the latest watch that a satellite keeps of its kernel.
    pub(super) watches: u64,
}

/// What takes time.
pub(super) enum Effect {
    /// DRBD's ping goes unanswered.
    NoticeCut { a: String, b: String },
    /// A resync ends.
    FinishResync { drbd_name: String },
    /// A connection that broke in its handshake is tried again.
    ConnectAgain { a: String, b: String, drbd_name: String },
    /// The kernel starts the handler.
    AskArbiter { node: String, boots: u64, drbd_name: String },
}

/// One node.
pub(super) struct Node {
    pub(super) running: bool,
    pub(super) boots: u64,
    pub(super) ip: IpAddr,
    /// Capacity of thin pools, by volume group and name.
    pub(super) pools: BTreeMap<VolumeKey, u64>,
    /// Volume groups and directories that volumes are cut from, by name or path.
    pub(super) groups: BTreeMap<String, Group>,
    /// No pool has a free byte.
    pub(super) full: bool,
    pub(super) volumes: BTreeMap<VolumeKey, Volume>,
    /// `.res` files, by DRBD resource.
    pub(super) files: BTreeMap<String, File>,
    // What follows is memory, and gone without power.
    /// How often a resource here has met its peer as a Primary, and how often an end of its connection has come down.
    pub(super) meetings: BTreeMap<String, (u64, u64)>,
    pub(super) resources: BTreeMap<String, Resource>,
    pub(super) gates: BTreeMap<String, SimGate>,
    pub(super) processes: BTreeMap<i32, Process>,
}

/// What volumes are cut from that take their whole size at once.
pub(super) struct Group {
    pub(super) capacity_bytes: u64,
    /// What a new volume holds, by block: all that was ever written to it.
    pub(super) remnants: BTreeMap<u64, u64>,
}

/// A `.res` file.
pub(super) struct File {
    pub(super) configuration: Configuration,
    /// The kernel follows it.
    pub(super) followed: bool,
}

/// A logical volume.
#[derive(Clone)]
pub(super) struct Volume {
    pub(super) size_bytes: u64,
    pub(super) mark: Option<Mark>,
    pub(super) active: bool,
    /// Records, by block; what is missing reads zero.
    pub(super) blocks: BTreeMap<u64, u64>,
    pub(super) metadata: Option<Metadata>,
}

/// DRBD's metadata on a volume.
#[derive(Clone)]
pub(super) struct Metadata {
    pub(super) current_uuid: u64,
    /// UUIDs of earlier generations, the bitmap's base first.
    pub(super) history: Vec<u64>,
    pub(super) size_bytes: u64,
    pub(super) consistent: bool,
    pub(super) up_to_date: bool,
    pub(super) peer_outdated: bool,
    /// It was Primary; still set after a boot, it crashed as one.
    pub(super) primary: bool,
    /// Blocks that the peer has not got.
    pub(super) dirty: BTreeSet<u64>,
    /// Blocks of the activity log: written lately, so after a crash of the Primary they may differ.
    pub(super) active: BTreeSet<u64>,
}

/// A DRBD resource of one volume in the kernel.
pub(super) struct Resource {
    pub(super) configuration: Configuration,
    pub(super) role: Role,
    pub(super) suspended: Suspended,
    pub(super) disk: DiskState,
    pub(super) size_bytes: u64,
    pub(super) connection: ConnectionState,
    /// It waits before it tries to connect again.
    pub(super) rests: bool,
    pub(super) peer_role: Role,
    pub(super) peer_disk: DiskState,
    pub(super) replication: &'static str,
    /// Writes that are not answered yet.
    pub(super) waiting: Vec<Waiting>,
    /// A write as it is now would begin a new generation.
    pub(super) new_generation_due: bool,
}

/// A write that DRBD has not answered.
#[derive(Clone, Copy)]
pub(super) struct Waiting {
    pub(super) pid: i32,
    pub(super) block: u64,
    pub(super) record: u64,
    /// It has reached the local disk.
    pub(super) local: bool,
}

/// A gate.
pub(super) struct SimGate {
    pub(super) minor: u32,
    pub(super) table: GateTable,
    /// The swap to `error` waits for writes below.
    pub(super) failing: bool,
}

/// A process that holds a gate.
pub(super) struct Process {
    pub(super) gate: String,
    pub(super) write: WriteState,
    pub(super) killed: bool,
    /// It has mapped the gate into its memory and closed it: the kernel counts it, and nobody finds it.
    pub(super) hides: bool,
}

impl Node {
    pub(super) fn new(ip: IpAddr) -> Self {
        Node {
            running: true,
            boots: 1,
            ip,
            pools: BTreeMap::new(),
            groups: BTreeMap::new(),
            full: false,
            volumes: BTreeMap::new(),
            files: BTreeMap::new(),
            meetings: BTreeMap::new(),
            resources: BTreeMap::new(),
            gates: BTreeMap::new(),
            processes: BTreeMap::new(),
        }
    }

    /// Name of the resource that has a minor.
    pub(super) fn resource_of(&self, minor: u32) -> Option<String> {
        let has =
            |resource: &Resource| resource.configuration.volumes.iter().any(|volume| volume.minor == minor);
        self.resources.iter().find(|(_, resource)| has(resource)).map(|(name, _)| name.clone())
    }

    /// Notes that the kernel follows the file of `configuration`, if that is what it says.
    pub(super) fn note_followed(&mut self, configuration: &Configuration) {
        if let Some(file) = self.files.get_mut(&configuration.drbd_name) {
            file.followed |= file.configuration == *configuration;
        }
    }

    /// The volume that a resource lies on here.
    pub(super) fn backing_of(&mut self, drbd_name: &str) -> Option<&mut Volume> {
        let key = key_of(&self.resources.get(drbd_name)?.configuration)?;
        self.volumes.get_mut(&key)
    }

    /// The write of a process was answered; one that was killed meanwhile ends now. Whether anybody was told.
    pub(super) fn answer(&mut self, pid: i32, write: WriteState) -> bool {
        let Some(process) = self.processes.get_mut(&pid) else { return false };
        process.write = write;
        let told = !process.killed;
        if !told {
            self.processes.remove(&pid);
        }
        told
    }

    pub(super) fn open_count(&self, gate: &str) -> u32 {
        u32::try_from(self.processes.values().filter(|process| process.gate == gate).count())
            .unwrap_or(u32::MAX)
    }
}

/// Where the (only) volume of a configuration lies.
pub(super) fn key_of(configuration: &Configuration) -> Option<VolumeKey> {
    let backing = configuration.volumes.first()?.backing.as_ref()?;
    Some((backing.provider.contention_domain().to_owned(), backing.name.clone()))
}

impl State {
    pub(super) fn link_is_up(&self, a: &str, b: &str) -> bool {
        let runs = |node: &str| self.nodes.get(node).is_some_and(|node| node.running);
        !self.cuts.contains(&ordered(a, b)) && runs(a) && runs(b)
    }

    pub(super) fn set_link(&mut self, a: &str, b: &str, up: bool) {
        if up {
            self.cuts.remove(&ordered(a, b));
        } else if self.cuts.insert(ordered(a, b)) {
            self.effects.push(Effect::NoticeCut { a: a.to_owned(), b: b.to_owned() });
        }
    }

    pub(super) fn cut_power(&mut self, name: &str) {
        let Some(node) = self.nodes.get_mut(name) else { return };
        node.running = false;
        node.meetings.clear();
        node.resources.clear();
        node.gates.clear();
        node.processes.clear();
        node.volumes.values_mut().for_each(|volume| volume.active = false);
        for other in self.nodes.keys().filter(|other| *other != name) {
            self.effects.push(Effect::NoticeCut { a: name.to_owned(), b: other.clone() });
        }
    }

    pub(super) fn add_group(&mut self, node: &str, name: &str, group: Group) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.groups.insert(name.to_owned(), group);
        }
    }

    pub(super) fn make_foreign_volume(&mut self, node: &str, volume_group: &str, name: &str) {
        let volume =
            Volume { size_bytes: 8 << 20, mark: None, active: true, blocks: BTreeMap::new(), metadata: None };
        if let Some(node) = self.nodes.get_mut(node) {
            node.volumes.insert((volume_group.to_owned(), name.to_owned()), volume);
        }
    }

    pub(super) fn start_writer(&mut self, node: &str, gate: &str, block: u64, record: u64) -> Option<i32> {
        self.next_pid += 1;
        let pid = 1000 + self.next_pid;
        let found = self.nodes.get_mut(node)?;
        let (minor, table) = found.gates.get(gate).map(|gate| (gate.minor, gate.table))?;
        let process =
            Process { gate: gate.to_owned(), write: WriteState::Pending, killed: false, hides: false };
        found.processes.insert(pid, process);
        match found.resource_of(minor) {
            Some(drbd_name) if table == GateTable::Linear => {
                self.write(node, &drbd_name, Waiting { pid, block, record, local: false });
            }
            _ => {
                found.answer(pid, WriteState::Failed);
            }
        }
        Some(pid)
    }

    pub(super) fn hide(&mut self, node: &str, pid: i32) {
        let process = self.nodes.get_mut(node).and_then(|node| node.processes.get_mut(&pid));
        if let Some(process) = process {
            process.hides = true;
        }
    }

    pub(super) fn kill(&mut self, node: &str, pid: i32) {
        let Some(process) = self.nodes.get_mut(node).and_then(|node| node.processes.get_mut(&pid)) else {
            return;
        };
        process.killed = true;
        if process.write != WriteState::Pending
            && let Some(node) = self.nodes.get_mut(node)
        {
            node.processes.remove(&pid);
        }
    }

    pub(super) fn read(&self, node: &str, gate: &str, block: u64) -> Option<u64> {
        let node = self.nodes.get(node)?;
        let gate = node.gates.get(gate).filter(|gate| gate.table == GateTable::Linear)?;
        let resource = node.resources.get(&node.resource_of(gate.minor)?)?;
        (resource.disk == DiskState::UpToDate).then_some(())?;
        let volume = node.volumes.get(&key_of(&resource.configuration)?)?;
        Some(volume.blocks.get(&block).copied().unwrap_or(0))
    }
}

pub(super) fn ordered(a: &str, b: &str) -> (String, String) {
    if a < b { (a.to_owned(), b.to_owned()) } else { (b.to_owned(), a.to_owned()) }
}
