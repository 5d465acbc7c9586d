//! Process 1 of a node: makes its root, starts the agent, and buries the dead.
//! It must never end while the node lives, or the kernel panics.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::wait::{WaitStatus, wait};
use nix::unistd::Pid;

use super::configuration::{GuestConfiguration, INSIDE, VARIABLE};
use super::{console, root, system};

/// Search path of everything that runs in a node.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The variable that hands the agent what went wrong while the node booted, one thing per line.
pub(super) const WARNINGS: &str = "HAWSER_LAB_WARNINGS";

/// Pause before an agent that ended is started again.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(500);

/// Whether this process is the first one of a node.
pub fn is_first_process() -> bool {
    std::process::id() == 1 && std::env::var_os(VARIABLE).is_some()
}

/// Boots the node and then waits for the processes that end. Comes back only when the node cannot be booted;
/// by then its power is off.
pub fn run() {
    if let Err(error) = boot_and_reap() {
        console(format_args!("the node cannot boot: {error:#}"));
        power_off();
    }
}

fn boot_and_reap() -> anyhow::Result<()> {
    let path = PathBuf::from(std::env::var_os(VARIABLE).unwrap_or_default());
    let configuration = GuestConfiguration::read(&path)
        .map_err(|error| anyhow::anyhow!("its configuration {} is not readable: {error}", path.display()))?;
    root::make(&configuration)?;
    console(format_args!("root made"));
    let warnings = system::prepare(&configuration)?;
    for warning in &warnings {
        console(format_args!("warning: {warning}"));
    }
    configuration.write(Path::new(INSIDE))?;
    let mut agent = start_agent(&warnings)?;
    loop {
        match wait() {
            Ok(WaitStatus::Exited(process, _) | WaitStatus::Signaled(process, _, _)) if process == agent => {
                console(format_args!("the agent ended and is started again"));
                std::thread::sleep(PAUSE);
                agent = start_agent(&warnings)?;
            }
            Ok(_) => {}
            Err(error) => anyhow::bail!("process 1 cannot wait for its children: {error}"),
        }
    }
}

fn start_agent(warnings: &[String]) -> anyhow::Result<Pid> {
    // What stood in the kernel's command line must not reach the commands that people run here.
    let child = Command::new("/proc/1/exe")
        .arg0("hawser-lab")
        .arg("guest-agent")
        .arg(INSIDE)
        .env_clear()
        .envs(environment())
        .env(WARNINGS, warnings.join("\n"))
        .current_dir("/")
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()?;
    Ok(Pid::from_raw(i32::try_from(child.id())?))
}

/// The environment of everything that runs in a node.
pub(super) fn environment() -> [(&'static str, &'static str); 6] {
    [
        ("PATH", PATH),
        ("HOME", "/root"),
        ("USER", "root"),
        ("LANG", "C.UTF-8"),
        ("TERM", "dumb"),
        ("DM_DISABLE_UDEV", "1"),
    ]
}

fn power_off() {
    // Not every failure leaves a /proc to write to.
    if let Ok(mut trigger) = File::options().write(true).open("/proc/sysrq-trigger") {
        let _ = std::io::Write::write_all(&mut trigger, b"o");
        std::thread::sleep(std::time::Duration::from_secs(5));
    }
}
