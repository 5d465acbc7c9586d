//! What this node knows of its own copy: that it is behind or may be, and that it has caught up.
//!
//! It must never take this node's own kernel for the proof that a copy which was behind is current again, nor let a
//! replica out to its peer after a boot before the ledger has it.

use crate::{
    desired::{Attachment, Peer, Replica},
    drbd::{all_disks, has_storage, holds_out, tries},
    observed::{DiskState, KernelPeerVolume, KernelResource, Met, Role},
    plan::{Next, Note, Plan, Question},
    situation::{Reunion, Situation, connected},
    step::Configuration,
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
    if remembered.behind && !has_diskful_peer(replica) && situation.arbitration.synced {
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
        let is_silent =
            |peer: &Peer| connected(kernel, &peer.node).is_some_and(|found| found.role == Role::Unknown);
        let shakes_hands = replica.peers.iter().any(is_silent);
        // Without a disk a Primary acknowledges nothing alone.
        let lacks_a_disk = replica
            .peers
            .iter()
            .any(|peer| all_volumes_of(kernel, peer, |volume| volume.disk == DiskState::Diskless));
        match remembered.reunion {
            Reunion::Watched(_) if shakes_hands || situation.found.met == Met::Unknown => {}
            Reunion::Watched(_) if situation.may_have_met() && !lacks_a_disk => plan.note(Note::Behind),
            Reunion::Watched(_) => plan.note(Note::Current),
            Reunion::None | Reunion::Unwatched if !remembered.current_in_boot => plan.note(Note::Current),
            Reunion::None | Reunion::Unwatched => {}
        }
    } else {
        end_reunion(situation, replica, kernel, plan);
    }
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

/// Has the ledger know that this replica may meet its peer, before it may. `Stop`: not yet.
pub(crate) fn let_out(
    situation: &Situation<'_>,
    replica: &Replica,
    drbd: &Configuration,
    plan: &mut Plan,
) -> Next {
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
/// since. Nor of what was made in this boot and has not been current yet. After a boot what was never noted as current may
/// have been so all the same: the node may have lost its power before the note.
fn is_let_out_with_a_note(situation: &Situation<'_>, replica: &Replica, drbd: &Configuration) -> bool {
    let remembered = situation.remembered;
    let owns = replica.owner == situation.node && replica.attachment == Attachment::Attached;
    let is_new = remembered.made_in_boot && !remembered.current_in_boot;
    drbd.ask_arbiter && has_storage(replica) && remembered.created && !is_new && !remembered.behind && !owns
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
    let is_to_be_proven = situation.remembered.behind && has_diskful_peer(replica) && !arbitration.synced;
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
        && replica
            .peers
            .iter()
            .any(|peer| all_volumes_of(kernel, peer, |volume| volume.disk == DiskState::UpToDate))
}

fn in_sync_with_a_peer(replica: &Replica, kernel: &KernelResource) -> bool {
    replica.peers.iter().filter(|peer| peer.diskful).any(|peer| {
        all_volumes_of(kernel, peer, |volume| {
            volume.disk == DiskState::UpToDate && volume.out_of_sync_bytes == 0
        })
    })
}

/// Whether the peer is connected, and `holds` for all of its volumes.
fn all_volumes_of(kernel: &KernelResource, peer: &Peer, holds: impl Fn(&KernelPeerVolume) -> bool) -> bool {
    connected(kernel, &peer.node)
        .is_some_and(|found| !found.volumes.is_empty() && found.volumes.values().all(holds))
}

fn has_diskful_peer(replica: &Replica) -> bool {
    replica.peers.iter().any(|peer| peer.diskful)
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
