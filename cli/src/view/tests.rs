//! Golden tables and JSON of every noun, from views in memory.
#![allow(clippy::unwrap_used)]

use hawser_proto::v1;
use jiff::Timestamp;

use super::{
    attachment::Attachment, group::Group, node::Node, operation::Operation, pool::Pool,
    replica::NamedReplica, resource::Resource,
};
use crate::output::table::{Row, table};

const NOW_MS: u64 = 1_700_000_100_000;

fn now() -> Timestamp {
    Timestamp::from_millisecond(i64::try_from(NOW_MS).unwrap()).unwrap()
}

/// The table without a terminal, the same on one of 80 columns, and the JSON.
fn golden<R: Row>(rows: &[R]) -> String {
    let wide = table(rows, None, now());
    let narrow = table(rows, Some(80), now());
    let json = serde_json::to_string_pretty(rows).unwrap();
    assert!(narrow.lines().all(|line| line.chars().count() <= 80), "{narrow}");
    format!("{wide}\n\n== 80 columns ==\n{narrow}\n\n== json ==\n{json}")
}

fn facts() -> v1::NodeFacts {
    v1::NodeFacts {
        drbd_generation: v1::DrbdGeneration::DrbdGeneration84.into(),
        drbd_version: "8.4.11".into(),
        helper_can_run: true,
    }
}

fn nodes() -> Vec<v1::NodeView> {
    let address = |name: &str, ip: &str| v1::Address { name: name.into(), ip: ip.into() };
    vec![
        v1::NodeView {
            desired: Some(v1::Node {
                name: "n1".into(),
                uname: "n1".into(),
                addresses: vec![address("default", "10.77.0.1"), address("replication", "10.1.0.1")],
                incarnation: 4,
                document_revision: 31,
                lost_since: 0,
                held_lineage: 0,
                facts: Some(facts()),
                options: None,
            }),
            observed: Some(v1::NodeObserved {
                boot_id: "b1".into(),
                satellite_version: "0.1.0".into(),
                kernel_version: "6.1.0".into(),
                uname: "n1".into(),
                facts: Some(facts()),
                missing: vec![],
            }),
            online: true,
            observed_age_ms: 1200,
            conditions: vec![],
        },
        v1::NodeView {
            desired: Some(v1::Node {
                name: "n2".into(),
                addresses: vec![address("default", "fd00::2")],
                incarnation: 5,
                ..Default::default()
            }),
            observed: None,
            online: false,
            observed_age_ms: 0,
            conditions: vec![v1::Condition {
                reason: "NodeUnreachable".into(),
                node: "n2".into(),
                message: "no session since the present leader began; check hawser-satellite there".into(),
            }],
        },
    ]
}

fn resource() -> v1::ResourceView {
    let replica = |node: &str, node_id: u32| v1::Replica {
        node: node.into(),
        incarnation: 21,
        kind: v1::ReplicaKind::Diskful.into(),
        lifecycle: v1::ReplicaLifecycle::Ready.into(),
        pool: "ssd".into(),
        node_id,
        port: 7000,
        backing_volumes: vec![v1::BackingVolume {
            volume: 0,
            name: "hawser-data.21-0".into(),
            size_bytes: (1 << 30) + (4 << 20),
        }],
        address: "default".into(),
        removing_since: 0,
        missing_since: 0,
    };
    let observed = v1::ReplicaObserved {
        resource: "data".into(),
        replica_incarnation: 21,
        lineage: 1,
        revision: 30,
        presence: v1::Presence::Present.into(),
        role: v1::DrbdRole::Primary.into(),
        volumes: vec![v1::VolumeObserved {
            number: 0,
            disk: v1::DiskState::UpToDate.into(),
            size_bytes: 1 << 30,
            device_path: "/dev/drbd1000".into(),
        }],
        peers: vec![v1::PeerObserved {
            node: "n2".into(),
            connection: "Connecting".into(),
            role: v1::DrbdRole::Unknown.into(),
            volumes: vec![v1::PeerVolumeObserved {
                number: 0,
                disk: v1::DiskState::Outdated.into(),
                replication: "Off".into(),
                out_of_sync_bytes: 3 << 20,
                done_permyriad: 0,
            }],
        }],
        suspended: "fencing".into(),
        follows_document: true,
        gate_open: true,
        failure: Some(v1::StepFailure {
            step: "connect".into(),
            command: "drbdadm connect data.21".into(),
            message: "timed out after 10 s".into(),
            attempts: 3,
        }),
        openers: vec![
            v1::Opener { pid: 812, name: "writer".into() },
            v1::Opener { pid: 0, name: "file system mounted at /mnt".into() },
        ],
        waits_for: "the peer n2".into(),
        gates: v1::Presence::Present.into(),
        in_kernel: v1::Presence::Present.into(),
    };
    v1::ResourceView {
        desired: Some(v1::Resource {
            name: "data".into(),
            incarnation: 21,
            group: "default".into(),
            lifecycle: v1::ResourceLifecycle::Ready.into(),
            layers: vec![v1::Layer::Drbd.into(), v1::Layer::Storage.into()],
            volumes: vec![v1::Volume { number: 0, size_bytes: 1 << 30, minor: 1000 }],
            replicas: vec![replica("n1", 0), replica("n2", 1)],
            connections: vec![],
            maximum_peers: 1,
            drbd_generation: v1::DrbdGeneration::DrbdGeneration84.into(),
            drbd_name: "data.21".into(),
            shared_secret: "must-never-be-shown".into(),
            options: Some(v1::DrbdOptions {
                net: [("max-buffers".to_owned(), "8000".to_owned())].into(),
                ..Default::default()
            }),
            day0_generation_id: 7,
            data_may_exist: true,
            arbitration: Some(v1::Arbitration {
                owner: "n1".into(),
                generation: 2,
                outdated: vec![v1::OutdatedReplica { node: "n2".into(), number: 29 }],
                claim: None,
            }),
            revision: 30,
        }),
        replicas: vec![
            v1::ReplicaView {
                desired: Some(replica("n1", 0)),
                observed: Some(observed),
                observed_age_ms: 300,
            },
            v1::ReplicaView { desired: Some(replica("n2", 1)), observed: None, observed_age_ms: 0 },
        ],
        attachment: Some(attachment()),
        conditions: vec![v1::Condition {
            reason: "Frozen".into(),
            node: "n1".into(),
            message: "its I/O is frozen until the arbiter answers".into(),
        }],
    }
}

fn attachment() -> v1::Attachment {
    v1::Attachment {
        resource: "data".into(),
        node: "n1".into(),
        incarnation: 25,
        mode: v1::AttachmentMode::ReadWrite.into(),
        generation: 2,
        lifecycle: v1::AttachmentLifecycle::Attached.into(),
        revision: 26,
    }
}

fn operation() -> v1::OperationView {
    v1::OperationView {
        operation: Some(v1::Operation {
            id: 21,
            kind: v1::OperationKind::CreateResource.into(),
            resource: "data".into(),
            resource_incarnation: 21,
            node: String::new(),
            state: v1::OperationState::Running.into(),
            can_be_cancelled: true,
            waits_for: Some(v1::OperationReason {
                node: "n2".into(),
                command: "lvcreate --thin …".into(),
                message: "thin pool vg0/thin is full".into(),
            }),
            started_at_unix_ms: NOW_MS - 65_000,
            ended_at_unix_ms: 0,
            ended_at_elapsed_ms: 0,
        }),
        progress: vec![v1::Condition {
            reason: "Waiting".into(),
            node: "n2".into(),
            message: "no storage yet".into(),
        }],
        phase: "create-replicas".into(),
    }
}

#[test]
fn nodes_are_shown() {
    let rows: Vec<Node> = nodes().iter().map(Node::from).collect();
    insta::assert_snapshot!(golden(&rows));
    insta::assert_snapshot!("one_node_is_shown", rows[0].describe(None, now()));
    insta::assert_snapshot!("an_unreachable_node_is_shown", rows[1].describe(None, now()));
}

#[test]
fn pools_are_shown() {
    let pool = |node: &str, overcommit: u32, problem: &str| v1::PoolView {
        desired: Some(v1::StoragePool {
            node: node.into(),
            name: "ssd".into(),
            incarnation: 9,
            provider: Some(v1::storage_pool::Provider::LvmThin(v1::LvmThinProvider {
                volume_group: "vg0".into(),
                thin_pool: "thin".into(),
            })),
            capacity_bytes: 8 << 30,
            promised_bytes: (1 << 30) + (4 << 20),
            overcommit_percent: overcommit,
        }),
        observed: Some(v1::PoolObserved {
            name: "ssd".into(),
            incarnation: 9,
            lineage: 1,
            capacity_bytes: 8 << 30,
            free_bytes: 7 << 30,
            metadata_used_permyriad: 1042,
            problem: problem.into(),
        }),
        conditions: vec![],
    };
    let views = [pool("n1", 0, ""), pool("n2", 300, "volume group vg0 is not there")];
    let rows: Vec<Pool> = views.iter().map(Pool::from).collect();
    insta::assert_snapshot!(golden(&rows));
}

#[test]
fn groups_are_shown() {
    let group = v1::ResourceGroup {
        name: "fast".into(),
        incarnation: 11,
        replicas: 2,
        pool: "ssd".into(),
        layers: vec![v1::Layer::Drbd.into(), v1::Layer::Storage.into()],
        options: Some(v1::DrbdOptions {
            net: [("max-buffers".to_owned(), "8000".to_owned())].into(),
            disk: [("c-max-rate".to_owned(), "200M".to_owned())].into(),
            ..Default::default()
        }),
    };
    insta::assert_snapshot!(golden(&[Group::from(&group)]));
}

#[test]
fn resources_are_shown_without_their_secret() {
    let row = Resource::from(&resource());
    let shown = row.describe(None, now());
    let listed = golden(&[row]);
    assert!(!listed.contains("must-never-be-shown") && !shown.contains("must-never-be-shown"));
    insta::assert_snapshot!(listed);
    insta::assert_snapshot!("one_resource_is_shown", shown);
}

#[test]
fn replicas_are_shown() {
    let view = resource();
    let rows: Vec<NamedReplica> = view
        .replicas
        .iter()
        .map(|replica| v1::NamedReplicaView {
            resource: "data".into(),
            replica: Some(replica.clone()),
            conditions: vec![],
        })
        .map(|view| NamedReplica::from(&view))
        .collect();
    insta::assert_snapshot!(golden(&rows));
}

#[test]
fn attachments_are_shown() {
    let view = v1::AttachmentView {
        desired: Some(attachment()),
        device_paths: vec!["/dev/mapper/hawser-data.21-0".into()],
        conditions: vec![],
    };
    insta::assert_snapshot!(golden(&[Attachment::from(&view)]));
}

#[test]
fn operations_are_shown() {
    let row = Operation::from(&operation());
    insta::assert_snapshot!("one_operation_is_shown", row.describe(None, now()));
    insta::assert_snapshot!(golden(&[row]));
}
