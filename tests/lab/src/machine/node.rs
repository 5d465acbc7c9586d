//! One node's life on the host: power on, booted, power cut. It must never leave a process without its keeper.

use std::cell::Cell;
use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{setsockopt, sockopt};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::command_line::{CONFIGURATION, KERNEL_FILES, arguments};
use super::{disks, memory, preload};
use crate::directories::LabDirectory;
use crate::error::{LabError, Tried};
use crate::guest::configuration::GuestConfiguration;
use crate::kernel::Kernel;
use crate::network::addresses::READY_PORT;
use crate::network::link::Link;
use crate::network::switch::Switch;
use crate::options::LabOptions;
use crate::wire::agent::NodeReady;
use crate::wire::control::Power;
use crate::wire::lines;

/// How long a boot may take; a machine that is busy with other things needs many times the usual three seconds.
const BOOT_DEADLINE: Duration = Duration::from_secs(180);
const SOCKET_BUFFER: usize = 4 << 20;
const CONSOLE_LINES: usize = 15;

/// What all nodes of a lab share.
pub struct Surroundings {
    /// The lab's files.
    pub directory: LabDirectory,
    /// Its options.
    pub options: LabOptions,
    /// The kernel that every node runs.
    pub kernel: Kernel,
    /// The cluster network.
    pub switch: Switch,
    /// The program that is keeper and first process: this one.
    pub program: PathBuf,
}

/// How a node is at this moment.
#[derive(Debug, Clone)]
pub struct Condition {
    /// Whether it has power, and how far it is.
    pub power: Power,
    /// How long the last boot took.
    pub boot: Option<Duration>,
    /// What it said when it had booted.
    pub ready: Option<NodeReady>,
}

/// A node.
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its number.
    pub number: u8,
    surroundings: Rc<Surroundings>,
    condition: watch::Sender<Condition>,
    link: watch::Sender<Option<Link>>,
    keeper: Cell<Option<Pid>>,
}

impl Node {
    /// A node without power and without disks.
    pub fn new(name: String, number: u8, surroundings: Rc<Surroundings>) -> Self {
        let condition = Condition { power: Power::Off, boot: None, ready: None };
        Self {
            name,
            number,
            surroundings,
            condition: watch::Sender::new(condition),
            link: watch::Sender::new(None),
            keeper: Cell::new(None),
        }
    }

    /// Makes its directory, configuration and disks.
    ///
    /// # Errors
    /// Which file, and the system's answer.
    pub async fn make(&self) -> Result<(), LabError> {
        let Surroundings { directory, options, kernel, .. } = &*self.surroundings;
        let own = directory.node(&self.name);
        for path in [own.join(KERNEL_FILES), directory.service_logs(&self.name)] {
            std::fs::create_dir_all(&path).tried(|| format!("cannot make {}", path.display()))?;
        }
        let configuration = GuestConfiguration {
            name: self.name.clone(),
            number: self.number,
            nodes: options.node_names(),
            modules: kernel.modules.clone(),
            layers: options.drbd_utils.iter().chain(&kernel.packages).cloned().collect(),
            drbd_modules: options.drbd_modules.clone(),
            share: directory.share(),
            programs: options.programs.clone(),
        };
        let path = own.join(CONFIGURATION);
        configuration.write(&path).tried(|| format!("cannot write {}", path.display()))?;
        preload::write(&own)?;
        disks::make(&own, options, kernel).await
    }

    /// Its condition, as it changes.
    pub fn condition(&self) -> watch::Receiver<Condition> {
        self.condition.subscribe()
    }

    /// Its management link, as it comes and goes.
    pub fn link(&self) -> watch::Receiver<Option<Link>> {
        self.link.subscribe()
    }

    /// Gives it power and waits until commands can be run in it.
    ///
    /// # Errors
    /// That it has power already, or why it did not boot, with the end of its console.
    pub async fn start(self: &Rc<Self>) -> Result<(), LabError> {
        if self.condition.borrow().power != Power::Off {
            return Err(LabError::Refused(format!(
                "node {} is {}; cut its power first with `hawser-lab kill {}`",
                self.name,
                if self.condition.borrow().power == Power::Running { "running" } else { "booting" },
                self.name
            )));
        }
        let began = Instant::now();
        let (link, child) = self.power_on()?;
        self.keeper.set(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw));
        self.condition.send_modify(|condition| {
            condition.power = Power::Booting;
            condition.ready = None;
        });
        self.watch_keeper(child);
        match self.wait_until_ready(&link).await {
            Ok(ready) => {
                self.link.send_replace(Some(link));
                self.condition.send_if_modified(|condition| {
                    let alive = condition.power == Power::Booting;
                    if alive {
                        *condition = Condition {
                            power: Power::Running,
                            boot: Some(began.elapsed()),
                            ready: Some(ready),
                        };
                    }
                    alive
                });
                Ok(())
            }
            Err(reason) => {
                self.kill().await?;
                Err(LabError::Boot { node: self.name.clone(), reason, console: self.console_end() })
            }
        }
    }

    /// Takes its power: every process of it is killed, and the ends of its cables are dead.
    ///
    /// # Errors
    /// The system's error when its keeper cannot be told.
    pub async fn kill(&self) -> Result<(), LabError> {
        // The number is forgotten as soon as the process is buried, on this same thread: it is still its own.
        if let Some(process) = self.keeper.get() {
            kill(process, Signal::SIGTERM)
                .tried(|| format!("cannot end the keeper of node {}", self.name))?;
        }
        let mut condition = self.condition();
        // The sender lives as long as this node.
        let _ = condition.wait_for(|condition| condition.power == Power::Off).await;
        Ok(())
    }

    fn power_on(&self) -> Result<(Link, Child), LabError> {
        let Surroundings { directory, options, kernel, switch, program } = &*self.surroundings;
        let own = directory.node(&self.name);
        let (cluster, guest_cluster) = cable(&self.name)?;
        let (management, guest_management) = cable(&self.name)?;
        let network = [guest_cluster.as_raw_fd(), guest_management.as_raw_fd()];
        let console_path = directory.console(&self.name);
        let console = File::options()
            .create(true)
            .append(true)
            .open(&console_path)
            .tried(|| format!("cannot open the console {}", console_path.display()))?;
        let errors = console.try_clone().tried(|| format!("cannot open {}", console_path.display()))?;
        let bytes = u64::from(options.memory_mib) << 20;
        let mut command = Command::new(program);
        command
            .arg("keep-node")
            .arg(format!("--parent={}", std::process::id()))
            .arg("--memory")
            .arg(memory::directory(bytes * u64::from(options.nodes), &own))
            .arg("--remove")
            .arg(own.join(KERNEL_FILES).join(&self.name))
            .arg("--")
            .arg(&kernel.program)
            .args(arguments(&own, program, &self.name, self.number, options.memory_mib, network))
            .current_dir(&own)
            .stdin(Stdio::null())
            .stdout(console)
            .stderr(errors);
        inherit(&mut command, network);
        let child = command.spawn().tried(|| format!("cannot start the keeper of node {}", self.name))?;
        let link = Link::start(self.number, management)
            .tried(|| format!("cannot start the management link of node {}", self.name))?;
        switch
            .attach(self.number, cluster)
            .tried(|| format!("cannot join node {} to the cluster network", self.name))?;
        Ok((link, child))
    }

    /// Notes the end of the node, whoever caused it.
    fn watch_keeper(self: &Rc<Self>, mut child: Child) {
        let node = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let ended = child.wait().await;
            node.keeper.replace(None);
            tracing::info!(node = node.name, ?ended, "power is off");
            node.surroundings.switch.detach(node.number);
            node.link.send_replace(None);
            node.condition.send_modify(|condition| condition.power = Power::Off);
        });
    }

    async fn wait_until_ready(&self, link: &Link) -> Result<NodeReady, String> {
        let mut announcements = link.listen(READY_PORT).map_err(|error| error.to_string())?;
        let mut condition = self.condition();
        let ended = async {
            let _ = condition.wait_for(|condition| condition.power == Power::Off).await;
        };
        let announced = async {
            let mut stream = announcements.recv().await.ok_or("its management link ended")?;
            lines::read(&mut stream).await.map_err(|error| format!("its announcement is unreadable: {error}"))
        };
        tokio::select! {
            ready = announced => ready,
            () = ended => Err("its kernel ended".to_owned()),
            () = tokio::time::sleep(BOOT_DEADLINE) => Err(format!("it was not ready within {BOOT_DEADLINE:?}")),
        }
    }

    fn console_end(&self) -> String {
        let bytes = std::fs::read(self.surroundings.directory.console(&self.name)).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(CONSOLE_LINES)..].join("\n")
    }
}

/// A socket pair: the lab's end and the node's end.
fn cable(node: &str) -> Result<(UnixDatagram, UnixDatagram), LabError> {
    let (ours, theirs) = UnixDatagram::pair().tried(|| format!("cannot make a cable for node {node}"))?;
    for end in [&ours, &theirs] {
        setsockopt(end, sockopt::SndBuf, &SOCKET_BUFFER)
            .tried(|| format!("cannot set the buffer of a cable of node {node}"))?;
    }
    Ok((ours, theirs))
}

/// Lets a child, and no other, keep these descriptors.
#[allow(unsafe_code)]
fn inherit(command: &mut Command, descriptors: [RawFd; 2]) {
    // SAFETY: the closure runs between fork and exec, makes system calls only, and allocates nothing. The
    // descriptors are open then: their owners outlive the spawn in this process.
    unsafe {
        command.pre_exec(move || {
            for descriptor in descriptors {
                let descriptor = std::os::fd::BorrowedFd::borrow_raw(descriptor);
                fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty()))?;
            }
            Ok(())
        });
    }
}

/// Whether a path can be on a kernel's command line as it is.
pub fn fits_command_line(path: &Path) -> bool {
    path.to_str()
        .is_some_and(|text| !text.contains(|c: char| c.is_whitespace() || c == '"') && text.len() < 512)
}
