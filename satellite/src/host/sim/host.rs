//! The door of one simulated node: looks and carries out steps with the words of the real tools.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use async_trait::async_trait;
use hawser_plan::{
    observed::{
        BackingFound, ConnectionState, DiskState, GateFound, GateTable, KernelPeer, KernelPeerVolume,
        KernelResource, KernelVolume, Looked, Met, Opener, OpenerState, PoolFound, ReplicaFound, Role,
        Subject, Suspended, Watch,
    },
    step::{Configuration, Gate, GateTarget, Generation, Metadata, Provider, Step},
};
use tokio::sync::watch;

use super::{
    SimWorld,
    replication::{HELD_OPEN, Promotion, Refusal},
    state::{self, File, Node, Resource, SimGate, State, key_of},
    storage,
};
use crate::host::{CommandError, Facts, Host, HostError, drbd::metadata::JUST_CREATED};

/// One node of a [`SimWorld`].
#[derive(Clone)]
pub struct SimHost {
    world: SimWorld,
    node: String,
    watcher: Watcher,
}

/// What a satellite sees of its kernel's connections from its start on.
#[derive(Clone)]
struct Watcher {
    number: u64,
    /// Boot in which it began, how often each resource had met its peer and ended that, and which were trying.
    boots: u64,
    before: BTreeMap<String, (u64, u64)>,
    trying: BTreeSet<String>,
}

impl Watcher {
    fn begin(state: &mut State, node: &str) -> Self {
        state.watches += 1;
        let found = state.nodes.get(node);
        let tries = |resource: &Resource| resource.connection != ConnectionState::StandAlone;
        Watcher {
            number: state.watches,
            boots: found.map_or(0, |found| found.boots),
            before: found.map(|found| found.meetings.clone()).unwrap_or_default(),
            trying: found
                .map(|found| {
                    let resources = found.resources.iter().filter(|(_, resource)| tries(resource));
                    resources.map(|(name, _)| name.clone()).collect()
                })
                .unwrap_or_default(),
        }
    }

    fn met(&self, node: &Node, drbd_name: &str) -> Met {
        if node.boots != self.boots {
            // A satellite of before the boot: it is about to end.
            return Met::Unknown;
        }
        let counted =
            |known: &BTreeMap<String, (u64, u64)>| known.get(drbd_name).copied().unwrap_or_default();
        let (now, before) = (counted(&node.meetings), counted(&self.before));
        Met::Watched(Watch {
            number: self.number,
            meetings: now.0 - before.0 + u64::from(self.trying.contains(drbd_name)),
            ended: now.1 - before.1,
        })
    }
}

impl SimHost {
    pub(super) fn new(world: SimWorld, node: &str) -> Self {
        let watcher = Watcher::begin(&mut world.lock(), node);
        SimHost { world, node: node.to_owned(), watcher }
    }

    /// Changes this node. A node without power answers nothing and does nothing.
    fn change(
        &self,
        action: impl FnOnce(&mut State, &str) -> Result<(), HostError>,
    ) -> Result<(), HostError> {
        self.world.change(|state| {
            if state.nodes.get(&self.node).is_none_or(|node| !node.running) {
                return Err(HostError::refused(format!("node {}", self.node), "has no power"));
            }
            action(state, &self.node)
        })
    }

    async fn promote(&self, drbd_name: &str, minors: &[u32], deadline: Duration) -> Result<(), HostError> {
        let minor = minors.first().copied().unwrap_or_default();
        let refused =
            |(code, words): Refusal| failed(&format!("drbdsetup primary {minor}"), code, minor, words);
        let mut outdated = false;
        loop {
            let node = self.node.clone();
            let tried = self.world.change(|state| state.promote(&node, drbd_name, outdated));
            match tried {
                Promotion::Done => return Ok(()),
                Promotion::Refused(refusal) => return Err(refused(refusal)),
                Promotion::AskArbiter(refusal) if outdated => return Err(refused(refusal)),
                Promotion::AskArbiter(refusal) => {
                    // The kernel holds the resource until the handler has ended.
                    let asked = self.world.inner.handler.ask(&self.node, drbd_name);
                    match tokio::time::timeout(deadline, asked).await {
                        Ok(4) => outdated = true,
                        Ok(_) => return Err(refused(refusal)),
                        Err(_) => {
                            return Err(HostError::TimedOut {
                                what: format!(
                                    "the fence-peer handler's answer to the promotion of minor {minor}"
                                ),
                                deadline,
                            });
                        }
                    }
                }
            }
        }
    }
}

#[async_trait]
impl Host for SimHost {
    async fn facts(&self) -> Facts {
        let boots = self.world.lock().nodes.get(&self.node).map_or(0, |node| node.boots);
        Facts {
            boot_id: format!("{}-{boots}", self.node),
            kernel_version: "6.1.176".to_owned(),
            uname: self.node.clone(),
            drbd: Some((Generation::V8_4, "8.4.11".to_owned())),
            helper_can_run: true,
            connections_authenticate: true,
            missing: Vec::new(),
        }
    }

    async fn pool(&self, provider: &Provider) -> Result<PoolFound, HostError> {
        storage::pool(self.world.lock().nodes.get(&self.node), provider)
    }

    async fn look(&self, subjects: &[Subject]) -> Vec<ReplicaFound> {
        let state = self.world.lock();
        let node = state.nodes.get(&self.node).filter(|node| node.running);
        subjects
            .iter()
            .map(|subject| {
                node.map_or_else(
                    || unknown(subject),
                    |node| {
                        let met = self.watcher.met(node, subject.drbd_name.as_deref().unwrap_or_default());
                        ReplicaFound { met, ..found(node, subject) }
                    },
                )
            })
            .collect()
    }

    async fn execute(&self, step: &Step, deadline: Duration) -> Result<(), HostError> {
        match step {
            Step::EnsureBackingVolume(volume) => {
                self.change(|state, node| storage::ensure(on(state, node), volume))
            }
            Step::RemoveBackingVolume(volume) => {
                self.change(|state, node| storage::remove(on(state, node), volume))
            }
            Step::CreateMetadata(metadata) => {
                self.change(|state, node| create_metadata(state, node, metadata))
            }
            Step::WriteConfiguration(configuration) => self.change(|state, name| {
                let name_is_known = configuration.peers.iter().any(|peer| peer.node == configuration.node);
                if !name_is_known {
                    return Err(HostError::refused(
                        format!("DRBD resource {}", configuration.drbd_name),
                        format!("has no replica on node {}", configuration.node),
                    ));
                }
                let files = &mut on(state, name).files;
                let written = files.get(&configuration.drbd_name);
                if written.is_none_or(|file| file.configuration != *configuration) {
                    let file = File { configuration: configuration.clone(), followed: false };
                    files.insert(configuration.drbd_name.clone(), file);
                }
                Ok(())
            }),
            Step::RemoveConfiguration { drbd_name } => self.change(|state, node| {
                on(state, node).files.remove(drbd_name);
                Ok(())
            }),
            Step::BringUp { configuration, attach, connect } => self.change(|state, node| {
                bring_up(state, node, configuration);
                if *attach {
                    attach_disk(state, node, configuration)?;
                }
                if *connect {
                    start_connecting(state, node, &configuration.drbd_name);
                }
                Ok(())
            }),
            Step::AttachDisk { configuration } => {
                self.change(|state, node| attach_disk(state, node, configuration))
            }
            Step::Connect(connection) => self.change(|state, node| {
                start_connecting(state, node, &connection.configuration.drbd_name);
                Ok(())
            }),
            Step::TurnAway(connection) => self.change(|state, node| {
                turn_away(state, node, &connection.configuration.drbd_name);
                Ok(())
            }),
            Step::Adjust { configuration } => self.change(|state, node| {
                let name = &configuration.drbd_name;
                let peer =
                    state.peer_of(node, name).and_then(|peer| state.nodes.get(&peer)).map(|peer| peer.ip);
                if peer.is_some_and(|ip| configuration.peers.iter().all(|wanted| wanted.ip != ip)) {
                    disconnect(state, node, name);
                }
                if let Some(resource) = state.resource(node, name) {
                    resource.configuration = configuration.clone();
                    on(state, node).note_followed(configuration);
                }
                Ok(())
            }),
            Step::Promote { drbd_name, minors } => self.promote(drbd_name, minors, deadline).await,
            Step::Demote { drbd_name, minors } => {
                let minor = minors.first().copied().unwrap_or_default();
                self.change(|state, node| demote(state, node, drbd_name, minor, "drbdsetup secondary"))
            }
            Step::OpenGate(gate) => self.change(|state, node| open_gate(state, node, gate)),
            Step::CloseGate { name } => self.change(|state, node| close_gate(state, node, name)),
            Step::FailGate { name } => self.change(|state, node| {
                if let Some(gate) = on(state, node).gates.get_mut(name)
                    && gate.table != GateTable::Error
                {
                    gate.failing = true;
                }
                Ok(())
            }),
            Step::DetachForce { drbd_name, minor } => self.change(|state, node| {
                let Some(resource) = state.resource(node, drbd_name) else {
                    return Err(not_allocated(&format!("drbdsetup detach {minor} --force"), *minor));
                };
                resource.disk = DiskState::Diskless;
                resource.suspended.no_data =
                    resource.role == Role::Primary && resource.connection != ConnectionState::Connected;
                Ok(())
            }),
            Step::ResumeIo { drbd_name, minor } => self.change(|state, node| {
                if state.resource(node, drbd_name).is_none() {
                    return Err(not_allocated(&format!("drbdsetup resume-io {minor}"), *minor));
                }
                state.resume_io(node, drbd_name);
                Ok(())
            }),
            Step::TakeDown { drbd_name } => self.change(|state, node| {
                demote(state, node, drbd_name, 0, "drbdsetup down")?;
                disconnect(state, node, drbd_name);
                on(state, node).resources.remove(drbd_name);
                Ok(())
            }),
        }
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.world.inner.changes.subscribe()
    }
}

/// The node, which [`SimHost::change`] has found running.
fn on<'a>(state: &'a mut State, node: &str) -> &'a mut Node {
    state.nodes.get_mut(node).expect("the caller has found the node")
}

fn failed(command: &str, code: i32, minor: u32, words: &str) -> HostError {
    CommandError::Failed {
        command: command.to_owned(),
        code: Some(code),
        message: format!("{minor}: {words}"),
    }
    .into()
}

fn not_allocated(command: &str, minor: u32) -> HostError {
    let words = "Failure: (127) Device minor not allocated additional info from kernel: unknown minor";
    failed(command, 10, minor, words)
}

fn create_metadata(state: &mut State, node: &str, metadata: &Metadata) -> Result<(), HostError> {
    let key = (metadata.backing.provider.contention_domain().to_owned(), metadata.backing.name.clone());
    let object = format!("metadata of DRBD resource {}", metadata.drbd_name);
    if metadata.day0.is_some() && metadata.equal_peers {
        storage::check_new_volumes_read_zero(&metadata.backing.provider)?;
    }
    let Some(volume) = on(state, node).volumes.get_mut(&key).filter(|volume| volume.active) else {
        return Err(HostError::File {
            path: format!("/dev/{}/{}", key.0, key.1),
            reason: "No such file or directory (os error 2)".to_owned(),
        });
    };
    let uuid = metadata.day0.unwrap_or(JUST_CREATED);
    match &volume.metadata {
        None => {
            volume.metadata = Some(state::Metadata {
                current_uuid: uuid,
                history: Vec::new(),
                size_bytes: metadata.size_bytes,
                consistent: metadata.day0.is_some(),
                up_to_date: metadata.day0.is_some(),
                peer_outdated: false,
                primary: false,
                dirty: Default::default(),
                active: Default::default(),
            });
            Ok(())
        }
        Some(found) if found.current_uuid == uuid && found.size_bytes == metadata.size_bytes => Ok(()),
        Some(found) => Err(HostError::refused(
            object,
            format!("there is metadata of another making, with the UUID {:016X}", found.current_uuid),
        )),
    }
}

fn bring_up(state: &mut State, node: &str, configuration: &Configuration) {
    let node = on(state, node);
    if node.resources.contains_key(&configuration.drbd_name) {
        return;
    }
    node.note_followed(configuration);
    let new = Resource {
        configuration: configuration.clone(),
        role: Role::Secondary,
        suspended: Suspended::default(),
        disk: DiskState::Diskless,
        size_bytes: 0,
        connection: ConnectionState::StandAlone,
        rests: false,
        peer_role: Role::Unknown,
        peer_disk: DiskState::Unknown,
        replication: "Off",
        waiting: Vec::new(),
        new_generation_due: false,
    };
    node.resources.insert(configuration.drbd_name.clone(), new);
}

fn attach_disk(state: &mut State, node: &str, configuration: &Configuration) -> Result<(), HostError> {
    let name = &configuration.drbd_name;
    let minor = configuration.volumes.first().map_or(0, |volume| volume.minor);
    let command = format!("drbdsetup attach {minor}");
    if state.resource(node, name).is_some_and(|resource| resource.disk > DiskState::Failed) {
        return Ok(());
    }
    let Some(volume) = on(state, node).backing_of(name).filter(|volume| volume.active) else {
        return Err(failed(&command, 20, minor, "Can not open device: No such file or directory"));
    };
    let Some(metadata) = &mut volume.metadata else {
        return Err(failed(&command, 10, minor, "Failure: (119) No valid meta-data signature found."));
    };
    if metadata.primary {
        // It crashed as Primary: what was written lately may differ from the peer.
        let active = std::mem::take(&mut metadata.active);
        metadata.dirty.extend(active);
    }
    let size = metadata.size_bytes;
    if let Some(resource) = state.resource(node, name) {
        resource.size_bytes = size;
        resource.disk = DiskState::Negotiating;
        if resource.connection == ConnectionState::Connected {
            return Ok(());
        }
    }
    state.settle_disk(node, name, false);
    Ok(())
}

fn start_connecting(state: &mut State, node: &str, drbd_name: &str) {
    if let Some(resource) = state.resource(node, drbd_name)
        && resource.connection == ConnectionState::StandAlone
        && resource.configuration.peers.len() > 1
    {
        resource.connection = ConnectionState::Connecting;
    }
}

/// The end of a connection by force: nobody is told, and the other side sees a broken link.
fn turn_away(state: &mut State, node: &str, drbd_name: &str) {
    let was = state.resource(node, drbd_name).map(|resource| resource.connection);
    if matches!(was, None | Some(ConnectionState::StandAlone)) {
        return;
    }
    count_end(state, node, drbd_name);
    let peer = state.peer_of(node, drbd_name);
    state.lose_peer(node, drbd_name, ConnectionState::StandAlone);
    let Some(peer) = peer else { return };
    let had_come = state
        .resource(&peer, drbd_name)
        .is_some_and(|resource| resource.connection == ConnectionState::Connected);
    if was == Some(ConnectionState::Connected) && had_come {
        state.lose_peer(&peer, drbd_name, ConnectionState::Connecting);
    }
}

/// An end that tried to connect, or was connected, comes down.
fn count_end(state: &mut State, node: &str, drbd_name: &str) {
    on(state, node).meetings.entry(drbd_name.to_owned()).or_default().1 += 1;
}

/// An orderly end: the peer knows, and a Secondary that leaves a Primary is outdated. What a Primary had under way to the
/// other side goes on without it (`tl_clear` of 8.4).
fn disconnect(state: &mut State, node: &str, drbd_name: &str) {
    let peer = state.peer_of(node, drbd_name);
    take_connection_down(state, node, peer.as_deref(), drbd_name);
    for side in [Some(node), peer.as_deref()].into_iter().flatten() {
        let is_left = |found: &mut Resource| {
            found.role == Role::Primary && found.connection != ConnectionState::Connected
        };
        if state.resource(side, drbd_name).is_some_and(is_left) {
            state.release(side, drbd_name);
        }
    }
}

fn take_connection_down(state: &mut State, node: &str, peer: Option<&str>, drbd_name: &str) {
    let Some(resource) = state.resource(node, drbd_name) else { return };
    let (was, role) = (resource.connection, resource.role);
    if was == ConnectionState::StandAlone {
        return;
    }
    resource.connection = ConnectionState::StandAlone;
    resource.replication = "Off";
    count_end(state, node, drbd_name);
    let Some(resource) = state.resource(node, drbd_name) else { return };
    if was != ConnectionState::Connected {
        return;
    }
    let peer_role = resource.peer_role;
    resource.peer_role = Role::Unknown;
    resource.peer_disk = DiskState::Unknown;
    if role == Role::Primary {
        resource.peer_disk = DiskState::Outdated;
        resource.new_generation_due = true;
    } else if peer_role == Role::Primary && resource.disk > DiskState::Outdated {
        resource.disk = DiskState::Outdated;
    }
    let Some(other) = peer.and_then(|peer| state.resource(peer, drbd_name)) else { return };
    if other.connection != ConnectionState::Connected {
        return;
    }
    other.connection = ConnectionState::Connecting;
    other.replication = "Off";
    other.peer_role = Role::Unknown;
    other.peer_disk = DiskState::Unknown;
    if other.role == Role::Primary {
        other.peer_disk = DiskState::Outdated;
        other.new_generation_due = true;
    } else if role == Role::Primary && other.disk > DiskState::Outdated {
        other.disk = DiskState::Outdated;
    }
}

fn demote(
    state: &mut State,
    node: &str,
    drbd_name: &str,
    minor: u32,
    command: &str,
) -> Result<(), HostError> {
    let node = on(state, node);
    let minors: Vec<u32> = match node.resources.get(drbd_name) {
        None if minor == 0 => return Ok(()),
        None => return Err(not_allocated(&format!("{command} {minor}"), minor)),
        Some(resource) => resource.configuration.volumes.iter().map(|volume| volume.minor).collect(),
    };
    let held = node.gates.values().any(|gate| minors.contains(&gate.minor) && gate.table != GateTable::Error);
    if held {
        let (code, words) = HELD_OPEN;
        return Err(failed(&format!("{command} {drbd_name}"), code, minor, words));
    }
    if let Some(resource) = node.resources.get_mut(drbd_name) {
        resource.role = Role::Secondary;
        resource.suspended = Suspended::default();
        resource.new_generation_due = false;
    }
    Ok(())
}

fn open_gate(state: &mut State, node: &str, gate: &Gate) -> Result<(), HostError> {
    let GateTarget::Drbd { minor } = gate.target else { return Err(storage::unsupported()) };
    let node = on(state, node);
    let usable = node.resource_of(minor).is_some_and(|name| node.resources[&name].role == Role::Primary);
    match node.gates.get(&gate.name) {
        Some(found) if found.table == GateTable::Linear && found.minor == minor && !found.failing => {
            return Ok(());
        }
        Some(found) if found.table != GateTable::Error => {
            return Err(HostError::refused(format!("gate {}", gate.name), "leads elsewhere"));
        }
        _ => {}
    }
    if !usable {
        return Err(HostError::Command(CommandError::Failed {
            command: format!("dmsetup create {}", gate.name),
            code: Some(1),
            message: format!("device-mapper: reload ioctl on {} failed: Wrong medium type", gate.name),
        }));
    }
    node.gates.insert(gate.name.clone(), SimGate { minor, table: GateTable::Linear, failing: false });
    Ok(())
}

fn close_gate(state: &mut State, node: &str, name: &str) -> Result<(), HostError> {
    let node = on(state, node);
    let Some(gate) = node.gates.get(name) else { return Ok(()) };
    if gate.table != GateTable::Error && node.open_count(name) > 0 {
        return Err(HostError::refused(format!("gate {name}"), "is in use"));
    }
    node.gates.remove(name);
    Ok(())
}

/// Of a node without power nothing can be known.
fn unknown(subject: &Subject) -> ReplicaFound {
    let why = || "the node has no power".to_owned();
    ReplicaFound {
        backing: subject.volumes.iter().map(|volume| (volume.number, Looked::Unknown(why()))).collect(),
        configuration: Looked::Unknown(why()),
        kernel: Looked::Unknown(why()),
        gates: subject.volumes.iter().map(|volume| (volume.number, Looked::Unknown(why()))).collect(),
        openers: Looked::Unknown(why()),
        opens_found: BTreeMap::new(),
        met: Met::Unknown,
    }
}

fn found(node: &Node, subject: &Subject) -> ReplicaFound {
    let mut backing = BTreeMap::new();
    if let Some(provider) = &subject.provider {
        let group = provider.contention_domain().to_owned();
        for volume in &subject.volumes {
            let there = node.volumes.get(&(group.clone(), volume.backing_name.clone()));
            let looked = there.map_or(Looked::Absent, |found| {
                Looked::Present(BackingFound {
                    size_bytes: found.size_bytes,
                    mark: found.mark.clone(),
                    active: found.active,
                    device: PathBuf::from("/dev").join(&group).join(&volume.backing_name),
                })
            });
            backing.insert(volume.number, looked);
        }
    }
    let drbd_name = subject.drbd_name.as_deref().unwrap_or_default();
    let configuration = node.files.get(drbd_name).map_or(Looked::Absent, |file| {
        Looked::Present(if file.followed { file.configuration.fingerprint() } else { 0 })
    });
    let kernel = node
        .resources
        .get(drbd_name)
        .map_or(Looked::Absent, |resource| Looked::Present(kernel(node, resource, subject)));
    let gates = subject.volumes.iter().map(|volume| {
        let gate = node.gates.get(&volume.gate_name).map_or(Looked::Absent, |gate| {
            let open_count = node.open_count(&volume.gate_name);
            let table = if gate.minor == volume.minor { gate.table } else { GateTable::Other };
            Looked::Present(GateFound { table, suspended: false, open_count })
        });
        (volume.number, gate)
    });
    let gates = gates.collect();
    let (openers, opens_found) = if subject.openers {
        holders(node, subject)
    } else {
        (Looked::Unknown("not asked for".to_owned()), BTreeMap::new())
    };
    ReplicaFound { backing, configuration, kernel, gates, openers, opens_found, met: Met::Unknown }
}

/// Who can be seen to hold the subject's gates, and how often, by volume.
fn holders(node: &Node, subject: &Subject) -> (Looked<Vec<Opener>>, BTreeMap<u32, u32>) {
    let mut openers = Vec::new();
    let mut opens = BTreeMap::new();
    for volume in &subject.volumes {
        let seen = node
            .processes
            .iter()
            .filter(|(_, process)| process.gate == volume.gate_name && !process.hides)
            .map(|(pid, process)| Opener {
                pid: *pid,
                name: "writer".to_owned(),
                state: if process.killed { OpenerState::Dying } else { OpenerState::Living },
            });
        let before = openers.len();
        openers.extend(seen);
        opens.insert(volume.number, u32::try_from(openers.len() - before).unwrap_or(u32::MAX));
    }
    (Looked::Present(openers), opens)
}

fn kernel(node: &Node, resource: &Resource, subject: &Subject) -> KernelResource {
    let volume = &resource.configuration.volumes[0];
    let dirty = key_of(&resource.configuration)
        .and_then(|key| node.volumes.get(&key)?.metadata.as_ref())
        .map_or(0, |metadata| metadata.dirty.len() as u64 * 4096);
    let word = match resource.connection {
        ConnectionState::StandAlone => "StandAlone",
        ConnectionState::Disconnecting => "Disconnecting",
        ConnectionState::Connecting => "Connecting",
        ConnectionState::Broken => "Unconnected",
        ConnectionState::Connected => "Connected",
    };
    let peer_volume = KernelPeerVolume {
        disk: resource.peer_disk,
        replication: resource.replication.to_owned(),
        out_of_sync_bytes: dirty,
        done_permyriad: 0,
    };
    let peer = KernelPeer {
        connection: resource.connection,
        connection_word: word.to_owned(),
        role: resource.peer_role,
        volumes: BTreeMap::from([(volume.number, peer_volume)]),
    };
    let local = KernelVolume { minor: volume.minor, disk: resource.disk, size_bytes: resource.size_bytes };
    KernelResource {
        role: resource.role,
        suspended: resource.suspended,
        volumes: BTreeMap::from([(volume.number, local)]),
        peers: subject.peers.iter().map(|named| (named.node.clone(), peer.clone())).collect(),
        to_a_stranger: subject.peers.is_empty() && resource.connection != ConnectionState::StandAlone,
    }
}
