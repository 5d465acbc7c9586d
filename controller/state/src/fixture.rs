//! A cluster for tests: commands in, outcomes out, and every invariant checked in between.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use hawser_proto::{
    sizes::GIB,
    v1::{
        Address, Applied, ClaimTakeOver, Command, ConfirmAttached, ConfirmResourceReady, CreateAttachment,
        CreateNode, CreatePool, CreateResource, DesiredDocument, DrbdGeneration, HeldReplica,
        InitializeCluster, LvmThinProvider, Member, NodeFacts, Outcome, PlacedReplica, RecordHeld,
        RecordNodeFacts, RecordPoolCapacity, Rejected, RejectionReason, RequestKey, RestoreRecord, TakeOver,
        command::Command as Kind, create_pool, outcome,
    },
};
use prost::Message;

use crate::{Effect, Restoration, State, apply, capacity::promisable_bytes};

pub(crate) const POOL: &str = "thin";
pub(crate) const RESOURCE: &str = "web";
pub(crate) const POOL_BYTES: u64 = 10 * GIB;

/// A state and the index of its last command.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    pub(crate) state: State,
    pub(crate) index: u64,
}

impl Cluster {
    pub(crate) fn empty() -> Self {
        Self { state: State::new(), index: 0 }
    }

    pub(crate) fn initialized() -> Self {
        let mut cluster = Self::empty();
        cluster.applied(initialize());
        cluster
    }

    /// Nodes `n1`, `n2`, … with DRBD 8.4 and a pool each.
    pub(crate) fn with_nodes(count: usize) -> Self {
        let mut cluster = Self::initialized();
        cluster.add_nodes(count);
        cluster
    }

    /// Two nodes, and a resource on both that is ready to be attached.
    pub(crate) fn with_resource() -> Self {
        let mut cluster = Self::with_nodes(2);
        cluster.add_resource(RESOURCE, &["n1", "n2"]);
        cluster
    }

    /// The same, attached on `n1`.
    pub(crate) fn attached() -> Self {
        let mut cluster = Self::with_resource();
        let attached = cluster.applied(create_attachment("n1"));
        assert_eq!(attached.number, 1);
        cluster.applied(Kind::ConfirmAttached(ConfirmAttached {
            resource: RESOURCE.into(),
            node: "n1".into(),
            attachment_incarnation: cluster.index,
        }));
        cluster
    }

    pub(crate) fn add_nodes(&mut self, count: usize) {
        for number in 1..=count {
            self.add_node(&format!("n{number}"), &format!("10.0.0.{number}"), facts_84());
        }
    }

    pub(crate) fn add_node(&mut self, name: &str, ip: &str, facts: NodeFacts) {
        self.applied(create_node(name, ip));
        let incarnation = self.index;
        self.applied(Kind::RecordNodeFacts(RecordNodeFacts {
            node: name.into(),
            incarnation,
            uname: name.into(),
            facts: Some(facts),
        }));
        self.applied(create_pool(name, POOL));
        self.applied(Kind::RecordPoolCapacity(RecordPoolCapacity {
            node: name.into(),
            name: POOL.into(),
            incarnation: self.index,
            capacity_bytes: POOL_BYTES,
        }));
    }

    pub(crate) fn add_resource(&mut self, name: &str, nodes: &[&str]) {
        let create = self.create_resource(name, nodes);
        self.applied(Kind::CreateResource(create));
        let incarnation = self.index;
        self.applied(Kind::ConfirmResourceReady(ConfirmResourceReady { resource: name.into(), incarnation }));
    }

    /// A creation of 1 GiB that is right for the present state.
    pub(crate) fn create_resource(&self, name: &str, nodes: &[&str]) -> CreateResource {
        CreateResource {
            name: name.into(),
            volume_sizes: vec![GIB],
            placed: nodes.iter().map(|node| self.placed(node)).collect(),
            computed_at_revision: self.state.revision(),
            shared_secret: "0123456789abcdef".into(),
            day0_generation_id: 0xfeed_f00d,
            ..CreateResource::default()
        }
    }

    pub(crate) fn placed(&self, node: &str) -> PlacedReplica {
        PlacedReplica {
            node: node.into(),
            node_incarnation: self.state.node(node).map_or(0, |node| node.incarnation),
            pool: POOL.into(),
            pool_incarnation: self.state.pool(node, POOL).map_or(0, |pool| pool.incarnation),
            avoided_ports: Vec::new(),
        }
    }

    pub(crate) fn commit(&mut self, kind: Kind) -> Effect {
        self.commit_as(None, kind)
    }

    pub(crate) fn commit_as(&mut self, request: Option<RequestKey>, kind: Kind) -> Effect {
        self.commit_whole(&Command { request, command: Some(kind), at_unix_ms: 1_000 })
    }

    /// Applies a command and checks what must always hold.
    pub(crate) fn commit_whole(&mut self, command: &Command) -> Effect {
        let before = self.state.clone();
        self.index += 1;
        let effect = apply(&mut self.state, self.index, 1, command);
        check_outcome(&effect, &before, &self.state, self.index);
        check_documents(&before, &self.state, self.index);
        check_state(&before, &self.state);
        effect
    }

    /// This cluster, restored from a backup of it as it is now.
    pub(crate) fn restored(&self) -> Self {
        let state = self.state.restore(self.index, restoration(self.state.cluster().lineage + 1)).unwrap();
        Self { index: state.revision(), state }
    }

    /// What a node would say that it holds, had it obeyed this cluster's last document.
    pub(crate) fn holdings(&self, node: &str) -> Vec<HeldReplica> {
        self.state.document(node).map(|document| held(&document)).unwrap_or_default()
    }

    /// A node says what it holds, in one part.
    pub(crate) fn report(&mut self, node: &str, replicas: Vec<HeldReplica>) -> Effect {
        self.commit(Kind::RecordHeld(RecordHeld {
            node: node.into(),
            node_incarnation: self.state.node(node).map_or(0, |node| node.incarnation),
            before: 0,
            total: u32::try_from(replicas.len()).unwrap(),
            replicas,
        }))
    }

    /// Claims the resource for `node`; what takes it over under that claim.
    pub(crate) fn claimed_by(&mut self, node: &str) -> Kind {
        let resource = self.state.resource(RESOURCE).unwrap();
        let resource_incarnation = resource.incarnation;
        let from_generation = resource.arbitration.as_ref().unwrap().generation;
        self.applied(Kind::ClaimTakeOver(ClaimTakeOver {
            resource: RESOURCE.into(),
            resource_incarnation,
            node: node.into(),
            from_generation,
        }));
        let resource = self.state.resource(RESOURCE).unwrap();
        Kind::TakeOver(TakeOver {
            resource: RESOURCE.into(),
            resource_incarnation,
            node: node.into(),
            from_generation,
            mode: 0,
            claim_number: resource.arbitration.as_ref().unwrap().claim.as_ref().unwrap().number,
        })
    }

    pub(crate) fn applied(&mut self, kind: Kind) -> Applied {
        applied(self.commit(kind).outcome)
    }

    pub(crate) fn rejected(&mut self, kind: Kind) -> Rejected {
        rejected(self.commit(kind).outcome)
    }

    pub(crate) fn reason(&mut self, kind: Kind) -> RejectionReason {
        self.rejected(kind).reason()
    }

    pub(crate) fn is_stale(&mut self, kind: Kind) -> bool {
        matches!(self.commit(kind).outcome.outcome, Some(outcome::Outcome::Stale(_)))
    }
}

pub(crate) fn restoration(lineage: u64) -> Restoration {
    Restoration {
        lineage,
        restore_id: 77,
        record: RestoreRecord { statement: b"restored".to_vec(), signature: b"signed".to_vec() },
        member_name: "c9".into(),
        member_address: "c9:6470".into(),
    }
}

/// A satellite's answer to a restore, from the document that it obeyed.
fn held(document: &DesiredDocument) -> Vec<HeldReplica> {
    let wanted = document.replicas.iter().map(|replica| HeldReplica {
        node: document.node.clone(),
        lineage: document.lineage,
        revision: document.revision,
        resource: replica.resource.clone(),
        resource_incarnation: replica.resource_incarnation,
        replica_incarnation: replica.replica_incarnation,
        drbd_name: replica.drbd_name.clone(),
        pool: replica.pool.clone(),
        layers: replica.layers.clone(),
        volumes: replica.volumes.clone(),
        port: replica.peers.iter().find(|peer| peer.node == document.node).map_or(0, |own| own.port),
        owner: replica.owner.clone(),
        generation: replica.generation,
        attachment: replica.attachment,
        peers: replica.peers.iter().map(|peer| peer.node.clone()).collect(),
        outdated: replica
            .peers
            .iter()
            .filter(|peer| peer.outdated_number != 0)
            .map(|peer| peer.node.clone())
            .collect(),
        data_may_exist: replica.day0_generation_id == 0,
        removing: false,
    });
    let removed = document.removed.iter().map(|removed| HeldReplica {
        node: document.node.clone(),
        lineage: document.lineage,
        revision: document.revision,
        resource: removed.resource.clone(),
        resource_incarnation: removed.resource_incarnation,
        replica_incarnation: removed.replica_incarnation,
        removing: true,
        ..HeldReplica::default()
    });
    wanted.chain(removed).collect()
}

pub(crate) fn applied(outcome: Outcome) -> Applied {
    match outcome.outcome {
        Some(outcome::Outcome::Applied(applied)) => applied,
        other => panic!("not applied: {other:?}"),
    }
}

pub(crate) fn rejected(outcome: Outcome) -> Rejected {
    match outcome.outcome {
        Some(outcome::Outcome::Rejected(rejected)) => rejected,
        other => panic!("not rejected: {other:?}"),
    }
}

pub(crate) fn initialize() -> Kind {
    Kind::InitializeCluster(InitializeCluster {
        cluster_id: "5f0c".into(),
        name: "lab".into(),
        lineage: 1,
        first_member: Some(Member {
            raft_id: 1,
            name: "c1".into(),
            address: "c1:6470".into(),
            store_incarnation: 7,
        }),
        numbers: None,
    })
}

pub(crate) fn create_node(name: &str, ip: &str) -> Kind {
    let addresses = vec![Address { name: "default".into(), ip: ip.into() }];
    Kind::CreateNode(CreateNode { name: name.into(), addresses, ..Default::default() })
}

pub(crate) fn create_pool(node: &str, name: &str) -> Kind {
    let provider = LvmThinProvider { volume_group: "vg0".into(), thin_pool: name.into() };
    Kind::CreatePool(CreatePool {
        node: node.into(),
        name: name.into(),
        provider: Some(create_pool::Provider::LvmThin(provider)),
        overcommit_percent: 0,
    })
}

pub(crate) fn create_attachment(node: &str) -> Kind {
    Kind::CreateAttachment(CreateAttachment { resource: RESOURCE.into(), node: node.into(), mode: 0 })
}

pub(crate) fn facts_84() -> NodeFacts {
    NodeFacts {
        drbd_generation: DrbdGeneration::DrbdGeneration84.into(),
        drbd_version: "8.4.11".into(),
        helper_can_run: true,
    }
}

pub(crate) fn facts_9() -> NodeFacts {
    NodeFacts {
        drbd_generation: DrbdGeneration::DrbdGeneration9.into(),
        drbd_version: "9.3.3".into(),
        helper_can_run: true,
    }
}

/// What is rejected or stale has changed nothing but the revision and, for a request, its kept answer.
fn check_outcome(effect: &Effect, before: &State, after: &State, index: u64) {
    assert_eq!(after.revision(), index);
    match effect.outcome.outcome.as_ref().expect("an outcome says something") {
        outcome::Outcome::Applied(_) => {}
        outcome::Outcome::Rejected(rejected) => {
            assert_ne!(rejected.reason(), RejectionReason::Unspecified);
            assert!(!rejected.message.is_empty());
            assert_same_objects(before, after);
        }
        outcome::Outcome::Stale(stale) => {
            assert!(!stale.message.is_empty());
            assert_same_objects(before, after);
        }
    }
}

fn assert_same_objects(before: &State, after: &State) {
    let objects = |state: &State| {
        let mut state = state.clone();
        state.idempotency.clear();
        state.set_revision(0);
        state.checksum()
    };
    assert_eq!(objects(before), objects(after), "what was denied changed something");
}

/// A node's document changes exactly when its revision does.
fn check_documents(before: &State, after: &State, index: u64) {
    for node in after.nodes() {
        let bytes = |state: &State| {
            let mut document = state.document(&node.name)?;
            document.revision = 0;
            Some(document.encode_to_vec())
        };
        let revision = |state: &State| state.document(&node.name).map(|document| document.revision);
        assert_eq!(
            bytes(before) != bytes(after),
            revision(before) != revision(after),
            "node {}: {:?} became {:?}",
            node.name,
            before.document(&node.name),
            after.document(&node.name),
        );
        if revision(before) != revision(after) {
            assert_eq!(revision(after), Some(index));
        }
    }
}

fn check_state(before: &State, after: &State) {
    let mut minors = BTreeSet::new();
    let mut ports = BTreeSet::new();
    let mut promised: BTreeMap<(String, String), u64> = BTreeMap::new();
    for resource in after.resources() {
        for volume in resource.volumes.iter().filter(|volume| volume.minor != 0) {
            assert!(minors.insert(volume.minor), "minor {} has two holders", volume.minor);
        }
        let mut node_ids = BTreeSet::new();
        for replica in &resource.replicas {
            assert!(
                replica.port == 0 || ports.insert((&replica.node, replica.port)),
                "a port has two holders"
            );
            assert!(node_ids.insert(replica.node_id), "a node-id has two holders");
            *promised.entry((replica.node.clone(), replica.pool.clone())).or_default() +=
                crate::capacity::promised_to(replica);
        }
        check_arbitration(after, resource);
    }
    for pool in after.pools() {
        let key = (pool.node.clone(), pool.name.clone());
        assert_eq!(
            pool.promised_bytes,
            promised.get(&key).copied().unwrap_or(0),
            "the ledger of {key:?} is wrong"
        );
        let rose = before
            .pool(&pool.node, &pool.name)
            .is_none_or(|before| before.promised_bytes < pool.promised_bytes);
        assert!(!rose || pool.promised_bytes <= promisable_bytes(pool), "{key:?} promises too much");
    }
}

fn check_arbitration(state: &State, resource: &hawser_proto::v1::Resource) {
    use hawser_proto::v1::AttachmentLifecycle::Revoked;
    let arbitration = resource.arbitration.clone().unwrap_or_default();
    let owners: Vec<&str> = state
        .attachments_of(&resource.name)
        .filter(|attachment| attachment.lifecycle() != Revoked)
        .map(|attachment| attachment.node.as_str())
        .collect();
    let owner: Vec<&str> =
        [arbitration.owner.as_str()].into_iter().filter(|owner| !owner.is_empty()).collect();
    assert_eq!(owners, owner, "the attachments that stand are the owner's");
    assert!(arbitration.outdated.len() < resource.replicas.len().max(1), "every copy is outdated");
    if let Some(claim) = &arbitration.claim {
        let is_behind = arbitration.outdated.iter().any(|outdated| outdated.node == claim.node);
        assert!(!is_behind, "a copy that is behind is about to be taken over to");
        assert!(!owner.is_empty() && owner != [claim.node.as_str()], "there is nobody to take over from");
    }
}
