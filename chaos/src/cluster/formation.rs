//! How a simulated cluster comes to be: formed by its first controller, joined by the others, with nodes, pools and
//! workers.

use std::{collections::BTreeMap, fs, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use hawser_controller::consensus::{OrderedNumbers, StoreOrder};
use hawser_proto::v1::{self, cluster_service_client::ClusterServiceClient, create_pool_request::Provider};
use hawser_satellite::{
    fence::{
        helper::fence_peer,
        question::{AskedAs, FenceQuestion},
    },
    host::sim::{FencePeer, SimWorld},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tempfile::TempDir;

use super::{
    CLUSTER, Cluster, DIRECTORY, GROUP, OUTSIDE, POOL, Size, THICK_GROUP, TICK, address,
    host::{Host, Running},
    ip,
    processes::join_order,
};
use crate::{
    clock::{self, Moment},
    disk::Disk,
    fired::Fired,
    history::History,
    host::Commands,
    invariants::NOT_OURS,
    network::Network,
    process::Process,
    simulation::Setup,
    trace::Trace,
    violations::Violations,
    workload::{Furnished, furnish},
};

const POOL_BYTES: u64 = 16 << 30;

/// What the pool of a host is: by the seed the same on all, or every kind on one after another.
fn pool(seed: u64, host: usize) -> Provider {
    let kind = match seed % 4 {
        0 | 1 => 0,
        2 => 1,
        _ => host % 3,
    };
    match kind {
        0 => Provider::LvmThin(v1::LvmThinProvider { volume_group: GROUP.into(), thin_pool: POOL.into() }),
        1 => Provider::Lvm(v1::LvmProvider { volume_group: THICK_GROUP.into() }),
        _ => Provider::Directory(v1::DirectoryProvider { path: DIRECTORY.into() }),
    }
}

/// The helper that the kernels start: it asks at the node's socket, as the real one does.
struct Helper {
    sockets: BTreeMap<String, PathBuf>,
}

#[async_trait]
impl FencePeer for Helper {
    async fn ask(&self, node: &str, drbd_name: &str) -> i32 {
        let question = FenceQuestion { resource: drbd_name.into(), peer: None, role: AskedAs::Unknown };
        match self.sockets.get(node) {
            Some(socket) => fence_peer(socket, &question).await.into(),
            None => 1,
        }
    }
}

impl Cluster {
    /// A cluster of `size` whose every chance comes from the seed: formed, with nodes and pools, and the workers at work.
    ///
    /// # Errors
    /// If the machine has no room, or the cluster does not form within a simulated minute.
    pub fn form(setup: &Setup, size: Size) -> anyhow::Result<Self> {
        let seed = setup.seed;
        clock::all_have_reached(Moment::ZERO);
        let directory = scratch()?;
        let mut random = StdRng::seed_from_u64(seed);
        let names: Vec<String> = (1..=size.hosts).map(|number| format!("n{number}")).collect();
        let sockets =
            names.iter().map(|name| (name.clone(), directory.path().join(name).join("socket"))).collect();
        let kernels = Process::begin_with_sockets(Moment::ZERO, random.random());
        let world = kernels.act(|| SimWorld::new(Helper { sockets }));
        let fired = Fired::default();
        let network = Network::new(random.random(), fired.clone());
        network.add_host(OUTSIDE);
        let mut hosts = BTreeMap::new();
        for (at, name) in names.iter().enumerate() {
            network.add_host(name);
            world.add_node(name, ip(at).parse()?, GROUP, POOL, POOL_BYTES);
            world.add_volume_group(name, THICK_GROUP, POOL_BYTES);
            world.add_directory(name, DIRECTORY, POOL_BYTES);
            world.make_foreign_volume(name, GROUP, NOT_OURS);
            let directory = directory.path().join(name);
            fs::create_dir_all(directory.join("controller"))?;
            let disk = Disk::new(random.random());
            hosts.insert(name.clone(), Host::new(directory, disk, Commands::new(random.random())));
        }
        let outside = Process::begin(Moment::ZERO, random.random());
        let mut cluster = Self {
            seed,
            size,
            now: Moment::ZERO,
            directory,
            network,
            world,
            kernels,
            hosts,
            outside,
            calm: Arc::default(),
            finished: Vec::new(),
            history: History::default(),
            replacement: None,
            hurt: BTreeMap::new(),
            older_documents: BTreeMap::new(),
            trace: Trace::default(),
            fired,
            violations: Violations::default(),
            starts: 0,
        };
        cluster.begin(&names)?;
        let reads = if setup.stale_reads { v1::Consistency::Stale } else { v1::Consistency::Unspecified };
        cluster.employ(&names, reads, setup.pace.leisure);
        Ok(cluster)
    }

    fn begin(&mut self, names: &[String]) -> anyhow::Result<()> {
        let init = StoreOrder::Init {
            cluster_id: CLUSTER.into(),
            cluster_name: "simulated".into(),
            name: names[0].clone(),
            address: address(&names[0]),
            numbers: OrderedNumbers::default(),
        };
        self.order_store(&names[0], &init)?;
        self.start_controller(&names[0]);
        for name in names {
            self.start_satellite(name);
        }
        for name in names.iter().take(self.size.controllers).skip(1) {
            let administrator = self.administrator("founder", &names[..1]);
            let request = v1::AddMemberRequest {
                request_key: administrator.key(),
                name: name.clone(),
                address: address(name),
            };
            let ticket: Running<v1::JoinTicket> = Running::new();
            let into = ticket.clone();
            self.outside.spawn(async move {
                let answer = administrator
                    .call(&format!("add member {}", request.name), Duration::from_secs(30), |channel| {
                        let request = request.clone();
                        async move { ClusterServiceClient::new(channel).add_member(request).await }
                    })
                    .await;
                if let Some(ticket) = answer.done().and_then(|answer| answer.ticket) {
                    into.show(ticket);
                }
            });
            self.run_while("a member was announced", |_| ticket.shown().is_none())?;
            let order = ticket.shown().map(join_order).unwrap_or(init.clone());
            self.order_store(name, &order)?;
            self.start_controller(name);
        }
        let voters = self.size.controllers;
        self.run_while("all controllers vote", |cluster| {
            !cluster.consensus().values().any(|consensus| {
                let status = consensus.status();
                let voting = status.members.iter().filter(|member| member.role == v1::MemberRole::Voter);
                !status.changing_voters && voting.count() == voters
            })
        })?;
        let administrator = self.administrator("founder", names);
        let furnished: Running<()> = Running::new();
        let (into, nodes) = (
            furnished.clone(),
            names
                .iter()
                .enumerate()
                .map(|(at, name)| Furnished { node: name.clone(), ip: ip(at), provider: pool(self.seed, at) })
                .collect::<Vec<_>>(),
        );
        self.outside.spawn(async move {
            furnish(&administrator, &nodes).await;
            into.show(());
        });
        self.run_while("nodes and pools are registered", |_| furnished.shown().is_none())?;
        Ok(())
    }

    fn run_while(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) -> anyhow::Result<()> {
        let deadline = self.now + Duration::from_secs(60);
        while holds(self) {
            anyhow::ensure!(
                self.now < deadline,
                "within a minute, it did not come about that {what}; until then:\n{}",
                self.trace.text()
            );
            self.run(TICK * 10).map_err(anyhow::Error::msg)?;
        }
        Ok(())
    }
}

/// A directory in memory where there is one: what is real about the simulated disks is small and often synced.
fn scratch() -> std::io::Result<TempDir> {
    let memory = std::path::Path::new("/dev/shm");
    let mut builder = tempfile::Builder::new();
    let builder = builder.prefix("hawser-chaos-");
    if memory.is_dir() { builder.tempdir_in(memory) } else { builder.tempdir() }
}
