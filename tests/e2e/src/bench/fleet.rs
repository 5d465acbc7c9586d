//! Satellites of many nodes, as a controller sees them: each has a session of its own over mutual TLS, takes its
//! document and reports at once that everything in it is so. When one loses its power, it falls silent, and the others
//! report that they have lost it and have the arbiter outdate it before they are Primary without it.
//!
//! They stand for nodes whose work costs nothing, so that what is measured is the controllers' part. They must never
//! say less than a real satellite does.

use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
};

use anyhow::{Context, Result, bail};
use hawser_client::request_key;
use hawser_process::tls::Identity;
use hawser_proto::v1::{
    self, arbiter_service_client::ArbiterServiceClient, controller_message::Message as Down,
    satellite_message::Message as Up, session_service_client::SessionServiceClient,
};
use prost::Message;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Duration, MissedTickBehavior, interval},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

/// A satellite reports at least this often.
const PULSE: Duration = Duration::from_secs(1);
/// After a session has ended.
const PAUSE: Duration = Duration::from_millis(100);
const CAPACITY: u64 = 8 << 40;

/// The running satellites; they end when this is dropped.
pub(super) struct Fleet {
    tasks: Vec<JoinHandle<()>>,
    without_power: watch::Sender<BTreeSet<String>>,
}

impl Fleet {
    /// Starts a satellite for each identity, which is named like its node. Each dials the controllers in turn until
    /// one serves it. Those for which `is_mortal` have a thread each, so that their power can be cut.
    pub(super) fn start(
        cluster_id: &str,
        addresses: &[String],
        identities: Vec<Identity>,
        is_mortal: impl Fn(&str) -> bool,
    ) -> Result<Self> {
        let without_power = watch::Sender::default();
        let mut tasks = Vec::new();
        for (number, identity) in identities.into_iter().enumerate() {
            let is_mortal = is_mortal(&identity.own().name);
            let life =
                live(cluster_id.to_owned(), addresses.to_vec(), identity, number, without_power.subscribe());
            if is_mortal {
                let alone = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                thread::spawn(move || alone.block_on(life));
            } else {
                tasks.push(tokio::spawn(life));
            }
        }
        Ok(Self { tasks, without_power })
    }

    /// Cuts the power of a mortal node: no connection of its is closed, and nothing comes over it any more. The others
    /// notice at once.
    pub(super) fn cut_power(&self, node: &str) {
        self.without_power.send_modify(|nodes| {
            nodes.insert(node.to_owned());
        });
    }
}

async fn live(
    cluster_id: String,
    addresses: Vec<String>,
    identity: Identity,
    mut dial: usize,
    without_power: watch::Receiver<BTreeSet<String>>,
) {
    loop {
        let address = &addresses[dial % addresses.len()];
        if without_power.has_changed().is_err() {
            // The fleet is no more.
            return;
        }
        let satellite = Satellite::new(&cluster_id, &identity, without_power.clone());
        if let Err(end) = satellite.serve(address, &identity).await {
            eprintln!("the session of {} with {address} has ended: {end:#}", identity.own().name);
        }
        dial += 1;
        tokio::time::sleep(PAUSE).await;
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
    without_power: watch::Receiver<BTreeSet<String>>,
    document: v1::DesiredDocument,
    /// Replicas that were reported, by their incarnations: attached or not, how many peers were lost,
    /// and the claim that they were reported under.
    reported: BTreeMap<u64, (bool, usize, u64)>,
    /// Removals that were reported.
    removed: BTreeSet<u64>,
    /// What the arbiter was asked: resource and peer.
    asked: BTreeSet<(String, String)>,
}

impl Satellite {
    fn new(cluster_id: &str, identity: &Identity, without_power: watch::Receiver<BTreeSet<String>>) -> Self {
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
        Self {
            hello,
            sequence: 0,
            without_power,
            document: v1::DesiredDocument::default(),
            reported: BTreeMap::new(),
            removed: BTreeSet::new(),
            asked: BTreeSet::new(),
        }
    }

    async fn serve(mut self, address: &str, identity: &Identity) -> Result<()> {
        let endpoint = Endpoint::from_shared(format!("https://{address}"))?
            .tls_config(identity.client_tls())?
            .tcp_nodelay(true);
        let channel = endpoint.connect().await?;
        let (up, queue) = mpsc::channel(64);
        send(&up, Up::Hello(self.hello.clone())).await?;
        let client = SessionServiceClient::new(channel.clone()).max_decoding_message_size(64 << 20);
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
                changed = self.without_power.changed() => {
                    changed.context("the fleet is no more")?;
                    while self.without_power.borrow_and_update().contains(&self.hello.node) {
                        // With its thread all stands still that would answer for its connections.
                        thread::park();
                    }
                    let news = self.news(&channel);
                    let report = self.report(news);
                    send(&up, Up::Report(report)).await?;
                    continue;
                }
            };
            match message {
                Some(Down::Document(bytes)) => {
                    self.document = v1::DesiredDocument::decode(&bytes[..])?;
                    let (lineage, revision) = (self.document.lineage, self.document.revision);
                    let answer = v1::DocumentAnswer { lineage, revision, refused: String::new() };
                    send(&up, Up::Answer(answer)).await?;
                    let news = self.news(&channel);
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

    fn question(
        &self,
        document: &v1::DesiredDocument,
        replica: &v1::DesiredReplica,
        peer: &v1::DesiredPeer,
    ) -> v1::OutdateRequest {
        v1::OutdateRequest {
            node: self.hello.node.clone(),
            resource: replica.resource.clone(),
            resource_incarnation: replica.resource_incarnation,
            peer: peer.node.clone(),
            generation: replica.generation,
            request_key: request_key(),
            lineage: document.lineage,
        }
    }

    /// The first report of a session is full, the others say what is new.
    fn report(&mut self, news: v1::Report) -> v1::Report {
        self.sequence += 1;
        v1::Report { sequence: self.sequence, full: self.sequence == 1, ..news }
    }

    fn news(&mut self, controllers: &Channel) -> v1::Report {
        let (document, lost) = (&self.document, self.without_power.borrow());
        for replica in document.replicas.iter().filter(|replica| wants_to_write(replica)) {
            for peer in still_to_outdate(replica, &lost) {
                if self.asked.insert((replica.resource.clone(), peer.node.clone())) {
                    tokio::spawn(outdate(controllers.clone(), self.question(document, replica, peer)));
                }
            }
        }
        let pools = document.pools.iter().map(|pool| v1::PoolObserved {
            name: pool.name.clone(),
            incarnation: pool.incarnation,
            capacity_bytes: CAPACITY,
            free_bytes: CAPACITY,
            lineage: document.lineage,
            ..Default::default()
        });
        let new = document.replicas.iter().filter(|replica| {
            let attached = is_primary(replica, &lost);
            let peers_lost = replica.peers.iter().filter(|peer| lost.contains(&peer.node)).count();
            let claim = replica.peers.iter().map(|peer| peer.claim_number).max().unwrap_or_default();
            let told = (attached, peers_lost, claim);
            self.reported.insert(replica.replica_incarnation, told) != Some(told)
        });
        let replicas: Vec<_> =
            new.map(|replica| as_it_should_be(&self.hello.node, document, replica, &lost)).collect();
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

fn wants_to_write(replica: &v1::DesiredReplica) -> bool {
    replica.attachment() == v1::DesiredAttachment::Attached
}

/// Lost peers without which a survivor may not go on yet.
fn still_to_outdate<'a>(
    replica: &'a v1::DesiredReplica,
    lost: &BTreeSet<String>,
) -> impl Iterator<Item = &'a v1::DesiredPeer> {
    replica.peers.iter().filter(|peer| lost.contains(&peer.node) && peer.outdated_number == 0)
}

fn is_primary(replica: &v1::DesiredReplica, lost: &BTreeSet<String>) -> bool {
    wants_to_write(replica) && still_to_outdate(replica, lost).next().is_none()
}

/// Asks the arbiter once; a granted one comes back in the document.
async fn outdate(controllers: Channel, question: v1::OutdateRequest) {
    let what = format!("outdate {} of {}", question.peer, question.resource);
    match ArbiterServiceClient::new(controllers).outdate(question).await.map(tonic::Response::into_inner) {
        Ok(answer) if answer.granted => {}
        Ok(answer) => eprintln!("{what}: no, {}", answer.reason),
        Err(status) => eprintln!("{what}: {status}"),
    }
}

/// A replica that is as it should be, as far as its peers have power.
fn as_it_should_be(
    node: &str,
    document: &v1::DesiredDocument,
    replica: &v1::DesiredReplica,
    lost: &BTreeSet<String>,
) -> v1::ReplicaObserved {
    use v1::{DiskState, DrbdRole, Presence};

    let attached = is_primary(replica, lost);
    let volumes = replica.volumes.iter().map(|volume| v1::VolumeObserved {
        number: volume.number,
        disk: DiskState::UpToDate.into(),
        size_bytes: volume.size_bytes,
        device_path: format!("/dev/drbd{}", volume.minor),
    });
    let peers = replica.peers.iter().filter(|peer| peer.node != node).map(|peer| {
        let (connection, role, disk, replication) = if lost.contains(&peer.node) {
            let connection = if peer.claim_number != 0 { "StandAlone" } else { "Connecting" };
            (connection, DrbdRole::Unknown, DiskState::Unknown, "Off")
        } else {
            ("Connected", DrbdRole::Secondary, DiskState::UpToDate, "Established")
        };
        let seen = |volume: &v1::DesiredVolume| v1::PeerVolumeObserved {
            number: volume.number,
            disk: disk.into(),
            replication: replication.into(),
            ..Default::default()
        };
        v1::PeerObserved {
            node: peer.node.clone(),
            connection: connection.into(),
            role: role.into(),
            volumes: replica.volumes.iter().map(seen).collect(),
        }
    });
    v1::ReplicaObserved {
        resource: replica.resource.clone(),
        replica_incarnation: replica.replica_incarnation,
        revision: document.revision,
        lineage: document.lineage,
        presence: Presence::Present.into(),
        in_kernel: Presence::Present.into(),
        gates: if attached { Presence::Present } else { Presence::Absent }.into(),
        gate_open: attached,
        follows_document: true,
        role: if attached { DrbdRole::Primary } else { DrbdRole::Secondary }.into(),
        volumes: volumes.collect(),
        peers: peers.collect(),
        ..Default::default()
    }
}

async fn send(up: &mpsc::Sender<v1::SatelliteMessage>, message: Up) -> Result<()> {
    up.send(v1::SatelliteMessage { message: Some(message) }).await.context("the controller no longer listens")
}
