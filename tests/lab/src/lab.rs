//! A handle on a running lab, for tests and for the command line. It holds no state of its own: everything is
//! asked of the lab's process.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use crate::daemon::{UP, control_path};
use crate::directories::LabDirectory;
use crate::error::{LabError, Tried};
use crate::kernel::Kernel;
use crate::options::LabOptions;
use crate::wire::agent::{AgentRequest, Execute, Service, ServiceAnswer, ServiceStatus};
use crate::wire::control::{Answer, LabStatus, Request};
use crate::wire::frames::{Frame, LIMIT};
use crate::wire::lines;

/// A running lab.
pub struct Lab {
    directory: LabDirectory,
    tie: Option<Child>,
}

/// How a command in a node ended, with everything that it wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Its code, or 128 plus the signal that ended it.
    pub code: i32,
    /// Its standard output.
    pub output: Vec<u8>,
    /// Its standard error.
    pub error_output: Vec<u8>,
}

impl Finished {
    /// The standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.output).into_owned()
    }
}

impl Lab {
    /// Starts a lab and waits until all its nodes have booted. A `tied` lab ends when this handle is dropped or
    /// its process ends; another one goes on until it is taken down. What a lab that was killed left in the
    /// directory is removed first.
    ///
    /// # Errors
    /// What is wrong with the options, what the machine lacks, or why a node did not boot.
    pub async fn up(options: &LabOptions, directory: LabDirectory, tied: bool) -> Result<Self, LabError> {
        options.check()?;
        Kernel::find()?;
        let path = directory.path().to_owned();
        if !path.is_absolute() {
            let reason = format!("{} is not an absolute path", path.display());
            return Err(LabError::Invalid { field: "--directory", reason });
        }
        prepare(&directory)?;
        let mark = directory.mark();
        let text = serde_json::to_vec_pretty(options).tried(|| "cannot encode the options".to_owned())?;
        std::fs::write(&mark, text).tried(|| format!("cannot write {}", mark.display()))?;
        let log =
            File::create(directory.log()).tried(|| format!("cannot write {}", directory.log().display()))?;
        let program = options.programs.join("hawser-lab");
        let mut command = Command::new(&program);
        command.arg("run-lab").arg(&path).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        if tied {
            command.arg("--tied").stdin(Stdio::piped());
        }
        let mut child = command
            .spawn()
            .tried(|| format!("cannot start {}; build it with `cargo build`", program.display()))?;
        let mut words = String::new();
        if let Some(mut output) = child.stdout.take() {
            output
                .read_to_string(&mut words)
                .await
                .tried(|| "the lab's process does not answer".to_owned())?;
        }
        if words != UP {
            let _ = child.wait().await;
            let reason =
                if words.is_empty() { "the lab's process ended without a word".to_owned() } else { words };
            return Err(LabError::Refused(format!("{reason}\n(its log: {})", directory.log().display())));
        }
        Ok(Self { directory, tie: tied.then_some(child) })
    }

    /// A lab that runs already.
    ///
    /// # Errors
    /// [`LabError::NotRunning`] when none runs there.
    pub async fn open(directory: LabDirectory) -> Result<Self, LabError> {
        let lab = Self { directory, tie: None };
        lab.connect().await?;
        Ok(lab)
    }

    /// The lab's files.
    pub fn directory(&self) -> &LabDirectory {
        &self.directory
    }

    /// How the lab is.
    ///
    /// # Errors
    /// That it does not run.
    pub async fn status(&self) -> Result<LabStatus, LabError> {
        match self.ask(&Request::Status).await? {
            Answer::Status(status) => Ok(*status),
            other => Err(unexpected(&other)),
        }
    }

    /// Takes a node's power.
    ///
    /// # Errors
    /// That the node is unknown.
    pub async fn kill(&self, node: &str) -> Result<(), LabError> {
        self.order(&Request::Kill { node: node.to_owned() }).await
    }

    /// Gives a node power and waits until it has booted.
    ///
    /// # Errors
    /// That the node is unknown or runs already, or why it did not boot.
    pub async fn start(&self, node: &str) -> Result<(), LabError> {
        self.order(&Request::Start { node: node.to_owned() }).await
    }

    /// Cuts a node from another, or from all others when none is named, in both directions.
    ///
    /// # Errors
    /// That a node is unknown.
    pub async fn partition(&self, node: &str, peer: Option<&str>) -> Result<(), LabError> {
        self.order(&Request::Partition { node: node.to_owned(), peer: peer.map(str::to_owned) }).await
    }

    /// Delays each frame between two nodes, in both directions; no delay ends it.
    ///
    /// # Errors
    /// That a node is unknown or the delay too long.
    pub async fn delay(&self, node: &str, peer: &str, delay: Duration) -> Result<(), LabError> {
        let milliseconds = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.order(&Request::Delay { node: node.to_owned(), peer: peer.to_owned(), milliseconds }).await
    }

    /// Restores every link.
    ///
    /// # Errors
    /// That the lab does not run.
    pub async fn heal(&self) -> Result<(), LabError> {
        self.order(&Request::Heal).await
    }

    /// The host's loopback port that leads to a port of a node; opened when it is not yet.
    ///
    /// # Errors
    /// That the node is unknown.
    pub async fn forward(&self, node: &str, port: u16) -> Result<u16, LabError> {
        match self.ask(&Request::Forward { node: node.to_owned(), port }).await? {
            Answer::Port(own) => Ok(own),
            other => Err(unexpected(&other)),
        }
    }

    /// Lets every node reach this loopback port of the host, at the host's management address.
    ///
    /// # Errors
    /// That the lab does not run.
    pub async fn export(&self, port: u16) -> Result<(), LabError> {
        self.order(&Request::Export { port }).await
    }

    /// Runs a command in a node and collects its output.
    ///
    /// # Errors
    /// That the node is not running or the command cannot be started. A command that fails is no error.
    pub async fn exec(&self, node: &str, arguments: &[&str]) -> Result<Finished, LabError> {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let (mut output, mut error_output) = (Vec::new(), Vec::new());
        let command = Execute { arguments, ..Execute::default() };
        let code = self.stream(node, command, tokio::io::empty(), &mut output, &mut error_output).await?;
        Ok(Finished { code, output, error_output })
    }

    /// Runs a command in a node, with input and output passed on as they come; answers with its code.
    ///
    /// # Errors
    /// As [`Self::exec`].
    pub async fn stream(
        &self,
        node: &str,
        command: Execute,
        input: impl AsyncRead + Unpin,
        mut output: impl AsyncWrite + Unpin,
        mut error_output: impl AsyncWrite + Unpin,
    ) -> Result<i32, LabError> {
        let action = || format!("the connection to node {node} broke off; see `hawser-lab status`");
        let name = command.arguments.first().cloned().unwrap_or_default();
        let mut agent = self.agent(node).await?;
        lines::write(&mut agent, &AgentRequest::Execute(command)).await.tried(action)?;
        let (mut reader, mut writer) = agent.split();
        let mut sending = std::pin::pin!(async move {
            pass_input(input, &mut writer).await;
            // The writer stays open: its end would tell the agent that the caller is gone.
            std::future::pending::<()>().await;
        });
        loop {
            let mut receiving = std::pin::pin!(Frame::read(&mut reader));
            let frame = tokio::select! {
                frame = &mut receiving => frame.tried(action)?,
                () = &mut sending => None,
            };
            match frame {
                Some(Frame::Output(bytes)) => {
                    output
                        .write_all(&bytes)
                        .await
                        .tried(|| "cannot write the command's output".to_owned())?;
                    output.flush().await.tried(|| "cannot write the command's output".to_owned())?;
                }
                Some(Frame::ErrorOutput(bytes)) => {
                    error_output
                        .write_all(&bytes)
                        .await
                        .tried(|| "cannot write the command's errors".to_owned())?;
                    error_output.flush().await.tried(|| "cannot write the command's errors".to_owned())?;
                }
                Some(Frame::Exit(code)) => return Ok(code),
                Some(Frame::Failed(reason)) => {
                    return Err(LabError::Refused(format!("cannot run {name} on node {node}: {reason}")));
                }
                Some(_) | None => {
                    return Err(LabError::Refused(format!("node {node} went away while {name} ran there")));
                }
            }
        }
    }

    /// Decides which services run on a node, now and after each of its boots.
    ///
    /// # Errors
    /// That the node is unknown or its agent cannot be reached.
    pub async fn set_services(
        &self,
        node: &str,
        services: Vec<Service>,
    ) -> Result<Vec<ServiceStatus>, LabError> {
        match self.ask(&Request::SetServices { node: node.to_owned(), services }).await? {
            Answer::Services(services) => Ok(services),
            other => Err(unexpected(&other)),
        }
    }

    /// Describes, stops or starts services of a node, until its next boot.
    ///
    /// # Errors
    /// That the node is not running or has no such service.
    pub async fn service(&self, node: &str, request: &AgentRequest) -> Result<Vec<ServiceStatus>, LabError> {
        let action = || format!("the connection to node {node} broke off; see `hawser-lab status`");
        let mut agent = self.agent(node).await?;
        lines::write(&mut agent, request).await.tried(action)?;
        match lines::read(&mut agent).await.tried(action)? {
            ServiceAnswer::Services(services) => Ok(services),
            ServiceAnswer::Refused(reason) => Err(LabError::Refused(format!("node {node}: {reason}"))),
        }
    }

    /// Copies a file or directory of the host to the lab's share; answers with its path in the nodes.
    ///
    /// # Errors
    /// Which file, and the system's answer.
    pub fn copy_in(&self, source: &Path, name: &str) -> Result<PathBuf, LabError> {
        let target = self.directory.share().join(name);
        copy(source, &target)
            .tried(|| format!("cannot copy {} to {}", source.display(), target.display()))?;
        Ok(Path::new("/host").join(name))
    }

    /// Ends the lab and waits until nothing of it is left; `keep` leaves disks and logs in its directory.
    ///
    /// # Errors
    /// That it does not run.
    pub async fn down(mut self, keep: bool) -> Result<(), LabError> {
        let mut stream = self.connect().await?;
        lines::write(&mut stream, &Request::Down { keep }).await.tried(|| self.broken())?;
        let answer: Answer = lines::read(&mut stream).await.tried(|| self.broken())?;
        if let Answer::Refused(reason) = answer {
            return Err(LabError::Refused(reason));
        }
        if let Some(mut child) = self.tie.take() {
            let _ = child.wait().await;
        }
        while is_locked(&self.directory) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Opens a conversation with a node's agent.
    pub(crate) async fn agent(&self, node: &str) -> Result<UnixStream, LabError> {
        let mut stream = self.connect().await?;
        lines::write(&mut stream, &Request::Agent { node: node.to_owned() }).await.tried(|| self.broken())?;
        match lines::read(&mut stream).await.tried(|| self.broken())? {
            Answer::Done => Ok(stream),
            Answer::Refused(reason) => Err(LabError::Refused(reason)),
            other => Err(unexpected(&other)),
        }
    }

    async fn order(&self, request: &Request) -> Result<(), LabError> {
        match self.ask(request).await? {
            Answer::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    pub(crate) async fn ask(&self, request: &Request) -> Result<Answer, LabError> {
        let mut stream = self.connect().await?;
        lines::write(&mut stream, request).await.tried(|| self.broken())?;
        match lines::read(&mut stream).await.tried(|| self.broken())? {
            Answer::Refused(reason) => Err(LabError::Refused(reason)),
            answer => Ok(answer),
        }
    }

    async fn connect(&self) -> Result<UnixStream, LabError> {
        let not_running = || LabError::NotRunning(self.directory.path().to_owned());
        let (_open, path) = control_path(&self.directory.runtime()).map_err(|_| not_running())?;
        UnixStream::connect(path).await.map_err(|_| not_running())
    }

    fn broken(&self) -> String {
        format!("the lab in {} broke off the conversation", self.directory.path().display())
    }
}

async fn pass_input(mut input: impl AsyncRead + Unpin, writer: &mut (impl AsyncWrite + Unpin)) {
    let mut buffer = vec![0; LIMIT];
    loop {
        let frame = match input.read(&mut buffer).await {
            Ok(0) | Err(_) => Frame::InputEnd,
            Ok(length) => Frame::Input(buffer[..length].to_vec()),
        };
        // A node that is gone is noticed by the reading side.
        if frame.write(writer).await.is_err() || frame == Frame::InputEnd {
            return;
        }
    }
}

/// Makes the directory ready for a new lab.
fn prepare(directory: &LabDirectory) -> Result<(), LabError> {
    let path = directory.path();
    std::fs::create_dir_all(path).tried(|| format!("cannot make {}", path.display()))?;
    if directory.mark().exists() {
        if is_locked(directory) {
            return Err(LabError::Running(path.to_owned()));
        }
        directory
            .remove()
            .tried(|| format!("cannot remove what an earlier lab left in {}", path.display()))?;
        return std::fs::create_dir_all(path).tried(|| format!("cannot make {}", path.display()));
    }
    let mut entries = std::fs::read_dir(path).tried(|| format!("cannot read {}", path.display()))?;
    if entries.next().is_some() { Err(LabError::Foreign(path.to_owned())) } else { Ok(()) }
}

/// Whether a lab's process lives there.
fn is_locked(directory: &LabDirectory) -> bool {
    let Ok(file) = File::open(directory.lock()) else { return false };
    nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockSharedNonblock).is_err()
}

/// Copies a file, or a directory with all that is in it, with the files' rights.
pub(crate) fn copy(source: &Path, target: &Path) -> std::io::Result<()> {
    if !source.is_dir() {
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent)?;
        }
        return std::fs::copy(source, target).map(drop);
    }
    std::fs::create_dir_all(target)?;
    for entry in std::fs::read_dir(source)? {
        let entry = entry?;
        copy(&entry.path(), &target.join(entry.file_name()))?;
    }
    Ok(())
}

fn unexpected(answer: &Answer) -> LabError {
    LabError::Refused(format!("the lab gave an answer that does not belong to the question: {answer:?}"))
}
