//! The host's conformance suite on the simulated world. On real kernels it is run by the example
//! `hawser-host-suite` inside test nodes.
#![allow(clippy::unwrap_used)]

mod bench;
mod cases;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use hawser_plan::step::{DrbdPeer, Provider};
use hawser_satellite::host::{
    Host,
    sim::{FencePeer, SimHost, SimWorld, WriteState},
};
use tokio::sync::{Barrier, watch};

use crate::bench::{Arbiter, Bench, Side, Writer};

const NODES: [(&str, &str); 2] = [("alpha", "10.77.0.1"), ("bravo", "10.77.0.2")];

/// The handler of both nodes: waits until the suite lets it answer.
struct Handler([watch::Receiver<Arbiter>; 2]);

#[async_trait]
impl FencePeer for Handler {
    async fn ask(&self, node: &str, _: &str) -> i32 {
        let mut answer = self.0[usize::from(node == NODES[1].0)].clone();
        let answer = answer.wait_for(|answer| *answer != Arbiter::Silent).await;
        match answer.map(|answer| *answer) {
            Ok(Arbiter::Yes) => 4,
            _ => 1,
        }
    }
}

struct SimBench {
    world: SimWorld,
    provider: Provider,
    host: SimHost,
    side: Side,
    answer: watch::Sender<Arbiter>,
    both: Arc<Barrier>,
}

impl SimBench {
    fn node(&self) -> &'static str {
        NODES[usize::from(self.side == Side::B)].0
    }
}

#[async_trait]
impl Bench for SimBench {
    fn host(&self) -> &dyn Host {
        &self.host
    }

    fn side(&self) -> Side {
        self.side
    }

    fn provider(&self) -> Provider {
        self.provider.clone()
    }

    async fn unfinish(&self, _: &str) -> bool {
        false
    }

    fn peers(&self, port: u16) -> Vec<DrbdPeer> {
        let peer = |(node_id, (node, ip)): (usize, (&str, &str))| DrbdPeer {
            node: node.to_owned(),
            uname: node.to_owned(),
            node_id: u32::try_from(node_id).unwrap(),
            ip: ip.parse().unwrap(),
            port,
            diskful: true,
        };
        NODES.into_iter().enumerate().map(peer).collect()
    }

    async fn meet(&self) -> Result<(), String> {
        // The clock is paused: it runs on by itself only when both sides wait for something that never comes.
        match tokio::time::timeout(Duration::from_secs(3600), self.both.wait()).await {
            Ok(_) => Ok(()),
            Err(_) => Err("the other side has failed".to_owned()),
        }
    }

    async fn link(&self, up: bool) {
        self.world.link(NODES[0].0, NODES[1].0, up);
    }

    async fn arbiter(&self, answer: Arbiter) {
        self.answer.send_replace(answer);
    }

    async fn make_foreign_volume(&self, name: &str) {
        self.world.make_foreign_volume(self.node(), self.provider.contention_domain(), name);
    }

    async fn remove_foreign_volume(&self, name: &str) {
        self.world.remove_volume(self.node(), self.provider.contention_domain(), name);
    }

    async fn write(&self, gate: &str, record: u64) -> Box<dyn Writer> {
        let pid = self.world.write(self.node(), gate, 0, record).unwrap();
        Box::new(SimWriter {
            world: self.world.clone(),
            node: self.node(),
            pid,
            changes: self.host.changes(),
        })
    }

    async fn begins_with_zeros(&self, _: &str) -> bool {
        true
    }

    async fn takes_discards(&self, _: &str) -> bool {
        false
    }

    async fn read(&self, gate: &str) -> u64 {
        self.world.read(self.node(), gate, 0).unwrap()
    }
}

struct SimWriter {
    world: SimWorld,
    node: &'static str,
    pid: i32,
    changes: watch::Receiver<u64>,
}

#[async_trait]
impl Writer for SimWriter {
    async fn acknowledged(&mut self) -> bool {
        let ended = async {
            while self.world.write_state(self.node, self.pid) == Some(WriteState::Pending) {
                self.changes.changed().await.unwrap();
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(5), ended).await;
        self.world.write_state(self.node, self.pid) == Some(WriteState::Acknowledged)
    }

    async fn kill(&mut self) {
        self.world.kill(self.node, self.pid);
    }
}

fn thin() -> Provider {
    Provider::LvmThin { volume_group: "vg0".to_owned(), thin_pool: "thin".to_owned() }
}

fn thick() -> Provider {
    Provider::Lvm { volume_group: "vg0".to_owned() }
}

fn directory() -> Provider {
    Provider::Directory { path: "/srv/hawser".to_owned() }
}

/// Gives a world both nodes, with one pool of every kind.
fn add_nodes(world: &SimWorld) {
    for (node, ip) in NODES {
        world.add_node(node, ip.parse().unwrap(), "vg0", "thin", 1 << 30);
        world.add_volume_group(node, "vg0", 1 << 30);
        world.add_directory(node, "/srv/hawser", 1 << 30);
    }
}

#[tokio::test(start_paused = true)]
async fn the_simulated_host_passes_the_suite() {
    for provider in [thin(), thick(), directory()] {
        passes_the_suite(provider).await;
    }
}

async fn passes_the_suite(provider: Provider) {
    let answers = [(); 2].map(|()| watch::Sender::new(Arbiter::Silent));
    let world = SimWorld::new(Handler([answers[0].subscribe(), answers[1].subscribe()]));
    add_nodes(&world);
    let both = Arc::new(Barrier::new(2));
    let failures = Arc::new(Mutex::new(Vec::new()));
    let mut sides = Vec::new();
    for (side, answer) in [Side::A, Side::B].into_iter().zip(answers) {
        let host = world.host(NODES[usize::from(side == Side::B)].0);
        let (world, provider) = (world.clone(), provider.clone());
        let bench = SimBench { world, provider, host, side, answer, both: Arc::clone(&both) };
        let failures = Arc::clone(&failures);
        sides.push(tokio::spawn(async move {
            let mut cases = 0;
            let mut report = |name: &str, outcome: &cases::Outcome| {
                cases += 1;
                if let Err(why) = outcome {
                    failures.lock().unwrap().push(format!("{side:?} {name}: {why}"));
                }
            };
            cases::run(&bench, &mut report).await;
            cases
        }));
    }
    for side in sides {
        assert_eq!(side.await.unwrap(), 17, "every case was run on {provider:?}");
    }
    let failures = failures.lock().unwrap();
    assert!(failures.is_empty(), "on {provider:?}:\n{}", failures.join("\n"));
}

#[tokio::test(start_paused = true)]
async fn a_crashed_primary_comes_back_from_the_survivors_data() {
    // Given two replicas of which alpha is Primary and has written record 1 on both.
    let answer = watch::Sender::new(Arbiter::Yes);
    let world = SimWorld::new(Handler([answer.subscribe(), answer.subscribe()]));
    add_nodes(&world);
    let both = Arc::new(Barrier::new(1));
    let [alpha, bravo] = [Side::A, Side::B].map(|side| {
        let host = world.host(NODES[usize::from(side == Side::B)].0);
        let (world, provider, answer) = (world.clone(), thin(), answer.clone());
        SimBench { world, provider, host, side, answer, both: Arc::clone(&both) }
    });
    let [first, second] = [&alpha, &bravo].map(|bench| cases::Suite::new(bench));
    first.create().await.unwrap();
    second.create().await.unwrap();
    first.in_sync().await.unwrap();
    first.promote_and_open().await.unwrap();
    assert!(alpha.write(cases::GATE, 1).await.acknowledged().await);

    // When its power is cut, bravo takes over and writes record 2, and alpha boots.
    world.cut_power(NODES[0].0);
    second.until("lost", |found| !cases::connected(found, NODES[0].0)).await.unwrap();
    second.promote_and_open().await.unwrap();
    assert_eq!(bravo.read(cases::GATE).await, 1, "what was acknowledged is there");
    assert!(bravo.write(cases::GATE, 2).await.acknowledged().await);
    world.boot(NODES[0].0);
    let found = first.look().await;
    assert!(found.kernel.is_absent() && found.backing[&0].present().is_some_and(|volume| !volume.active));

    // Then alpha resyncs from bravo, never the other way round.
    first.start_again().await.unwrap();
    first.in_sync().await.unwrap();
    assert_eq!(bravo.read(cases::GATE).await, 2);
    world.cut_power(NODES[1].0);
    first.until("lost", |found| !cases::connected(found, NODES[1].0)).await.unwrap();
    first.promote_and_open().await.unwrap();
    assert_eq!(alpha.read(cases::GATE).await, 2);
}
