//! What the tools ask of a lab's process over its control socket: one request line, one answer line.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::agent::{NodeReady, Service, ServiceStatus};
use crate::network::fabric::LinkCount;

/// The first line on a connection to the control socket.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Request {
    /// How the lab is.
    Status,
    /// Join this connection with the node's agent; its request and frames follow.
    Agent {
        /// The node.
        node: String,
    },
    /// Take the node's power.
    Kill {
        /// The node.
        node: String,
    },
    /// Give the node power and wait until it has booted.
    Start {
        /// The node.
        node: String,
    },
    /// Cut the links between a node and another, in both directions.
    Partition {
        /// One end.
        node: String,
        /// The other end; none means every other node.
        peer: Option<String>,
    },
    /// Delay each frame between two nodes, in both directions.
    Delay {
        /// One end.
        node: String,
        /// The other end.
        peer: String,
        /// For how long; 0 ends it.
        milliseconds: u64,
    },
    /// Restore every link.
    Heal,
    /// Forward a free loopback port to a port of a node.
    Forward {
        /// The node.
        node: String,
        /// The node's port.
        port: u16,
    },
    /// Let every node reach a loopback port of the host at the host's management address.
    Export {
        /// The port.
        port: u16,
    },
    /// Run these services on a node, also after its next start.
    SetServices {
        /// The node.
        node: String,
        /// All of its services.
        services: Vec<Service>,
    },
    /// End the lab.
    Down {
        /// Leave disks and logs behind.
        keep: bool,
    },
}

/// The answer to a request.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Answer {
    /// Done.
    Done,
    /// How the lab is.
    Status(Box<LabStatus>),
    /// The host's loopback port.
    Port(u16),
    /// The services as they are now.
    Services(Vec<ServiceStatus>),
    /// Not done: object, reason and remedy in words.
    Refused(String),
}

/// A lab, as it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LabStatus {
    /// Its name.
    pub name: String,
    /// Its process.
    pub process: u32,
    /// Its nodes, by name.
    pub nodes: BTreeMap<String, NodeStatus>,
    /// Directions in which no frame passes: from, to.
    pub cuts: Vec<(String, String)>,
    /// Directions in which frames are on their way for some time: from, to, milliseconds.
    pub delays: Vec<(String, String, u64)>,
    /// Frames by direction: from, to, counts.
    pub links: Vec<(String, String, LinkCount)>,
    /// Loopback ports of the host that every node reaches.
    pub exports: Vec<u16>,
}

/// A node, as it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Whether it has power, and how far it is.
    pub power: Power,
    /// Its address on the cluster network.
    pub cluster_address: String,
    /// Its address on the management link.
    pub management_address: String,
    /// How long its last boot took, in milliseconds, until commands could be run.
    pub boot_milliseconds: Option<u64>,
    /// What it said when it had booted.
    pub ready: Option<NodeReady>,
    /// The host's loopback port for each forwarded port of the node.
    pub forwards: BTreeMap<u16, u16>,
}

/// Whether a node runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Power {
    /// It has no power.
    Off,
    /// It boots.
    Booting,
    /// Commands can be run in it.
    Running,
}
