//! Gets the packages that nodes need: installed on the machine for root, unpacked below the build's target
//! directory for everybody else. An ordinary user's set-up must never touch the machine's own apt state.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::directories;
use crate::error::{LabError, Tried};
use crate::kernel::Kernel;

/// The Debian packages that a node needs.
pub const PACKAGES: [&str; 9] = [
    "user-mode-linux",
    "drbd-utils",
    "lvm2",
    "thin-provisioning-tools",
    "kmod",
    "iproute2",
    "procps",
    "busybox",
    "e2fsprogs",
];

/// A download on a slow line, not a hang.
const DEADLINE: Duration = Duration::from_secs(900);
const STATUS: &str = "/var/lib/dpkg/status";

/// How the packages come to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// As it suits the caller: installed by root, unpacked by others, nothing when they are there.
    Suitable,
    /// Unpacked, whoever calls and whatever is installed.
    Unpack,
}

/// Gets the packages; answers with the kernel that nodes will run.
///
/// # Errors
/// The command that failed with its last words, and what to do.
pub async fn run(way: Way) -> Result<Kernel, LabError> {
    if way == Way::Suitable && Kernel::find().is_ok() {
        return Kernel::find();
    }
    if way == Way::Suitable && nix::unistd::geteuid().is_root() {
        // One source that does not answer may well be one that is not needed: the installation decides.
        let updated = run_apt(&[], &["update"]).await;
        let install = ["install", "-y", "--no-install-recommends"];
        run_apt(&[], &[&install[..], &PACKAGES[..]].concat())
            .await
            .map_err(|error| updated.err().unwrap_or(error))?;
    } else {
        unpack(&directories::packages()).await?;
    }
    Kernel::find()
}

async fn unpack(target: &Path) -> Result<(), LabError> {
    let work = target.with_extension("new");
    remove(&work)?;
    let root = work.join("root");
    for part in ["root", "state/lists/partial", "cache/archives/partial"] {
        let path = work.join(part);
        fs::create_dir_all(&path).tried(|| format!("cannot make {}", path.display()))?;
    }
    fs::metadata(STATUS).tried(|| format!("cannot read {STATUS}; this needs Debian"))?;
    let own = own_state(&work);
    let updated = run_apt(&own, &["update"]).await;
    // Those that the machine has, too: nodes take all of them from one place.
    let download = ["install", "-y", "--reinstall", "--no-install-recommends", "--download-only"];
    run_apt(&own, &[&download[..], &PACKAGES[..]].concat())
        .await
        .map_err(|error| updated.err().unwrap_or(error))?;
    let archives = work.join("cache/archives");
    for archive in files_with_extension(&archives, "deb")? {
        run_command("dpkg-deb", &[OsStr::new("-x"), archive.as_os_str(), root.as_os_str()]).await?;
    }
    merge_into_usr(&root).tried(|| format!("cannot arrange the files in {}", root.display()))?;
    remove(target)?;
    fs::rename(&root, target).tried(|| format!("cannot put the packages to {}", target.display()))?;
    remove(&work)
}

/// Options that give apt a state of its own.
fn own_state(work: &Path) -> Vec<String> {
    let at = |name: &str, path: &str| format!("{name}={}", work.join(path).display());
    vec![
        at("Dir::State", "state"),
        at("Dir::State::lists", "state/lists"),
        // Without what the machine has, apt would find what depends on it broken, and refuse everything.
        format!("Dir::State::status={STATUS}"),
        at("Dir::State::extended_states", "state/extended_states"),
        at("Dir::Cache", "cache"),
        at("Dir::Cache::archives", "cache/archives"),
        "Debug::NoLocking=true".to_owned(),
        "APT::Sandbox::User=root".to_owned(),
    ]
}

async fn run_apt(options: &[String], arguments: &[&str]) -> Result<(), LabError> {
    let mut all = vec!["-q".to_owned()];
    for option in options {
        all.extend(["-o".to_owned(), option.clone()]);
    }
    all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    run_command("apt-get", &all).await
}

async fn run_command(program: &str, arguments: &[impl AsRef<OsStr>]) -> Result<(), LabError> {
    let mut command = Command::new(program);
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(DEADLINE, command.output()).await;
    let reason = match output {
        Ok(Ok(output)) if output.status.success() => return Ok(()),
        Ok(Ok(output)) => {
            let words = String::from_utf8_lossy(&output.stderr);
            let last: Vec<_> = words.lines().rev().take(3).collect();
            format!(
                "{program} {} failed: {}",
                line(arguments),
                last.into_iter().rev().collect::<Vec<_>>().join("; ")
            )
        }
        Ok(Err(error)) => format!("{program} cannot be started: {error}"),
        Err(_) => format!("{program} {} did not end within {DEADLINE:?}", line(arguments)),
    };
    Err(LabError::Unavailable {
        reason,
        remedy: format!(
            "the lab needs Debian's packages {}: check the package sources and the network, or install \
                         them by hand",
            PACKAGES.join(" ")
        ),
    })
}

/// The arguments without apt's long options.
fn line(arguments: &[impl AsRef<OsStr>]) -> String {
    let words = arguments.iter().map(|argument| argument.as_ref().to_string_lossy());
    words.filter(|word| !word.contains("::") && word != "-o").collect::<Vec<_>>().join(" ")
}

/// Debian's root has links where old packages still have directories; a directory in an upper layer would hide
/// the link and everything behind it.
fn merge_into_usr(root: &Path) -> std::io::Result<()> {
    for name in ["bin", "sbin", "lib", "lib64"] {
        let directory = root.join(name);
        if directory.is_dir() {
            merge(&directory, &root.join("usr").join(name))?;
            fs::remove_dir_all(&directory)?;
        }
    }
    Ok(())
}

fn merge(source: &Path, target: &Path) -> std::io::Result<()> {
    fs::create_dir_all(target)?;
    for entry in fs::read_dir(source)? {
        let entry = entry?;
        let to = target.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            merge(&entry.path(), &to)?;
        } else {
            fs::rename(entry.path(), to)?;
        }
    }
    Ok(())
}

fn files_with_extension(directory: &Path, extension: &str) -> Result<Vec<PathBuf>, LabError> {
    let entries = fs::read_dir(directory).tried(|| format!("cannot read {}", directory.display()))?;
    let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
    Ok(paths.filter(|path| path.extension().is_some_and(|found| found == extension)).collect())
}

fn remove(directory: &Path) -> Result<(), LabError> {
    if directory.exists() {
        fs::remove_dir_all(directory).tried(|| format!("cannot remove {}", directory.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn old_directories_are_merged_into_usr_with_their_links() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        for (directory, file) in
            [("lib/x/y", "lib/x/y/module"), ("usr/lib/x", "usr/lib/x/other"), ("sbin", "sbin/tool")]
        {
            fs::create_dir_all(at(directory)).unwrap();
            fs::write(at(file), file).unwrap();
        }
        std::os::unix::fs::symlink("tool", at("sbin/link")).unwrap();
        merge_into_usr(root.path()).unwrap();
        assert_eq!(fs::read_to_string(at("usr/lib/x/y/module")).unwrap(), "lib/x/y/module");
        assert_eq!(fs::read_to_string(at("usr/sbin/link")).unwrap(), "sbin/tool");
        assert!(at("usr/lib/x/other").exists() && !at("lib").exists() && !at("sbin").exists());
    }
}
