//! Who holds a gate: processes that opened the map or use a file of a file system mounted from it, in any
//! mount namespace, mounts that nobody uses, and devices made on top.
//!
//! A process counts as dying only when it is dead or SIGKILL is pending for it: it then never sees the result
//! of a write. What cannot be read of a process that is still there makes it living, never absent.
//! Blocking: it reads all of `/proc`. It must not be called where it would hold up other work.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::fd::AsRawFd,
    path::Path,
};

use hawser_plan::observed::{Opener, OpenerState};

use super::devices::{DeviceNumber, Map};

/// The bit of SIGKILL in the masks of `/proc/PID/status`.
const SIGKILL_BIT: u64 = 1 << (9 - 1);

/// Everything that holds one of `maps`, by process id. `all` are the maps of the node, to name those on top.
///
/// # Errors
/// `/proc` itself cannot be read.
pub fn find(proc: &Path, sys: &Path, maps: &[&Map], all: &[Map]) -> io::Result<Vec<Opener>> {
    let numbers: BTreeSet<DeviceNumber> = maps.iter().map(|map| map.number).collect();
    let mut found: BTreeMap<(i32, String), OpenerState> = BTreeMap::new();
    let mut mount_points: BTreeSet<String> = BTreeSet::new();
    for entry in fs::read_dir(proc)? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let path = entry.path();
        mount_points.extend(mounts_of(&path, &numbers));
        let Some((name, state)) = status_of(&path) else { continue };
        if holds(&path, &numbers, state) {
            found.insert((pid, name), state);
        }
    }
    let used_by_a_process = !found.is_empty();
    for point in &mount_points {
        // A mount that some process uses is named through that process. One that nobody uses has nobody
        // who could see the result of a write.
        if !used_by_a_process {
            found.insert((0, format!("file system mounted at {point}")), OpenerState::Dying);
        }
    }
    for map in maps {
        for holder in &map.above {
            let name =
                all.iter().find(|other| other.block_name == *holder).map_or(holder, |other| &other.name);
            found.insert((0, format!("device {name}")), OpenerState::Living);
        }
    }
    for (device, file) in loops_on(sys, &mount_points) {
        found.insert((0, format!("loop device {device} on {file}")), OpenerState::Living);
    }
    Ok(found.into_iter().map(|((pid, name), state)| Opener { pid, name, state }).collect())
}

/// Name and state of a process; `None` if it is gone.
fn status_of(path: &Path) -> Option<(String, OpenerState)> {
    let text = fs::read_to_string(path.join("status")).ok()?;
    let field =
        |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim);
    let name = field("Name").unwrap_or("?").to_owned();
    let dead = field("State").is_some_and(|state| state.starts_with(['Z', 'X']));
    let pending = ["SigPnd", "ShdPnd"].iter().any(|key| {
        field(key)
            .and_then(|mask| u64::from_str_radix(mask, 16).ok())
            .is_some_and(|mask| mask & SIGKILL_BIT != 0)
    });
    Some((name, if dead || pending { OpenerState::Dying } else { OpenerState::Living }))
}

/// Where file systems of the devices are mounted, as this process sees its mounts.
fn mounts_of(path: &Path, numbers: &BTreeSet<DeviceNumber>) -> Vec<String> {
    let Ok(text) = fs::read_to_string(path.join("mountinfo")) else { return Vec::new() };
    text.lines()
        .filter_map(|line| {
            let mut words = line.split(' ').skip(2);
            let number = DeviceNumber::parse(words.next()?)?;
            let point = words.nth(1)?;
            numbers.contains(&number).then(|| point.to_owned())
        })
        .collect()
}

/// Whether the process has the device, a file on it, its directory or its mapped memory there.
fn holds(path: &Path, numbers: &BTreeSet<DeviceNumber>, state: OpenerState) -> bool {
    let links = ["cwd", "root", "exe"].iter().map(|name| path.join(name));
    let descriptors = fs::read_dir(path.join("fd")).into_iter().flatten().flatten().map(|entry| entry.path());
    if links.chain(descriptors).any(|link| leads_to(&link, numbers)) {
        return true;
    }
    // Reading the maps takes a lock that a process in the middle of a frozen page fault may hold; of one
    // that is dying it does not matter, since its descriptors are still listed.
    state == OpenerState::Living && maps_a_file_of(path, numbers)
}

fn maps_a_file_of(path: &Path, numbers: &BTreeSet<DeviceNumber>) -> bool {
    let Ok(text) = fs::read_to_string(path.join("maps")) else { return false };
    text.lines().any(|line| {
        line.split_ascii_whitespace()
            .nth(3)
            .and_then(hexadecimal)
            .is_some_and(|number| numbers.contains(&number))
    })
}

/// Reads "fe:05" of `/proc/PID/maps`.
fn hexadecimal(text: &str) -> Option<DeviceNumber> {
    let (major, minor) = text.split_once(':')?;
    Some(DeviceNumber {
        major: u32::from_str_radix(major, 16).ok()?,
        minor: u32::from_str_radix(minor, 16).ok()?,
    })
}

/// Whether a link of `/proc/PID` leads to one of the devices or to a file on one.
///
/// Opened with `O_PATH`, which asks no file system anything, and then examined without synchronising: the
/// file may lie on a network file system whose server is away.
fn leads_to(link: &Path, numbers: &BTreeSet<DeviceNumber>) -> bool {
    use std::os::unix::fs::OpenOptionsExt;
    let opened =
        fs::OpenOptions::new().read(true).custom_flags(nix::libc::O_PATH | nix::libc::O_CLOEXEC).open(link);
    let Ok(file) = opened else { return false };
    let Some(examined) = examine(&file) else { return false };
    let number = |major, minor| DeviceNumber { major, minor };
    let is_block = u32::from(examined.stx_mode) & nix::libc::S_IFMT == nix::libc::S_IFBLK;
    numbers.contains(&number(examined.stx_dev_major, examined.stx_dev_minor))
        || is_block && numbers.contains(&number(examined.stx_rdev_major, examined.stx_rdev_minor))
}

#[allow(unsafe_code)]
fn examine(file: &fs::File) -> Option<nix::libc::statx> {
    let mut examined = std::mem::MaybeUninit::<nix::libc::statx>::zeroed();
    // SAFETY: the descriptor is open for the whole call, the path is an empty C string as AT_EMPTY_PATH
    // asks for, and the buffer is a whole statx that is valid for writing.
    let status = unsafe {
        nix::libc::statx(
            file.as_raw_fd(),
            c"".as_ptr(),
            nix::libc::AT_EMPTY_PATH | nix::libc::AT_STATX_DONT_SYNC,
            nix::libc::STATX_TYPE,
            examined.as_mut_ptr(),
        )
    };
    // SAFETY: every bit pattern is a valid statx, and all of it was zeroed before the call.
    (status == 0).then(|| unsafe { examined.assume_init() })
}

/// Loop devices whose file lies below one of the mount points.
fn loops_on(sys: &Path, mount_points: &BTreeSet<String>) -> Vec<(String, String)> {
    let Ok(entries) = fs::read_dir(sys.join("block")) else { return Vec::new() };
    let mut found: Vec<_> = entries
        .flatten()
        .filter_map(|entry| {
            let file = fs::read_to_string(entry.path().join("loop/backing_file")).ok()?;
            let file = file.trim().to_owned();
            let below = mount_points.iter().any(|point| Path::new(&file).starts_with(point));
            below.then(|| (entry.file_name().to_string_lossy().into_owned(), file))
        })
        .collect();
    found.sort();
    found
}

#[cfg(test)]
#[path = "openers_tests.rs"]
mod tests;
