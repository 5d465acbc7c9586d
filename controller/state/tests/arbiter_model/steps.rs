//! What can happen in the model's world, one step at a time.

use stateright::{Model, Property};

use crate::{
    kernel,
    possible::question,
    raft::{Index, Lifecycle, NodeId, Proposal, Raft, StateMachine},
    world::{Budget, Disk, Leaving, Lineage, World},
};

pub const NO_WRITE_IS_LOST: &str = "who can acknowledge has every acknowledged write";
pub const NONE_IS_LEFT_BEHIND_IN_SECRET: &str = "who acknowledges alone has its peer held for behind";
pub const OWNER_IS_NO_TARGET: &str =
    "no outdated copy is the source of a sync to the owner's, but for one whose disk had failed";

/// A rule of the design that the model can be told to break, to see that it notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    Nothing,
    /// A `Synced` clears whatever outdating stands.
    SyncedIgnoresItsNumber,
    /// A satellite promotes without its peer because its document says that the peer is outdated.
    PromotionTrustsTheDocument,
    /// A satellite keeps a yes of the arbiter although it has reported the peer as connected since.
    YesOutlivesAReport,
    /// The leader proposes a `Synced` when the copy's own node alone has reported it.
    OneReportIsEnough,
    /// A satellite reports a copy as UpToDate although it has begun an orderly down.
    LeavingCopyReportsUpToDate,
    /// A copy is outdated after its orderly down instead of before.
    DownBeforeOutdate,
    /// The leader proposes a take-over when it is claimed, before the node was seen to keep the owner away.
    TakeOverWithoutKeepingAway,
    /// A satellite asks whether it may be promoted without its peer while that one can still come.
    AsksBeforeKeepingAway,
    /// Raft takes a take-over for whatever claim of that node stands.
    TakeOverIgnoresItsClaim,
    /// After its disk failed a copy comes back without its peer as if nothing had been.
    FailedDiskIsForgotten,
    /// A copy that was let out after a boot counts as before, whomever it has met.
    ReunionIsForgotten,
}

pub struct Arbiter {
    pub state_machine: StateMachine,
    pub budget: Budget,
    pub planted: Planted,
    /// What has to be reachable, or the model proves nothing.
    pub witnesses: &'static [fn() -> Property<Arbiter>],
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    // Faults.
    Cut,
    Heal,
    Crash(NodeId),
    Restart(NodeId),
    FailDisk(NodeId),
    // People and the leader.
    AskToAttach(NodeId),
    AskToTakeOver(NodeId),
    AskToDetach(NodeId),
    ProposeSynced(NodeId),
    ProposeWithdrawal,
    /// A proposal reaches Raft; its answer may be lost, and it may come again.
    Commit {
        proposal: Proposal,
        answered: bool,
        again: bool,
    },
    // Satellites.
    AcceptDocument(NodeId),
    ConfirmOwner(NodeId),
    AskArbiter(NodeId),
    Promote(NodeId),
    Demote(NodeId),
    ReleaseLoser(NodeId),
    ReportDetached(NodeId),
    ReportGood(NodeId),
    KeepAway(NodeId),
    LetCome(NodeId),
    ReportAway(NodeId),
    NoticeReunion(NodeId),
    BeginToLeave(NodeId),
    AbandonLeaving(NodeId),
    GoDown(NodeId),
    // Kernels.
    NoticeLostPeer(NodeId),
    Resume(NodeId),
    Connect {
        source: NodeId,
    },
    AttachDisk(NodeId),
    FinishSync,
    // Consumers.
    Write(NodeId),
    Replicate(NodeId),
    Acknowledge(NodeId),
}

impl Model for Arbiter {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        let (raft, applied) = self.state_machine.commit(&Default::default(), 1, Proposal::Attach { node: 0 });
        assert!(applied);
        vec![World::start(raft, self.budget.clone())]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        if world.link && world.left.cuts > 0 {
            steps.push(Step::Cut);
        }
        if !world.link {
            steps.push(Step::Heal);
        }
        for node in 0..2 {
            self.steps_of(world, node, steps);
        }
        if world.in_flight.len() < 4 {
            for node in 0..2 {
                self.proposals(world, node, steps);
            }
            self.withdrawal(world, steps);
        }
        for proposal in &world.in_flight {
            for again in [false, true] {
                if again && world.left.duplicates == 0 {
                    continue;
                }
                steps.push(Step::Commit { proposal: *proposal, answered: true, again });
                if matches!(proposal, Proposal::OutdatePeer { .. } | Proposal::OutdateCopy { .. }) {
                    steps.push(Step::Commit { proposal: *proposal, answered: false, again });
                }
            }
        }
        self.connections(world, steps);
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let mut next = world.clone();
        self.take(&mut next, step);
        self.forget_hopeless(&mut next);
        let next = next.canonical();
        (next != *world).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let always = [
            Property::always(NO_WRITE_IS_LOST, |_, world: &World| {
                (0..2).all(|node| {
                    !world.can_acknowledge(node) || world.acknowledged & !world.visible(node) == 0
                })
            }),
            Property::always(
                "a copy that neither Raft nor its satellite holds for behind is complete",
                |_, world: &World| {
                    (0..2).all(|node| {
                        let is_behind = world.raft.outdated[node] != 0 || world.nodes[node].is_doubted();
                        is_behind || world.acknowledged & !world.nodes[node].data == 0
                    })
                },
            ),
            Property::always("never two that can acknowledge", |_, world: &World| {
                !(0..2).all(|node| world.can_acknowledge(node))
            }),
            Property::always(NONE_IS_LEFT_BEHIND_IN_SECRET, |_, world: &World| {
                !world.wrong.acknowledged_alone_in_secret
            }),
            Property::always(
                "nobody acknowledges beside the Primary of a later generation",
                |_, world: &World| !world.wrong.acknowledged_beside_a_later_primary,
            ),
            Property::always("never split brain", |_, world: &World| world.lineage != Lineage::Split),
            Property::always("never all outdated", |_, world: &World| world.raft.outdated.contains(&0)),
            Property::always(OWNER_IS_NO_TARGET, |_, world: &World| {
                let Some(owner) = world.raft.owner else { return true };
                let granted = world.raft.attachments[owner].as_ref();
                let stays = granted.is_some_and(|granted| granted.lifecycle == Lifecycle::Granted);
                let node = &world.nodes[owner];
                !stays
                    || world.raft.outdated[1 - owner] == 0
                    || node.disk != Disk::Inconsistent
                    || node.latched
            }),
        ];
        let sometimes = self.witnesses.iter().map(|witness| witness());
        always.into_iter().chain(sometimes).collect()
    }
}

impl Arbiter {
    fn take(&self, world: &mut World, step: Step) {
        match step {
            Step::Cut => {
                world.link = false;
                world.left.cuts -= 1;
            }
            Step::Heal => world.link = true,
            Step::Crash(id) => {
                world.left.crashes -= 1;
                world.nodes[id].stop();
            }
            Step::Restart(id) => {
                let forgets = self.planted == Planted::FailedDiskIsForgotten;
                let node = &mut world.nodes[id];
                node.up = true;
                // Brought up alone where the other one is kept away.
                node.booted = true;
                node.keeps_away = node.wants_to_keep_away();
                if !node.keeps_away && self.planted != Planted::ReunionIsForgotten {
                    node.let_out();
                }
                // What a failed disk holds may be readable again.
                if forgets && node.disk == Disk::Detached {
                    node.disk = Disk::UpToDate;
                    node.latched = false;
                }
            }
            Step::FailDisk(id) => kernel::fail_disk(world, id),
            Step::AskToAttach(node) => self.commit(world, Proposal::Attach { node }, false),
            Step::AskToDetach(node) => {
                world.left.detaches -= 1;
                self.commit(world, Proposal::Detach { node }, false);
            }
            Step::AskToTakeOver(node) => {
                let from_generation = world.raft.generation;
                world.in_flight.insert(match world.raft.claim {
                    None => Proposal::Claim { node, from_generation },
                    Some((_, claim)) => Proposal::TakeOver { node, from_generation, claim },
                });
            }
            Step::ProposeSynced(node) => {
                world.in_flight.insert(Proposal::Synced { node, number: world.raft.outdated[node] });
            }
            Step::ProposeWithdrawal => {
                let Some((_, number)) = world.raft.claim else { return };
                world.left.withdrawals -= 1;
                world.in_flight.insert(Proposal::Withdraw { number });
            }
            Step::Commit { proposal, answered, again } => {
                if again {
                    world.left.duplicates -= 1;
                } else {
                    world.in_flight.remove(&proposal);
                }
                self.commit(world, proposal, answered);
            }
            Step::AcceptDocument(id) => {
                let document = self.rendered(world, id);
                let node = &mut world.nodes[id];
                node.confirmed = true;
                node.document = document;
            }
            Step::ConfirmOwner(id) => {
                let stands = world.raft.owner == Some(id)
                    && world.nodes[id].is_attached_at() == Some(world.raft.generation);
                world.nodes[id].confirmed = stands;
            }
            Step::AskArbiter(id) => {
                world.in_flight.insert(question(id, &world.nodes[id]));
                world.nodes[id].asking = true;
            }
            Step::Promote(id) => {
                let alone = !world.nodes[id].connected;
                let node = &mut world.nodes[id];
                node.primary = node.is_attached_at();
                node.granted = false;
                node.asking = false;
                node.is_current_again();
                if alone {
                    world.diverge(id);
                }
            }
            Step::Demote(id) => world.nodes[id].primary = None,
            Step::ReleaseLoser(id) => {
                // Openers are dead; gate to `error`, detach, resume, secondary, down, up.
                let node = &mut world.nodes[id];
                node.primary = None;
                node.frozen = false;
                node.pending = None;
                node.asking = false;
                node.granted = false;
                node.connected = false;
            }
            Step::ReportDetached(node) => {
                if let Some((_, generation)) = world.nodes[node].document.attachment {
                    let revision = world.nodes[node].document.revision;
                    world.in_flight.insert(Proposal::ConfirmDetached { node, generation, revision });
                }
            }
            Step::ReportGood(id) => {
                let node = &mut world.nodes[id];
                if self.planted != Planted::YesOutlivesAReport {
                    node.granted = false;
                    node.asking = false;
                }
                world.reported_good[id] = world.reported_good[id].max(node.document.revision);
            }
            Step::KeepAway(id) => {
                let node = &mut world.nodes[id];
                node.keeps_away = true;
                if !node.met {
                    node.let_out = false;
                }
            }
            Step::LetCome(id) => {
                let node = &mut world.nodes[id];
                node.keeps_away = false;
                if self.planted != Planted::ReunionIsForgotten {
                    node.let_out();
                }
            }
            Step::NoticeReunion(id) => {
                let node = &mut world.nodes[id];
                (node.latched, node.let_out, node.met) = (true, false, false);
                world.in_flight.insert(Proposal::OutdateCopy { node: id });
            }
            Step::ReportAway(id) => {
                world.reported_away[id] = world.raft.claim.map_or(0, |(_, number)| number);
            }
            Step::BeginToLeave(id) => {
                world.left.leaves -= 1;
                if self.planted == Planted::DownBeforeOutdate {
                    world.nodes[id].leaving = Leaving::Allowed;
                } else {
                    world.nodes[id].leaving = Leaving::Begun;
                    world.in_flight.insert(Proposal::OutdateCopy { node: id });
                }
            }
            Step::AbandonLeaving(id) => world.nodes[id].leaving = Leaving::No,
            Step::GoDown(id) => self.go_down(world, id),
            Step::NoticeLostPeer(id) => kernel::notice_lost_peer(world, id),
            Step::Resume(id) => {
                let node = &mut world.nodes[id];
                node.frozen = false;
                node.granted = false;
                node.asking = false;
                world.diverge(id);
            }
            Step::Connect { source } => kernel::connect(world, source),
            Step::AttachDisk(id) => {
                world.nodes[id].disk = Disk::Inconsistent;
                world.lineage = Lineage::Ahead(1 - id);
            }
            Step::FinishSync => kernel::finish_sync(world),
            Step::Write(id) => kernel::write(world, id),
            Step::Replicate(id) => {
                let Some((write, replicated)) = &mut world.nodes[id].pending else { return };
                *replicated = true;
                let write = *write;
                for node in world.nodes.iter_mut().filter(|node| node.disk != Disk::Detached) {
                    node.data |= write;
                }
            }
            Step::Acknowledge(id) => kernel::acknowledge(world, id),
        }
    }

    fn commit(&self, world: &mut World, proposal: Proposal, answered: bool) {
        let index = world.next_index();
        let (raft, applied) = self.put(&world.raft, index, proposal);
        world.raft = raft;
        if !answered {
            return;
        }
        match proposal {
            Proposal::OutdatePeer { owner, generation } => {
                let node = &mut world.nodes[owner];
                if node.asking && node.primary.or(node.is_attached_at()) == Some(generation) {
                    node.asking = false;
                    node.granted = applied;
                }
            }
            Proposal::OutdateCopy { node } => {
                let node = &mut world.nodes[node];
                if node.leaving == Leaving::Begun {
                    node.leaving = if applied { Leaving::Allowed } else { Leaving::No };
                }
            }
            _ => {}
        }
    }

    /// Drops the proposals of an old generation or number that Raft refuses: generations and numbers only
    /// rise, so it would refuse them ever after. The real function is asked; one that it grants stays.
    fn forget_hopeless(&self, world: &mut World) {
        let index = world.next_index();
        let raft = &world.raft;
        world.in_flight.retain(|proposal| {
            let is_old = match *proposal {
                Proposal::OutdatePeer { generation, .. } => generation < raft.generation,
                Proposal::Claim { from_generation, .. } => from_generation < raft.generation,
                Proposal::Withdraw { number } => raft.claim.is_none_or(|(_, standing)| standing != number),
                Proposal::TakeOver { from_generation, .. } => from_generation < raft.generation,
                Proposal::Synced { node, number } => {
                    self.planted != Planted::SyncedIgnoresItsNumber && number != raft.outdated[node]
                }
                Proposal::ConfirmDetached { node, generation, .. } => {
                    raft.attachments[node].as_ref().is_none_or(|granted| granted.generation > generation)
                }
                Proposal::Attach { .. } | Proposal::Detach { .. } | Proposal::OutdateCopy { .. } => false,
            };
            // Where nothing is outdated there is nothing to clear, and a Synced is applied without effect.
            let has_effect = || self.put(raft, index, *proposal).0 != *raft;
            !is_old || has_effect()
        });
    }

    /// Puts a proposal to Raft.
    fn put(&self, raft: &Raft, index: Index, proposal: Proposal) -> (Raft, bool) {
        let put = match proposal {
            Proposal::Synced { node, .. } if self.planted == Planted::SyncedIgnoresItsNumber => {
                Proposal::Synced { node, number: raft.outdated[node] }
            }
            Proposal::TakeOver { node, from_generation, .. }
                if self.planted == Planted::TakeOverIgnoresItsClaim =>
            {
                let claim = raft.claim.map_or(0, |(_, number)| number);
                Proposal::TakeOver { node, from_generation, claim }
            }
            proposal => proposal,
        };
        self.state_machine.commit(raft, index, put)
    }

    fn go_down(&self, world: &mut World, id: NodeId) {
        let peer_knows = world.reaches_peer(id);
        world.nodes[id].stop();
        // It says good-bye: the peer's kernel takes it for outdated and asks nobody.
        if peer_knows {
            let peer = &mut world.nodes[1 - id];
            peer.connected = false;
            if peer.primary.is_some() {
                world.diverge(1 - id);
            }
        }
        if self.planted == Planted::DownBeforeOutdate {
            world.in_flight.insert(Proposal::OutdateCopy { node: id });
        }
    }
}
