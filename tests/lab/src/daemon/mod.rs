//! The lab's own process: holds the networks and the nodes, and serves the control socket. When it ends, for
//! whatever reason, the keepers end everything else.

pub mod serve;
pub mod services;
pub mod state;

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::rc::Rc;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::UnixListener;
use tokio::process::Command;

use crate::directories::LabDirectory;
use crate::error::{LabError, Tried};
use crate::kernel::Kernel;
use crate::machine::node::{Surroundings, fits_command_line};
use crate::network::switch::Switch;
use crate::options::LabOptions;
use state::LabState;

/// How the lab's process says that the lab is up: the only word on its standard output; anything else is why not.
pub const UP: &str = "up";

/// Runs a lab until it is taken down. `directory` holds the mark with its options already.
///
/// # Errors
/// Why the lab could not be brought up; everything that was started is ended then.
pub fn run(directory: &LabDirectory, tied: bool) -> Result<(), LabError> {
    // It must outlive the terminal of whoever started it. It leads no group yet, so this cannot fail.
    let _ = nix::unistd::setsid();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .tried(|| "cannot start the lab's process".to_owned())?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, live(directory, tied))
}

async fn live(directory: &LabDirectory, tied: bool) -> Result<(), LabError> {
    let _lock = lock(directory)?;
    let mark = directory.mark();
    let text = std::fs::read(&mark).tried(|| format!("cannot read {}", mark.display()))?;
    let options: LabOptions =
        serde_json::from_slice(&text).tried(|| format!("{} is damaged", mark.display()))?;
    raise_file_limit();
    let runtime = directory.runtime();
    std::fs::create_dir_all(&runtime).tried(|| format!("cannot make {}", runtime.display()))?;
    std::fs::set_permissions(&runtime, std::fs::Permissions::from_mode(0o700))
        .tried(|| format!("cannot protect {}", runtime.display()))?;
    let program = std::env::current_exe().tried(|| "cannot find the lab's own program".to_owned())?;
    for path in [directory.path(), &program] {
        if !fits_command_line(path) {
            let reason =
                format!("{} has a space or a quote in it, or is longer than 512 characters", path.display());
            return Err(LabError::Invalid { field: "--directory", reason });
        }
    }
    // Removes the control socket when this process is killed.
    let mut warden = Command::new(&program)
        .arg("keep-node")
        .arg(format!("--parent={}", std::process::id()))
        .arg("--remove")
        .arg(&runtime)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .tried(|| "cannot start the lab's warden".to_owned())?;
    let listener = listen(&runtime)?;
    let kernel = Kernel::find()?;
    let switch = Switch::start().tried(|| "cannot start the cluster network".to_owned())?;
    let surroundings = Surroundings { directory: directory.clone(), options, kernel, switch, program };
    let state = Rc::new(LabState::new(Rc::new(surroundings)).await?);
    let result = bring_up_and_serve(&state, listener, tied).await;
    state.end_nodes().await;
    if result.is_ok() && !state.keeps_files() {
        directory
            .remove()
            .tried(|| format!("cannot remove the lab's files in {}", directory.path().display()))?;
    }
    let _ = std::fs::remove_dir_all(runtime);
    // Whoever looks after this process's end shall find no process of it.
    if warden.start_kill().is_ok() {
        let _ = warden.wait().await;
    }
    result
}

async fn bring_up_and_serve(
    state: &Rc<LabState>,
    listener: UnixListener,
    tied: bool,
) -> Result<(), LabError> {
    state.make_and_start_nodes().await?;
    {
        let mut out = std::io::stdout();
        // Whoever started the lab may have gone away meanwhile; the lab is up all the same.
        let _ = out.write_all(UP.as_bytes()).and_then(|()| out.flush());
        close_standard_output();
    }
    serve::serve(state, listener, tied).await
}

/// Lets whoever waits for the end of this process's standard output go on.
fn close_standard_output() {
    if let Ok(null) = File::options().write(true).open("/dev/null") {
        let _ = nix::unistd::dup2_stdout(&null);
    }
}

fn lock(directory: &LabDirectory) -> Result<Flock<File>, LabError> {
    let path = directory.lock();
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .tried(|| format!("cannot open {}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|_| LabError::Running(directory.path().to_owned()))
}

/// The control socket's path as seen through an open directory: a socket's own path may have 107 characters only.
pub(crate) fn control_path(runtime: &std::path::Path) -> std::io::Result<(File, PathBuf)> {
    let directory = File::open(runtime)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{}", directory.as_raw_fd(), LabDirectory::CONTROL));
    Ok((directory, path))
}

fn listen(runtime: &std::path::Path) -> Result<UnixListener, LabError> {
    let socket = runtime.join(LabDirectory::CONTROL);
    let _ = std::fs::remove_file(&socket);
    let (_open, path) = control_path(runtime).tried(|| format!("cannot open {}", runtime.display()))?;
    UnixListener::bind(path).tried(|| format!("cannot listen at {}", socket.display()))
}

/// Each node keeps many of the host's files open.
fn raise_file_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::warn!(%error, "the limit of open files stays as it is; nodes may run out of them");
    }
}
