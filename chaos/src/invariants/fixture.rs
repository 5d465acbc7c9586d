//! A small moment for the checkers' tests: resource "data" on n1 and n2, attached on n1, in order, to be spoilt.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use hawser_plan::observed::{ConnectionState, DiskState, Role};
use hawser_proto::v1::{self, snapshot_record::Record};
use hawser_satellite::host::sim::{NodeSeen, ResourceSeen, VolumeSeen};
use hawser_state::State;

use super::seen::Seen;
use crate::clock::Moment;

/// Its DRBD name.
pub(super) const DATA: &str = "data.20";

/// The objects of a state, to be changed.
pub(super) struct Objects {
    pub(super) resources: Vec<v1::Resource>,
    pub(super) pools: Vec<v1::StoragePool>,
    pub(super) attachments: Vec<v1::Attachment>,
    pub(super) operations: Vec<v1::Operation>,
}

impl Objects {
    /// As described above.
    pub(super) fn in_order() -> Self {
        let pools = ["n1", "n2"].map(|node| v1::StoragePool {
            node: node.into(),
            name: "fast".into(),
            incarnation: 11,
            capacity_bytes: 1_000,
            promised_bytes: 100,
            overcommit_percent: 100,
            ..Default::default()
        });
        let attachment = v1::Attachment {
            resource: "data".into(),
            node: "n1".into(),
            incarnation: 40,
            generation: 1,
            lifecycle: v1::AttachmentLifecycle::Attached.into(),
            ..Default::default()
        };
        Self {
            resources: vec![resource("data", 20, 1000, 7000)],
            pools: pools.into(),
            attachments: vec![attachment],
            operations: Vec::new(),
        }
    }

    pub(super) fn state(&self) -> Arc<State> {
        let cluster = v1::ClusterRecord {
            cluster_id: "c1".into(),
            lineage: 1,
            first_minor: 1000,
            last_minor: 1999,
            first_port: 7000,
            last_port: 7999,
            ..Default::default()
        };
        let records = std::iter::once(Record::Cluster(cluster))
            .chain(self.resources.iter().cloned().map(Record::Resource))
            .chain(self.pools.iter().cloned().map(Record::Pool))
            .chain(self.attachments.iter().cloned().map(Record::Attachment))
            .chain(self.operations.iter().cloned().map(Record::Operation))
            .map(|record| v1::SnapshotRecord { record: Some(record) });
        Arc::new(State::from_records(records).expect("the records agree"))
    }
}

/// A ready resource on n1 and n2.
pub(super) fn resource(name: &str, incarnation: u64, minor: u32, port: u32) -> v1::Resource {
    let replicas = [("n1", 0), ("n2", 1)].map(|(node, node_id)| v1::Replica {
        node: node.into(),
        node_id,
        incarnation,
        kind: v1::ReplicaKind::Diskful.into(),
        lifecycle: v1::ReplicaLifecycle::Ready.into(),
        pool: "fast".into(),
        port,
        backing_volumes: vec![v1::BackingVolume {
            volume: 0,
            name: format!("{name}.{incarnation}-0"),
            size_bytes: 100,
        }],
        ..Default::default()
    });
    v1::Resource {
        name: name.into(),
        incarnation,
        lifecycle: v1::ResourceLifecycle::Ready.into(),
        layers: vec![v1::Layer::Drbd.into(), v1::Layer::Storage.into()],
        volumes: vec![v1::Volume { number: 0, size_bytes: 90, minor }],
        replicas: replicas.into(),
        drbd_name: format!("{name}.{incarnation}"),
        data_may_exist: true,
        arbitration: Some(v1::Arbitration {
            owner: "n1".into(),
            generation: 1,
            outdated: Vec::new(),
            claim: None,
        }),
        ..Default::default()
    }
}

/// The moment: record 5 of block 0 is acknowledged and on both nodes.
pub(super) fn in_order() -> Seen {
    let nodes = [("n1", Role::Primary), ("n2", Role::Secondary)].map(|(name, role)| NodeSeen {
        name: name.into(),
        running: true,
        boots: 1,
        resources: vec![ResourceSeen {
            drbd_name: DATA.into(),
            minors: vec![1000],
            role,
            suspended: false,
            disk: DiskState::UpToDate,
            volume: format!("{DATA}-0"),
            connection: ConnectionState::Connected,
            under_way: BTreeSet::new(),
        }],
        volumes: vec![VolumeSeen {
            group: "vg0".into(),
            name: format!("{DATA}-0"),
            marked: true,
            consistent: true,
            blocks: BTreeMap::from([(0, 5)]),
        }],
        files: vec![DATA.into()],
        gates: if name == "n1" { vec![(format!("hawser-{DATA}-0"), true)] } else { Vec::new() },
        holders: Vec::new(),
    });
    Seen {
        state: Objects::in_order().state(),
        nodes: nodes.into(),
        acknowledged: BTreeMap::from([(DATA.to_owned(), BTreeMap::from([(0, 5)]))]),
        leader: Some("n3".into()),
        ..Seen::default()
    }
}

/// The moment with other objects.
pub(super) fn with(change: impl FnOnce(&mut Objects)) -> Seen {
    let mut objects = Objects::in_order();
    change(&mut objects);
    Seen { state: objects.state(), ..in_order() }
}

/// The moment so many seconds after the beginning, while an operation attaches "data" on n1.
pub(super) fn attaching_at(seconds: u64) -> Seen {
    let mut seen = with(|objects| {
        objects.operations.push(v1::Operation {
            id: 60,
            kind: v1::OperationKind::Attach.into(),
            state: v1::OperationState::Running.into(),
            resource: "data".into(),
            node: "n1".into(),
            ..Default::default()
        });
    });
    seen.now = Moment::from_secs(seconds);
    seen
}
