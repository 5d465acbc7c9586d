//! What DRBD 8.4 does: generations, the handshake, resync, freezing and its end.
//!
//! The rules are those seen on 8.4.11, and where they were not seen, the more dangerous reading: a frozen
//! write that had reached the local disk is acknowledged on release.

use hawser_plan::observed::{ConnectionState, DiskState, GateTable, Role, Suspended};

use super::{
    WriteState,
    state::{Effect, Metadata, Resource, State, Waiting},
};
use crate::host::drbd::metadata::JUST_CREATED;

/// Who is ahead, by the generations of both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ahead {
    Nobody,
    First,
    Second,
    Diverged,
}

/// A process-level refusal: `drbdsetup`'s exit status and words.
pub(super) type Refusal = (i32, &'static str);

pub(super) const NOT_UP_TO_DATE: Refusal = (17, "State change failed: (-2) Need access to UpToDate data");
pub(super) const PEER_NOT_OUTDATED: Refusal =
    (11, "State change failed: (-7) Refusing to be Primary while peer is not outdated");
pub(super) const HELD_OPEN: Refusal = (11, "State change failed: (-12) Device is held open by someone");
pub(super) const SECOND_PRIMARY: Refusal =
    (11, "State change failed: (-1) Multiple primaries not allowed by config");

/// What a promotion needs next.
pub(super) enum Promotion {
    Done,
    Refused(Refusal),
    /// The handler has to say that the peer is outdated; otherwise it is this refusal.
    AskArbiter(Refusal),
}

impl State {
    /// Draws all consequences: connects what can meet, keeps what both sides know of each other, and ends
    /// swaps of gates that nothing waits below.
    pub(super) fn settle(&mut self) {
        for (a, b, drbd_name) in self.pairs() {
            self.meet(&a, &b, &drbd_name);
        }
        for (a, b, drbd_name) in self.pairs() {
            self.exchange(&a, &b, &drbd_name);
            for node in [&a, &b] {
                self.send_again(&a, &b, node, &drbd_name);
            }
        }
        for node in self.nodes.values_mut() {
            let busy: Vec<u32> = node
                .resources
                .values()
                .filter(|resource| !resource.waiting.is_empty())
                .flat_map(|resource| resource.configuration.volumes.iter().map(|volume| volume.minor))
                .collect();
            for gate in node.gates.values_mut().filter(|gate| gate.failing && !busy.contains(&gate.minor)) {
                gate.failing = false;
                gate.table = GateTable::Error;
            }
            for (name, resource) in &node.resources {
                let key = super::state::key_of(&resource.configuration);
                if resource.disk > DiskState::Failed
                    && let Some(metadata) = key
                        .and_then(|key| node.volumes.get_mut(&key))
                        .and_then(|volume| volume.metadata.as_mut())
                {
                    metadata.consistent = resource.disk > DiskState::Inconsistent;
                    metadata.up_to_date = resource.disk > DiskState::Outdated;
                    metadata.peer_outdated =
                        matches!(resource.peer_disk, DiskState::Outdated | DiskState::Inconsistent);
                    metadata.primary = resource.role == Role::Primary;
                } else {
                    tracing::trace!(name, "has no metadata to keep");
                }
            }
        }
    }

    /// A link that was mended before anybody noticed its cut brings over what was under way.
    fn send_again(&mut self, a: &str, b: &str, node: &str, drbd_name: &str) {
        let waits = self.resource(node, drbd_name).is_some_and(|found| {
            found.connection == ConnectionState::Connected
                && !found.suspended.any()
                && !found.waiting.is_empty()
        });
        if waits && self.link_is_up(a, b) {
            self.release(node, drbd_name);
        }
    }

    /// Both sides of every resource that two nodes have in their kernels.
    fn pairs(&self) -> Vec<(String, String, String)> {
        let mut pairs = Vec::new();
        for (a, node) in &self.nodes {
            for drbd_name in node.resources.keys() {
                let others =
                    self.nodes.iter().filter(|(b, other)| *b > a && other.resources.contains_key(drbd_name));
                pairs.extend(others.map(|(b, _)| (a.clone(), b.clone(), drbd_name.clone())));
            }
        }
        pairs
    }

    pub(super) fn resource(&mut self, node: &str, drbd_name: &str) -> Option<&mut Resource> {
        self.nodes.get_mut(node)?.resources.get_mut(drbd_name)
    }

    fn metadata(&mut self, node: &str, drbd_name: &str) -> Option<&mut Metadata> {
        self.nodes.get_mut(node)?.backing_of(drbd_name)?.metadata.as_mut()
    }

    /// Connects two sides that look for each other, and negotiates disks that are new to the connection.
    fn meet(&mut self, a: &str, b: &str, drbd_name: &str) {
        if !self.link_is_up(a, b) {
            return;
        }
        let states = [a, b].map(|node| {
            self.resource(node, drbd_name).map(|found| (found.connection, found.role, found.rests))
        });
        let [Some((state_a, role_a, rests_a)), Some((state_b, role_b, rests_b))] = states else { return };
        let connecting = |state| matches!(state, ConnectionState::Connecting | ConnectionState::Broken);
        let rests = rests_a || rests_b;
        if connecting(state_a) && connecting(state_b) && !rests && self.addressed(a, b, drbd_name) {
            for (node, other) in [(a, role_b), (b, role_a)] {
                if let Some(node) = self.nodes.get_mut(node).filter(|_| other == Role::Primary) {
                    node.meetings.entry(drbd_name.to_owned()).or_default().0 += 1;
                }
            }
            if role_a == Role::Primary && role_b == Role::Primary {
                // The frozen one gives up; the other goes on.
                for node in [a, b] {
                    if let Some(resource) = self.resource(node, drbd_name)
                        && resource.suspended.any()
                    {
                        resource.connection = ConnectionState::StandAlone;
                    }
                }
                return;
            }
            for (primary, booted) in [(a, b), (b, a)] {
                if self.cannot_thaw(primary, booted, drbd_name) {
                    return self.abort_connecting(primary, booted, drbd_name);
                }
            }
            for node in [a, b] {
                if let Some(resource) = self.resource(node, drbd_name) {
                    resource.connection = ConnectionState::Connected;
                    resource.replication = "Established";
                    if resource.disk > DiskState::Failed {
                        resource.disk = DiskState::Negotiating.max(resource.disk);
                    }
                }
            }
            self.negotiate(a, b, drbd_name);
        } else if state_a == ConnectionState::Connected
            && [a, b].iter().any(|node| {
                self.resource(node, drbd_name).is_some_and(|found| found.disk == DiskState::Negotiating)
            })
        {
            self.negotiate(a, b, drbd_name);
        }
    }

    /// A frozen Primary does not send again to a peer that has booted what it holds, where nothing else would have to be
    /// synced (`receive_state` of 8.4: "can not thaw IO with an only Consistent peer").
    fn cannot_thaw(&mut self, primary: &str, booted: &str, drbd_name: &str) -> bool {
        let [Some(own), Some(other)] = [primary, booted].map(|node| self.metadata(node, drbd_name).cloned())
        else {
            return false;
        };
        let frozen = self.resource(primary, drbd_name).is_some_and(|found| {
            found.role == Role::Primary && found.suspended.fencing && found.disk > DiskState::Failed
        });
        let only_consistent =
            self.resource(booted, drbd_name).is_some_and(|found| found.disk == DiskState::Consistent);
        frozen && only_consistent && ahead(&own, &other) == Ahead::Nobody
    }

    /// What was under way when it froze is acknowledged without anybody having been asked, as missing on the peer, a new generation begins,
    /// and the connection breaks. Frozen it stays until the next one.
    fn abort_connecting(&mut self, primary: &str, booted: &str, drbd_name: &str) {
        let under_way = self.resource(primary, drbd_name).map(|found| {
            let waiting = std::mem::take(&mut found.waiting);
            let (under_way, held) = waiting.into_iter().partition::<Vec<_>, _>(|write| write.local);
            found.waiting = held;
            under_way
        });
        for write in under_way.into_iter().flatten() {
            self.store(primary, drbd_name, write, true);
            self.answer(primary, drbd_name, write, WriteState::Acknowledged);
        }
        if let Some(resource) = self.resource(primary, drbd_name) {
            resource.new_generation_due = true;
        }
        self.begin_generation(primary, drbd_name);
        // To the other side all was well before it heard of that.
        if let Some(resource) = self.resource(booted, drbd_name) {
            resource.disk = DiskState::UpToDate;
        }
        for node in [primary, booted] {
            if let Some(resource) = self.resource(node, drbd_name) {
                resource.connection = ConnectionState::Broken;
                resource.rests = true;
            }
        }
        self.effects.push(Effect::ConnectAgain {
            a: primary.to_owned(),
            b: booted.to_owned(),
            drbd_name: drbd_name.to_owned(),
        });
    }

    /// The pause after a broken handshake is over.
    pub(super) fn connect_again(&mut self, a: &str, b: &str, drbd_name: &str) {
        for node in [a, b] {
            if let Some(resource) = self.resource(node, drbd_name) {
                resource.rests = false;
                if resource.connection == ConnectionState::Broken {
                    resource.connection = ConnectionState::Connecting;
                }
            }
        }
    }

    /// Whether each side's configuration names the other's address, and the secrets agree.
    fn addressed(&self, a: &str, b: &str, drbd_name: &str) -> bool {
        let configuration = |node: &str| Some(&self.nodes.get(node)?.resources.get(drbd_name)?.configuration);
        let (Some(at_a), Some(at_b)) = (configuration(a), configuration(b)) else { return false };
        let ip = |node: &str| self.nodes.get(node).map(|found| found.ip);
        let names = |configuration: &hawser_plan::step::Configuration, node: &str| {
            configuration.peers.iter().any(|peer| Some(peer.ip) == ip(node))
        };
        at_a.shared_secret == at_b.shared_secret
            && at_a.peers == at_b.peers
            && [at_a, at_b].iter().all(|configuration| names(configuration, a) && names(configuration, b))
    }

    /// The handshake: compares generations and starts a resync where one side is ahead.
    fn negotiate(&mut self, a: &str, b: &str, drbd_name: &str) {
        let [Some(first), Some(second)] = [a, b].map(|node| {
            let attached = self.resource(node, drbd_name).is_some_and(|found| found.disk > DiskState::Failed);
            attached.then(|| self.metadata(node, drbd_name).cloned()).flatten()
        }) else {
            // A disk without a counterpart is as good as its metadata says.
            for node in [a, b] {
                self.settle_disk(node, drbd_name, true);
            }
            // A frozen Primary goes on beside a peer without a disk, and notes in its bitmap what that one misses.
            self.exchange(a, b, drbd_name);
            return self.replicate_waiting(a, b, drbd_name);
        };
        let (source, target) = match ahead(&first, &second) {
            Ahead::Nobody => {
                let usable = first.consistent && second.consistent;
                for node in [a, b] {
                    if let Some(resource) = self.resource(node, drbd_name) {
                        resource.disk = if usable { DiskState::UpToDate } else { DiskState::Inconsistent };
                    }
                }
                return self.replicate_waiting(a, b, drbd_name);
            }
            Ahead::Diverged => {
                for node in [a, b] {
                    if let Some(resource) = self.resource(node, drbd_name) {
                        resource.connection = ConnectionState::StandAlone;
                        resource.replication = "Off";
                    }
                    self.settle_disk(node, drbd_name, false);
                }
                return;
            }
            Ahead::First => (a, b),
            Ahead::Second => (b, a),
        };
        let full = [&first, &second].iter().any(|side| side.current_uuid == JUST_CREATED);
        let mut dirty: std::collections::BTreeSet<u64> = first.dirty.union(&second.dirty).copied().collect();
        if full {
            for node in [a, b] {
                if let Some(volume) = self.nodes.get_mut(node).and_then(|node| node.backing_of(drbd_name)) {
                    dirty.extend(volume.blocks.keys().copied());
                }
            }
        }
        for (node, disk, replication) in
            [(source, DiskState::UpToDate, "SyncSource"), (target, DiskState::Inconsistent, "SyncTarget")]
        {
            if let Some(metadata) = self.metadata(node, drbd_name) {
                metadata.dirty.clone_from(&dirty);
            }
            if let Some(resource) = self.resource(node, drbd_name) {
                resource.disk = disk;
                resource.replication = replication;
            }
        }
        self.replicate_waiting(a, b, drbd_name);
        self.effects.push(Effect::FinishResync { drbd_name: drbd_name.to_owned() });
    }

    /// A frozen Primary that has its peer back sends again what was under way, and goes on.
    fn replicate_waiting(&mut self, a: &str, b: &str, drbd_name: &str) {
        for node in [a, b] {
            let Some(resource) = self.resource(node, drbd_name) else { continue };
            resource.suspended = Suspended::default();
            resource.new_generation_due = false;
            for waiting in std::mem::take(&mut resource.waiting) {
                self.write(node, drbd_name, waiting);
            }
        }
    }

    /// Copies what differs, if the resync is still under way.
    pub(super) fn finish_resync(&mut self, drbd_name: &str) {
        for (a, b, name) in self.pairs() {
            if name != drbd_name || !self.link_is_up(&a, &b) {
                continue;
            }
            let replication = self.resource(&a, drbd_name).map(|found| found.replication);
            let (source, target) = match replication {
                Some("SyncSource") => (&a, &b),
                Some("SyncTarget") => (&b, &a),
                _ => continue,
            };
            let Some(from) = self.nodes.get_mut(source).and_then(|node| node.backing_of(drbd_name)).cloned()
            else {
                continue;
            };
            if let Some(to) = self.nodes.get_mut(target).and_then(|node| node.backing_of(drbd_name)) {
                let dirty = to.metadata.as_ref().map(|metadata| metadata.dirty.clone()).unwrap_or_default();
                for block in dirty {
                    match from.blocks.get(&block) {
                        Some(record) => to.blocks.insert(block, *record),
                        None => to.blocks.remove(&block),
                    };
                }
                if let (Some(metadata), Some(ahead)) = (&mut to.metadata, &from.metadata) {
                    metadata.current_uuid = ahead.current_uuid;
                    metadata.history.clone_from(&ahead.history);
                }
            }
            for node in [source, target] {
                if let Some(metadata) = self.metadata(node, drbd_name) {
                    metadata.dirty.clear();
                    metadata.active.clear();
                }
                if let Some(resource) = self.resource(node, drbd_name) {
                    resource.disk = DiskState::UpToDate;
                    resource.replication = "Established";
                }
            }
        }
    }

    /// Each connected side knows the other's role and disk; an unconnected one does not.
    fn exchange(&mut self, a: &str, b: &str, drbd_name: &str) {
        for (here, there) in [(a, b), (b, a)] {
            let Some((role, disk, connected)) = self
                .resource(there, drbd_name)
                .map(|found| (found.role, found.disk, found.connection == ConnectionState::Connected))
            else {
                continue;
            };
            if let Some(resource) = self.resource(here, drbd_name)
                && resource.connection == ConnectionState::Connected
                && connected
            {
                resource.peer_role = role;
                resource.peer_disk = disk;
            }
        }
    }

    /// The ping went unanswered for too long, if the link is still broken.
    pub(super) fn notice_cut(&mut self, a: &str, b: &str) {
        if self.link_is_up(a, b) {
            return;
        }
        for (here, there) in [(a, b), (b, a)] {
            self.break_connections(here, there);
        }
    }

    /// A node that has booted knows no connection of before: it resets them, however short it was away.
    pub(super) fn boot(&mut self, name: &str) {
        let Some(node) = self.nodes.get_mut(name).filter(|node| !node.running) else { return };
        node.running = true;
        node.boots += 1;
        let others: Vec<String> = self.nodes.keys().filter(|other| *other != name).cloned().collect();
        for other in others {
            self.break_connections(&other, name);
        }
    }

    fn break_connections(&mut self, here: &str, there: &str) {
        let Some(node) = self.nodes.get(here) else { return };
        let Some(peer_ip) = self.nodes.get(there).map(|peer| peer.ip) else { return };
        let connected = node.resources.iter().filter(|(_, resource)| {
            resource.connection == ConnectionState::Connected
                && resource.configuration.peers.iter().any(|peer| peer.ip == peer_ip)
        });
        for drbd_name in connected.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.lose_peer(here, &drbd_name, ConnectionState::Connecting);
        }
    }

    /// The connection is gone, without the peer having been told.
    pub(super) fn lose_peer(&mut self, node: &str, drbd_name: &str, state: ConnectionState) {
        let boots = self.nodes.get(node).map_or(0, |found| found.boots);
        let Some(resource) = self.resource(node, drbd_name) else { return };
        resource.connection = state;
        resource.peer_role = Role::Unknown;
        resource.peer_disk = DiskState::Unknown;
        resource.replication = "Off";
        if resource.role != Role::Primary {
            return;
        }
        if resource.disk != DiskState::UpToDate {
            resource.suspended.no_data = true;
        } else if resource.configuration.ask_arbiter {
            resource.suspended.fencing = true;
            self.effects.push(Effect::AskArbiter {
                node: node.to_owned(),
                boots,
                drbd_name: drbd_name.to_owned(),
            });
        } else {
            resource.new_generation_due = true;
            self.release(node, drbd_name);
        }
    }

    /// The handler of a frozen Primary ended. Its answer is for a peer that is away: 8.4 ignores it once there is a
    /// connection again (`drbd_try_outdate_peer`).
    pub(super) fn arbiter_answered(&mut self, node: &str, drbd_name: &str, status: i32) {
        let Some(resource) = self.resource(node, drbd_name) else { return };
        let is_away = resource.connection != ConnectionState::Connected;
        if status == 4 && resource.suspended.fencing && is_away {
            resource.suspended.fencing = false;
            resource.peer_disk = DiskState::Outdated;
            resource.new_generation_due = true;
            self.release(node, drbd_name);
        }
    }

    /// Carries out a write, or leaves it waiting.
    pub(super) fn write(&mut self, node: &str, drbd_name: &str, mut write: Waiting) {
        let peer = self.peer_of(node, drbd_name);
        let Some(resource) = self.resource(node, drbd_name) else { return };
        if resource.suspended.any() {
            resource.waiting.push(write);
            return;
        }
        // A peer that is there without its disk is noted in the bitmap as one that is away.
        let connected =
            resource.connection == ConnectionState::Connected && resource.peer_disk > DiskState::Failed;
        if resource.disk != DiskState::UpToDate || resource.role != Role::Primary {
            return self.answer(node, drbd_name, write, WriteState::Failed);
        }
        let reaches = connected && peer.as_ref().is_some_and(|peer| self.link_is_up(node, peer));
        if !connected {
            self.begin_generation(node, drbd_name);
        }
        write.local = true;
        self.store(node, drbd_name, write, !connected);
        match (connected, reaches, peer) {
            (true, true, Some(peer)) => {
                self.store(&peer, drbd_name, write, false);
                self.answer(node, drbd_name, write, WriteState::Acknowledged);
            }
            (true, _, _) => {
                if let Some(resource) = self.resource(node, drbd_name) {
                    resource.waiting.push(write);
                }
            }
            (false, _, _) => self.answer(node, drbd_name, write, WriteState::Acknowledged),
        }
    }

    fn store(&mut self, node: &str, drbd_name: &str, write: Waiting, dirty: bool) {
        let attached = self.resource(node, drbd_name).is_some_and(|found| found.disk > DiskState::Failed);
        let volume =
            self.nodes.get_mut(node).and_then(|node| node.backing_of(drbd_name)).filter(|_| attached);
        if let Some(volume) = volume {
            volume.blocks.insert(write.block, write.record);
            if let Some(metadata) = &mut volume.metadata {
                metadata.active.insert(write.block);
                if dirty {
                    metadata.dirty.insert(write.block);
                }
            }
        }
    }

    fn answer(&mut self, node: &str, drbd_name: &str, write: Waiting, state: WriteState) {
        let told = self.nodes.get_mut(node).is_some_and(|node| node.answer(write.pid, state));
        if told && state == WriteState::Acknowledged {
            let newest = self.acknowledged.entry(drbd_name.to_owned()).or_default();
            let newest = newest.entry(write.block).or_default();
            *newest = write.record.max(*newest);
            self.acknowledgers.insert((node.to_owned(), drbd_name.to_owned()));
        }
    }

    /// A new generation begins with the first write that the peer does not get, and with a promotion alone.
    fn begin_generation(&mut self, node: &str, drbd_name: &str) {
        if !self.resource(node, drbd_name).is_some_and(|found| std::mem::take(&mut found.new_generation_due))
        {
            return;
        }
        self.next_uuid += 2;
        let uuid = 0x51A0_0000_0000_0000 + self.next_uuid;
        if let Some(metadata) = self.metadata(node, drbd_name) {
            metadata.history.insert(0, metadata.current_uuid);
            metadata.current_uuid = uuid;
        }
    }

    /// Writes that were held go on without the peer.
    pub(super) fn release(&mut self, node: &str, drbd_name: &str) {
        let waiting = self.resource(node, drbd_name).map(|found| std::mem::take(&mut found.waiting));
        for write in waiting.into_iter().flatten() {
            self.write(node, drbd_name, write);
        }
    }

    /// `drbdsetup resume-io`: clears every reason. Without a disk, what had reached it counts as written.
    pub(super) fn resume_io(&mut self, node: &str, drbd_name: &str) {
        let Some(resource) = self.resource(node, drbd_name) else { return };
        let frozen = resource.suspended.any();
        resource.suspended = Suspended::default();
        if resource.disk == DiskState::Diskless {
            for write in std::mem::take(&mut resource.waiting) {
                let state = if write.local { WriteState::Acknowledged } else { WriteState::Failed };
                self.answer(node, drbd_name, write, state);
            }
        } else if frozen && resource.connection != ConnectionState::Connected {
            resource.new_generation_due = true;
            self.release(node, drbd_name);
        }
    }

    /// One try of a promotion, without asking anybody.
    pub(super) fn promote(&mut self, node: &str, drbd_name: &str, peer_is_outdated: bool) -> Promotion {
        let Some(resource) = self.resource(node, drbd_name) else {
            return Promotion::Refused(NOT_UP_TO_DATE);
        };
        if resource.role == Role::Primary {
            return Promotion::Done;
        }
        let connected = resource.connection == ConnectionState::Connected;
        if connected {
            if resource.peer_role == Role::Primary {
                return Promotion::Refused(SECOND_PRIMARY);
            }
            if resource.disk != DiskState::UpToDate && resource.peer_disk != DiskState::UpToDate {
                return Promotion::Refused(NOT_UP_TO_DATE);
            }
        } else {
            let refusal = match resource.disk {
                DiskState::UpToDate => PEER_NOT_OUTDATED,
                DiskState::Consistent => NOT_UP_TO_DATE,
                _ => return Promotion::Refused(NOT_UP_TO_DATE),
            };
            if peer_is_outdated {
                resource.peer_disk = DiskState::Outdated;
            }
            if resource.configuration.ask_arbiter && resource.peer_disk > DiskState::Outdated {
                return Promotion::AskArbiter(refusal);
            }
            resource.disk = DiskState::UpToDate;
            resource.role = Role::Primary;
            resource.new_generation_due = true;
            self.begin_generation(node, drbd_name);
            return Promotion::Done;
        }
        resource.role = Role::Primary;
        Promotion::Done
    }

    /// The state of a disk by its metadata, when it is attached or left without a counterpart.
    pub(super) fn settle_disk(&mut self, node: &str, drbd_name: &str, peer_present: bool) {
        let Some(metadata) = self.metadata(node, drbd_name).cloned() else { return };
        let Some(resource) = self.resource(node, drbd_name) else { return };
        if resource.disk <= DiskState::Failed {
            return;
        }
        resource.disk = match (metadata.consistent, metadata.up_to_date) {
            (false, _) => DiskState::Inconsistent,
            (true, false) => DiskState::Outdated,
            // Without fencing nobody else is asked who is current.
            (true, true) if metadata.peer_outdated || peer_present || !resource.configuration.ask_arbiter => {
                DiskState::UpToDate
            }
            (true, true) => DiskState::Consistent,
        };
    }

    /// The node at the other end of a connection.
    pub(super) fn peer_of(&self, node: &str, drbd_name: &str) -> Option<String> {
        let own = self.nodes.get(node)?;
        let configuration = &own.resources.get(drbd_name)?.configuration;
        let is_peer = |ip| ip != own.ip && configuration.peers.iter().any(|peer| peer.ip == ip);
        self.nodes.iter().find(|(_, other)| is_peer(other.ip)).map(|(name, _)| name.clone())
    }
}

fn ahead(first: &Metadata, second: &Metadata) -> Ahead {
    match (first.current_uuid == JUST_CREATED, second.current_uuid == JUST_CREATED) {
        (true, true) => return Ahead::Nobody,
        (true, false) => return Ahead::Second,
        (false, true) => return Ahead::First,
        (false, false) => {}
    }
    if first.current_uuid == second.current_uuid {
        // Of one generation: what a crashed Primary had under way, and what is not consistent, comes from the
        // other bitmap's owner.
        let (a, b) = (first.consistent, second.consistent);
        return match (a, b, first.dirty.is_empty(), second.dirty.is_empty()) {
            (true, false, ..) => Ahead::First,
            (false, true, ..) => Ahead::Second,
            (.., false, _) => Ahead::First,
            (.., true, false) => Ahead::Second,
            (.., true, true) => Ahead::Nobody,
        };
    }
    if first.history.contains(&second.current_uuid) {
        Ahead::First
    } else if second.history.contains(&first.current_uuid) {
        Ahead::Second
    } else {
        Ahead::Diverged
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn metadata(current_uuid: u64, history: &[u64], dirty: &[u64]) -> Metadata {
        Metadata {
            current_uuid,
            history: history.to_vec(),
            size_bytes: 0,
            consistent: true,
            up_to_date: true,
            peer_outdated: false,
            primary: false,
            dirty: dirty.iter().copied().collect(),
            active: BTreeSet::new(),
        }
    }

    #[test]
    fn refusals_are_in_the_words_of_the_real_tools() {
        let recorded = include_str!("../../../tests/recorded/drbd84_refusals.txt");
        for (code, words) in [NOT_UP_TO_DATE, PEER_NOT_OUTDATED, HELD_OPEN] {
            let found = recorded.split("$ ").any(|answer| {
                answer.contains(&format!(": {words}\n")) && answer.ends_with(&format!("[exit {code}]\n"))
            });
            assert!(found, "{words}");
        }
    }

    #[test]
    fn the_later_generation_is_ahead() {
        let day0 = metadata(10, &[], &[]);
        for (first, second, expected) in [
            (day0.clone(), day0.clone(), Ahead::Nobody),
            (metadata(12, &[10], &[1]), day0.clone(), Ahead::First),
            (day0.clone(), metadata(14, &[12, 10], &[]), Ahead::Second),
            (metadata(12, &[10], &[]), metadata(14, &[10], &[]), Ahead::Diverged),
            (metadata(JUST_CREATED, &[], &[]), day0.clone(), Ahead::Second),
            (metadata(JUST_CREATED, &[], &[]), metadata(JUST_CREATED, &[], &[]), Ahead::Nobody),
            (metadata(10, &[], &[3]), day0, Ahead::First),
        ] {
            assert_eq!(ahead(&first, &second), expected);
        }
    }
}
