//! The world of the model: two nodes, the link between them, and what is on its way to Raft.
//!
//! Each node is a kernel, as DRBD 8.4 behaves with `fencing resource-and-stonith`, and a satellite with
//! its ledger. A copy of the data is the set of writes that it holds.

use std::collections::BTreeSet;

use crate::raft::{Index, Lifecycle, NodeId, Proposal, Raft};

/// A set of writes, one bit each.
pub type Writes = u8;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub raft: Raft,
    pub nodes: [Node; 2],
    /// The network between the two carries frames.
    pub link: bool,
    pub lineage: Lineage,
    /// Writes that some consumer was told are safe.
    pub acknowledged: Writes,
    /// Proposals under way to Raft; each may come late, twice or never.
    pub in_flight: BTreeSet<Proposal>,
    /// Highest document revision under which each node has ever reported: Connected, both UpToDate,
    /// nothing out of sync. Reports may come late, so the leader may act on any of them at any time.
    pub reported_good: [Index; 2],
    /// The claim under which each node has reported that it keeps the owner away; 0 if it has not under the one that
    /// stands.
    pub reported_away: [Index; 2],
    pub left: Budget,
    pub wrong: Wrong,
}

/// How DRBD's generation identifiers relate the two copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lineage {
    Same,
    /// This node went on without the other one.
    Ahead(NodeId),
    /// Both did: split brain.
    Split,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Node {
    pub up: bool,
    /// Kernel: Primary, under this generation.
    pub primary: Option<u8>,
    /// Kernel: I/O is suspended.
    pub frozen: bool,
    /// Kernel: the connection stands, as far as it has noticed.
    pub connected: bool,
    /// Kernel: this end of the connection is down, and nobody can come.
    pub keeps_away: bool,
    /// Kernel: the disk is only Consistent, since the node has booted and neither met the other one nor been promoted.
    pub booted: bool,
    pub disk: Disk,
    pub data: Writes,
    /// A write that was begun and not acknowledged, and whether the peer's copy has it.
    pub pending: Option<(Writes, bool)>,
    /// Satellite, on disk: the document that was accepted last.
    pub document: Document,
    /// Satellite, on disk: this copy may be behind, whatever the kernel says, until it has synced.
    pub latched: bool,
    /// Satellite, on disk: after a boot this copy was let out to meet the other one.
    pub let_out: bool,
    /// Satellite: its watch has seen the two meet since.
    pub met: bool,
    /// Satellite, on disk: how far an orderly down has come.
    pub leaving: Leaving,
    /// Satellite: a controller has confirmed the document's generation since the node's start.
    pub confirmed: bool,
    /// Satellite: a question to the arbiter is open.
    pub asking: bool,
    /// Satellite: a committed yes that holds.
    pub granted: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Disk {
    #[default]
    UpToDate,
    /// A sync into it was begun and not finished.
    Inconsistent,
    /// It failed, or waits for the peer since it did.
    Detached,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Leaving {
    #[default]
    No,
    /// Noted, and Raft was asked to outdate this copy.
    Begun,
    /// Raft has outdated it.
    Allowed,
}

/// What matters of a desired document to its node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Document {
    pub revision: Index,
    pub attachment: Option<(Lifecycle, u8)>,
    pub peer_is_outdated: bool,
    /// This node is about to take over from the other one.
    pub claims: bool,
}

/// What may still happen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    pub writes: u8,
    pub cuts: u8,
    pub crashes: u8,
    pub disk_failures: u8,
    pub leaves: u8,
    pub detaches: u8,
    pub duplicates: u8,
    pub withdrawals: u8,
    /// Attachments and take-overs are asked for below this generation.
    pub generations: u8,
}

/// What must never have happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Wrong {
    /// A write was acknowledged without the peer, and neither Raft nor the peer's own satellite knew that
    /// its copy is behind.
    pub acknowledged_alone_in_secret: bool,
    /// A write was acknowledged while the other node was Primary under a later generation.
    pub acknowledged_beside_a_later_primary: bool,
}

impl World {
    /// Attached on node 0, both connected.
    pub fn start(raft: Raft, left: Budget) -> Self {
        let node = |document: Document| Node {
            up: true,
            connected: true,
            confirmed: true,
            document,
            ..Node::default()
        };
        let document = |node: NodeId| Document {
            revision: raft.newest(),
            attachment: raft.attachments[node]
                .as_ref()
                .map(|granted| (granted.lifecycle, granted.generation)),
            ..Document::default()
        };
        let nodes = [node(document(0)), node(document(1))];
        let mut world = Self {
            nodes,
            raft,
            link: true,
            lineage: Lineage::Same,
            acknowledged: 0,
            in_flight: BTreeSet::new(),
            reported_good: [0; 2],
            reported_away: [0; 2],
            left,
            wrong: Wrong::default(),
        };
        world.nodes[0].primary = Some(world.raft.generation);
        world.canonical()
    }

    /// The peer would answer.
    pub fn reaches_peer(&self, node: NodeId) -> bool {
        self.link && self.nodes[node].connected && self.nodes[1 - node].connected
    }

    /// A consumer on this node gets its reads and writes done: as far as the kernel there knows.
    pub fn serves(&self, node: NodeId) -> bool {
        let node = &self.nodes[node];
        node.primary.is_some() && !node.frozen
    }

    /// A write that is begun on this node now would be acknowledged.
    pub fn can_acknowledge(&self, node: NodeId) -> bool {
        let (own, peer) = (&self.nodes[node], &self.nodes[1 - node]);
        let alone = !own.connected && own.disk == Disk::UpToDate;
        let together = self.reaches_peer(node) && (own.disk == Disk::UpToDate || peer.disk == Disk::UpToDate);
        self.serves(node) && (alone || together)
    }

    /// What a consumer on this node reads.
    pub fn visible(&self, node: NodeId) -> Writes {
        let own = &self.nodes[node];
        let peer = &self.nodes[1 - node];
        match own.disk {
            Disk::UpToDate => own.data,
            Disk::Inconsistent | Disk::Detached if peer.disk == Disk::UpToDate => peer.data,
            Disk::Inconsistent | Disk::Detached => 0,
        }
    }

    /// This node's copy gets writes that the other's does not.
    pub fn diverge(&mut self, node: NodeId) {
        self.lineage = match self.lineage {
            Lineage::Same => Lineage::Ahead(node),
            Lineage::Ahead(other) if other == node => Lineage::Ahead(node),
            Lineage::Ahead(_) | Lineage::Split => Lineage::Split,
        };
    }

    /// Renumbers the log indices that still matter, so that worlds that only differ in how long their
    /// log is are one world. Indices are only compared, so nothing else changes.
    pub fn canonical(mut self) -> Self {
        let mut standing: BTreeSet<Index> = self.raft.outdated.into_iter().collect();
        standing.extend(self.raft.attachments.iter().flatten().map(|granted| granted.revision));
        standing.extend(self.raft.claim.map(|(_, number)| number));
        // A revision is only ever asked whether it reaches a standing number.
        let reached = |revision: Index| standing.range(..=revision).next_back().copied().unwrap_or(0);
        for node in &mut self.nodes {
            node.document.revision = reached(node.document.revision);
        }
        self.reported_good = self.reported_good.map(reached);
        let in_flight = std::mem::take(&mut self.in_flight);
        self.in_flight = in_flight
            .into_iter()
            .map(|proposal| match proposal {
                Proposal::ConfirmDetached { node, generation, revision } => {
                    Proposal::ConfirmDetached { node, generation, revision: reached(revision) }
                }
                other => other,
            })
            .collect();

        let mut numbers = standing.clone();
        numbers.extend(self.in_flight.iter().filter_map(|proposal| match proposal {
            Proposal::Synced { number, .. }
            | Proposal::Withdraw { number }
            | Proposal::TakeOver { claim: number, .. } => Some(*number),
            _ => None,
        }));
        numbers.insert(0);
        let rank = |index: Index| numbers.range(..index).count() as Index;
        self.raft.outdated = self.raft.outdated.map(rank);
        let claim = self.raft.claim;
        for (node, reported) in self.reported_away.iter_mut().enumerate() {
            *reported = if claim == Some((node, *reported)) { rank(*reported) } else { 0 };
        }
        self.raft.claim = claim.map(|(node, number)| (node, rank(number)));
        for granted in self.raft.attachments.iter_mut().flatten() {
            granted.revision = rank(granted.revision);
        }
        for node in &mut self.nodes {
            node.document.revision = rank(node.document.revision);
        }
        self.reported_good = self.reported_good.map(rank);
        self.in_flight = self
            .in_flight
            .into_iter()
            .map(|proposal| match proposal {
                Proposal::ConfirmDetached { node, generation, revision } => {
                    Proposal::ConfirmDetached { node, generation, revision: rank(revision) }
                }
                Proposal::Synced { node, number } => Proposal::Synced { node, number: rank(number) },
                Proposal::Withdraw { number } => Proposal::Withdraw { number: rank(number) },
                Proposal::TakeOver { node, from_generation, claim } => {
                    Proposal::TakeOver { node, from_generation, claim: rank(claim) }
                }
                other => other,
            })
            .collect();
        self
    }

    /// An index above all that are in use.
    pub fn next_index(&self) -> Index {
        let in_flight = self.in_flight.iter().map(|proposal| match proposal {
            Proposal::Synced { number, .. }
            | Proposal::Withdraw { number }
            | Proposal::TakeOver { claim: number, .. } => *number,
            Proposal::ConfirmDetached { revision, .. } => *revision,
            _ => 0,
        });
        let nodes = self.nodes.iter().map(|node| node.document.revision);
        in_flight.chain(nodes).chain(self.reported_good).chain([self.raft.newest()]).max().unwrap_or(0) + 1
    }
}

impl Node {
    /// The generation under which the document grants the resource to this node.
    pub fn is_attached_at(&self) -> Option<u8> {
        match self.document.attachment {
            Some((Lifecycle::Granted, generation)) => Some(generation),
            _ => None,
        }
    }

    /// Whether its satellite is to keep the other node away: it is about to take over from it, or to go on without it, or
    /// has the right to and is not promoted yet. A copy that may be behind needs the other one.
    pub fn wants_to_keep_away(&self) -> bool {
        let goes_on_alone =
            self.is_attached_at().is_some() && (self.document.peer_is_outdated || self.confirmed);
        (self.document.claims || goes_on_alone)
            && self.primary.is_none()
            && !self.latched
            && self.disk == Disk::UpToDate
    }

    /// Whether it may let the other node come although it still has the right to write: nobody was asked, or the answer was
    /// no.
    pub fn may_give_up(&self) -> bool {
        !self.document.claims && !self.document.peer_is_outdated && !self.asking && !self.granted
    }

    /// Its own disk has it that this copy may lack something.
    pub fn is_doubted(&self) -> bool {
        self.latched || self.let_out
    }

    /// From now on it may meet the other one. What it owns by its document it has not lost without Raft's mark.
    pub fn let_out(&mut self) {
        self.let_out |= self.booted && !self.latched && self.is_attached_at().is_none();
    }

    /// Its disk is current: by a handshake, or by a promotion.
    pub fn is_current_again(&mut self) {
        self.booted = false;
        self.let_out = false;
        self.met = false;
    }

    /// Power is gone: what is on disk stays.
    pub fn stop(&mut self) {
        *self = Self {
            disk: self.disk,
            data: self.data,
            document: self.document.clone(),
            // Nobody watches any more.
            latched: self.is_doubted(),
            leaving: Leaving::No,
            ..Self::default()
        };
    }
}

impl Raft {
    /// The newest index that stands: what a document rendered now reaches.
    pub fn newest(&self) -> Index {
        let attachments = self.attachments.iter().flatten().map(|granted| granted.revision);
        let claim = self.claim.map(|(_, number)| number);
        attachments.chain(self.outdated).chain(claim).max().unwrap_or(0)
    }
}
