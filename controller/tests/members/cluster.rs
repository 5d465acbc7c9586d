//! Real members in one process: each has its own runtime, its store on disk and its gRPC server on loopback.
//!
//! Dropping a member's runtime is its `kill -9`: nothing is handed over, connections break.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use hawser_controller::consensus::{
    Committed, Consensus, Introducer, ORDER_FILE, Options, OrderedNumbers, ProposeError, Retention,
    StartError, Status as Numbers, StoreOrder, Timing, Transport, sled_engine::SledEngines,
};
use hawser_proto::v1::{self, command::Command};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Extensions, Request, Status, service::interceptor::InterceptedService, transport::Endpoint};

use crate::wire::Wire;

pub(crate) const CLUSTER: &str = "c0ffee";
/// Longer than anything that a test waits for takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Tells names in the clear, where certificates prove them otherwise.
struct Clear {
    name: String,
}

#[derive(Clone)]
struct Sender(String);

impl Transport for Clear {
    fn endpoint(&self, address: &str) -> Result<Endpoint, String> {
        Endpoint::from_shared(format!("http://{address}"))
            .and_then(|endpoint| endpoint.user_agent(self.name.clone()))
            .map_err(|error| error.to_string())
    }

    fn controller_name(&self, request: &Extensions) -> Result<String, Status> {
        request
            .get::<Sender>()
            .map(|sender| sender.0.clone())
            .ok_or_else(|| Status::unauthenticated("nameless"))
    }
}

fn note_sender(mut request: Request<()>, wire: &Wire, receiver: &str) -> Result<Request<()>, Status> {
    let agent = request.metadata().get("user-agent").and_then(|agent| agent.to_str().ok());
    let name = agent.and_then(|agent| agent.split(' ').next()).unwrap_or_default().to_owned();
    wire.pass(&name, receiver)?;
    request.extensions_mut().insert(Sender(name));
    Ok(request)
}

/// A member with its store, running or not.
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) directory: TempDir,
    pub(crate) address: SocketAddr,
    pub(crate) retention: Retention,
    pub(crate) wire: Wire,
    running: Option<(Runtime, Consensus)>,
}

impl Member {
    /// A member that has not started yet, with a free port.
    pub(crate) fn new(name: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap();
        Self {
            name: name.to_owned(),
            directory: tempfile::tempdir().unwrap(),
            address: port.local_addr().unwrap(),
            retention: Retention::default(),
            wire: Wire::new(),
            running: None,
        }
    }

    pub(crate) fn order(&self, order: &StoreOrder) {
        let order = serde_json::to_vec(order).unwrap();
        fs::write(self.directory.path().join(ORDER_FILE), order).unwrap();
    }

    pub(crate) fn order_init(&self) {
        self.order_init_with(OrderedNumbers::default());
    }

    pub(crate) fn order_init_with(&self, numbers: OrderedNumbers) {
        self.order(&StoreOrder::Init {
            cluster_id: CLUSTER.to_owned(),
            cluster_name: "test".to_owned(),
            name: self.name.clone(),
            address: self.address.to_string(),
            numbers,
        });
    }

    pub(crate) fn order_join(&self, raft_id: u64, introducer: &Self) {
        let member = introducer.consensus().member();
        self.order(&StoreOrder::Join {
            cluster_id: CLUSTER.to_owned(),
            cluster_name: "test".to_owned(),
            lineage: 1,
            raft_id,
            name: self.name.clone(),
            address: self.address.to_string(),
            members: vec![Introducer {
                raft_id: member.raft_id,
                name: member.name,
                address: member.address,
                store_incarnation: member.store_incarnation,
            }],
        });
    }

    pub(crate) fn start(&mut self) -> Result<(), StartError> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let consensus = runtime.block_on(Consensus::start(Options {
            data_directory: self.directory.path().to_owned(),
            cluster_id: CLUSTER.to_owned(),
            name: self.name.clone(),
            timing: Timing::default(),
            retention: self.retention,
            transport: Arc::new(Clear { name: self.name.clone() }),
            engines: Arc::new(SledEngines),
            seed: rand::random(),
            fresh_incarnation: rand::random::<u64>() | 1,
        }))?;
        let listener = runtime.block_on(tokio::net::TcpListener::bind(self.address)).unwrap();
        let (wire, receiver) = (self.wire.clone(), self.name.clone());
        let service = InterceptedService::new(consensus.raft_service(), move |request: Request<()>| {
            note_sender(request, &wire, &receiver)
        });
        runtime.spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        self.running = Some((runtime, consensus));
        Ok(())
    }

    pub(crate) fn consensus(&self) -> &Consensus {
        &self.running.as_ref().unwrap().1
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Ends it without a word to anybody.
    pub(crate) fn kill(&mut self) {
        let (runtime, consensus) = self.running.take().unwrap();
        drop(consensus);
        runtime.shutdown_timeout(PATIENCE);
    }

    /// Ends it in order.
    pub(crate) fn shut_down(&mut self) {
        let (runtime, consensus) = self.running.take().unwrap();
        runtime.block_on(consensus.shutdown());
        drop(consensus);
        runtime.shutdown_timeout(PATIENCE);
    }

    /// Waits for something about this member.
    pub(crate) fn wait<T>(&self, what: &str, event: impl Future<Output = T>) -> T {
        let (runtime, consensus) = self.running.as_ref().unwrap();
        runtime
            .block_on(async { tokio::time::timeout(PATIENCE, event).await })
            .unwrap_or_else(|_| panic!("{} waited in vain for {what}: {:#?}", self.name, consensus.status()))
    }

    pub(crate) fn wait_to_lead(&self) -> u64 {
        let mut leadership = self.consensus().leadership();
        self.wait("leading", async move {
            leadership.wait_for(|now| now.leading_term().is_some()).await.unwrap().term
        })
    }

    pub(crate) fn wait_for_voters(&self, count: usize) {
        let voters = |members: &[hawser_controller::consensus::MemberStatus]| {
            members.iter().filter(|member| member.role == v1::MemberRole::Voter).count()
        };
        let settled = |status: &Numbers| !status.changing_voters && voters(&status.members) == count;
        self.wait("voters", self.consensus().wait_until(settled)).unwrap();
    }

    pub(crate) fn wait_for_revision(&self, revision: u64) {
        self.wait("a revision", self.consensus().view().wait_for(revision));
    }

    pub(crate) fn propose(&self, command: Command) -> Result<Committed, ProposeError> {
        self.wait("an answer", self.consensus().propose(proposal(command)))
    }

    /// Commits something small; returns its revision.
    pub(crate) fn create_node(&self, name: &str) -> u64 {
        let committed = self.propose(create_node(name)).unwrap();
        applied(&committed);
        committed.revision
    }

    /// Waits until this member says that it cannot go on, and returns why.
    pub(crate) fn wait_to_end(&self) -> String {
        self.wait("the end", self.consensus().failed())
    }

    /// Removes a member, where this one leads.
    pub(crate) fn remove(&self, raft_id: u64, name: &str) {
        self.wait("leave to remove", self.consensus().check_removal(raft_id)).unwrap();
        let remove = v1::RemoveMember { raft_id, name: name.to_owned() };
        applied(&self.propose(Command::RemoveMember(remove)).unwrap());
    }

    /// Waits on the leader until Raft has let a member go.
    pub(crate) fn wait_until_left(&self, raft_id: u64) {
        let left = self.wait("its leave", self.consensus().wait_until_left(raft_id, PATIENCE));
        assert_eq!(left, Ok(true));
    }

    /// What this member says of another: its role, and why it does not vote.
    pub(crate) fn role_of(&self, name: &str) -> Option<(v1::MemberRole, String)> {
        let members = self.consensus().status().members;
        let found = members.into_iter().find(|member| member.member.name == name);
        found.map(|member| (member.role, member.reason))
    }

    /// Announces a new controller; returns its raft id.
    pub(crate) fn announce(&self, member: &Self) -> u64 {
        let announce = v1::AnnounceMember { name: member.name.clone(), address: member.address.to_string() };
        applied(&self.propose(Command::AnnounceMember(announce)).unwrap()).number
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if self.is_running() {
            self.kill();
        }
    }
}

pub(crate) fn proposal(command: Command) -> v1::Command {
    v1::Command { at_unix_ms: 1, request: None, command: Some(command) }
}

pub(crate) fn create_node(name: &str) -> Command {
    // Addresses have to differ.
    static MADE: AtomicU32 = AtomicU32::new(0);
    let ip = Ipv4Addr::from_bits(0x0a00_0001 + MADE.fetch_add(1, Ordering::Relaxed)).to_string();
    let addresses = vec![v1::Address { name: "default".to_owned(), ip }];
    Command::CreateNode(v1::CreateNode { name: name.to_owned(), addresses, ..Default::default() })
}

pub(crate) fn applied(committed: &Committed) -> v1::Applied {
    match &committed.outcome.outcome {
        Some(v1::outcome::Outcome::Applied(applied)) => applied.clone(),
        other => panic!("not applied: {other:?}"),
    }
}

/// A new cluster of one.
pub(crate) fn first_member(retention: Retention) -> Member {
    let mut first = Member::new("n1");
    first.retention = retention;
    first.order_init();
    first.start().unwrap();
    first.wait_to_lead();
    first
}

/// A cluster of three voters, the first of which leads.
pub(crate) fn three_members(retention: Retention) -> Vec<Member> {
    let mut members = vec![first_member(retention)];
    for name in ["n2", "n3"] {
        let mut member = Member::new(name);
        member.retention = retention;
        member.wire = members[0].wire.clone();
        let raft_id = members[0].announce(&member);
        member.order_join(raft_id, &members[0]);
        member.start().unwrap();
        members.push(member);
    }
    for member in &members {
        member.wait_for_voters(3);
    }
    members
}

/// Position of the member that leads, once one does.
pub(crate) fn leader(members: &[Member]) -> usize {
    let running: Vec<_> = members.iter().filter(|member| member.is_running()).collect();
    let leads = |member: &Member| {
        let mut leadership = member.consensus().leadership();
        let name = member.name.clone();
        Box::pin(async move {
            leadership.wait_for(|now| now.leading_term().is_some()).await.unwrap();
            name
        })
    };
    let name = running[0].wait("a leader", async {
        futures::future::select_all(running.iter().map(|member| leads(member))).await.0
    });
    members.iter().position(|member| member.name == name).unwrap()
}
