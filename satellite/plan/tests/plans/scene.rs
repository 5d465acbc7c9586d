//! Situations to plan in: node n1 with a replica of "db", made together with the one on n2.

use std::fmt::Write;

use hawser_plan::{
    Action, Note, Plan,
    desired::Desired,
    observed::{
        BackingFound, ConnectionState, DiskState, GateFound, GateTable, KernelPeer, KernelPeerVolume,
        KernelResource, KernelVolume, Looked, Met, Opener, OpenerState, ReplicaFound, Role, Suspended, Watch,
    },
    plan,
    situation::{Arbitration, Remembered, Reunion, Situation},
    step::{Mark, Step},
};
use hawser_proto::{
    ids::{Incarnation, OutdateNumber, Revision},
    v1,
};

pub(crate) const SIZE: u64 = 1 << 30;
pub(crate) const BACKING_SIZE: u64 = SIZE + (4 << 20);
pub(crate) const GATE: &str = "hawser-db.7-0";

/// Everything that a plan is made from, to be changed by a test.
#[derive(Debug, Clone)]
pub(crate) struct Scene {
    pub(crate) wanted: v1::DesiredReplica,
    pub(crate) removed: Option<v1::RemovedReplica>,
    pub(crate) found: ReplicaFound,
    pub(crate) remembered: Remembered,
    pub(crate) arbitration: Arbitration,
}

impl Scene {
    /// Nothing is there yet.
    pub(crate) fn new() -> Self {
        Scene {
            wanted: wanted(),
            removed: None,
            found: nothing(),
            remembered: Remembered::default(),
            arbitration: Arbitration::default(),
        }
    }

    /// Up, connected and in sync, detached.
    pub(crate) fn running() -> Self {
        let mut scene = Self::new();
        scene.wanted.day0_generation_id = 0;
        scene.remembered = Remembered { created: true, current_in_boot: true, ..Remembered::default() };
        let Desired::Replica(replica) = scene.desired() else { unreachable!("it is no removal") };
        scene.found = ReplicaFound {
            backing: [(0, Looked::Present(backing()))].into(),
            configuration: Looked::Present(replica.drbd.unwrap().fingerprint()),
            kernel: Looked::Present(kernel()),
            gates: [(0, Looked::Absent)].into(),
            openers: Looked::Present(Vec::new()),
            opens_found: [].into(),
            met: WATCHED,
        };
        scene
    }

    /// As [`Scene::running`], with n1 as owner that should have it attached.
    pub(crate) fn owned() -> Self {
        let mut scene = Self::running();
        scene.wanted.owner = "n1".into();
        scene.wanted.generation = 3;
        scene.wanted.attachment = v1::DesiredAttachment::Attached.into();
        scene
    }

    /// As [`Scene::owned`], Primary with an open gate.
    pub(crate) fn attached() -> Self {
        let mut scene = Self::owned();
        scene.kernel().role = Role::Primary;
        scene.gate(GateTable::Linear, 1);
        scene
    }

    /// As [`Scene::attached`], the link to n2 cut and I/O frozen.
    pub(crate) fn frozen() -> Self {
        let mut scene = Self::attached();
        scene.cut();
        scene.kernel().suspended.fencing = true;
        scene
    }

    /// As [`Scene::frozen`], and n2 has taken over.
    pub(crate) fn revoked() -> Self {
        let mut scene = Self::frozen();
        scene.wanted.owner = "n2".into();
        scene.wanted.generation = 4;
        scene.wanted.attachment = v1::DesiredAttachment::Revoked.into();
        scene.wanted.outdated_number = 40;
        scene
    }

    /// As [`Scene::running`], but nothing may be left of it.
    pub(crate) fn removing() -> Self {
        let mut scene = Self::running();
        scene.removed = Some(v1::RemovedReplica {
            resource: "db".into(),
            resource_incarnation: 5,
            replica_incarnation: 7,
            drbd_name: "db.5".into(),
            pool: "fast".into(),
            volumes: scene.wanted.volumes.clone(),
            layers: scene.wanted.layers.clone(),
        });
        scene
    }

    pub(crate) fn kernel(&mut self) -> &mut KernelResource {
        match &mut self.found.kernel {
            Looked::Present(kernel) => kernel,
            Looked::Absent | Looked::Unknown(_) => panic!("the scene has no resource in the kernel"),
        }
    }

    pub(crate) fn disk(&mut self, disk: DiskState) {
        self.kernel().volumes.get_mut(&0).unwrap().disk = disk;
    }

    pub(crate) fn peer(&mut self) -> &mut KernelPeer {
        self.kernel().peers.get_mut("n2").unwrap()
    }

    pub(crate) fn peer_disk(&mut self, disk: DiskState) {
        self.peer().volumes.get_mut(&0).unwrap().disk = disk;
    }

    pub(crate) fn cut(&mut self) {
        let peer = self.peer();
        peer.connection = ConnectionState::Connecting;
        peer.connection_word = "Connecting".into();
        peer.role = Role::Unknown;
        self.peer_disk(DiskState::Unknown);
    }

    pub(crate) fn gate(&mut self, table: GateTable, open_count: u32) {
        let gate = GateFound { table, suspended: false, open_count };
        self.found.gates.insert(0, Looked::Present(gate));
    }

    /// Finds a process that has the gate open once.
    pub(crate) fn opener(&mut self, pid: i32, name: &str, state: OpenerState) {
        *self.found.opens_found.entry(0).or_default() += 1;
        let opener = Opener { pid, name: name.into(), state };
        match &mut self.found.openers {
            Looked::Present(openers) => openers.push(opener),
            other => *other = Looked::Present(vec![opener]),
        }
    }

    /// The arbiter has outdated `node` on this node's word.
    pub(crate) fn grant(&mut self, node: &str, number: u64) {
        self.arbitration.granted.insert(node.to_owned(), OutdateNumber::new(number));
    }

    /// `peer` may have been reported as connected under `revision`.
    pub(crate) fn report(&mut self, peer: &str, revision: u64) {
        self.arbitration.reported.insert(peer.to_owned(), Revision::new(revision));
    }

    pub(crate) fn peer_outdated_in_document(&mut self, number: u64) {
        self.wanted.peers[1].outdated_number = number;
    }

    /// The document does not have n2 any more, and the kernel has not heard of it.
    pub(crate) fn let_go_of_the_peer(&mut self) {
        self.wanted.peers.truncate(1);
        let connected = self.kernel().peers.remove("n2").unwrap().connection != ConnectionState::StandAlone;
        self.kernel().to_a_stranger = connected;
    }

    /// The kernel follows the document.
    pub(crate) fn follow(&mut self) {
        let Desired::Replica(replica) = self.desired() else { unreachable!("it is no removal") };
        self.found.configuration = Looked::Present(replica.drbd.unwrap().fingerprint());
        self.kernel().to_a_stranger = false;
    }

    pub(crate) fn desired(&self) -> Desired {
        let document = self.document();
        match &self.removed {
            Some(removed) => Desired::of_removal(&document, removed).unwrap(),
            None => Desired::of_replica(&document, &self.wanted).unwrap(),
        }
    }

    pub(crate) fn document(&self) -> v1::DesiredDocument {
        let provider = v1::LvmThinProvider { volume_group: "vg0".into(), thin_pool: "thin".into() };
        v1::DesiredDocument {
            cluster_id: "c1".into(),
            lineage: 1,
            node: "n1".into(),
            revision: 12,
            pools: vec![v1::DesiredPool {
                name: "fast".into(),
                incarnation: 2,
                provider: Some(v1::desired_pool::Provider::LvmThin(provider)),
            }],
            ..v1::DesiredDocument::default()
        }
    }

    pub(crate) fn plan(&self) -> Plan {
        let desired = self.desired();
        plan(&Situation {
            node: "n1",
            desired: &desired,
            found: &self.found,
            remembered: self.remembered,
            arbitration: &self.arbitration,
        })
    }

    /// The plan's verbs and notes, in order.
    pub(crate) fn actions(&self) -> Vec<String> {
        verbs(&self.plan())
    }

    /// The ledger has a note.
    pub(crate) fn note(&mut self, note: Note) {
        let remembered = &mut self.remembered;
        match note {
            Note::Created => (remembered.created, remembered.made_in_boot) = (true, true),
            Note::Current => remembered.current_in_boot = true,
            Note::Behind => remembered.behind = true,
            Note::CaughtUp => remembered.behind = false,
            Note::Reunion(_) | Note::MetNobody => {}
        }
        match note {
            Note::Created => {}
            Note::Reunion(watch) => remembered.reunion = Reunion::Watched(watch),
            _ => remembered.reunion = Reunion::None,
        }
    }

    /// Why the plan waits.
    pub(crate) fn waits(&self) -> String {
        self.plan().waits_for.unwrap_or_default()
    }
}

pub(crate) fn verbs(plan: &Plan) -> Vec<String> {
    plan.actions
        .iter()
        .map(|action| match action {
            Action::Note(Note::Reunion(_)) => LET_OUT.to_owned(),
            Action::Note(note) => format!("note {note:?}"),
            Action::Run(Step::BringUp { attach, connect, .. }) => {
                let disk = if *attach { "with disk" } else { "without disk" };
                format!("bring-up {disk}{}", if *connect { "" } else { ", alone" })
            }
            Action::Run(step) => step.verb().to_owned(),
        })
        .collect()
}

/// The whole plan as text, for golden files.
pub(crate) fn shown(plan: &Plan) -> String {
    let mut text = String::new();
    for action in &plan.actions {
        writeln!(text, "{action:#?}").unwrap();
    }
    for question in &plan.questions {
        writeln!(text, "ask {question:?}").unwrap();
    }
    if let Some(reason) = &plan.waits_for {
        writeln!(text, "waits: {reason}").unwrap();
    }
    if plan.removed {
        writeln!(text, "removed").unwrap();
    }
    text
}

pub(crate) fn mark() -> Mark {
    Mark {
        cluster_id: "c1".into(),
        resource: "db".into(),
        replica_incarnation: Incarnation::new(7),
        volume: 0,
    }
}

pub(crate) fn backing() -> BackingFound {
    BackingFound {
        size_bytes: BACKING_SIZE,
        mark: Some(mark()),
        active: true,
        device: "/dev/vg0/db.7-0".into(),
    }
}

fn kernel() -> KernelResource {
    let volume = KernelPeerVolume {
        disk: DiskState::UpToDate,
        replication: "Established".into(),
        out_of_sync_bytes: 0,
        done_permyriad: 0,
    };
    let peer = KernelPeer {
        connection: ConnectionState::Connected,
        connection_word: "Connected".into(),
        role: Role::Secondary,
        volumes: [(0, volume)].into(),
    };
    KernelResource {
        role: Role::Secondary,
        suspended: Suspended::default(),
        volumes: [(0, KernelVolume { minor: 1000, disk: DiskState::UpToDate, size_bytes: SIZE })].into(),
        peers: [("n2".to_owned(), peer)].into(),
        to_a_stranger: false,
    }
}

/// DRBD is watched, and has met nobody.
pub(crate) const WATCHED: Met = Met::Watched(Watch { number: 1, meetings: 0, ended: 0 });
/// Before it may meet its peer after a boot.
pub(crate) const LET_OUT: &str = "let-out";

pub(crate) fn nothing() -> ReplicaFound {
    ReplicaFound {
        backing: [(0, Looked::Absent)].into(),
        configuration: Looked::Absent,
        kernel: Looked::Absent,
        gates: [(0, Looked::Absent)].into(),
        openers: Looked::Present(Vec::new()),
        opens_found: [].into(),
        met: WATCHED,
    }
}

fn wanted() -> v1::DesiredReplica {
    let peer = |node: &str, node_id: u32, incarnation: u64| v1::DesiredPeer {
        node: node.into(),
        uname: node.into(),
        node_id,
        ip: format!("10.77.0.{}", node_id + 1),
        port: 7000,
        kind: v1::ReplicaKind::Diskful.into(),
        replica_incarnation: incarnation,
        outdated_number: 0,
        claim_number: 0,
    };
    v1::DesiredReplica {
        resource: "db".into(),
        resource_incarnation: 5,
        replica_incarnation: 7,
        drbd_name: "db.5".into(),
        layers: vec![v1::Layer::Drbd.into(), v1::Layer::Storage.into()],
        drbd_generation: v1::DrbdGeneration::DrbdGeneration84.into(),
        maximum_peers: 1,
        shared_secret: "secret".into(),
        options: None,
        volumes: vec![v1::DesiredVolume {
            number: 0,
            minor: 1000,
            size_bytes: SIZE,
            backing_name: "db.7-0".into(),
            backing_size_bytes: BACKING_SIZE,
            gate_name: GATE.into(),
        }],
        peers: vec![peer("n1", 0, 7), peer("n2", 1, 8)],
        day0_generation_id: 0x1234_5678_9abc_def0,
        owner: String::new(),
        generation: 0,
        attachment: v1::DesiredAttachment::Detached.into(),
        pool: "fast".into(),
        outdated_number: 0,
        not_made_anew: false,
    }
}
