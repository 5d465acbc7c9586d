//! The replication layer: configuration, bringing up, and connecting.
//!
//! It must never attach the disk of a replica that remembers having fallen behind while no peer is connected: alone,
//! its own metadata would call it current, and the controllers may not have heard yet that it is not. Nor may it connect
//! a replica without its disk for any other reason: a frozen Primary goes on beside such a peer without asking
//! anybody, and the controllers may count the copy as complete. Nor may it take a connection down in order before Raft has
//! one side of it as outdated: no helper is called for that. Of a peer that the document does not have any more, Raft has
//! had that since it was told to leave.

use hawser_proto::ids::{OutdateNumber, Revision};

use crate::{
    behind::let_out,
    desired::{Attachment, Peer, Replica},
    observed::{ConnectionState, DiskState, KernelPeerVolume, KernelResource, Looked, Role},
    plan::{Next, Plan, Question},
    situation::{Situation, connected},
    step::{Configuration, Connection, Step},
};

/// Plans configuration, kernel and connections.
pub(crate) fn plan(situation: &Situation<'_>, replica: &Replica, plan: &mut Plan) -> Next {
    let Some(drbd) = &replica.drbd else { return Next::Above };
    let written = match &situation.found.configuration {
        Looked::Unknown(why) => {
            return plan.wait(format!("cannot read the configuration of {}: {why}", drbd.drbd_name));
        }
        Looked::Absent => false,
        Looked::Present(fingerprint) => *fingerprint == drbd.fingerprint(),
    };
    let write = (!written).then(|| Step::WriteConfiguration(drbd.clone()));
    match &situation.found.kernel {
        Looked::Unknown(why) => {
            // Nothing of the layers below may be redone under a kernel that cannot be seen.
            plan.actions.clear();
            plan.wait(format!("cannot see {} in the kernel: {why}", drbd.drbd_name))
        }
        Looked::Absent => {
            write.into_iter().for_each(|write| plan.run(write));
            bring_up(situation, replica, drbd, plan)
        }
        Looked::Present(kernel) => running(situation, replica, drbd, kernel, write, plan),
    }
}

/// Brings up whatever is missing in the kernel; with the disk unless the ledger has that as behind, and without
/// connections where a peer is kept away. That the document has it as outdated hinders nothing: the controllers know,
/// and a sync may have cleared it since.
fn bring_up(situation: &Situation<'_>, replica: &Replica, drbd: &Configuration, plan: &mut Plan) -> Next {
    let attach = has_storage(replica) && !situation.remembered.behind;
    let connect = !replica.peers.iter().any(|peer| is_kept_away(situation, replica, peer))
        && let_out(situation, replica, drbd, plan) == Next::Above;
    plan.run(Step::BringUp { configuration: drbd.clone(), attach, connect });
    Next::Stop
}

fn running(
    situation: &Situation<'_>,
    replica: &Replica,
    drbd: &Configuration,
    kernel: &KernelResource,
    write: Option<Step>,
    plan: &mut Plan,
) -> Next {
    let written = write.is_none();
    let diskless = has_storage(replica) && !all_disks(replica, kernel, |disk| disk != DiskState::Diskless);
    let complete = replica.volumes.iter().all(|volume| kernel.volumes.contains_key(&volume.number));
    // Following a changed configuration would connect whom this side keeps away: it waits for the promotion.
    let keeps_away = replica.peers.iter().any(|peer| holds_out(situation, replica, kernel, peer));
    let (write, written) = if keeps_away { (None, true) } else { (write, written) };
    let begins =
        replica.peers.iter().any(|peer| !tries(kernel, peer) && !holds_out(situation, replica, kernel, peer));
    let may_meet = !begins || let_out(situation, replica, drbd, plan) == Next::Above;
    let adjust = (!written || kernel.to_a_stranger) && complete && !diskless && may_meet;
    // Not written before it may be followed: the file would say what the kernel must not do yet.
    if adjust && fall_behind_first(situation, replica, kernel, plan) == Next::Stop {
        return Next::Stop;
    }
    write.into_iter().for_each(|write| plan.run(write));
    if !complete {
        return bring_up(situation, replica, drbd, plan);
    }
    if adjust {
        plan.run(Step::Adjust { configuration: drbd.clone() });
        return Next::Stop;
    }
    if diskless {
        let met = replica.peers.iter().any(|peer| connected(kernel, &peer.node).is_some());
        if met || !situation.remembered.behind {
            turn_away(situation, replica, kernel, drbd, plan);
            plan.run(Step::AttachDisk { configuration: drbd.clone() });
        } else {
            plan.wait("this replica may be behind; its disk is attached once a peer is connected".to_owned());
        }
    }
    for peer in replica.peers.iter().filter(|peer| !holds_out(situation, replica, kernel, peer)) {
        if may_meet && !tries(kernel, peer) {
            plan.run(Step::Connect(Connection { configuration: drbd.clone(), peer: peer.node.clone() }));
        }
    }
    if !plan.runs() && waits_for_nobody(situation, replica, kernel) {
        plan.run(Step::TakeDown { drbd_name: drbd.drbd_name.clone() });
        plan.run(Step::BringUp { configuration: drbd.clone(), attach: true, connect: true });
    }
    if plan.runs() {
        return Next::Stop;
    }
    turn_away(situation, replica, kernel, drbd, plan);
    if let Some(peer) = replica.peers.iter().find(|peer| peer.diskful)
        && situation.is_doubtful()
        && connected(kernel, &peer.node).is_none()
    {
        plan.wait(format!(
            "this replica may lack what was written on {}, and can be used once the two have met and synced",
            peer.node
        ));
    }
    // With the connection down, the promotion may follow in the same go.
    Next::Above
}

/// Takes this end down of whatever connection tries to reach a peer that is kept away.
fn turn_away(
    situation: &Situation<'_>,
    replica: &Replica,
    kernel: &KernelResource,
    drbd: &Configuration,
    plan: &mut Plan,
) {
    for peer in replica.peers.iter().filter(|peer| holds_out(situation, replica, kernel, peer)) {
        if tries(kernel, peer) {
            // It may connect just before this: then nothing that is seen until it is down passes for a sync.
            plan.proves_nothing_since =
                plan.proves_nothing_since.into_iter().chain(peer.outdated_number).min();
            plan.run(Step::TurnAway(Connection { configuration: drbd.clone(), peer: peer.node.clone() }));
        }
        if peer.kept_away.is_some() {
            plan.wait(format!("keeps {} away, because this node is about to take over from it", peer.node));
        }
    }
}

/// Whether the kernel has a connection to the peer, or tries to have one.
pub(crate) fn tries(kernel: &KernelResource, peer: &Peer) -> bool {
    let connection = kernel.peers.get(&peer.node).map(|found| found.connection);
    !matches!(connection, None | Some(ConnectionState::StandAlone))
}

/// Whoever is about to take a resource over, or to go on without its peer, and is not promoted yet, does not let that one
/// connect: a Primary that has crashed and is back would be the source of a sync, and should it fail again in that sync,
/// no complete copy would be left. Promoted, this side begins a new generation and is the source itself.
fn is_kept_away(situation: &Situation<'_>, replica: &Replica, peer: &Peer) -> bool {
    let owns = replica.owner == situation.node && replica.attachment == Attachment::Attached;
    let goes_on_alone = owns && situation.arbitration.leaves(peer);
    peer.diskful && (peer.kept_away.is_some() || goes_on_alone) && !situation.behind(replica)
}

/// Whether the peer is kept away and can be: a sync that has begun is left to end. A disk that is about to be attached
/// is guarded like one that is.
pub(crate) fn holds_out(
    situation: &Situation<'_>,
    replica: &Replica,
    kernel: &KernelResource,
    peer: &Peer,
) -> bool {
    is_kept_away(situation, replica, peer)
        && kernel.role != Role::Primary
        && connected(kernel, &peer.node).is_none()
        && all_disks(replica, kernel, |disk| {
            matches!(
                disk,
                DiskState::UpToDate
                    | DiskState::Consistent
                    | DiskState::Diskless
                    | DiskState::Attaching
                    | DiskState::Negotiating
            )
        })
}

/// A disk that came up beside a peer which is gone for good says only that it is consistent, for it has not met that
/// peer. Attached anew it is current.
fn waits_for_nobody(situation: &Situation<'_>, replica: &Replica, kernel: &KernelResource) -> bool {
    replica.peers.is_empty()
        && replica.attachment == Attachment::Detached
        && kernel.role == Role::Secondary
        && !situation.behind(replica)
        && all_disks(replica, kernel, |disk| disk == DiskState::Consistent)
        && situation.found.gates.values().all(Looked::is_absent)
}

/// Before a connection is taken down in order, Raft has to have the side as outdated that misses writes from then
/// on: the peers of the owner, else this replica. `Above` once the document has it, by an entry after everything
/// that was reported; until the connection has been taken down, no look may pass for the sync that answers it.
pub(crate) fn fall_behind_first(
    situation: &Situation<'_>,
    replica: &Replica,
    kernel: &KernelResource,
    plan: &mut Plan,
) -> Next {
    let arbitration = situation.arbitration;
    let met: Vec<_> = replica
        .peers
        .iter()
        .filter(|peer| peer.diskful && connected(kernel, &peer.node).is_some())
        .map(|peer| (peer, arbitration.reported.get(&peer.node).copied().unwrap_or_default()))
        .collect();
    let reported = met.iter().map(|(_, reported)| *reported).max().unwrap_or_default();
    let own = stands_after(replica.outdated_number, reported);
    let (behind, ahead): (Vec<_>, Vec<_>) =
        met.into_iter().partition(|(peer, reported)| stands_after(peer.outdated_number, *reported).is_some());
    plan.proves_nothing_since = behind.iter().filter_map(|(peer, _)| peer.outdated_number).chain(own).min();
    if ahead.is_empty() || own.is_some() {
        return Next::Above;
    }
    let syncs_from_here = |peer: &&Peer| {
        connected(kernel, &peer.node).is_some_and(|found| found.volumes.values().any(is_target_of_a_sync))
            && all_disks(replica, kernel, |disk| disk == DiskState::UpToDate)
    };
    let owns = replica.owner == situation.node;
    if let Some((target, _)) = ahead.iter().find(|(peer, _)| !owns && syncs_from_here(peer)) {
        // The one complete copy may not be the one that falls behind, and Raft may not know yet that it is.
        plan.wait(format!("changes the connection once {} has synced from here", target.node));
        return Next::Stop;
    }
    let leave: Vec<_> = if owns {
        ahead.into_iter().map(|(peer, reported)| (peer.node.as_str(), reported)).collect()
    } else {
        vec![(situation.node, reported)]
    };
    for (node, reported) in leave {
        if let Some(reason) = arbitration.refused.get(node) {
            plan.wait(format!("may not leave {node} behind to change the connection: {reason}"));
            continue;
        }
        if arbitration.granted.get(node).is_none_or(|number| number.revision() <= reported) {
            plan.ask(Question::Outdate { peer: node.to_owned(), generation: replica.generation });
        }
        plan.wait(format!("has the controllers note that {node} falls behind, to change the connection"));
    }
    Next::Stop
}

/// The mark that stands, if it was set after everything that was reported.
fn stands_after(mark: Option<OutdateNumber>, reported: Revision) -> Option<OutdateNumber> {
    mark.filter(|number| number.revision() > reported)
}

/// Whether a sync from here to that volume has begun: DRBD says so of the replication before it does of the disk.
fn is_target_of_a_sync(volume: &KernelPeerVolume) -> bool {
    const FROM_HERE: [&str; 4] = ["StartingSyncS", "WFBitMapS", "SyncSource", "PausedSyncS"];
    volume.disk == DiskState::Inconsistent || FROM_HERE.contains(&volume.replication.as_str())
}

pub(crate) fn has_storage(replica: &Replica) -> bool {
    replica.volumes.iter().any(|volume| volume.backing.is_some())
}

/// Whether `holds` for the local disk of every volume. A volume that is not in the kernel is diskless.
pub(crate) fn all_disks(
    replica: &Replica,
    kernel: &KernelResource,
    holds: impl Fn(DiskState) -> bool,
) -> bool {
    replica.volumes.iter().all(|volume| {
        holds(kernel.volumes.get(&volume.number).map_or(DiskState::Diskless, |found| found.disk))
    })
}
