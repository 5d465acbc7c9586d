//! Starts, stalls and kills the processes of a simulated cluster.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use hawser_controller::{
    api::random::Random,
    config::{Config, RaftConfig},
    consensus::{Introducer, ORDER_FILE, Retention, StoreOrder},
    controller::{Controller, Ground},
};
use hawser_process::tls::{PeerIdentity, RestoreVerifier, Role};
use hawser_proto::v1;
use hawser_satellite::{
    arbiter::ControllerArbiter,
    controllers::Controllers,
    host::Host as _,
    ledger::Ledger,
    satellite::{Parts, Satellite},
};
use tokio_util::sync::CancellationToken;

use super::{
    CLUSTER, Cluster, LEDGER, OUTSIDE, PORT, address,
    host::{Member, Running},
};
use crate::{
    api::Administrator,
    host::FaultyHost,
    process::Process,
    transport::{Simulated, identify},
};

impl Cluster {
    /// Kills a controller.
    pub(crate) fn kill_controller(&mut self, name: &str) {
        if let Some(host) = self.hosts.get_mut(name) {
            host.disk.process_ended();
            if let Some((process, _)) = host.controller.take() {
                self.network.close(process.number());
            }
        }
    }

    /// Kills a satellite. What runs on the node goes on running.
    pub(crate) fn kill_satellite(&mut self, name: &str) {
        if let Some((process, _)) = self.hosts.get_mut(name).and_then(|host| host.satellite.take()) {
            self.network.close(process.number());
        }
    }

    /// Takes the power from a host.
    pub(crate) fn cut_power(&mut self, name: &str) {
        let Some(host) = self.hosts.get_mut(name) else { return };
        // First: nobody there says goodbye.
        self.network.power_off(name);
        host.powered = false;
        host.disk.power_cut();
        host.stalled = false;
        host.controller = None;
        host.satellite = None;
        self.kernels.act(|| self.world.cut_power(name));
    }

    /// Gives a host its power back and starts what ran on it.
    pub(crate) fn restore_power(&mut self, name: &str) {
        let Some(host) = self.hosts.get_mut(name).filter(|host| !host.powered) else { return };
        host.powered = true;
        self.network.power_on(name);
        self.kernels.act(|| self.world.boot(name));
        self.restart(name);
    }

    /// Starts what should run on a host and does not.
    pub(crate) fn restart(&mut self, name: &str) {
        let Some(host) = self.hosts.get(name).filter(|host| host.powered) else { return };
        let (controller, satellite) =
            (host.has_controller && host.controller.is_none(), host.satellite.is_none());
        if controller {
            self.start_controller(name);
        }
        if satellite {
            self.start_satellite(name);
        }
    }

    /// Gives the processes of a host no time, or time again. What they were to do meanwhile they do late.
    pub(crate) fn stall(&mut self, name: &str, stalled: bool) {
        let now = self.now;
        let Some(host) = self.hosts.get_mut(name).filter(|host| host.powered) else { return };
        if std::mem::replace(&mut host.stalled, stalled) && !stalled {
            host.processes().for_each(|(_, process)| process.has_slept_until(now));
        }
    }

    pub(super) fn draw_seed(&mut self) -> u64 {
        self.starts += 1;
        self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(self.starts)
    }

    pub(super) fn order_store(&mut self, name: &str, order: &StoreOrder) -> anyhow::Result<()> {
        let path = self.directory.path().join(name).join("controller").join(ORDER_FILE);
        fs::write(path, serde_json::to_vec(order)?)?;
        Ok(())
    }

    pub(super) fn start_controller(&mut self, name: &str) {
        let seed = self.draw_seed();
        let Some(host) = self.hosts.get_mut(name) else { return };
        host.has_controller = true;
        let process = Process::begin(self.now, seed);
        let running = Running::new();
        let identity =
            PeerIdentity { cluster_id: CLUSTER.into(), role: Role::Controller, name: name.to_owned() };
        let ground = Ground {
            cluster_id: CLUSTER.into(),
            transport: Arc::new(Simulated(self.network.dialer(name, seed, identity))),
            engines: Arc::new(host.disk.clone()),
            tls: None,
            identify,
            retention: Retention { snapshot_interval: 300, entries_kept: 50, lag_limit: 400 },
        };
        let nowhere = ([127, 0, 0, 1], PORT).into();
        let config = Config {
            name: name.to_owned(),
            listen: nowhere,
            advertise: address(name),
            health_listen: nowhere,
            data_directory: host.directory.join("controller"),
            tls_directory: PathBuf::new(),
            raft: RaftConfig::default(),
        };
        let connections = self.network.listen(name, seed, &address(name));
        let shown = running.clone();
        process.spawn(async move {
            let random = Random::seeded(seed);
            let end = match Controller::start_on(ground, &config, connections, random).await {
                Ok(controller) => {
                    let consensus = controller.consensus.clone();
                    shown.show(Member { consensus, standing: controller.standing() });
                    controller.run(CancellationToken::new()).await
                }
                Err(error) => Err(error),
            };
            shown.end(end.err().map_or_else(|| "in order".to_owned(), |error| error.to_string()));
        });
        host.controller = Some((process, running));
        self.trace.add(name, "the controller starts");
    }

    pub(super) fn start_satellite(&mut self, name: &str) {
        let seed = self.draw_seed();
        let addresses: Vec<String> =
            self.names().iter().take(self.size.controllers).map(|name| address(name)).collect();
        let identity =
            PeerIdentity { cluster_id: CLUSTER.into(), role: Role::Satellite, name: name.to_owned() };
        let dialer = self.network.dialer(name, seed, identity);
        let Some(host) = self.hosts.get_mut(name) else { return };
        let process = Process::begin_with_sockets(self.now, seed);
        let running = Running::new();
        let below = FaultyHost {
            node: name.to_owned(),
            host: self.world.host(name),
            commands: host.commands.clone(),
            trace: self.trace.clone(),
            fired: self.fired.clone(),
        };
        let (node, directory, shown) = (name.to_owned(), host.directory.clone(), running.clone());
        process.spawn(async move {
            if let Err(error) = satellite(node, &directory, below, dialer, &addresses, seed, &shown).await {
                shown.end(format!("{error:#}"));
            }
        });
        host.satellite = Some((process, running));
        self.trace.add(name, "the satellite starts");
    }

    pub(super) fn administrator(&mut self, name: &str, controllers: &[String]) -> Administrator {
        let seed = self.draw_seed();
        let addresses: Vec<String> =
            controllers.iter().take(self.size.controllers).map(|name| address(name)).collect();
        let (network, trace) = (&self.network, self.trace.clone());
        // Channels belong to the runtime in which they are made.
        self.outside.act(|| Administrator::new(network, CLUSTER, OUTSIDE, name, &addresses, seed, trace))
    }
}

async fn satellite(
    node: String,
    directory: &Path,
    below: FaultyHost,
    dialer: hawser_process::dial::Dialer,
    addresses: &[String],
    seed: u64,
    shown: &Running<Ledger>,
) -> anyhow::Result<()> {
    let facts = below.facts().await;
    let ledger = Ledger::open(&directory.join(LEDGER), CLUSTER, &node, &facts.boot_id)?;
    let controllers = Arc::new(Controllers::through(dialer, addresses, None)?);
    let satellite = Satellite::start(Parts {
        cluster_id: CLUSTER.into(),
        node: node.clone(),
        facts,
        host: Arc::new(below),
        ledger: ledger.clone(),
        restores: RestoreVerifier::none(),
        controllers: Arc::clone(&controllers),
        arbiter: Arc::new(ControllerArbiter::new(node, controllers)),
        socket: directory.join("socket"),
        seed,
    })
    .await?;
    shown.show(ledger);
    // It runs until its process is killed.
    std::future::pending::<()>().await;
    satellite.end().await;
    Ok(())
}

pub(super) fn join_order(ticket: v1::JoinTicket) -> StoreOrder {
    let introducer = |member: v1::Member| Introducer {
        raft_id: member.raft_id,
        name: member.name,
        address: member.address,
        store_incarnation: member.store_incarnation,
    };
    StoreOrder::Join {
        cluster_id: ticket.cluster_id,
        cluster_name: ticket.cluster_name,
        lineage: ticket.lineage,
        raft_id: ticket.raft_id,
        name: ticket.name,
        address: ticket.address,
        members: ticket.members.into_iter().map(introducer).collect(),
    }
}
