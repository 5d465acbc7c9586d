//! Who holds a gate: processes that opened the map or use a file of a file system on it, in any mount namespace,
//! mounts that nobody uses, devices made on top, and what the kernel itself opened: loop devices, swap, targets and
//! its NFS server.
//!
//! A process counts as dying only when it is dead or SIGKILL is pending for all of it: it then never sees the
//! result of a write. What cannot be read of a process that is still there may hold the gate: unless a living
//! holder is known anyway, nothing is certain then.
//! Blocking: it reads all of `/proc`. It must not be called where it would hold up other work.

mod kernel_users;
mod mounts;
mod processes;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

use hawser_plan::observed::{KernelResource, Looked, Opener, OpenerState, Role, SubjectVolume};

use self::{
    mounts::Mounted,
    processes::{Descriptor, InCommon},
};
use super::devices::{self, DeviceNumber, Map};

/// Who holds some maps.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    /// By process id. `Unknown` names what could not be looked at, if nothing living was found that holds one.
    pub openers: Looked<Vec<Opener>>,
    /// How often processes and file systems that are mounted from it have each map open, as the kernel counts.
    pub opens: BTreeMap<DeviceNumber, u32>,
}

impl Found {
    fn unknown(why: String) -> Self {
        Found { openers: Looked::Unknown(why), opens: BTreeMap::new() }
    }
}

/// Everything through which somebody may see the result of a write to `volumes`: their gates among `all`, and where
/// one is not found while I/O is frozen below it, the DRBD device itself. A writer whose gate nobody finds must
/// not pass for nobody.
///
/// # Errors
/// The DRBD device of a frozen volume cannot be looked at.
pub fn ways_in(
    sys: &Path,
    volumes: &[SubjectVolume],
    kernel: &Looked<KernelResource>,
    all: &[Map],
) -> io::Result<Vec<Map>> {
    let frozen =
        kernel.present().is_some_and(|kernel| kernel.role == Role::Primary && kernel.suspended.any());
    let mut found = Vec::new();
    for volume in volumes {
        match all.iter().find(|map| map.name == volume.gate_name) {
            Some(gate) => found.push(gate.clone()),
            None if frozen => found.push(drbd_device(sys, volume.minor)?),
            None => {}
        }
    }
    Ok(found)
}

/// The DRBD device as if it were a map.
fn drbd_device(sys: &Path, minor: u32) -> io::Result<Map> {
    let block_name = format!("drbd{minor}");
    let (number, above) = devices::number_and_holders(sys, &block_name)
        .map_err(|error| io::Error::new(error.kind(), format!("{block_name}: {error}")))?;
    Ok(Map {
        name: block_name.clone(),
        uuid: String::new(),
        block_name,
        number,
        suspended: false,
        sectors: 0,
        below: Vec::new(),
        above,
    })
}

/// Everything that holds one of `maps`. `all` are the maps of the node, to name those on top.
pub fn find(proc: &Path, sys: &Path, maps: &[&Map], all: &[Map]) -> Found {
    find_with(proc, sys, maps, all, &processes::IN_COMMON)
}

fn find_with(proc: &Path, sys: &Path, maps: &[&Map], all: &[Map], in_common: &InCommon<'_>) -> Found {
    let mut unread = Unread::default();
    let directories = match processes::directories(proc) {
        Ok(directories) => directories,
        Err(error) => return Found::unknown(format!("{} cannot be read: {error}", proc.display())),
    };
    let mounted = Mounted::read(&directories, maps, &mut unread);
    let mut found = BTreeSet::new();
    let (mut descriptors, mut file_systems) = (Vec::new(), mounted.sources.clone());
    let mut serves_nfs = false;
    for (pid, directory) in &directories {
        let Some(process) = processes::look(*pid, directory, &mounted.numbers, in_common, &mut unread) else {
            continue;
        };
        serves_nfs |= process.name == "nfsd";
        descriptors.extend(process.descriptors);
        file_systems.extend(process.file_systems);
        if process.holds {
            found.insert((*pid, process.name, process.state));
        }
    }
    let of_the_kernel = kernel_users::find(proc, sys, maps, &mounted, serves_nfs, &mut unread);
    if found.is_empty() {
        // One that a process uses is named through that process. One that nobody uses has nobody who could
        // see the result of a write.
        let idle = mounted.points.iter().map(|point| (0, format!("file system mounted at {point}")));
        found.extend(idle.map(|(pid, name)| (pid, name, OpenerState::Dying)));
    }
    let above = maps.iter().flat_map(|map| &map.above).map(|holder| {
        let named = all.iter().find(|other| other.block_name == *holder);
        format!("device {}", named.map_or(holder, |map| &map.name))
    });
    let living = mounted.untold.iter().cloned().chain(of_the_kernel).chain(above);
    found.extend(living.map(|name| (0, name, OpenerState::Living)));
    let openers = match unread.first {
        Some(why) if found.iter().all(|(.., state)| *state == OpenerState::Dying) => Looked::Unknown(why),
        _ => {
            Looked::Present(found.into_iter().map(|(pid, name, state)| Opener { pid, name, state }).collect())
        }
    };
    let opens = maps
        .iter()
        .map(|map| (map.number, opens_of(map.number, &descriptors, &file_systems, in_common)))
        .collect();
    Found { openers, opens }
}

/// How often a device is open: once for each opening that a descriptor leads to, however many processes it was passed
/// on to, and once for a file system, wherever that is mounted and whoever has files there.
fn opens_of(
    device: DeviceNumber,
    descriptors: &[Descriptor],
    file_systems: &BTreeSet<DeviceNumber>,
    in_common: &InCommon<'_>,
) -> u32 {
    let mut openings: Vec<Descriptor> = Vec::new();
    for descriptor in descriptors.iter().filter(|descriptor| descriptor.device == device) {
        if !openings.iter().any(|known| (in_common.opening)(*known, *descriptor)) {
            openings.push(*descriptor);
        }
    }
    let openings = u32::try_from(openings.len()).unwrap_or(u32::MAX);
    openings.saturating_add(u32::from(file_systems.contains(&device)))
}

/// What could not be looked at although it is there: the first, for people.
#[derive(Debug, Default)]
struct Unread {
    first: Option<String>,
}

impl Unread {
    /// Notes that `what` could not be looked at.
    fn note(&mut self, what: impl FnOnce() -> String) {
        self.first.get_or_insert_with(what);
    }

    /// What was read; `None` where there is nothing any more, or where it could not be read, which is noted.
    fn keep<T>(&mut self, read: io::Result<T>, what: impl FnOnce() -> String) -> Option<T> {
        match read {
            Ok(read) => Some(read),
            Err(error) if has_vanished(&error) => None,
            Err(error) => {
                self.note(|| format!("{} cannot be read: {error}", what()));
                None
            }
        }
    }

    /// Reads a file that need not be there.
    fn text(&mut self, path: &Path) -> Option<String> {
        self.keep(fs::read_to_string(path), || path.display().to_string())
    }

    /// Lists a directory that need not be there.
    fn entries(&mut self, path: &Path) -> Vec<fs::DirEntry> {
        let read = fs::read_dir(path).and_then(|entries| entries.collect::<io::Result<Vec<_>>>());
        self.keep(read, || path.display().to_string()).unwrap_or_default()
    }
}

/// Whether a failure to read something of a process, or a file of the kernel's, says that it is not there.
fn has_vanished(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(nix::libc::ESRCH)
}

#[cfg(test)]
#[path = "openers_tests.rs"]
mod tests;
