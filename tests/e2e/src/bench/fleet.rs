//! Satellites of many nodes, as a controller sees them: each has a session of its own over mutual TLS, takes its
//! document and reports at once that everything in it is so.
//!
//! They stand for nodes whose work costs nothing, so that what is measured is the controllers' part. They must never
//! say less than a real satellite does.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use hawser_process::tls::Identity;
use hawser_proto::v1::{
    self, controller_message::Message as Down, satellite_message::Message as Up,
    session_service_client::SessionServiceClient,
};
use prost::Message;
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Duration, MissedTickBehavior, interval},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;

/// A satellite reports at least this often.
const PULSE: Duration = Duration::from_secs(1);
/// After a session has ended.
const PAUSE: Duration = Duration::from_millis(100);
const CAPACITY: u64 = 8 << 40;

/// The running satellites; they end when this is dropped.
pub(super) struct Fleet {
    tasks: Vec<JoinHandle<()>>,
}

impl Fleet {
    /// Starts a satellite for each identity, which is named like its node. Each dials the controllers in turn until
    /// one serves it.
    pub(super) fn start(cluster_id: &str, addresses: &[String], identities: Vec<Identity>) -> Self {
        let tasks = identities.into_iter().enumerate().map(|(number, identity)| {
            let (cluster_id, addresses) = (cluster_id.to_owned(), addresses.to_vec());
            tokio::spawn(async move {
                let mut dial = number;
                loop {
                    let address = &addresses[dial % addresses.len()];
                    let satellite = Satellite::new(&cluster_id, &identity);
                    if let Err(end) = satellite.serve(address, &identity).await {
                        eprintln!("the session of {} with {address} has ended: {end:#}", identity.own().name);
                    }
                    dial += 1;
                    tokio::time::sleep(PAUSE).await;
                }
            })
        });
        Self { tasks: tasks.collect() }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// One node in one session.
struct Satellite {
    hello: v1::Hello,
    sequence: u64,
    /// Replicas and removals that were reported, by their incarnations.
    reported: BTreeSet<u64>,
    removed: BTreeSet<u64>,
}

impl Satellite {
    fn new(cluster_id: &str, identity: &Identity) -> Self {
        let node = identity.own().name.clone();
        let facts = v1::NodeFacts {
            drbd_generation: v1::DrbdGeneration::DrbdGeneration84.into(),
            drbd_version: "8.4.11".into(),
            helper_can_run: true,
        };
        let observed = v1::NodeObserved { uname: node.clone(), facts: Some(facts), ..Default::default() };
        let hello = v1::Hello {
            cluster_id: cluster_id.to_owned(),
            node,
            observed: Some(observed),
            ..Default::default()
        };
        Self { hello, sequence: 0, reported: BTreeSet::new(), removed: BTreeSet::new() }
    }

    async fn serve(mut self, address: &str, identity: &Identity) -> Result<()> {
        let endpoint = Endpoint::from_shared(format!("https://{address}"))?
            .tls_config(identity.client_tls())?
            .tcp_nodelay(true);
        let channel = endpoint.connect().await?;
        let (up, queue) = mpsc::channel(64);
        send(&up, Up::Hello(self.hello.clone())).await?;
        let client = SessionServiceClient::new(channel).max_decoding_message_size(64 << 20);
        let mut inbound = { client }.open(ReceiverStream::new(queue)).await?.into_inner();
        let mut pulse = interval(PULSE);
        pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let message = tokio::select! {
                message = inbound.message() => message?.context("the controller hung up")?.message,
                _ = pulse.tick() => {
                    let report = self.report(v1::Report::default());
                    send(&up, Up::Report(report)).await?;
                    continue;
                }
            };
            match message {
                Some(Down::Document(bytes)) => {
                    let document = v1::DesiredDocument::decode(&bytes[..])?;
                    let (lineage, revision) = (document.lineage, document.revision);
                    let answer = v1::DocumentAnswer { lineage, revision, refused: String::new() };
                    send(&up, Up::Answer(answer)).await?;
                    let news = self.news(&document);
                    let report = self.report(news);
                    send(&up, Up::Report(report)).await?;
                }
                Some(Down::ProbePool(question)) => {
                    let pool = v1::PoolObserved { capacity_bytes: CAPACITY, ..Default::default() };
                    send(&up, Up::PoolProbed(v1::PoolProbed { id: question.id, pool: Some(pool) })).await?;
                }
                Some(Down::Welcome(_) | Down::Heartbeat(_)) => {}
                Some(Down::Restored(_)) => bail!("the controller says that this new cluster was restored"),
                None => bail!("the controller said something that this release does not know"),
            }
        }
    }

    /// The first report of a session is full, the others say what is new.
    fn report(&mut self, news: v1::Report) -> v1::Report {
        self.sequence += 1;
        v1::Report { sequence: self.sequence, full: self.sequence == 1, ..news }
    }

    fn news(&mut self, document: &v1::DesiredDocument) -> v1::Report {
        let pools = document.pools.iter().map(|pool| v1::PoolObserved {
            name: pool.name.clone(),
            incarnation: pool.incarnation,
            capacity_bytes: CAPACITY,
            free_bytes: CAPACITY,
            lineage: document.lineage,
            ..Default::default()
        });
        let new =
            document.replicas.iter().filter(|replica| self.reported.insert(replica.replica_incarnation));
        let replicas: Vec<_> = new.map(|replica| up_to_date(&self.hello.node, document, replica)).collect();
        let gone = document.removed.iter().filter(|gone| self.removed.insert(gone.replica_incarnation));
        let removed: Vec<_> = gone
            .map(|gone| v1::RemovalConfirmed {
                resource: gone.resource.clone(),
                replica_incarnation: gone.replica_incarnation,
                revision: document.revision,
                lineage: document.lineage,
            })
            .collect();
        v1::Report { pools: pools.collect(), replicas, removed, ..Default::default() }
    }
}

/// A replica that is as it should be.
fn up_to_date(
    node: &str,
    document: &v1::DesiredDocument,
    replica: &v1::DesiredReplica,
) -> v1::ReplicaObserved {
    let disk = v1::DiskState::UpToDate;
    let volumes = replica.volumes.iter().map(|volume| v1::VolumeObserved {
        number: volume.number,
        disk: disk.into(),
        size_bytes: volume.size_bytes,
        device_path: format!("/dev/drbd{}", volume.minor),
    });
    let seen = |volume: &v1::DesiredVolume| v1::PeerVolumeObserved {
        number: volume.number,
        disk: disk.into(),
        replication: "Established".into(),
        ..Default::default()
    };
    let peers = replica.peers.iter().filter(|peer| peer.node != node).map(|peer| v1::PeerObserved {
        node: peer.node.clone(),
        connection: "Connected".into(),
        role: v1::DrbdRole::Secondary.into(),
        volumes: replica.volumes.iter().map(seen).collect(),
    });
    v1::ReplicaObserved {
        resource: replica.resource.clone(),
        replica_incarnation: replica.replica_incarnation,
        revision: document.revision,
        lineage: document.lineage,
        presence: v1::Presence::Present.into(),
        in_kernel: v1::Presence::Present.into(),
        gates: v1::Presence::Absent.into(),
        role: v1::DrbdRole::Secondary.into(),
        volumes: volumes.collect(),
        peers: peers.collect(),
        ..Default::default()
    }
}

async fn send(up: &mpsc::Sender<v1::SatelliteMessage>, message: Up) -> Result<()> {
    up.send(v1::SatelliteMessage { message: Some(message) }).await.context("the controller no longer listens")
}
