//! A formed cluster in a lab of its own, used through `hawser-lab` and `hawser` as a person would.
//!
//! Dropping it takes the lab down. It must never call into the programs: only their command lines.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hawser_lab::directories::LabDirectory;
use hawser_lab::kernel::Kernel;
use hawser_lab::{Lab, LabOptions};
use serde_json::Value;
use tokio::runtime::Runtime;

/// A lab with a cluster in it.
pub struct Cluster {
    // Taken out when the cluster is dropped, for taking a lab down consumes it.
    lab: Option<Lab>,
    runtime: Runtime,
    programs: PathBuf,
    client_configuration: PathBuf,
}

/// What a command said.
#[derive(Debug)]
pub struct Said {
    /// Exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub output: String,
    /// Standard error.
    pub error: String,
}

impl Said {
    /// Whether it exited with 0.
    pub fn ok(&self) -> bool {
        self.code == Some(0)
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            output: String::from_utf8_lossy(&output.stdout).into_owned(),
            error: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Why no lab can run on this machine; `None` where one can.
pub fn why_no_lab() -> Option<String> {
    Kernel::find().err().map(|error| error.to_string())
}

/// Whether a test that needs a lab can run. Where it cannot, says SKIPPED and why.
pub fn lab_or_skipped() -> bool {
    let missing = why_no_lab();
    if let Some(reason) = &missing {
        eprintln!("SKIPPED: {reason}");
    }
    missing.is_none()
}

impl Cluster {
    /// Boots `nodes` nodes and forms a cluster of controllers and satellites on all of them.
    pub fn up(name: &str, nodes: u8) -> Result<Self> {
        let name = format!("{name}-{}", std::process::id());
        let options = LabOptions { nodes, ..LabOptions::new(&name) };
        let directory = LabDirectory::named(&name);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let lab = runtime.block_on(Lab::up(&options, directory, true))?;
        let formed = runtime.block_on(hawser_lab::cluster::form(&lab, &options))?;
        Ok(Self {
            client_configuration: formed.client_configuration,
            programs: options.programs,
            runtime,
            lab: Some(lab),
        })
    }

    fn the_lab(&self) -> &Lab {
        self.lab.as_ref().expect("the lab is taken out only when the cluster is dropped")
    }

    /// Where a program of the workspace lies; the nodes see it under the same path.
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// Where the lab's files lie, the cluster's authority among them.
    pub fn directory(&self) -> &LabDirectory {
        self.the_lab().directory()
    }

    /// Runs `hawser` on the host.
    pub fn hawser(&self, arguments: &[&str]) -> Result<Said> {
        self.hawser_in(Path::new("."), arguments)
    }

    /// Runs `hawser` on the host in a directory of the caller's.
    pub fn hawser_in(&self, directory: &Path, arguments: &[&str]) -> Result<Said> {
        let mut command = Command::new(self.program("hawser"));
        command.env("HAWSER_CONFIG", &self.client_configuration).args(arguments).stdin(Stdio::null());
        Ok(command.current_dir(directory).output()?.into())
    }

    /// Runs `hawser-lab` for this lab, as a person would beside it.
    pub fn hawser_lab(&self, arguments: &[&str]) -> Result<Said> {
        Ok(self.lab_command().args(arguments).stdin(Stdio::null()).output()?.into())
    }

    fn lab_command(&self) -> Command {
        let mut command = Command::new(self.program("hawser-lab"));
        command.env("HAWSER_LAB_DIRECTORY", self.directory().path());
        command
    }

    /// Runs `hawser` and expects success.
    pub fn must(&self, arguments: &[&str]) -> Result<String> {
        let said = self.hawser(arguments)?;
        ensure!(said.ok(), "hawser {} failed: {}{}", arguments.join(" "), said.output, said.error);
        Ok(said.output)
    }

    /// Runs `hawser … -o json`, expects success and returns the value.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let mut all = arguments.to_vec();
        all.extend(["-o", "json"]);
        let output = self.must(&all)?;
        serde_json::from_str(&output)
            .with_context(|| format!("hawser {} printed no JSON: {output}", all.join(" ")))
    }

    /// Runs a command in a node.
    pub fn exec(&self, node: &str, argv: &[&str]) -> Result<Said> {
        let finished = self.runtime.block_on(self.the_lab().exec(node, argv))?;
        Ok(Said {
            code: Some(finished.code),
            output: finished.text(),
            error: String::from_utf8_lossy(&finished.error_output).into_owned(),
        })
    }

    /// Runs a command in a node and expects success.
    pub fn must_exec(&self, node: &str, argv: &[&str]) -> Result<String> {
        let said = self.exec(node, argv)?;
        ensure!(said.ok(), "{} on {node} failed: {}{}", argv.join(" "), said.output, said.error);
        Ok(said.output)
    }

    /// Starts a command in a node whose output is read as it comes.
    pub fn start(&self, node: &str, argv: &[&str]) -> Result<Child> {
        let mut command = self.lab_command();
        command.args(["exec", node, "--"]).args(argv);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(command.spawn()?)
    }

    /// Starts a command in a node that is spoken to: its input and its output are the caller's.
    pub fn converse(&self, node: &str, argv: &[&str]) -> Result<Child> {
        let mut command = self.lab_command();
        command.args(["exec", node, "--"]).args(argv);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        Ok(command.spawn()?)
    }

    /// Asks again and again until `question` answers with something, at most for `limit`.
    ///
    /// # Errors
    /// Says what was waited for and what was last seen.
    pub fn wait<T>(
        &self,
        what: &str,
        limit: Duration,
        mut question: impl FnMut() -> Result<Progress<T>>,
    ) -> Result<T> {
        let began = Instant::now();
        loop {
            match question()? {
                Progress::Reached(answer) => return Ok(answer),
                Progress::NotYet(seen) if began.elapsed() > limit => {
                    bail!("waited {limit:?} for {what}; last seen: {seen}")
                }
                Progress::NotYet(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// Cuts a node's power.
    pub fn kill(&self, node: &str) -> Result<()> {
        Ok(self.runtime.block_on(self.the_lab().kill(node))?)
    }

    /// Gives a node its power back and waits until it has booted.
    pub fn start_node(&self, node: &str) -> Result<()> {
        Ok(self.runtime.block_on(self.the_lab().start(node))?)
    }

    /// Cuts the links between a node and `peer`, or every other node.
    pub fn partition(&self, node: &str, peer: Option<&str>) -> Result<()> {
        Ok(self.runtime.block_on(self.the_lab().partition(node, peer))?)
    }

    /// The host's loopback port that leads to a port of a node.
    pub fn forward(&self, node: &str, port: u16) -> Result<u16> {
        Ok(self.runtime.block_on(self.the_lab().forward(node, port))?)
    }

    /// Lets the disk below a node's volume group fail.
    pub fn fail_disk(&self, node: &str) -> Result<()> {
        Ok(self.runtime.block_on(self.the_lab().fail_disk(node))?)
    }

    /// Restores every link.
    pub fn heal(&self) -> Result<()> {
        Ok(self.runtime.block_on(self.the_lab().heal())?)
    }

    /// Kernel and DRBD of a node, as "Linux 6.1.176, DRBD 8.4.11".
    pub fn versions(&self, node: &str) -> Result<String> {
        let kernel = self.must_exec(node, &["uname", "-r"])?;
        let drbd = self.must_exec(node, &["cat", "/sys/module/drbd/version"])?;
        Ok(format!("Linux {}, DRBD {}", kernel.trim(), drbd.trim()))
    }
}

/// How far a condition is that a story waits for.
pub enum Progress<T> {
    /// It holds.
    Reached(T),
    /// It does not yet; what there is instead.
    NotYet(String),
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(lab) = self.lab.take()
            && let Err(error) = self.runtime.block_on(lab.down(false))
        {
            eprintln!("the lab could not be taken down: {error}");
        }
    }
}
