//! A satellite that keeps many replicas: the real ledger, plan and workers over a simulated system below, to see how
//! much memory it takes. What simulates counts as the satellite's.
//!
//! It must have its process for itself: memory is counted by process.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use async_trait::async_trait;
use hawser_process::tls::RestoreVerifier;
use hawser_proto::v1;
use hawser_satellite::{
    arbiter::ControllerArbiter,
    controllers::Controllers,
    host::{
        Host,
        sim::{FencePeer, SimWorld},
    },
    ledger::Ledger,
    satellite::{Parts, Satellite},
};
use prost::Message;

use crate::sample::resident_bytes;

const CLUSTER: &str = "6f0b2f8e-0f4f-4a4e-9d55-0d0b63d1a001";
const NODE: &str = "n1";
const PEER: &str = "n2";
const GROUP: &str = "vg0";
const POOL: &str = "thin";
const LONGEST: Duration = Duration::from_secs(120);
/// Nobody listens there: what a satellite keeps up it keeps up without controllers.
const NOWHERE: &str = "127.0.0.1:9";
/// Let the memory that bringing up took be given back, and some rounds of looking go by.
const SETTLES: Duration = Duration::from_secs(5);

/// Brings up so many replicas and returns the resident memory of this process then, in bytes.
///
/// # Errors
/// If they do not come up.
pub fn hold(replicas: u32) -> Result<u64> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(hold_on(replicas))
}

struct NobodyAsks;

#[async_trait]
impl FencePeer for NobodyAsks {
    async fn ask(&self, _: &str, _: &str) -> i32 {
        1
    }
}

async fn hold_on(replicas: u32) -> Result<u64> {
    let directory = tempfile::tempdir()?;
    let world = SimWorld::new(NobodyAsks);
    for (node, ip) in [(NODE, "10.77.0.1"), (PEER, "10.77.0.2")] {
        world.add_node(node, ip.parse()?, GROUP, POOL, 1 << 40);
    }
    let host = world.host(NODE);
    let facts = host.facts().await;
    let ledger = Ledger::open(&directory.path().join("ledger"), CLUSTER, NODE, &facts.boot_id)?;
    ledger.accept(document(replicas).encode_to_vec()).await?;
    let controllers = Arc::new(Controllers::new(&[NOWHERE.to_owned()], None)?);
    let satellite = Satellite::start(Parts {
        cluster_id: CLUSTER.into(),
        node: NODE.into(),
        facts,
        host: Arc::new(host),
        ledger,
        controllers: Arc::clone(&controllers),
        arbiter: Arc::new(ControllerArbiter::new(NODE.into(), controllers)),
        socket: directory.path().join("socket"),
        restores: RestoreVerifier::none(),
        seed: 1,
    })
    .await?;
    wait_until_all_are_up(&satellite, replicas as usize).await?;
    tokio::time::sleep(SETTLES).await;
    let resident = resident_bytes();
    satellite.end().await;
    Ok(resident)
}

async fn wait_until_all_are_up(satellite: &Satellite, replicas: usize) -> Result<()> {
    let began = Instant::now();
    let mut version = satellite.board().version();
    loop {
        let facts = satellite.board().facts();
        let up = facts.replicas.values().filter(|replica| {
            replica.volumes.iter().any(|volume| volume.disk() != v1::DiskState::Unspecified)
        });
        let up = up.count();
        if up == replicas {
            return Ok(());
        }
        ensure!(began.elapsed() < LONGEST, "{up} of {replicas} replicas are up after {LONGEST:?}");
        // Also without news: the limit counts.
        let _ = tokio::time::timeout(Duration::from_secs(1), version.changed()).await;
    }
}

/// A document with that many replicas, as the controllers render it.
fn document(replicas: u32) -> v1::DesiredDocument {
    v1::DesiredDocument {
        cluster_id: CLUSTER.into(),
        lineage: 1,
        node: NODE.into(),
        revision: 1000 + u64::from(replicas),
        pools: vec![v1::DesiredPool {
            name: POOL.into(),
            incarnation: 11,
            provider: Some(v1::desired_pool::Provider::LvmThin(v1::LvmThinProvider {
                volume_group: GROUP.into(),
                thin_pool: POOL.into(),
            })),
        }],
        replicas: (0..replicas).map(replica).collect(),
        ..Default::default()
    }
}

fn replica(number: u32) -> v1::DesiredReplica {
    let incarnation = 1000 + u64::from(number);
    let resource = format!("pvc-2f1c0a4e-{number:04}");
    let drbd_name = format!("{resource}.{incarnation}");
    let peer = |node: &str, node_id: u32, ip: &str| v1::DesiredPeer {
        node: node.into(),
        uname: node.into(),
        node_id,
        ip: ip.into(),
        port: 7000 + number,
        kind: v1::ReplicaKind::Diskful.into(),
        replica_incarnation: incarnation,
        outdated_number: 0,
        claim_number: 0,
    };
    v1::DesiredReplica {
        resource_incarnation: incarnation,
        replica_incarnation: incarnation,
        layers: vec![v1::Layer::Drbd.into(), v1::Layer::Storage.into()],
        drbd_generation: v1::DrbdGeneration::DrbdGeneration84.into(),
        maximum_peers: 1,
        shared_secret: "0123456789abcdef0123456789abcdef".into(),
        options: Some(v1::DrbdOptions::default()),
        volumes: vec![v1::DesiredVolume {
            number: 0,
            minor: 1000 + number,
            size_bytes: 64 << 20,
            backing_name: format!("{drbd_name}-0"),
            backing_size_bytes: 68 << 20,
            gate_name: format!("hawser-{drbd_name}-0"),
        }],
        peers: vec![peer(NODE, 0, "10.77.0.1"), peer(PEER, 1, "10.77.0.2")],
        day0_generation_id: 0x51A0_0000_0000_0000 + u64::from(number) * 16,
        attachment: v1::DesiredAttachment::Detached.into(),
        pool: POOL.into(),
        resource,
        drbd_name,
        ..Default::default()
    }
}
