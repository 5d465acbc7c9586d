//! Everything one plan is made from.

use std::collections::{BTreeMap, BTreeSet};

use hawser_proto::ids::{OutdateNumber, Revision};

use crate::{
    desired::{Desired, Peer, Replica},
    observed::{ConnectionState, KernelPeer, KernelResource, Met, ReplicaFound, Watch},
};

/// What the ledger remembers of one incarnation of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Remembered {
    /// Its metadata was made. It is never made again, whatever is found.
    pub created: bool,
    /// That was since the node booted.
    pub made_in_boot: bool,
    /// Its disk was seen UpToDate since the node booted.
    pub current_in_boot: bool,
    /// Its disk left UpToDate and has not synced since: it may be behind without knowing it.
    pub behind: bool,
    /// Whether it was let out to meet its peer after a boot.
    pub reunion: Reunion,
}

/// What a replica was let out to after a boot, until its disk is known to be current again.
///
/// DRBD 8.4 does not send to a peer that has booted what a frozen Primary holds: it acknowledges it, breaks the connection,
/// and syncs with the next one (`receive_state`: "can not thaw IO with an only Consistent peer"). In between the peer lacks
/// acknowledged writes. Its own kernel may have called it UpToDate before it lost the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reunion {
    /// To nothing.
    #[default]
    None,
    /// It may have met its peer since this was counted.
    Watched(Watch),
    /// It may have met its peer, and nobody would have seen it.
    Unwatched,
}

/// What is known of the arbiter's answers in this run of the satellite.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Arbitration {
    /// A controller has said a moment ago that owner and generation of the document stand.
    pub confirmed: bool,
    /// Nodes that were outdated on this node's word, at the document's generation, with the number of the
    /// `Outdate`. A peer's is not worth anything before the document has it as well
    /// ([`Arbitration::lets_go_on_without`]).
    pub granted: BTreeMap<String, OutdateNumber>,
    /// The latest revision under which each peer may have been reported as connected. An `Outdate` up to it may be
    /// about to be taken back; a later one stands as long as nothing else is reported.
    pub reported: BTreeMap<String, Revision>,
    /// Nodes of which a committed answer refused to say that they are behind, with the reason. Forgotten
    /// with the next change of what is desired.
    pub refused: BTreeMap<String, String>,
    /// The kernel's helper waits for an answer on this resource, or has just been given one. The kernel
    /// goes on by itself.
    pub helper_asks: bool,
    /// Peers that have had the time to connect and are not connected.
    pub overdue: BTreeSet<String>,
    /// Peers that do not connect and that the owner is about to go on without: on a controller's word of a moment ago, and
    /// from the question on until its answer.
    pub shut_out: BTreeSet<String>,
    /// The document has cleared an `Outdate` of this node's own copy that this satellite had asked for, and the two have been
    /// connected ever since. Only the reports of both sides do that, or a person who has given the other one up.
    pub synced: bool,
}

impl Arbitration {
    /// Whether this node may go on without `peer`: it was outdated on this node's word, and the document still
    /// has it as outdated by that entry or a later one. A sync may have cleared what was granted.
    pub fn lets_go_on_without(&self, peer: &Peer) -> bool {
        self.granted
            .get(&peer.node)
            .zip(peer.outdated_number)
            .is_some_and(|(granted, standing)| standing >= *granted)
    }

    /// Whether an owner goes on, or is about to ask whether it may go on, without `peer`: then that one must not come any
    /// more.
    pub(crate) fn leaves(&self, peer: &Peer) -> bool {
        let node = &peer.node;
        let is_left = peer.outdated_number.is_some() || self.granted.contains_key(node);
        (is_left || self.shut_out.contains(node)) && !self.refused.contains_key(node)
    }
}

/// Everything one plan is made from.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// Hawser's name of this node.
    pub node: &'a str,
    /// What the document wants.
    pub desired: &'a Desired,
    /// What is there.
    pub found: &'a ReplicaFound,
    /// What the ledger remembers.
    pub remembered: Remembered,
    /// What the arbiter said.
    pub arbitration: &'a Arbitration,
}

impl Situation<'_> {
    /// Whether this replica must not be taken for current by itself: the document or the ledger says that
    /// it is behind.
    pub fn behind(&self, replica: &Replica) -> bool {
        replica.outdated_number.is_some() || self.remembered.behind
    }

    /// Whether it may have met its peer as a Primary since it was let out after a boot.
    pub fn may_have_met(&self) -> bool {
        match (self.remembered.reunion, self.found.met) {
            (Reunion::None, _) => false,
            (Reunion::Watched(then), Met::Watched(now)) => {
                (then.number, then.meetings) != (now.number, now.meetings)
            }
            (Reunion::Watched(_), Met::Unknown) | (Reunion::Unwatched, _) => true,
        }
    }

    /// Whether what the kernel calls Consistent, or current without a peer, must not pass for usable.
    pub fn is_doubtful(&self) -> bool {
        let still_out = self.found.kernel.present().is_some_and(|kernel| {
            kernel.peers.values().any(|peer| peer.connection != ConnectionState::StandAlone)
        });
        // An end that is down stays doubtful until the ledger has that it met nobody.
        self.remembered.behind
            || self.may_have_met()
            || (self.remembered.reunion != Reunion::None && !still_out)
    }
}

/// The connection to `peer`, if it is established.
pub(crate) fn connected<'a>(kernel: &'a KernelResource, peer: &str) -> Option<&'a KernelPeer> {
    kernel.peers.get(peer).filter(|found| found.connection == ConnectionState::Connected)
}
