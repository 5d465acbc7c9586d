//! The keeper of one node: starts the node's kernel and ends everything of it, when told, when the kernel ends,
//! and when the lab's process dies. It must not end before every process of its node has.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus, Stdio};

use anyhow::Context;
use nix::errno::Errno;
use nix::sys::prctl::{set_child_subreaper, set_pdeathsig};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, getppid};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

use super::preload;

/// What a keeper is told.
#[derive(Debug, clap::Args)]
pub struct KeeperOptions {
    /// The lab's process; the keeper does nothing when it is gone already.
    #[arg(long)]
    pub parent: i32,
    /// Removed, with all that is in it, when the node has ended.
    #[arg(long)]
    pub remove: Vec<PathBuf>,
    /// Where the node's memory lies; a directory of its own is made there.
    #[arg(long)]
    pub memory: Option<PathBuf>,
    /// The kernel and its arguments; none for a keeper that only removes what the lab leaves.
    #[arg(last = true)]
    pub command: Vec<OsString>,
}

/// Keeps the node until it has ended.
///
/// # Errors
/// When the kernel cannot be started.
pub fn run(options: &KeeperOptions) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let memory = options.memory.as_ref().map(|directory| {
        let user = nix::unistd::getuid();
        directory.join(format!("hawser-lab-{user}-{}", std::process::id()))
    });
    let result = runtime.block_on(keep(options, memory.as_deref()));
    for path in options.remove.iter().chain(&memory) {
        // What is not there needs no removal, and nobody is left to hear of anything else.
        let _ = std::fs::remove_dir_all(path);
    }
    result
}

async fn keep(options: &KeeperOptions, memory: Option<&Path>) -> anyhow::Result<ExitCode> {
    let mut end = signal(SignalKind::terminate())?;
    // A terminal's interrupt goes to a whole group of processes; the lab itself decides what it means.
    let _interrupt = signal(SignalKind::interrupt())?;
    set_pdeathsig(Signal::SIGTERM)?;
    set_child_subreaper(true)?;
    if getppid().as_raw() != options.parent {
        return Ok(ExitCode::SUCCESS);
    }
    let Some((program, arguments)) = options.command.split_first() else {
        end.recv().await;
        return Ok(ExitCode::SUCCESS);
    };
    let mut command = Command::new(program);
    let (preload, library) = preload::VARIABLE;
    command.args(arguments).env(preload, library).stdin(Stdio::null()).process_group(0);
    if let Some(memory) = memory {
        std::fs::create_dir_all(memory).with_context(|| format!("cannot make {}", memory.display()))?;
        command.env("TMPDIR", memory);
    }
    die_with_parent(&mut command);
    let mut kernel =
        command.spawn().with_context(|| format!("cannot start {}", program.to_string_lossy()))?;
    let group = Pid::from_raw(
        kernel.id().and_then(|id| i32::try_from(id).ok()).context("the kernel has no process")?,
    );
    let ended: Option<ExitStatus> = tokio::select! {
        status = kernel.wait() => status.ok(),
        _ = end.recv() => None,
    };
    end_group(group);
    match ended {
        Some(status) => anyhow::bail!("the kernel ended by itself ({status})"),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// Ends every process of the node and waits until the last one is gone.
fn end_group(group: Pid) {
    loop {
        let _ = killpg(group, Signal::SIGKILL);
        // Orphans of the kernel come here, because this process is their reaper.
        match waitpid(None, None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

/// The first process of the kernel ends even when the keeper is killed.
#[allow(unsafe_code)]
fn die_with_parent(command: &mut Command) {
    // SAFETY: the closure runs between fork and exec and makes one system call, which is async-signal-safe; it
    // allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(|| Ok(set_pdeathsig(Signal::SIGKILL)?));
    }
}
