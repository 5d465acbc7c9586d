//! What the two kernels do, as DRBD 8.4 does it with `fencing resource-and-stonith`.

use crate::{
    possible::question,
    raft::{NodeId, Proposal},
    world::{Disk, Lineage, World},
};

pub fn fail_disk(world: &mut World, id: NodeId) {
    world.left.disk_failures -= 1;
    let through_peer = world.reaches_peer(id) && world.nodes[1 - id].disk == Disk::UpToDate;
    let node = &mut world.nodes[id];
    node.disk = Disk::Detached;
    // On another disk, before anything else is done.
    node.latched = true;
    node.granted = false;
    if node.primary.is_some() && !through_peer {
        node.frozen = true;
        node.asking = false;
    }
    world.in_flight.insert(Proposal::OutdateCopy { node: id });
}

pub fn notice_lost_peer(world: &mut World, id: NodeId) {
    let node = &mut world.nodes[id];
    node.connected = false;
    if node.primary.is_some() {
        node.frozen = true;
        node.granted = false;
        if node.disk == Disk::UpToDate && !node.latched {
            node.asking = true;
            let question = question(id, &world.nodes[id]);
            world.in_flight.insert(question);
        }
    }
}

pub fn may_connect(world: &World, source: NodeId) -> bool {
    let [one, other] = &world.nodes;
    if one.keeps_away || other.keeps_away {
        return false;
    }
    if (one.primary.is_some() && other.primary.is_some()) || world.nodes[source].disk != Disk::UpToDate {
        return false;
    }
    let target = &world.nodes[1 - source];
    let equal = world.lineage == Lineage::Same
        && one.data == other.data
        && target.disk == Disk::UpToDate
        && !target.latched;
    match world.lineage {
        Lineage::Split => false,
        Lineage::Ahead(ahead) => ahead == source && target.primary.is_none(),
        // Nothing to sync: one of the two steps is enough.
        Lineage::Same if equal => source == 0 || world.nodes[0].latched,
        // A Primary that has crashed is the source: it may have begun writes that the other one has not got.
        Lineage::Same => {
            target.primary.is_none()
                && !world.nodes[source].latched
                && (target.latched || target.data & !world.nodes[source].data == 0)
        }
    }
}

/// The node that is frozen and does not send again what it holds, because the other one has booted and has nothing else
/// to sync.
fn cannot_thaw(world: &World) -> Option<NodeId> {
    (0..2).find(|primary| {
        let (own, peer) = (&world.nodes[*primary], &world.nodes[1 - primary]);
        let nothing_to_sync = world.lineage == Lineage::Same && !peer.latched;
        own.primary.is_some()
            && own.frozen
            && own.disk == Disk::UpToDate
            && peer.booted
            && peer.disk == Disk::UpToDate
            && nothing_to_sync
    })
}

/// What it holds is acknowledged on it alone, without anybody having been asked, and the connection breaks.
fn abort_connecting(world: &mut World, primary: NodeId) {
    world.diverge(primary);
    if let Some((write, _)) = world.nodes[primary].pending.take() {
        world.acknowledged |= write;
        let peer = &world.nodes[1 - primary];
        world.wrong.acknowledged_alone_in_secret |=
            world.raft.outdated[1 - primary] == 0 && !peer.is_doubted();
    }
    for node in &mut world.nodes {
        node.met |= node.let_out;
        // To the other side all was well before it heard of that.
        node.booted = false;
    }
}

pub fn connect(world: &mut World, source: NodeId) {
    if let Some(primary) = cannot_thaw(world) {
        return abort_connecting(world, primary);
    }
    let target = &world.nodes[1 - source];
    let equal = world.nodes[source].data == target.data;
    if world.lineage != Lineage::Same || !equal || target.latched || target.disk != Disk::UpToDate {
        world.lineage = Lineage::Ahead(source);
        world.nodes[1 - source].disk = Disk::Inconsistent;
    }
    for node in &mut world.nodes {
        node.met |= node.let_out;
        if node.disk == Disk::UpToDate {
            node.is_current_again();
        }
        node.connected = true;
        // The kernel lets nobody answer a question of an earlier connection.
        node.asking = false;
        if node.primary.is_some() {
            node.frozen = false;
            node.granted = false;
            // What was under way is sent again.
            if let Some((_, replicated)) = &mut node.pending {
                *replicated = false;
            }
        }
    }
}

pub fn finish_sync(world: &mut World) {
    let Some(target) = world.nodes.iter().position(|node| node.disk == Disk::Inconsistent) else { return };
    world.nodes[target].data = world.nodes[1 - target].data;
    world.nodes[target].disk = Disk::UpToDate;
    world.nodes[target].latched = false;
    world.nodes[target].is_current_again();
    // The source proved good by being synced from.
    world.nodes[1 - target].latched = false;
    world.lineage = Lineage::Same;
}

pub fn write(world: &mut World, id: NodeId) {
    let write = 1 << (world.left.writes - 1);
    world.left.writes -= 1;
    let node = &mut world.nodes[id];
    node.pending = Some((write, false));
    if node.disk != Disk::Detached {
        node.data |= write;
    }
}

pub fn may_acknowledge(world: &World, id: NodeId, replicated: bool) -> bool {
    let node = &world.nodes[id];
    if !node.connected {
        return node.disk == Disk::UpToDate;
    }
    if !world.reaches_peer(id) {
        return false;
    }
    let peer = &world.nodes[1 - id];
    let somebody_is_complete = node.disk == Disk::UpToDate || peer.disk == Disk::UpToDate;
    somebody_is_complete && (replicated || peer.disk == Disk::Detached)
}

pub fn acknowledge(world: &mut World, id: NodeId) {
    let Some((write, _)) = world.nodes[id].pending.take() else { return };
    world.acknowledged |= write;
    let node = &world.nodes[id];
    let peer = &world.nodes[1 - id];
    if !node.connected {
        world.wrong.acknowledged_alone_in_secret |= world.raft.outdated[1 - id] == 0 && !peer.is_doubted();
    }
    world.wrong.acknowledged_beside_a_later_primary |= world.nodes[1 - id].primary > node.primary;
    // Whichever copy missed the write is behind.
    if world.nodes[1 - id].disk == Disk::Detached && node.connected {
        world.diverge(id);
    }
    if world.nodes[id].disk != Disk::UpToDate {
        world.diverge(1 - id);
    }
}
