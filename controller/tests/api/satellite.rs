//! A satellite that stores every document and reports at once that all of it is so, unless told otherwise.

use std::sync::{Arc, Mutex};

use hawser_process::tls::Role;
use hawser_proto::{
    ids::DocumentVersion,
    v1::{
        self, controller_message::Message as Down, satellite_message::Message as Up,
        session_service_client::SessionServiceClient,
    },
};
use prost::Message;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::cluster::{CLUSTER, Cluster, soon};

/// What it reports differently from what is asked.
#[derive(Clone, Default)]
pub(crate) struct Script {
    /// Its DRBD has lost all peers.
    pub(crate) cut_off: bool,
    /// It lets its peers come although it is told to keep them away.
    pub(crate) keeps_nobody_away: bool,
    /// I/O is frozen.
    pub(crate) suspended: String,
    /// The disks are this instead of UpToDate.
    pub(crate) disk: Option<v1::DiskState>,
    /// What something else holds on its node.
    pub(crate) numbers: Option<v1::NumbersObserved>,
    /// What it holds by documents from before a restore.
    pub(crate) holds: Vec<v1::HeldReplica>,
    /// What is left of each of that, where the cluster does not know it.
    pub(crate) left: v1::Presence,
}

pub(crate) struct Satellite {
    pub(crate) node: String,
    script: Arc<Mutex<Script>>,
    changed: mpsc::Sender<()>,
    task: JoinHandle<()>,
}

impl Satellite {
    /// Opens a session through a member and keeps it until it is dropped.
    pub(crate) async fn start(cluster: &Cluster, member: usize, node: &str) -> Self {
        Self::playing(cluster, member, node, Script::default()).await
    }

    /// The same, following a script from the beginning.
    pub(crate) async fn playing(cluster: &Cluster, member: usize, node: &str, script: Script) -> Self {
        let channel = cluster.channel(member, Role::Satellite, node);
        let (up, inbound) = soon("the session", open(channel.clone(), hello(node))).await.unwrap();
        let script = Arc::new(Mutex::new(script));
        let (changed, mut changes) = mpsc::channel(1);
        let (name, shared) = (node.to_owned(), script.clone());
        let task = tokio::spawn(async move {
            let mut opened = Ok((up, inbound));
            loop {
                if let Ok((up, inbound)) = opened {
                    let actor =
                        Actor { node: name.clone(), script: shared.clone(), up, sequence: 0, document: None };
                    actor.run(inbound, &mut changes).await;
                }
                // On a busy machine a leader may lose its office: a real satellite dials again, too.
                opened = open(channel.clone(), hello(&name)).await;
            }
        });
        Self { node: node.into(), script, changed, task }
    }

    /// Changes what it reports, and reports it.
    pub(crate) async fn play(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.script.lock().unwrap());
        self.changed.send(()).await.unwrap();
    }

    /// The same; what the satellite says after this comes after the report of the change.
    pub(crate) async fn play_and_report(&self, change: impl FnOnce(&mut Script)) {
        self.play(change).await;
        // One change waits while the one before is reported: once a third waits, the first was reported.
        self.play(|_| {}).await;
        self.play(|_| {}).await;
    }
}

impl Drop for Satellite {
    /// The power cut.
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) fn hello(node: &str) -> v1::Hello {
    v1::Hello {
        cluster_id: CLUSTER.into(),
        node: node.into(),
        observed: Some(v1::NodeObserved {
            uname: node.into(),
            facts: Some(v1::NodeFacts {
                drbd_generation: v1::DrbdGeneration::DrbdGeneration84.into(),
                drbd_version: "8.4.11".into(),
                helper_can_run: true,
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

type Opened = (mpsc::Sender<v1::SatelliteMessage>, Streaming<v1::ControllerMessage>);

/// Says hello and waits for the welcome.
pub(crate) async fn open(channel: tonic::transport::Channel, hello: v1::Hello) -> Result<Opened, Status> {
    let (up, queue) = mpsc::channel(16);
    up.send(v1::SatelliteMessage { message: Some(Up::Hello(hello)) }).await.unwrap();
    let mut client = SessionServiceClient::new(channel);
    let mut inbound = client.open(ReceiverStream::new(queue)).await?.into_inner();
    let first = inbound.message().await?.and_then(|message| message.message);
    match first {
        Some(Down::Welcome(_)) => Ok((up, inbound)),
        other => Err(Status::aborted(format!("{other:?} instead of a welcome"))),
    }
}

struct Actor {
    node: String,
    script: Arc<Mutex<Script>>,
    up: mpsc::Sender<v1::SatelliteMessage>,
    sequence: u64,
    document: Option<v1::DesiredDocument>,
}

impl Actor {
    async fn run(mut self, mut inbound: Streaming<v1::ControllerMessage>, changes: &mut mpsc::Receiver<()>) {
        self.report().await;
        loop {
            let message = tokio::select! {
                message = inbound.message() => message,
                change = changes.recv() => {
                    if change.is_none() {
                        return;
                    }
                    self.report().await;
                    continue;
                }
            };
            match message.ok().flatten().and_then(|message| message.message) {
                None => return,
                Some(Down::Document(bytes)) => {
                    let document = v1::DesiredDocument::decode(&bytes[..]).unwrap();
                    assert_eq!(document.node, self.node);
                    let answer = v1::DocumentAnswer {
                        lineage: document.lineage,
                        revision: document.revision,
                        refused: String::new(),
                    };
                    self.document = Some(document);
                    self.send(Up::Answer(answer)).await;
                    self.report().await;
                }
                Some(Down::ProbePool(question)) => {
                    let known = matches!(&question.provider,
                        Some(v1::probe_pool::Provider::LvmThin(thin)) if thin.volume_group == "vg");
                    let pool = v1::PoolObserved {
                        capacity_bytes: if known { 100 << 30 } else { 0 },
                        problem: if known { String::new() } else { "there is no such volume group".into() },
                        ..Default::default()
                    };
                    self.send(Up::PoolProbed(v1::PoolProbed { id: question.id, pool: Some(pool) })).await;
                }
                Some(Down::Restored(_)) => {
                    let replicas = self.script.lock().unwrap().holds.clone();
                    self.send(Up::Inventory(v1::Inventory { replicas })).await;
                }
                Some(Down::Welcome(_) | Down::Heartbeat(_)) => {}
            }
        }
    }

    async fn send(&self, message: Up) {
        // The controller may have gone; the stream's end is noticed where it is read.
        let _ = self.up.send(v1::SatelliteMessage { message: Some(message) }).await;
    }

    async fn report(&mut self) {
        self.sequence += 1;
        let script = self.script.lock().unwrap().clone();
        let document = self.document.clone().unwrap_or_default();
        let pools = document.pools.iter().map(|pool| v1::PoolObserved {
            name: pool.name.clone(),
            incarnation: pool.incarnation,
            capacity_bytes: 100 << 30,
            free_bytes: 90 << 30,
            lineage: document.lineage,
            ..Default::default()
        });
        let replicas: Vec<_> = document
            .replicas
            .iter()
            .map(|replica| self.replica(&script, document.version(), replica))
            .collect();
        let removed = document.removed.iter().map(|removed| v1::RemovalConfirmed {
            resource: removed.resource.clone(),
            replica_incarnation: removed.replica_incarnation,
            revision: document.revision,
            lineage: document.lineage,
        });
        let wanted = |held: &v1::HeldReplica| {
            document.replicas.iter().any(|replica| replica.replica_incarnation == held.replica_incarnation)
        };
        let unknown = script.holds.iter().filter(|held| document.lineage > 0 && !wanted(held));
        let unknown = unknown.map(|held| v1::UnknownObserved {
            resource: held.resource.clone(),
            replica_incarnation: held.replica_incarnation,
            presence: script.left.into(),
            lineage: document.lineage,
            revision: document.revision,
        });
        let report = v1::Report {
            unknown: unknown.collect(),
            sequence: self.sequence,
            full: true,
            pools: pools.collect(),
            replicas,
            removed: removed.collect(),
            numbers: script.numbers,
            ..Default::default()
        };
        self.send(Up::Report(report)).await;
    }

    fn replica(
        &self,
        script: &Script,
        version: DocumentVersion,
        replica: &v1::DesiredReplica,
    ) -> v1::ReplicaObserved {
        let attached = replica.attachment() == v1::DesiredAttachment::Attached;
        let disk = script.disk.unwrap_or(v1::DiskState::UpToDate);
        let volumes = replica.volumes.iter().map(|volume| v1::VolumeObserved {
            number: volume.number,
            disk: disk.into(),
            size_bytes: volume.size_bytes,
            device_path: format!("/dev/drbd{}", volume.minor),
        });
        let peers = replica.peers.iter().filter(|peer| peer.node != self.node).map(|peer| v1::PeerObserved {
            node: peer.node.clone(),
            connection: match (script.cut_off, peer.claim_number != 0 && !script.keeps_nobody_away) {
                (true, true) => "StandAlone",
                (true, false) => "Connecting",
                (false, _) => "Connected",
            }
            .into(),
            volumes: replica
                .volumes
                .iter()
                .map(|volume| v1::PeerVolumeObserved {
                    number: volume.number,
                    disk: v1::DiskState::UpToDate.into(),
                    replication: "Established".into(),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        });
        let role = if attached { v1::DrbdRole::Primary } else { v1::DrbdRole::Secondary };
        v1::ReplicaObserved {
            resource: replica.resource.clone(),
            replica_incarnation: replica.replica_incarnation,
            revision: version.revision.get(),
            lineage: version.lineage.get(),
            presence: v1::Presence::Present.into(),
            in_kernel: v1::Presence::Present.into(),
            follows_document: true,
            role: role.into(),
            volumes: volumes.collect(),
            peers: peers.collect(),
            suspended: script.suspended.clone(),
            gate_open: attached,
            gates: if attached { v1::Presence::Present } else { v1::Presence::Absent }.into(),
            ..Default::default()
        }
    }
}
