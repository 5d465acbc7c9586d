//! The replication layer: configuration, bringing up, connecting, and noticing that a disk fell behind.
//!
//! It must never attach the disk of a replica that remembers having fallen behind while no peer is connected: alone,
//! its own metadata would call it current, and the controllers may not have heard yet that it is not. Nor may it connect
//! a replica without its disk for any other reason: a frozen Primary goes on beside such a peer without asking
//! anybody, and the controllers may count the copy as complete. Nor may it take a connection down in order before Raft has
//! one side of it as outdated: no helper is called for that. Of a peer that the document does not have any more, Raft has
//! had that since it was told to leave.

use hawser_proto::ids::{OutdateNumber, Revision};

use crate::{
    desired::{Attachment, Peer, Replica},
    observed::{ConnectionState, DiskState, KernelPeerVolume, KernelResource, Looked, Met, Role},
    plan::{Next, Note, Plan, Question},
    situation::{Reunion, Situation, connected},
    step::{Configuration, Connection, Step},
};

/// Notes in the ledger, before anything else, that the disk left UpToDate or may lack what a Primary went on with, and
/// that it is current again.
///
/// That this node's kernel calls both sides UpToDate proves nothing once it has been behind: the other side may be in the
/// act of breaking the connection. The document has the proof, when an `Outdate` that was asked for since is cleared.
pub(crate) fn latch(situation: &Situation<'_>, replica: &Replica, plan: &mut Plan) {
    let remembered = situation.remembered;
    if replica.drbd.is_none() || !remembered.created {
        return;
    }
    if remembered.reunion == Reunion::Unwatched {
        plan.note(Note::Behind);
    }
    let is_alone = !replica.peers.iter().any(|peer| peer.diskful);
    if remembered.behind && is_alone && situation.arbitration.synced {
        // Whom it may have been behind was given up.
        plan.note(Note::CaughtUp);
    }
    let Some(kernel) = situation.found.kernel.present() else { return };
    if left_up_to_date(situation, replica, kernel) {
        if !remembered.behind {
            plan.note(Note::Behind);
        }
    } else if all_disks(replica, kernel, |disk| disk == DiskState::UpToDate) {
        if remembered.behind && situation.arbitration.synced && in_sync_with_a_peer(replica, kernel) {
            plan.note(Note::CaughtUp);
        }
        let compares = replica.peers.iter().any(|peer| is_heard_of(kernel, peer, Role::Unknown));
        // Without a disk a Primary acknowledges nothing alone.
        let lacks_a_disk = replica.peers.iter().any(|peer| is_there_without_a_disk(kernel, peer));
        match remembered.reunion {
            Reunion::Watched(_) if compares || situation.found.met == Met::Unknown => {}
            Reunion::Watched(_) if situation.may_have_met() && !lacks_a_disk => plan.note(Note::Behind),
            Reunion::Watched(_) => plan.note(Note::Current),
            Reunion::None | Reunion::Unwatched if !remembered.current_in_boot => plan.note(Note::Current),
            Reunion::None | Reunion::Unwatched => {}
        }
    } else {
        end_reunion(situation, replica, kernel, plan);
    }
}

/// Whether a connection to the peer is there in which it has that role.
fn is_heard_of(kernel: &KernelResource, peer: &Peer, role: Role) -> bool {
    connected(kernel, &peer.node).is_some_and(|found| found.role == role)
}

/// Whether the peer is connected and none of its volumes has a disk.
fn is_there_without_a_disk(kernel: &KernelResource, peer: &Peer) -> bool {
    connected(kernel, &peer.node).is_some_and(|found| {
        !found.volumes.is_empty() && found.volumes.values().all(|volume| volume.disk == DiskState::Diskless)
    })
}

/// Settles what became of a replica that is not UpToDate and was let out to meet its peer, by this satellite or by somebody
/// else: it has met no Primary, or it may be behind. While the two compare what they have it stays open.
fn end_reunion(situation: &Situation<'_>, replica: &Replica, kernel: &KernelResource, plan: &mut Plan) {
    let Met::Watched(now) = situation.found.met else { return };
    let compares = replica.peers.iter().any(|peer| connected(kernel, &peer.node).is_some())
        && all_disks(replica, kernel, |disk| matches!(disk, DiskState::Negotiating | DiskState::Consistent));
    match situation.remembered.reunion {
        Reunion::Watched(then) if !situation.may_have_met() => {
            // Only where nothing is about to begin a connection again, and the watch has seen this one end.
            let is_down = |peer: &Peer| !tries(kernel, peer) && holds_out(situation, replica, kernel, peer);
            if now.ended > then.ended && replica.peers.iter().all(is_down) {
                plan.note(Note::MetNobody);
            }
        }
        Reunion::Watched(_) if !compares => plan.note(Note::Behind),
        Reunion::None if is_out_unnoted(situation, replica, kernel) && !compares => {
            plan.note(if now.meetings == 0 { Note::Reunion(now) } else { Note::Behind });
        }
        Reunion::None | Reunion::Watched(_) | Reunion::Unwatched => {}
    }
}

/// Whether a connection that this satellite has not begun may lead a disk that is only Consistent to its peer.
fn is_out_unnoted(situation: &Situation<'_>, replica: &Replica, kernel: &KernelResource) -> bool {
    replica.drbd.as_ref().is_some_and(|drbd| is_let_out_with_a_note(situation, replica, drbd))
        && all_disks(replica, kernel, |disk| disk == DiskState::Consistent)
        && replica.peers.iter().any(|peer| tries(kernel, peer))
}

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

/// Has the ledger know that this replica may meet its peer, before it may. `Stop`: not yet.
fn let_out(situation: &Situation<'_>, replica: &Replica, drbd: &Configuration, plan: &mut Plan) -> Next {
    let is_current = situation
        .found
        .kernel
        .present()
        .is_some_and(|kernel| all_disks(replica, kernel, |disk| disk == DiskState::UpToDate));
    // Also where it was let out before and has come back without having met anybody: ends are counted from here.
    let is_new = match (situation.remembered.reunion, situation.found.met) {
        (Reunion::Watched(then), Met::Watched(now)) => then.ended != now.ended && !situation.may_have_met(),
        (reunion, _) => reunion == Reunion::None,
    };
    let is_due = is_let_out_with_a_note(situation, replica, drbd) && is_new && !is_current;
    match situation.found.met {
        _ if !is_due => Next::Above,
        Met::Unknown => plan.wait("connects as soon as changes of DRBD are watched".to_owned()),
        Met::Watched(now) => {
            plan.note(Note::Reunion(now));
            Next::Above
        }
    }
}

/// Whether a Primary could go on without this replica when they meet after a boot, and nobody would know.
///
/// Not of what its node owns by the document: if it does not any more, the controllers have had its copy as outdated
/// since. Nor of what was never current: no acknowledged write rests on it.
fn is_let_out_with_a_note(situation: &Situation<'_>, replica: &Replica, drbd: &Configuration) -> bool {
    let remembered = situation.remembered;
    let owns = replica.owner == situation.node && replica.attachment == Attachment::Attached;
    drbd.ask_arbiter && has_storage(replica) && remembered.was_current && !remembered.behind && !owns
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
fn tries(kernel: &KernelResource, peer: &Peer) -> bool {
    let connection = kernel.peers.get(&peer.node).map(|found| found.connection);
    !matches!(connection, None | Some(ConnectionState::StandAlone))
}

/// Whoever is about to take a resource over, or has the right to write and is not promoted yet, does not let the node
/// that it takes it from connect: a Primary that has crashed and is back would be the source of a sync, and should it
/// fail again in that sync, no complete copy would be left. Promoted, this side begins a new generation and is the
/// source itself.
fn is_kept_away(situation: &Situation<'_>, replica: &Replica, peer: &Peer) -> bool {
    let has_taken_over = replica.owner == situation.node
        && replica.attachment == Attachment::Attached
        && peer.outdated_number.is_some()
        && !situation.arbitration.refused.contains_key(&peer.node);
    peer.diskful && (peer.kept_away.is_some() || has_taken_over) && !situation.behind(replica)
}

/// Whether the peer is kept away and can be: a sync that has begun is left to end. A disk that is about to be attached
/// is guarded like one that is.
fn holds_out(situation: &Situation<'_>, replica: &Replica, kernel: &KernelResource, peer: &Peer) -> bool {
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

/// Has Raft told as soon as a disk left UpToDate: of the own one, and as owner of a connected peer's.
pub(crate) fn say_who_is_behind(situation: &Situation<'_>, replica: &Replica, plan: &mut Plan) {
    let Some(kernel) = situation.found.kernel.present().filter(|_| replica.drbd.is_some()) else { return };
    let arbitration = situation.arbitration;
    let mut outdate = |node: &str| {
        if !arbitration.refused.contains_key(node) {
            plan.ask(Question::Outdate { peer: node.to_owned(), generation: replica.generation });
        }
    };
    let left = left_up_to_date(situation, replica, kernel);
    // Also where it is outdated already: what is cleared has to be a number that was given after this was noted.
    let is_to_be_proven =
        situation.remembered.behind && replica.peers.iter().any(|peer| peer.diskful) && !arbitration.synced;
    if situation.remembered.created
        && (is_to_be_proven || (left && replica.outdated_number.is_none()))
        && !arbitration.granted.contains_key(situation.node)
    {
        outdate(situation.node);
    }
    if situation.remembered.created && left {
        return;
    }
    if replica.owner != situation.node || !all_disks(replica, kernel, |disk| disk == DiskState::UpToDate) {
        return;
    }
    for peer in replica.peers.iter().filter(|peer| peer.diskful && peer.outdated_number.is_none()) {
        let fell_behind = connected(kernel, &peer.node)
            .is_some_and(|found| found.volumes.values().any(|volume| unusable(volume.disk)));
        if fell_behind && !arbitration.granted.contains_key(&peer.node) {
            outdate(&peer.node);
        }
    }
}

/// Whether a disk that was current is so no more. One that never was (a joiner, a bring-up that is half
/// done) did not fall behind, unless a peer shows that there is something to be behind of.
fn left_up_to_date(situation: &Situation<'_>, replica: &Replica, kernel: &KernelResource) -> bool {
    has_storage(replica)
        && !all_disks(replica, kernel, |disk| !unusable(disk))
        && (situation.remembered.current_in_boot || lost_with_a_current_peer(replica, kernel))
}

fn lost_with_a_current_peer(replica: &Replica, kernel: &KernelResource) -> bool {
    !all_disks(replica, kernel, |disk| !matches!(disk, DiskState::Diskless | DiskState::Failed))
        && replica.peers.iter().any(|peer| {
            connected(kernel, &peer.node).is_some_and(|found| {
                !found.volumes.is_empty()
                    && found.volumes.values().all(|volume| volume.disk == DiskState::UpToDate)
            })
        })
}

fn in_sync_with_a_peer(replica: &Replica, kernel: &KernelResource) -> bool {
    replica.peers.iter().filter(|peer| peer.diskful).any(|peer| {
        connected(kernel, &peer.node).is_some_and(|found| {
            !found.volumes.is_empty()
                && found
                    .volumes
                    .values()
                    .all(|volume| volume.disk == DiskState::UpToDate && volume.out_of_sync_bytes == 0)
        })
    })
}

/// Whether a sync from here to that volume has begun: DRBD says so of the replication before it does of the disk.
fn is_target_of_a_sync(volume: &KernelPeerVolume) -> bool {
    const FROM_HERE: [&str; 4] = ["StartingSyncS", "WFBitMapS", "SyncSource", "PausedSyncS"];
    volume.disk == DiskState::Inconsistent || FROM_HERE.contains(&volume.replication.as_str())
}

/// Whether data is certainly not current, or not there.
fn unusable(disk: DiskState) -> bool {
    matches!(
        disk,
        DiskState::Diskless
            | DiskState::Detaching
            | DiskState::Failed
            | DiskState::Inconsistent
            | DiskState::Outdated
    )
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
