//! Two nodes with satellites, and a stand-in for Raft that gives them documents and answers.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use hawser_plan::Question;
use hawser_process::tls::RestoreVerifier;
use hawser_proto::{
    ids::OutdateNumber,
    v1::{self, DesiredAttachment},
};
use hawser_satellite::{
    arbiter::{Answer, Arbiter, Case},
    controllers::Controllers,
    fence::{
        helper::fence_peer,
        question::{AskedAs, FenceQuestion},
    },
    host::{
        Host,
        sim::{FencePeer, SimWorld},
    },
    ledger::Ledger,
    report::Facts,
    satellite::{Parts, Satellite},
};
use prost::Message;
use tempfile::TempDir;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use crate::counting::CountingHost;

pub(crate) const GATE: &str = "hawser-db.5-0";
const SIZE: u64 = 64 << 20;

/// What Raft has in mind with the replica of "db" on n2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Second {
    /// It is there.
    #[default]
    There,
    /// n1 is alone.
    Absent,
    /// n1 has to let go of it.
    Leaving,
    /// Nothing of it may be left.
    Removing,
}

/// What Raft would hold of the resource "db", and of "log" beside it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Raft {
    revision: u64,
    pub(crate) day0: u64,
    pub(crate) owner: String,
    pub(crate) generation: u64,
    pub(crate) outdated: BTreeMap<String, u64>,
    pub(crate) attachments: BTreeMap<String, DesiredAttachment>,
    /// Who is about to take over from the owner.
    pub(crate) claim: Option<(String, u64)>,
    pub(crate) removed: bool,
    pub(crate) second: Second,
    /// A person has declared n1 lost, and given up what it alone had.
    pub(crate) first_is_lost: bool,
    pub(crate) with_log: bool,
    /// Options of db's connections.
    pub(crate) net_options: BTreeMap<String, String>,
}

impl Raft {
    /// As the state machine's: who goes on has had the other outdated first, and one good copy is left.
    fn outdate(&mut self, asker: &str, peer: &str, generation: u64) -> Answer {
        let other_is_left =
            ["n1", "n2"].iter().any(|node| *node != peer && !self.outdated.contains_key(*node));
        if peer != asker && (self.owner != asker || self.generation != generation) {
            return Answer::No(format!("{:?} owns db at generation {}", self.owner, self.generation));
        }
        if !other_is_left {
            return Answer::No("it is the last good copy".into());
        }
        self.revision += 1;
        self.outdated.insert(peer.into(), self.revision);
        Answer::Yes(OutdateNumber::new(self.revision))
    }

    /// The newest log entry that changed anything.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// A replica is behind, as of this entry.
    pub(crate) fn mark(&mut self, node: &str) {
        self.outdated.insert(node.into(), self.revision);
    }

    fn document(&self, node: &str) -> v1::DesiredDocument {
        let provider = v1::LvmThinProvider { volume_group: "vg0".into(), thin_pool: "thin".into() };
        let mut document = v1::DesiredDocument {
            cluster_id: "c1".into(),
            lineage: 1,
            node: node.into(),
            revision: self.revision,
            pools: vec![v1::DesiredPool {
                name: "fast".into(),
                incarnation: 2,
                provider: Some(v1::desired_pool::Provider::LvmThin(provider)),
            }],
            ..Default::default()
        };
        let mut db = self.replica(node, "db", 5, 1000);
        let is_second = node == "n2";
        if self.second != Second::There && !is_second {
            db.peers.retain(|peer| peer.node == node);
        }
        if self.first_is_lost && is_second {
            db.peers.retain(|peer| peer.node == node);
        }
        if is_second && self.second == Second::Absent {
            return document;
        }
        if self.removed || (is_second && self.second == Second::Removing) {
            document.removed.push(v1::RemovedReplica {
                resource: db.resource,
                resource_incarnation: db.resource_incarnation,
                replica_incarnation: db.replica_incarnation,
                drbd_name: db.drbd_name,
                pool: db.pool,
                volumes: db.volumes,
                layers: db.layers,
            });
        } else {
            document.replicas.push(v1::DesiredReplica {
                owner: self.owner.clone(),
                generation: self.generation,
                attachment: self.attachments.get(node).copied().unwrap_or(DesiredAttachment::Detached).into(),
                outdated_number: self.outdated.get(node).copied().unwrap_or_default(),
                options: Some(v1::DrbdOptions {
                    net: self.net_options.clone().into_iter().collect(),
                    ..Default::default()
                }),
                ..db
            });
        }
        if self.with_log {
            document.replicas.push(self.replica(node, "log", 9, 1001));
        }
        document
    }

    fn replica(&self, node: &str, resource: &str, incarnation: u64, minor: u32) -> v1::DesiredReplica {
        let claim = self.claim.as_ref().filter(|(claimant, _)| resource == "db" && claimant == node);
        let claim = claim.map_or(0, |(_, number)| *number);
        let peer = |node: &str, node_id: u32| v1::DesiredPeer {
            claim_number: if node == self.owner { claim } else { 0 },
            node: node.into(),
            uname: node.into(),
            node_id,
            ip: format!("10.77.0.{}", node_id + 1),
            port: 6000 + minor,
            kind: v1::ReplicaKind::Diskful.into(),
            replica_incarnation: incarnation + 1 + u64::from(node_id),
            outdated_number: if resource == "db" {
                self.outdated.get(node).copied().unwrap_or_default()
            } else {
                0
            },
        };
        v1::DesiredReplica {
            resource: resource.into(),
            resource_incarnation: incarnation,
            replica_incarnation: incarnation + if node == "n1" { 1 } else { 2 },
            drbd_name: format!("{resource}.{incarnation}"),
            layers: vec![v1::Layer::Drbd.into(), v1::Layer::Storage.into()],
            drbd_generation: v1::DrbdGeneration::DrbdGeneration84.into(),
            maximum_peers: 1,
            shared_secret: "secret".into(),
            volumes: vec![v1::DesiredVolume {
                number: 0,
                minor,
                size_bytes: SIZE,
                backing_name: format!("{resource}.{incarnation}-0"),
                backing_size_bytes: SIZE + (4 << 20),
                gate_name: format!("hawser-{resource}.{incarnation}-0"),
            }],
            peers: vec![peer("n1", 0), peer("n2", 1)],
            day0_generation_id: if resource == "db" { self.day0 } else { 0x0fed_cba9_8765_4320 },
            attachment: DesiredAttachment::Detached.into(),
            pool: "fast".into(),
            ..Default::default()
        }
    }
}

/// An answer takes this long from the controllers to a node, and so comes after the document that it changed.
const ON_THE_WAY: Duration = Duration::from_millis(20);

/// Raft, the nodes that can reach it and the ledgers of their satellites.
#[derive(Clone)]
struct Reach {
    raft: Arc<Mutex<Raft>>,
    reachable: watch::Sender<BTreeSet<String>>,
    ledgers: Arc<Mutex<BTreeMap<String, Ledger>>>,
}

impl Reach {
    /// Gives every node that can be reached its document.
    async fn hand_out(&self) {
        let reachable = self.reachable.borrow().clone();
        let ledgers = self.ledgers.lock().unwrap().clone();
        for (name, ledger) in ledgers.iter().filter(|(name, _)| reachable.contains(*name)) {
            let document = self.raft.lock().unwrap().document(name);
            if document.version() > ledger.version() {
                ledger.accept(document.encode_to_vec()).await.unwrap();
            }
        }
    }
}

struct TestArbiter {
    node: String,
    reach: Reach,
}

#[async_trait]
impl Arbiter for TestArbiter {
    async fn ask(&self, _: &Case, question: &Question, _: &str) -> Answer {
        let mut reachable = self.reach.reachable.subscribe();
        reachable.wait_for(|nodes| nodes.contains(&self.node)).await.unwrap();
        let answer = {
            let mut raft = self.reach.raft.lock().unwrap();
            match question {
                Question::Outdate { peer, generation } => raft.outdate(&self.node, peer, generation.get()),
                Question::ConfirmOwner { generation } => {
                    if raft.owner == self.node && raft.generation == generation.get() {
                        Answer::Yes(OutdateNumber::default())
                    } else {
                        Answer::No("not the owner".into())
                    }
                }
            }
        };
        self.reach.hand_out().await;
        sleep(ON_THE_WAY).await;
        answer
    }
}

/// The kernel's helper, as the real one: asks at the node's socket.
#[derive(Clone)]
struct Helper {
    sockets: BTreeMap<String, PathBuf>,
    dies: Arc<Mutex<bool>>,
}

#[async_trait]
impl FencePeer for Helper {
    async fn ask(&self, node: &str, drbd_name: &str) -> i32 {
        if *self.dies.lock().unwrap() {
            return 137;
        }
        let question = FenceQuestion { resource: drbd_name.into(), peer: None, role: AskedAs::Unknown };
        fence_peer(&self.sockets[node], &question).await.into()
    }
}

struct Node {
    directory: TempDir,
    host: CountingHost,
    running: Option<Satellite>,
}

/// Two nodes, n1 and n2.
pub(crate) struct Cluster {
    pub(crate) world: SimWorld,
    nodes: BTreeMap<String, Node>,
    reach: Reach,
    helper: Helper,
}

impl Cluster {
    /// Two satellites that run and know nothing yet.
    pub(crate) async fn new() -> Self {
        let directories: BTreeMap<String, TempDir> =
            ["n1", "n2"].map(|node| (node.to_owned(), tempfile::tempdir().unwrap())).into();
        let sockets = directories
            .iter()
            .map(|(node, directory)| (node.clone(), directory.path().join("satellite.sock")))
            .collect();
        let helper = Helper { sockets, dies: Arc::default() };
        let world = SimWorld::new(helper.clone());
        for (at, node) in ["n1", "n2"].iter().enumerate() {
            world.add_node(node, format!("10.77.0.{}", at + 1).parse().unwrap(), "vg0", "thin", 1 << 30);
        }
        let both = ["n1".to_owned(), "n2".to_owned()].into();
        let reach =
            Reach { raft: Arc::default(), reachable: watch::Sender::new(both), ledgers: Arc::default() };
        let nodes = directories
            .into_iter()
            .map(|(node, directory)| {
                let host = CountingHost::new(world.host(&node));
                (node, Node { directory, host, running: None })
            })
            .collect();
        let mut cluster = Self { world, nodes, reach, helper };
        for node in ["n1", "n2"] {
            cluster.start(node).await;
        }
        cluster
    }

    /// As [`Cluster::new`], with "db" in sync on both nodes.
    pub(crate) async fn with_db() -> Self {
        let cluster = Self::new().await;
        cluster.commit(|raft| raft.day0 = 0x1234_5678_9abc_def0).await;
        cluster.until("both are in sync", |cluster| cluster.in_sync("n1") && cluster.in_sync("n2")).await;
        cluster.commit(|raft| raft.day0 = 0).await;
        cluster
    }

    /// As [`Cluster::with_db`], attached on n1.
    pub(crate) async fn attached() -> Self {
        let cluster = Self::with_db().await;
        cluster.attach("n1").await;
        cluster
    }

    pub(crate) async fn attach(&self, node: &str) {
        self.commit(|raft| {
            raft.owner = node.into();
            raft.generation += 1;
            raft.attachments.insert(node.into(), DesiredAttachment::Attached);
        })
        .await;
        self.until("it is attached", |cluster| cluster.is_attached(node)).await;
    }

    /// As the state machine's claim: refused to an outdated node. Comes back when the node was seen to keep the
    /// owner away from a disk that can be used.
    pub(crate) async fn claim(&self, node: &str) -> Result<(), String> {
        let refused = self.reach.raft.lock().unwrap().outdated.contains_key(node);
        if refused {
            return Err(format!("{node} is outdated"));
        }
        self.begin_claim(node).await;
        let keeps_away = |cluster: &Self| {
            cluster.report(node, "db").revision == cluster.raft().revision && cluster.could_take_over(node)
        };
        self.until("it keeps the owner away", keeps_away).await;
        Ok(())
    }

    /// The claim alone.
    pub(crate) async fn begin_claim(&self, node: &str) {
        self.commit(|raft| raft.claim = Some((node.into(), raft.revision))).await;
    }

    /// Whether the leader would give the resource to a node that has claimed it, going by its report.
    pub(crate) fn could_take_over(&self, node: &str) -> bool {
        let report = self.report(node, "db");
        let usable = [v1::DiskState::UpToDate, v1::DiskState::Consistent];
        !report.volumes.is_empty()
            && report.peers.iter().all(|peer| peer.connection == "StandAlone")
            && report.volumes.iter().all(|volume| usable.contains(&volume.disk()))
    }

    /// As the leader and the state machine: the claim, and once the owner is kept away, the right.
    pub(crate) async fn take_over(&self, node: &str) -> Result<(), String> {
        self.claim(node).await?;
        self.commit(|raft| {
            raft.claim = None;
            let old = std::mem::replace(&mut raft.owner, node.into());
            raft.generation += 1;
            raft.outdated.insert(old.clone(), raft.revision);
            raft.attachments.insert(old, DesiredAttachment::Revoked);
            raft.attachments.insert(node.into(), DesiredAttachment::Attached);
        })
        .await;
        Ok(())
    }

    /// Changes what is wanted and hands out the documents.
    pub(crate) async fn commit(&self, change: impl FnOnce(&mut Raft)) {
        {
            let mut raft = self.reach.raft.lock().unwrap();
            raft.revision += 1;
            change(&mut raft);
        }
        self.hand_out().await;
    }

    /// Gives every node that can be reached its document.
    pub(crate) async fn hand_out(&self) {
        self.reach.hand_out().await;
    }

    /// Whether a node has done all that the newest document says of DRBD.
    pub(crate) fn follows(&self, node: &str) -> bool {
        let report = self.report(node, "db");
        report.follows_document && report.revision == self.raft().revision
    }

    pub(crate) fn raft(&self) -> Raft {
        self.reach.raft.lock().unwrap().clone()
    }

    /// Cuts a node off from the controllers, or brings it back.
    pub(crate) async fn controllers_reach(&self, node: &str, reached: bool) {
        self.reach.reachable.send_modify(|nodes| {
            if reached {
                nodes.insert(node.into());
            } else {
                nodes.remove(node);
            }
        });
        self.hand_out().await;
    }

    /// From now on, the kernel's helpers die without asking.
    pub(crate) fn helpers_die(&self) {
        *self.helper.dies.lock().unwrap() = true;
    }

    /// Starts a node's satellite.
    pub(crate) async fn start(&mut self, name: &str) {
        let arbiter = TestArbiter { node: name.into(), reach: self.reach.clone() };
        let node = self.nodes.get_mut(name).unwrap();
        node.host.open_anew(self.world.host(name));
        let facts = node.host.facts().await;
        let directory = node.directory.path();
        let ledger = Ledger::open(&directory.join("ledger"), "c1", name, &facts.boot_id).unwrap();
        let satellite = Satellite::start(Parts {
            cluster_id: "c1".into(),
            node: name.into(),
            facts,
            host: Arc::new(node.host.clone()),
            ledger: ledger.clone(),
            restores: RestoreVerifier::none(),
            // Nobody is there; documents are handed to the ledger directly.
            controllers: Arc::new(Controllers::new(&["127.0.0.1:1".to_owned()], None).unwrap()),
            arbiter: Arc::new(arbiter),
            socket: directory.join("satellite.sock"),
            seed: 7,
        })
        .await
        .unwrap();
        self.reach.ledgers.lock().unwrap().insert(name.into(), ledger);
        node.running = Some(satellite);
        self.hand_out().await;
    }

    /// Ends a node's satellite in order.
    pub(crate) async fn stop(&mut self, name: &str) {
        self.reach.ledgers.lock().unwrap().remove(name);
        if let Some(satellite) = self.nodes.get_mut(name).unwrap().running.take() {
            satellite.end().await;
        }
    }

    /// Cuts a node's power and boots it without a satellite, after its peer has noticed.
    pub(crate) async fn power_cycle(&mut self, name: &str) {
        self.world.cut_power(name);
        self.stop(name).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        self.world.boot(name);
    }

    pub(crate) fn host(&self, node: &str) -> &CountingHost {
        &self.nodes[node].host
    }

    /// What a node has to report now.
    pub(crate) fn facts(&self, node: &str) -> Facts {
        self.nodes[node].running.as_ref().map(|satellite| satellite.board().facts()).unwrap_or_default()
    }

    /// The report on a replica.
    pub(crate) fn report(&self, node: &str, resource: &str) -> v1::ReplicaObserved {
        let facts = self.facts(node);
        let found = facts.replicas.into_iter().find(|((name, _), _)| name == resource);
        found.map(|(_, observed)| observed).unwrap_or_default()
    }

    pub(crate) fn in_sync(&self, node: &str) -> bool {
        self.resource_in_sync(node, "db")
    }

    pub(crate) fn resource_in_sync(&self, node: &str, resource: &str) -> bool {
        let report = self.report(node, resource);
        let up_to_date = |disk: v1::DiskState| disk == v1::DiskState::UpToDate;
        !report.volumes.is_empty()
            && report.volumes.iter().all(|volume| up_to_date(volume.disk()))
            && report.peers.iter().any(|peer| {
                peer.connection == "Connected" && peer.volumes.iter().all(|volume| up_to_date(volume.disk()))
            })
    }

    pub(crate) fn is_attached(&self, node: &str) -> bool {
        let report = self.report(node, "db");
        report.role() == v1::DrbdRole::Primary && report.gate_open
    }

    /// Waits until `holds`; fails after ten minutes of paused time.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) -> Duration {
        let began = Instant::now();
        let waited = timeout(Duration::from_secs(600), async {
            let mut changes: Vec<watch::Receiver<u64>> = self
                .nodes
                .values()
                .filter_map(|node| node.running.as_ref())
                .map(|satellite| satellite.board().version())
                .collect();
            while !holds(self) {
                let changed = changes.iter_mut().map(|version| Box::pin(version.changed()));
                // What a process in the simulation sees is on no board: look again now and then.
                let _ = timeout(Duration::from_millis(50), futures::future::select_all(changed)).await;
            }
        })
        .await;
        assert!(
            waited.is_ok(),
            "never: {what}\nn1: {:#?}\nn2: {:#?}\n{:#?}",
            self.report("n1", "db"),
            self.report("n2", "db"),
            self.raft()
        );
        began.elapsed()
    }
}
