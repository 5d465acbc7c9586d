//! Which steps are possible in a world: what its people, leader, satellites and kernels may do next.

use crate::{
    kernel::{may_acknowledge, may_connect},
    raft::{Lifecycle, NodeId, Proposal},
    steps::{Arbiter, Planted, Step},
    world::{Disk, Document, Leaving, Lineage, Node, World},
};

impl Arbiter {
    pub fn steps_of(&self, world: &World, id: NodeId, steps: &mut Vec<Step>) {
        let node = &world.nodes[id];
        let peer = &world.nodes[1 - id];
        let left = &world.left;
        if !node.up {
            steps.push(Step::Restart(id));
            return;
        }
        if left.crashes > 0 {
            steps.push(Step::Crash(id));
        }
        if left.disk_failures > 0 && node.disk == Disk::UpToDate {
            steps.push(Step::FailDisk(id));
        }
        if node.document != self.rendered(world, id) {
            steps.push(Step::AcceptDocument(id));
        }
        if !node.confirmed && node.is_attached_at().is_some() {
            steps.push(Step::ConfirmOwner(id));
        }
        if self.wants_an_answer(node)
            && !world.in_flight.contains(&question(id, node))
            && world.in_flight.len() < 4
        {
            steps.push(Step::AskArbiter(id));
        }
        if node.primary.is_none() && self.may_promote(world, id) {
            steps.push(Step::Promote(id));
        }
        if node.primary.is_some() {
            self.steps_of_a_primary(world, id, steps);
        } else {
            let on_its_way_out =
                matches!(node.document.attachment, Some((Lifecycle::Detaching | Lifecycle::Revoked, _)));
            if on_its_way_out && world.in_flight.len() < 4 {
                steps.push(Step::ReportDetached(id));
            }
            match node.leaving {
                Leaving::No => {
                    let both_are_current = node.disk == Disk::UpToDate && peer.disk != Disk::Inconsistent;
                    if left.leaves > 0 && node.connected && !node.latched && both_are_current {
                        steps.push(Step::BeginToLeave(id));
                    }
                }
                Leaving::Begun => steps.push(Step::AbandonLeaving(id)),
                Leaving::Allowed => steps.push(Step::GoDown(id)),
            }
        }
        let reports_good = node.connected
            && node.disk == Disk::UpToDate
            && !node.latched
            && (peer.disk == Disk::UpToDate || !peer.connected)
            && world.looks_synced_to(id)
            && (node.leaving == Leaving::No || self.planted == Planted::LeavingCopyReportsUpToDate);
        if reports_good && node.document.revision > world.reported_good[id] {
            steps.push(Step::ReportGood(id));
        }
        if !node.keeps_away && !node.connected && node.wants_to_keep_away() {
            steps.push(Step::KeepAway(id));
        }
        if node.keeps_away && (!node.wants_to_keep_away() || node.may_give_up()) {
            steps.push(Step::LetCome(id));
        }
        let (reports_away, claim) = match world.raft.claim {
            Some((claimant, number)) => (claimant == id && node.document.revision >= number, number),
            None => (false, 0),
        };
        if node.let_out && node.met && !node.connected {
            steps.push(Step::NoticeReunion(id));
        }
        if reports_away && node.keeps_away && !node.is_doubted() && world.reported_away[id] != claim {
            steps.push(Step::ReportAway(id));
        }
        if node.connected && !(world.link && peer.connected) {
            steps.push(Step::NoticeLostPeer(id));
        }
        if world.reaches_peer(id) && node.disk == Disk::Detached && peer.disk == Disk::UpToDate {
            steps.push(Step::AttachDisk(id));
        }
    }

    fn steps_of_a_primary(&self, world: &World, id: NodeId, steps: &mut Vec<Step>) {
        let node = &world.nodes[id];
        let lets_go =
            matches!(node.document.attachment, None | Some((Lifecycle::Detaching | Lifecycle::Revoked, _)));
        if lets_go && !node.frozen && node.pending.is_none() {
            steps.push(Step::Demote(id));
        }
        if node.frozen && matches!(node.document.attachment, Some((Lifecycle::Revoked, _))) {
            steps.push(Step::ReleaseLoser(id));
        }
        if node.frozen && !node.connected && node.granted {
            steps.push(Step::Resume(id));
        }
        if node.frozen {
            return;
        }
        match node.pending {
            None if world.left.writes > 0 => steps.push(Step::Write(id)),
            None => {}
            Some((_, replicated)) => {
                if world.reaches_peer(id) && !replicated && world.nodes[1 - id].disk != Disk::Detached {
                    steps.push(Step::Replicate(id));
                }
                if may_acknowledge(world, id, replicated) {
                    steps.push(Step::Acknowledge(id));
                }
            }
        }
    }

    pub fn proposals(&self, world: &World, id: NodeId, steps: &mut Vec<Step>) {
        let raft = &world.raft;
        let number = raft.outdated[id];
        let proves = |node: NodeId| {
            world.reported_good[node] >= number || (node != id && self.planted == Planted::OneReportIsEnough)
        };
        if number != 0
            && (0..2).all(proves)
            && !world.in_flight.contains(&Proposal::Synced { node: id, number })
        {
            steps.push(Step::ProposeSynced(id));
        }
        if raft.generation < world.left.generations {
            if raft.owner.is_none() {
                steps.push(Step::AskToAttach(id));
            }
            let asks = |is_meant: &dyn Fn(&Proposal) -> bool| world.in_flight.iter().any(is_meant);
            let may_ask = match raft.claim {
                None => !asks(&|proposal| matches!(proposal, Proposal::Claim { .. })),
                Some((claimant, number)) => {
                    let was_seen = world.reported_away[id] == number
                        || self.planted == Planted::TakeOverWithoutKeepingAway;
                    // One of an earlier claim may still be under way.
                    let is_this = |proposal: &Proposal| matches!(proposal, Proposal::TakeOver { claim, .. } if *claim == number);
                    claimant == id && was_seen && !asks(&is_this)
                }
            };
            if raft.owner == Some(1 - id) && may_ask {
                steps.push(Step::AskToTakeOver(id));
            }
        }
        let is_granted =
            raft.attachments[id].as_ref().is_some_and(|granted| granted.lifecycle == Lifecycle::Granted);
        if is_granted && world.left.detaches > 0 {
            steps.push(Step::AskToDetach(id));
        }
    }

    pub fn withdrawal(&self, world: &World, steps: &mut Vec<Step>) {
        let Some((_, number)) = world.raft.claim else { return };
        if world.left.withdrawals > 0 && !world.in_flight.contains(&Proposal::Withdraw { number }) {
            steps.push(Step::ProposeWithdrawal);
        }
    }

    pub fn connections(&self, world: &World, steps: &mut Vec<Step>) {
        let [one, other] = &world.nodes;
        if world.link && one.up && other.up && !(one.connected && other.connected) {
            for source in 0..2 {
                if may_connect(world, source) {
                    steps.push(Step::Connect { source });
                }
            }
        }
        // A sync waits for the writes under way.
        if world.nodes.iter().any(|node| node.pending.is_some()) {
            return;
        }
        let syncing = world.nodes.iter().position(|node| node.disk == Disk::Inconsistent);
        if syncing.is_some_and(|target| {
            world.reaches_peer(target) && world.nodes[1 - target].disk == Disk::UpToDate
        }) {
            steps.push(Step::FinishSync);
        }
    }

    /// What the node's document says now.
    pub fn rendered(&self, world: &World, id: NodeId) -> Document {
        Document {
            revision: world.raft.newest(),
            attachment: world.raft.attachments[id]
                .as_ref()
                .map(|granted| (granted.lifecycle, granted.generation)),
            peer_is_outdated: world.raft.outdated[1 - id] != 0,
            claims: world.raft.claim.is_some_and(|(claimant, _)| claimant == id),
        }
    }

    fn wants_an_answer(&self, node: &Node) -> bool {
        if node.granted || node.latched || node.disk != Disk::UpToDate || node.connected {
            return false;
        }
        match node.primary {
            // The helper blocks until it has an answer; after a no it is not called again.
            Some(_) => node.frozen && node.asking,
            None => {
                node.is_attached_at().is_some()
                    && (node.keeps_away || self.planted == Planted::AsksBeforeKeepingAway)
            }
        }
    }

    fn may_promote(&self, world: &World, id: NodeId) -> bool {
        let node = &world.nodes[id];
        if node.is_attached_at().is_none()
            || node.disk != Disk::UpToDate
            || node.latched
            || node.met
            || node.leaving != Leaving::No
        {
            return false;
        }
        if node.connected {
            return world.reaches_peer(id) && world.nodes[1 - id].primary.is_none() && node.confirmed;
        }
        node.granted
            || (self.planted == Planted::PromotionTrustsTheDocument
                && node.confirmed
                && node.document.peer_is_outdated)
    }
}

impl World {
    /// As far as this node's kernel knows, nothing is out of sync. A node that went on without its peer
    /// knows that; one that was left behind does not, until it is connected anew.
    fn looks_synced_to(&self, id: NodeId) -> bool {
        match self.lineage {
            Lineage::Same => true,
            Lineage::Ahead(ahead) => ahead != id && !self.nodes[ahead].connected,
            Lineage::Split => false,
        }
    }
}

/// What a node asks the arbiter before it goes on without its peer.
pub fn question(id: NodeId, node: &Node) -> Proposal {
    let generation = node.primary.or(node.is_attached_at()).unwrap_or(0);
    Proposal::OutdatePeer { owner: id, generation }
}
