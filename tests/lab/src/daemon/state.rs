//! A running lab: its nodes, the forwarded ports, and what its verbs do to them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::services::ServiceTable;
use crate::error::{LabError, Tried};
use crate::machine::node::{Node, Surroundings};
use crate::network::addresses::{cluster, management};
use crate::network::fabric::{Fabric, Port};
use crate::network::forward;
use crate::wire::agent::{Service, ServiceStatus};
use crate::wire::control::{LabStatus, NodeStatus, Power};

/// Ports of every node that are forwarded from the start: the cluster's API and the two health ports.
pub const FORWARDED: [u16; 3] = [6470, 6471, 6472];
/// Slower than any network, and short enough that nobody takes it for a cut.
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// A lab.
pub struct LabState {
    surroundings: Rc<Surroundings>,
    nodes: BTreeMap<String, Rc<Node>>,
    forwards: RefCell<BTreeMap<(String, u16), u16>>,
    exports: RefCell<Vec<u16>>,
    services: ServiceTable,
    keep: Cell<bool>,
    /// Told when the lab shall end.
    pub ending: Notify,
}

impl LabState {
    /// The lab with all its nodes off.
    ///
    /// # Errors
    /// The system's error when it has no free loopback port.
    pub async fn new(surroundings: Rc<Surroundings>) -> Result<Self, LabError> {
        let nodes: BTreeMap<_, _> = surroundings
            .options
            .node_names()
            .into_iter()
            .map(|(name, number)| (name.clone(), Rc::new(Node::new(name, number, Rc::clone(&surroundings)))))
            .collect();
        let state = Self {
            surroundings,
            nodes,
            forwards: RefCell::default(),
            exports: RefCell::default(),
            services: ServiceTable::default(),
            keep: Cell::new(false),
            ending: Notify::new(),
        };
        for node in state.nodes.keys() {
            for port in FORWARDED {
                state.forward(node, port).await?;
            }
        }
        Ok(state)
    }

    /// Makes every node and boots all of them at once.
    ///
    /// # Errors
    /// What the first node that failed says.
    pub async fn make_and_start_nodes(self: &Rc<Self>) -> Result<(), LabError> {
        let share = self.surroundings.directory.share();
        std::fs::create_dir_all(&share).tried(|| format!("cannot make {}", share.display()))?;
        let mut starting = tokio::task::JoinSet::new();
        for node in self.nodes.values() {
            let node = Rc::clone(node);
            starting.spawn_local(async move {
                node.make().await?;
                node.start().await
            });
        }
        while let Some(result) = starting.join_next().await {
            result
                .map_err(|error| LabError::Refused(format!("a node's start was broken off: {error}")))??;
        }
        Ok(())
    }

    /// The node with this name.
    ///
    /// # Errors
    /// A refusal that names the nodes there are.
    pub fn node(&self, name: &str) -> Result<&Rc<Node>, LabError> {
        self.nodes.get(name).ok_or_else(|| {
            let known = self.nodes.keys().cloned().collect::<Vec<_>>().join(", ");
            LabError::Refused(format!(
                "lab {} has no node {name}; it has: {known}",
                self.surroundings.options.name
            ))
        })
    }

    /// Boots a node that is off, with its exported ports and its services.
    ///
    /// # Errors
    /// As [`Node::start`] and [`ServiceTable::tell`].
    pub async fn start(&self, name: &str) -> Result<(), LabError> {
        let node = self.node(name)?;
        node.start().await?;
        for port in self.exports.borrow().iter() {
            export(node, *port);
        }
        self.services.tell(node).await.map(drop)
    }

    /// Decides which services run on a node.
    ///
    /// # Errors
    /// That the node is unknown, and as [`ServiceTable::set`].
    pub async fn set_services(
        &self,
        name: &str,
        services: Vec<Service>,
    ) -> Result<Vec<ServiceStatus>, LabError> {
        self.services.set(self.node(name)?, services).await
    }

    /// Cuts a node from another, or from every other, in both directions.
    ///
    /// # Errors
    /// A refusal when a name is unknown or both are the same.
    pub fn partition(&self, name: &str, peer: Option<&str>) -> Result<(), LabError> {
        let node = self.node(name)?.number;
        let peers: Vec<Port> = match peer {
            Some(peer) => vec![self.node(peer)?.number],
            None => self.nodes.values().map(|other| other.number).filter(|other| *other != node).collect(),
        };
        if peers.contains(&node) {
            return Err(LabError::Refused(format!(
                "node {name} cannot be cut from itself; name two nodes, or `all`"
            )));
        }
        self.surroundings.switch.with_fabric(|fabric| {
            for peer in peers {
                fabric.cut(node, peer);
                fabric.cut(peer, node);
            }
        });
        Ok(())
    }

    /// Delays each frame between two nodes, in both directions; no delay ends it.
    ///
    /// # Errors
    /// A refusal when a name is unknown, both are the same, or the delay is too long.
    pub fn delay(&self, name: &str, peer: &str, delay: Duration) -> Result<(), LabError> {
        let (node, other) = (self.node(name)?.number, self.node(peer)?.number);
        if node == other {
            return Err(LabError::Refused(format!("node {name} has no link to itself; name two nodes")));
        }
        if delay > LONGEST_DELAY {
            return Err(LabError::Refused(format!(
                "a delay of {} ms is longer than {} s; cut the link with `hawser-lab partition {name} {peer}` if nothing \
                 is to come through",
                delay.as_millis(),
                LONGEST_DELAY.as_secs()
            )));
        }
        self.surroundings.switch.with_fabric(|fabric| {
            fabric.delay(node, other, delay);
            fabric.delay(other, node, delay);
        });
        Ok(())
    }

    /// Restores every link.
    pub fn heal(&self) {
        self.surroundings.switch.with_fabric(Fabric::heal);
    }

    /// Forwards a free loopback port of the host to a node's port; the same one when asked again.
    ///
    /// # Errors
    /// A refusal when the node is unknown, or the system's error when it has no free port.
    pub async fn forward(&self, name: &str, port: u16) -> Result<u16, LabError> {
        let node = self.node(name)?;
        let key = (name.to_owned(), port);
        if let Some(known) = self.forwards.borrow().get(&key) {
            return Ok(*known);
        }
        let action = || format!("cannot open a loopback port for port {port} of node {name}");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.tried(action)?;
        let own = listener.local_addr().tried(action)?.port();
        self.forwards.borrow_mut().insert(key, own);
        tokio::task::spawn_local(forward::into_node(listener, node.link(), port));
        Ok(own)
    }

    /// Lets every node reach a loopback port of the host.
    pub fn export(&self, port: u16) {
        if self.exports.borrow().contains(&port) {
            return;
        }
        self.exports.borrow_mut().push(port);
        for node in self.nodes.values() {
            export(node, port);
        }
    }

    /// Ends every node.
    pub async fn end_nodes(&self) {
        for node in self.nodes.values() {
            if let Err(error) = node.kill().await {
                tracing::error!(%error, "a node was not ended");
            }
        }
    }

    /// Whether disks and logs stay when the lab ends.
    pub fn keeps_files(&self) -> bool {
        self.keep.get()
    }

    /// Ends the lab.
    pub fn end(&self, keep: bool) {
        self.keep.set(keep);
        self.ending.notify_one();
    }

    /// How the lab is.
    pub fn status(&self) -> LabStatus {
        let name_of = |port: Port| format!("n{port}");
        let (cuts, delays, links) = self.surroundings.switch.with_fabric(|fabric| {
            let cuts = fabric.cuts().into_iter().map(|(from, to)| (name_of(from), name_of(to))).collect();
            let delays = fabric.delays().into_iter().map(|(from, to, delay)| {
                let milliseconds = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
                (name_of(from), name_of(to), milliseconds)
            });
            let counts = fabric.counts().iter();
            (
                cuts,
                delays.collect(),
                counts.map(|((from, to), count)| (name_of(*from), name_of(*to), *count)).collect(),
            )
        });
        LabStatus {
            name: self.surroundings.options.name.clone(),
            process: std::process::id(),
            nodes: self.nodes.iter().map(|(name, node)| (name.clone(), self.node_status(node))).collect(),
            cuts,
            delays,
            links,
            exports: self.exports.borrow().clone(),
        }
    }

    fn node_status(&self, node: &Node) -> NodeStatus {
        let condition = node.condition().borrow().clone();
        let forwards = self.forwards.borrow();
        NodeStatus {
            power: condition.power,
            cluster_address: cluster(node.number).to_string(),
            management_address: management(node.number).to_string(),
            boot_milliseconds: condition.boot.and_then(|boot| u64::try_from(boot.as_millis()).ok()),
            ready: condition.ready.filter(|_| condition.power == Power::Running),
            forwards: forwards
                .iter()
                .filter(|((name, _), _)| *name == node.name)
                .map(|((_, port), own)| (*port, *own))
                .collect(),
        }
    }
}

fn export(node: &Node, port: u16) {
    if let Some(link) = node.link().borrow().clone() {
        tokio::task::spawn_local(forward::out_of_node(link, port));
    }
}
