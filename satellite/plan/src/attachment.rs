//! The top layer: promotion and gate, and the way back.
//!
//! It must never promote a node that is not the owner, whose replica may be behind, or whose peer could be
//! promoted at the same time: every peer is connected, or Raft has it as outdated. Nor may it ask whether it may be
//! promoted without a peer that can still come, nor ask about, or wait for, one that the document does not have any more.

use crate::{
    desired::{Attachment, Peer, Replica, Volume},
    drbd::{all_disks, tries},
    observed::{DiskState, GateTable, KernelResource, Looked, OpenerState, ReplicaFound, Role},
    plan::{Next, Plan, Question},
    situation::{Arbitration, Reunion, Situation, connected},
    step::{Configuration, Step},
};

const NO_DISK: &str = "waits for the local disk to become UpToDate";

/// Plans what a Primary needs, and the way down. Waiting here holds up no layer below.
pub(crate) fn keep(situation: &Situation<'_>, replica: &Replica, plan: &mut Plan) -> Next {
    let primary = replica
        .drbd
        .as_ref()
        .zip(situation.found.kernel.present())
        .filter(|(_, kernel)| kernel.role == Role::Primary);
    if let Some((drbd, kernel)) = primary
        && unfreeze(situation, replica, drbd, kernel, plan) == Next::Stop
    {
        return stop_if_it_runs(plan);
    }
    match replica.attachment {
        Attachment::Attached if primary.is_some() => open_gates(situation, replica, plan),
        Attachment::Detached => {
            if close_gates(situation.found, &replica.volumes, plan) == Next::Above
                && let Some((drbd, _)) = primary
            {
                plan.run(Step::Demote {
                    drbd_name: drbd.drbd_name.clone(),
                    minors: replica.volumes.iter().map(|volume| volume.minor).collect(),
                });
            }
        }
        Attachment::Attached | Attachment::Revoked => {}
    }
    stop_if_it_runs(plan)
}

/// Plans promotion and gate on top of layers that are as they should be.
pub(crate) fn promote(situation: &Situation<'_>, replica: &Replica, plan: &mut Plan) {
    if replica.attachment != Attachment::Attached {
        return;
    }
    if replica.owner != situation.node {
        plan.wait(format!("{} owns {}", named(&replica.owner), replica.resource));
        return;
    }
    match (&replica.drbd, situation.found.kernel.present()) {
        (Some(drbd), Some(kernel)) if kernel.role != Role::Primary => {
            if may_promote(situation, replica, kernel, plan) == Next::Above {
                plan.run(Step::Promote {
                    drbd_name: drbd.drbd_name.clone(),
                    minors: replica.volumes.iter().map(|volume| volume.minor).collect(),
                });
                open_gates(situation, replica, plan);
            }
        }
        (Some(_), _) => {}
        (None, _) => open_gates(situation, replica, plan),
    }
}

fn stop_if_it_runs(plan: &Plan) -> Next {
    if plan.runs() { Next::Stop } else { Next::Above }
}

fn may_promote(
    situation: &Situation<'_>,
    replica: &Replica,
    kernel: &KernelResource,
    plan: &mut Plan,
) -> Next {
    let arbitration = situation.arbitration;
    if situation.behind(replica) {
        return plan.wait("this replica is behind; it is promoted once it has synced".to_owned());
    }
    if situation.may_have_met() {
        return plan.wait(
            "this replica may have met its peer after a boot and lack what that one wrote; it is promoted once it has \
             synced"
                .to_owned(),
        );
    }
    let mut alone = false;
    let usable = |disk, alone| disk == DiskState::UpToDate || (alone && disk == DiskState::Consistent);
    for peer in &replica.peers {
        match connected(kernel, &peer.node) {
            Some(found) if found.role == Role::Primary => {
                return plan.wait(format!("{} is Primary still", peer.node));
            }
            Some(_) => {}
            None if arbitration.lets_go_on_without(peer) => alone = true,
            None if arbitration.granted.contains_key(&peer.node) => return plan.wait(not_told_yet(peer)),
            None => {
                if let Some(reason) = arbitration.refused.get(&peer.node) {
                    return plan.wait(format!("may not go on without {}: {reason}", peer.node));
                }
                if peer.outdated_number.is_none() && !arbitration.overdue.contains(&peer.node) {
                    return plan.wait(format!("waits for the connection to {}", peer.node));
                }
                if peer.diskful && !all_disks(replica, kernel, |disk| usable(disk, true)) {
                    return plan.wait(NO_DISK.to_owned());
                }
                // Once it is outdated it must not be the source of a sync to here any more.
                if peer.diskful && tries(kernel, peer) {
                    return shut_out_first(arbitration, replica, peer, plan);
                }
                // Also where the document has it as outdated: the document may be older than a sync.
                plan.ask(Question::Outdate { peer: peer.node.clone(), generation: replica.generation });
                return plan.wait(format!("asks the controllers whether {} may be left behind", peer.node));
            }
        }
    }
    if alone && situation.remembered.reunion != Reunion::None {
        return plan
            .wait("waits until it is certain that this replica has met nobody after a boot".to_owned());
    }
    // Also where the last peer was let go of: it was outdated before.
    let met_nobody = alone || replica.peers.is_empty();
    if !all_disks(replica, kernel, |disk| usable(disk, met_nobody)) {
        return plan.wait(NO_DISK.to_owned());
    }
    // A granted Outdate has shown that this node is the owner.
    if !arbitration.confirmed && !alone {
        plan.ask(Question::ConfirmOwner { generation: replica.generation });
        return plan.wait("asks the controllers whether this node still owns the resource".to_owned());
    }
    Next::Above
}

/// The connection to a peer that is about to be left behind is taken down by the layer below, once a controller has said
/// that this node may ask.
fn shut_out_first(arbitration: &Arbitration, replica: &Replica, peer: &Peer, plan: &mut Plan) -> Next {
    if arbitration.leaves(peer) {
        return plan.wait(format!("shuts {} out, to ask whether it may be left behind", peer.node));
    }
    plan.ask(Question::ConfirmOwner { generation: replica.generation });
    plan.wait(format!(
        "{} is not connected; asks the controllers whether this node still owns the resource",
        peer.node
    ))
}

/// A Primary that the kernel froze for fencing while no helper waits any more: asks in its place.
fn unfreeze(
    situation: &Situation<'_>,
    replica: &Replica,
    drbd: &Configuration,
    kernel: &KernelResource,
    plan: &mut Plan,
) -> Next {
    let arbitration = situation.arbitration;
    if !kernel.suspended.fencing {
        return Next::Above;
    }
    if arbitration.helper_asks {
        return plan.wait("I/O is frozen until the controllers answer".to_owned());
    }
    if situation.behind(replica) || !all_disks(replica, kernel, |disk| disk == DiskState::UpToDate) {
        return plan.wait("I/O is frozen, and this replica may not go on alone: it is behind".to_owned());
    }
    let mut away = replica.peers.iter().filter(|peer| connected(kernel, &peer.node).is_none()).peekable();
    // Frozen for a peer that the document does not have any more: that one was outdated for good before.
    if away.peek().is_none() && !replica.peers.is_empty() {
        // The kernel does it in the same go. Whoever does it later may do it to the next freeze.
        return plan
            .wait("I/O is frozen until the kernel has sent to its peer what was under way".to_owned());
    }
    for peer in away {
        if let Some(reason) = arbitration.refused.get(&peer.node) {
            return plan.wait(format!("I/O is frozen; may not go on without {}: {reason}", peer.node));
        }
        if arbitration.lets_go_on_without(peer) {
            continue;
        }
        if arbitration.granted.contains_key(&peer.node) {
            return plan.wait(format!("I/O is frozen; {}", not_told_yet(peer)));
        }
        plan.ask(Question::Outdate { peer: peer.node.clone(), generation: replica.generation });
        return plan.wait("I/O is frozen until the controllers answer".to_owned());
    }
    for volume in &replica.volumes {
        plan.run(Step::ResumeIo { drbd_name: drbd.drbd_name.clone(), minor: volume.minor });
    }
    Next::Stop
}

/// The answer alone may be older than a sync that cleared what it granted.
fn not_told_yet(peer: &Peer) -> String {
    format!("waits for the document that has {} as outdated", peer.node)
}

fn open_gates(situation: &Situation<'_>, replica: &Replica, plan: &mut Plan) {
    for volume in &replica.volumes {
        match situation.found.gates.get(&volume.number) {
            Some(Looked::Present(gate)) if gate.table == GateTable::Linear && !gate.suspended => {}
            Some(Looked::Present(gate)) if gate.table == GateTable::Error => {
                plan.run(Step::CloseGate { name: volume.gate.name.clone() });
                plan.run(Step::OpenGate(volume.gate.clone()));
            }
            Some(Looked::Present(_) | Looked::Absent) => plan.run(Step::OpenGate(volume.gate.clone())),
            None => {
                plan.wait(format!("{} has not been looked for yet", volume.gate.name));
            }
            Some(Looked::Unknown(why)) => {
                plan.wait(format!("cannot tell whether {} is there: {why}", volume.gate.name));
            }
        }
    }
}

/// Closes every gate that is there, or waits naming who holds one.
pub(crate) fn close_gates(found: &ReplicaFound, volumes: &[Volume], plan: &mut Plan) -> Next {
    let mut closing = Vec::new();
    for volume in volumes {
        match found.gates.get(&volume.number) {
            Some(Looked::Absent) => {}
            // A failed gate leads nowhere: a file system that is still mounted on it hinders nobody.
            Some(Looked::Present(gate)) if gate.open_count == 0 || gate.table == GateTable::Error => {
                closing.push(Step::CloseGate { name: volume.gate.name.clone() });
            }
            Some(Looked::Present(_)) => {
                return plan.wait(format!("{} is held open by {}", volume.gate.name, holders(found)));
            }
            None => return plan.wait(format!("{} has not been looked for yet", volume.gate.name)),
            Some(Looked::Unknown(why)) => {
                return plan.wait(format!("cannot tell whether {} is there: {why}", volume.gate.name));
            }
        }
    }
    for step in closing {
        plan.run(step);
    }
    Next::Above
}

/// Who holds a gate, for people: at most three, the living first.
pub(crate) fn holders(found: &ReplicaFound) -> String {
    let mut openers: Vec<_> = match &found.openers {
        Looked::Present(openers) => openers.iter().collect(),
        Looked::Absent => Vec::new(),
        Looked::Unknown(why) => return format!("somebody (cannot tell who: {why})"),
    };
    if openers.is_empty() {
        return "somebody who is no process of this node's".to_owned();
    }
    openers.sort_by_key(|opener| (opener.state != OpenerState::Living, opener.pid));
    let mut names: Vec<String> = openers
        .iter()
        .take(3)
        .map(|opener| match opener.pid {
            0 => opener.name.clone(),
            pid => format!("{} (pid {pid})", opener.name),
        })
        .collect();
    if openers.len() > names.len() {
        names.push(format!("{} more", openers.len() - names.len()));
    }
    names.join(", ")
}

fn named(owner: &str) -> &str {
    if owner.is_empty() { "nobody" } else { owner }
}
