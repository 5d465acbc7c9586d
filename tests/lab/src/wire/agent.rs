//! What the host asks of a node's agent, and what a node says when it has booted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The first line on a connection to the agent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum AgentRequest {
    /// Run a command; [`super::frames::Frame`]s follow in both directions.
    Execute(Execute),
    /// Replace the services of this node; those that are new or changed are started. A [`ServiceAnswer`] follows.
    SetServices(Vec<Service>),
    /// Stop a service and keep it stopped. A [`ServiceAnswer`] follows.
    StopService(String),
    /// Start a stopped service. A [`ServiceAnswer`] follows.
    StartService(String),
    /// Describe every service. A [`ServiceAnswer`] follows.
    ListServices,
}

/// A command to run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Execute {
    /// Program and arguments.
    pub arguments: Vec<String>,
    /// Variables on top of the node's own environment.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Where it runs; `/` when not given.
    #[serde(default)]
    pub directory: Option<String>,
    /// The kind of terminal that the command gets in place of pipes, such as `xterm`.
    #[serde(default)]
    pub terminal: Option<String>,
}

/// A program that runs on a node as long as the node does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name, also that of its log.
    pub name: String,
    /// Program and arguments.
    pub arguments: Vec<String>,
    /// Variables on top of the node's own environment.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
}

/// How a service is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// Its process, while it runs.
    pub process: Option<u32>,
    /// How often it was started since the node booted.
    pub starts: u32,
    /// Whether someone stopped it.
    pub stopped: bool,
    /// How it ended the last time, in words.
    pub last_end: Option<String>,
}

/// The agent's answer to everything that concerns services.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ServiceAnswer {
    /// Done; the services as they are now.
    Services(Vec<ServiceStatus>),
    /// Refused, and why.
    Refused(String),
}

/// What a node says as soon as commands can be run in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReady {
    /// Release of its kernel.
    pub kernel: String,
    /// Version of its DRBD module, empty when there is none.
    pub drbd: String,
    /// Things that did not work while it booted but did not stop it, in words.
    pub warnings: Vec<String>,
}
