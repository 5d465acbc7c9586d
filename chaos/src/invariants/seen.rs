//! What the checkers look at: the whole cluster at one moment, also what no part of it could know.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use hawser_plan::situation::Reunion;
use hawser_proto::{ids::OperationId, v1};
use hawser_satellite::{
    host::sim::{NodeSeen, ResourceSeen, VolumeSeen, record_in},
    ledger::Ledger,
};
use hawser_state::State;

use crate::{clock::Moment, cluster::CLUSTER};

/// The cluster at one moment.
pub(super) struct Seen {
    /// The moment.
    pub(super) now: Moment,
    /// The newest state that any controller has shown so far.
    pub(super) state: Arc<State>,
    /// Every node, below Hawser.
    pub(super) nodes: Vec<NodeSeen>,
    /// What consumers were told is written, by DRBD resource and block.
    pub(super) acknowledged: BTreeMap<String, BTreeMap<u64, u64>>,
    /// Who told them so since the last look: node and DRBD resource.
    pub(super) acknowledgers: BTreeSet<(String, String)>,
    /// Lineage and revision of the document that each satellite which runs has accepted.
    pub(super) documents: BTreeMap<String, (u64, u64)>,
    /// Where each satellite's ledger lies.
    pub(super) ledgers: BTreeMap<String, PathBuf>,
    /// The host of the leader, if one is known to lead.
    pub(super) leader: Option<String>,
    /// How far the leader sees the operations that run, in its words.
    pub(super) phases: BTreeMap<OperationId, &'static str>,
    /// Hosts that a fault has touched lately.
    pub(super) disturbed: BTreeSet<String>,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            now: Moment::ZERO,
            state: Arc::new(State::new()),
            nodes: Vec::new(),
            acknowledged: BTreeMap::new(),
            acknowledgers: BTreeSet::new(),
            documents: BTreeMap::new(),
            ledgers: BTreeMap::new(),
            leader: None,
            phases: BTreeMap::new(),
            disturbed: BTreeSet::new(),
        }
    }
}

impl Seen {
    pub(super) fn node(&self, name: &str) -> Option<&NodeSeen> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// A resource in a node's kernel.
    pub(super) fn in_kernel(&self, node: &str, drbd_name: &str) -> Option<&ResourceSeen> {
        self.node(node)?.resources.iter().find(|resource| resource.drbd_name == drbd_name)
    }

    /// What a replica's first volume holds, with or without power.
    pub(super) fn copy(&self, replica: &v1::Replica) -> Option<&VolumeSeen> {
        let backing = replica.backing_volumes.first()?;
        self.node(&replica.node)?.volumes.iter().find(|volume| volume.name == backing.name)
    }

    /// Whether the disk of a replica's own node has it that the replica may be behind: whatever becomes of the satellite, it
    /// reports nothing that could be used until it has synced.
    pub(super) fn doubts_itself(&self, resource: &v1::Resource, replica: &v1::Replica) -> bool {
        let Some(directory) = self.ledgers.get(&replica.node) else { return false };
        let key = (resource.name.clone(), replica.incarnation());
        Ledger::open(directory, CLUSTER, &replica.node, "").is_ok_and(|ledger| {
            let remembered = ledger.remembered(&key);
            remembered.behind || remembered.reunion != Reunion::None
        })
    }

    /// As [`Seen::doubts_itself`], of a DRBD resource on a node.
    pub(super) fn is_doubted_at_home(&self, node: &str, drbd_name: &str) -> bool {
        self.state.resources().filter(|resource| resource.drbd_name == drbd_name).any(|resource| {
            let mut replicas = resource.replicas.iter().filter(|replica| replica.node == node);
            replicas.any(|replica| self.doubts_itself(resource, replica))
        })
    }

    /// A block and the acknowledged record that it lacks on a volume, if there is one. Records of one block rise.
    pub(super) fn missing_on(&self, volume: &VolumeSeen, drbd_name: &str) -> Option<(u64, u64)> {
        let acknowledged = self.acknowledged.get(drbd_name)?;
        acknowledged
            .iter()
            .map(|(block, record)| (*block, *record))
            .find(|(block, record)| record_in(volume.blocks.get(block).copied()) < *record)
    }
}

/// Whether a replica has a copy of the data, and is to keep it.
pub(super) fn keeps_a_copy(replica: &v1::Replica) -> bool {
    replica.kind() == v1::ReplicaKind::Diskful && replica.lifecycle() == v1::ReplicaLifecycle::Ready
}

/// Whether Raft knows a node's copy to be behind.
pub(super) fn is_outdated(resource: &v1::Resource, node: &str) -> bool {
    resource
        .arbitration
        .as_ref()
        .is_some_and(|arbitration| arbitration.outdated.iter().any(|outdated| outdated.node == node))
}
