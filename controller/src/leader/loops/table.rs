//! A small world for the loops' table tests: two nodes, one resource, everything in order, to be spoilt.

use hawser_proto::{
    ids::{DocumentVersion, Incarnation, Lineage, Revision},
    v1::{self, snapshot_record::Record},
};
use hawser_state::State;
use tokio::time::Instant;

use crate::leader::observed::{
    DocumentStanding, NodeSeen, Observed, ReplicaSeen,
    differing::{self, Differing},
};

/// The parts, each of which a test may change.
pub(crate) struct World {
    pub(crate) resource: v1::Resource,
    pub(crate) attachments: Vec<v1::Attachment>,
    pub(crate) operations: Vec<v1::Operation>,
    /// How the lineage began, and what nodes hold from before it.
    pub(crate) restored: Option<v1::Restored>,
    pub(crate) held: Vec<v1::HeldReplica>,
    /// In which lineage both nodes have reported what they hold.
    pub(crate) held_lineage: u64,
    /// What the pools are.
    pub(crate) provider: Option<v1::storage_pool::Provider>,
    /// When it was made; every node was heard then.
    pub(crate) made: Instant,
    nodes: Vec<(String, NodeSeen, Option<v1::ReplicaObserved>)>,
}

impl World {
    /// A resource whose replicas have come up and connected, but is not confirmed.
    pub(crate) fn creating() -> Self {
        let replicas = ["n1", "n2"].map(|node| v1::Replica {
            node: node.into(),
            incarnation: 20,
            kind: v1::ReplicaKind::Diskful.into(),
            lifecycle: v1::ReplicaLifecycle::Creating.into(),
            pool: "fast".into(),
            port: 7000,
            ..Default::default()
        });
        let resource = v1::Resource {
            name: "data".into(),
            incarnation: 20,
            revision: 20,
            lifecycle: v1::ResourceLifecycle::Creating.into(),
            layers: vec![v1::Layer::Drbd.into(), v1::Layer::Storage.into()],
            volumes: vec![v1::Volume { number: 0, size_bytes: 1 << 30, minor: 1000 }],
            replicas: replicas.into(),
            drbd_generation: v1::DrbdGeneration::DrbdGeneration84.into(),
            arbitration: Some(Default::default()),
            ..Default::default()
        };
        let made = Instant::now();
        let nodes = [("n1", "n2"), ("n2", "n1")].map(|(node, peer)| {
            let observed =
                v1::NodeObserved { uname: node.into(), facts: Some(facts()), ..Default::default() };
            let document = DocumentStanding { accepted: DocumentVersion::new(1, 20), ..Default::default() };
            let mut seen = NodeSeen::opened(1, Lineage::new(1), observed, document, made);
            seen.complete = true;
            (node.to_owned(), seen, Some(in_sync(peer)))
        });
        Self {
            resource,
            attachments: vec![],
            operations: vec![],
            restored: None,
            held: vec![],
            held_lineage: 0,
            provider: None,
            made,
            nodes: nodes.into(),
        }
    }

    /// The resource is ready and n1 has it open, but that is not confirmed.
    pub(crate) fn attaching() -> Self {
        let mut world = Self::creating();
        world.resource.lifecycle = v1::ResourceLifecycle::Ready.into();
        world.resource.data_may_exist = true;
        world.resource.arbitration =
            Some(v1::Arbitration { owner: "n1".into(), generation: 1, outdated: vec![], claim: None });
        world.attachments = vec![v1::Attachment {
            resource: "data".into(),
            node: "n1".into(),
            incarnation: 40,
            revision: 40,
            generation: 1,
            lifecycle: v1::AttachmentLifecycle::Attaching.into(),
            ..Default::default()
        }];
        for node in ["n1", "n2"] {
            world.report(node).revision = 40;
            world.seen(node).document.accepted = DocumentVersion::new(1, 40);
        }
        let report = world.report("n1");
        report.role = v1::DrbdRole::Primary.into();
        report.gate_open = true;
        world
    }

    pub(crate) fn seen(&mut self, node: &str) -> &mut NodeSeen {
        let (_, seen, _) =
            self.nodes.iter_mut().find(|(name, ..)| name == node).expect("a node of this world");
        seen
    }

    pub(crate) fn report(&mut self, node: &str) -> &mut v1::ReplicaObserved {
        let (.., report) =
            self.nodes.iter_mut().find(|(name, ..)| name == node).expect("a node of this world");
        report.as_mut().expect("not removed")
    }

    pub(crate) fn forget(&mut self, node: &str) {
        for (name, _, report) in &mut self.nodes {
            if name == node {
                *report = None;
            }
        }
    }

    pub(crate) fn go_offline(&mut self, node: &str) {
        self.seen(node).online = false;
    }

    pub(crate) fn remove(&mut self, node: &str, incarnation: u64, revision: u64) {
        self.seen(node)
            .removed
            .insert(("data".into(), Incarnation::new(incarnation)), Revision::new(revision));
    }

    pub(crate) fn state(&self) -> State {
        let cluster = v1::ClusterRecord {
            cluster_id: "c1".into(),
            lineage: 1,
            first_minor: 1000,
            last_minor: 1999,
            first_port: 7000,
            last_port: 7999,
            restored: self.restored.clone(),
            ..Default::default()
        };
        let nodes = ["n1", "n2"].map(|name| {
            Record::Node(v1::Node {
                name: name.into(),
                uname: name.into(),
                incarnation: 1,
                document_revision: 20,
                facts: Some(facts()),
                held_lineage: self.held_lineage,
                ..Default::default()
            })
        });
        let pools = ["n1", "n2"].map(|node| {
            Record::Pool(v1::StoragePool {
                node: node.into(),
                name: "fast".into(),
                incarnation: 11,
                capacity_bytes: 1_000_000,
                provider: self.provider.clone(),
                ..Default::default()
            })
        });
        let records = std::iter::once(Record::Cluster(cluster))
            .chain(nodes)
            .chain(pools)
            .chain([Record::Resource(self.resource.clone())])
            .chain(self.attachments.iter().cloned().map(Record::Attachment))
            .chain(self.operations.iter().cloned().map(Record::Operation))
            .chain(self.held.iter().cloned().map(Record::Held))
            .map(|record| v1::SnapshotRecord { record: Some(record) });
        State::from_records(records).expect("the records of this world agree")
    }

    pub(crate) fn observed(&self) -> Observed {
        let mut observed = Observed::default();
        for (name, seen, report) in &self.nodes {
            let mut seen = seen.clone();
            if let Some(report) = report {
                let key = (report.resource.clone(), report.replica_incarnation());
                // As if it had been so since the world was made.
                let differing = differing::since(&Differing::new(), report, self.made);
                let replica = ReplicaSeen { observed: report.clone(), at: Instant::now(), differing };
                seen.replicas.insert(key, replica);
            }
            observed.insert(name, seen);
        }
        observed
    }
}

fn facts() -> v1::NodeFacts {
    v1::NodeFacts {
        drbd_generation: v1::DrbdGeneration::DrbdGeneration84.into(),
        drbd_version: "8.4.11".into(),
        helper_can_run: true,
    }
}

fn in_sync(peer: &str) -> v1::ReplicaObserved {
    let up_to_date = v1::DiskState::UpToDate.into();
    v1::ReplicaObserved {
        resource: "data".into(),
        replica_incarnation: 20,
        revision: 20,
        presence: v1::Presence::Present.into(),
        in_kernel: v1::Presence::Present.into(),
        follows_document: true,
        role: v1::DrbdRole::Secondary.into(),
        volumes: vec![v1::VolumeObserved {
            number: 0,
            disk: up_to_date,
            size_bytes: 1 << 30,
            device_path: "/dev/drbd1000".into(),
        }],
        peers: vec![v1::PeerObserved {
            node: peer.into(),
            connection: "Connected".into(),
            role: v1::DrbdRole::Secondary.into(),
            volumes: vec![v1::PeerVolumeObserved {
                number: 0,
                disk: up_to_date,
                replication: "Established".into(),
                ..Default::default()
            }],
        }],
        ..Default::default()
    }
}
