//! The verbs of `hawser-lab`, as typed.

mod inside;
mod outside;
mod show;
mod terminal;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use hawser_lab::directories::LabDirectory;
use hawser_lab::machine::keeper::KeeperOptions;

/// Boots real Linux nodes on this machine, without privileges, and cuts their power and their network.
#[derive(Debug, Parser)]
#[command(name = "hawser-lab", version, max_term_width = 110)]
pub(crate) struct Arguments {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    verb: Verb,
}

/// Which lab.
#[derive(Debug, Args)]
struct Place {
    /// Name of the lab; else $HAWSER_LAB_NAME, else `lab`.
    #[arg(long, global = true, conflicts_with = "directory")]
    name: Option<String>,
    /// Directory of the lab, in place of one chosen by its name; else $HAWSER_LAB_DIRECTORY.
    #[arg(long, global = true)]
    directory: Option<PathBuf>,
}

impl Place {
    /// What was typed wins over what the environment says.
    fn resolve(&self) -> anyhow::Result<LabDirectory> {
        let given = self.directory.clone();
        let set =
            || std::env::var_os("HAWSER_LAB_DIRECTORY").map(PathBuf::from).filter(|_| self.name.is_none());
        Ok(match given.or_else(set) {
            Some(directory) => LabDirectory::at(std::path::absolute(directory)?),
            None => LabDirectory::named(&self.name()),
        })
    }

    fn name(&self) -> String {
        let set = || std::env::var("HAWSER_LAB_NAME").ok();
        self.name.clone().or_else(set).unwrap_or_else(|| "lab".to_owned())
    }
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Get the packages that nodes need: installed as root, unpacked below the build's target directory otherwise.
    Setup {
        /// Unpack them in any case.
        #[arg(long)]
        unpack: bool,
    },
    /// Boot the nodes; returns when they are up, the lab goes on in the background.
    Up(outside::Up),
    /// End the lab and remove what it made.
    Down {
        /// Leave disks and logs in the lab's directory.
        #[arg(long)]
        keep: bool,
    },
    /// Show nodes, cut links and forwarded ports.
    Status {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Run a command in a node, such as `bash`; it has a terminal when this command has one.
    Exec {
        /// The node, such as n1.
        node: String,
        /// Program and arguments.
        #[arg(required = true, last = true)]
        command: Vec<String>,
    },
    /// Print a node's console.
    Logs {
        /// The node, such as n1.
        node: String,
        /// A service of the node, in place of its console.
        service: Option<String>,
    },
    /// Cut a node's power.
    Kill {
        /// The node, such as n1.
        node: String,
    },
    /// Give a node power again; returns when it has booted.
    Start {
        /// The node, such as n1.
        node: String,
    },
    /// Cut the network between a node and another, or all others, in both directions.
    Partition {
        /// The node, such as n1.
        node: String,
        /// Another node, or `all`.
        peer: String,
    },
    /// Make the network between two nodes slow, in both directions.
    Delay {
        /// The node, such as n1.
        node: String,
        /// Another node.
        peer: String,
        /// How long each frame is on its way, in milliseconds, up to a minute; 0 ends it.
        milliseconds: u64,
    },
    /// Restore every link: neither cut nor slow.
    Heal,
    /// Let the disk below a node's volume group fail: each read and write of it ends with an error.
    FailDisk {
        /// The node, such as n1.
        node: String,
    },
    /// Let a disk that failed work again, with what was on it. Booting the node does that too.
    MendDisk {
        /// The node, such as n1.
        node: String,
    },
    /// Show the services of a node, or stop or start one until the node's next boot.
    Service {
        /// The node, such as n1.
        node: String,
        /// What to do; without it the services are shown.
        #[arg(requires = "service")]
        change: Option<Change>,
        /// The service.
        service: Option<String>,
    },
    /// Print the loopback port of the host that leads to a port of a node.
    Forward {
        /// The node, such as n1.
        node: String,
        /// The node's port.
        port: u16,
    },
    /// Let the nodes reach a loopback port of the host at 10.78.0.254.
    Export {
        /// The port.
        port: u16,
    },
    /// Print what makes a shell find the programs, this lab and its cluster: eval "$(hawser-lab env)".
    Env,
    /// The lab's own process.
    #[command(hide = true)]
    RunLab {
        /// The lab's directory.
        directory: PathBuf,
        /// End when the standard input ends.
        #[arg(long)]
        tied: bool,
    },
    /// The keeper of a node.
    #[command(hide = true)]
    KeepNode(KeeperOptions),
    /// The agent of a node.
    #[command(hide = true)]
    GuestAgent {
        /// The node's configuration.
        configuration: PathBuf,
    },
}

/// What to do with a service.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Change {
    Start,
    Stop,
}

/// Does what was typed.
///
/// # Errors
/// What went wrong, with object and remedy.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.verb {
        Verb::RunLab { directory, tied } => return Ok(inside::run_lab(directory, tied)),
        Verb::KeepNode(options) => return hawser_lab::machine::keeper::run(&options),
        Verb::GuestAgent { configuration } => {
            hawser_lab::guest::agent::run(&configuration)?;
            return Ok(ExitCode::SUCCESS);
        }
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(outside::run(&arguments.place, arguments.verb))
}
