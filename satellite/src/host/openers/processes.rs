//! Processes and their threads: whether one still lives, and whether it has a file on a gate.
//!
//! A thread may have descriptors of its own, and a process goes on after its main thread has exited: every
//! thread is looked at that does not provably share what another one has.

use std::{
    collections::BTreeSet,
    fs, io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

use hawser_plan::observed::OpenerState;

use super::Unread;
use crate::host::devices::DeviceNumber;

/// The bit of SIGKILL in the masks of `/proc/PID/status`.
const SIGKILL_BIT: u64 = 1 << (9 - 1);

/// A process that was looked at.
pub(super) struct Process {
    /// Command name.
    pub(super) name: String,
    /// Living while any thread may still see a result.
    pub(super) state: OpenerState,
    /// Whether it has one of the devices or a file on it.
    pub(super) holds: bool,
    /// Its descriptors of the devices themselves.
    pub(super) descriptors: Vec<Descriptor>,
    /// Numbers of the file systems on the devices that it has files of.
    pub(super) file_systems: BTreeSet<DeviceNumber>,
}

/// A descriptor of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Descriptor {
    /// The device.
    pub(super) device: DeviceNumber,
    /// A thread that has it.
    pub(super) thread: i32,
    /// Its number there.
    pub(super) number: i32,
}

/// What the kernel says that two threads have in common. A kernel that cannot tell says nothing.
pub(super) struct InCommon<'a> {
    /// All their descriptors and directories.
    pub(super) files: &'a dyn Fn(i32, i32) -> bool,
    /// What two descriptors lead to was opened once, and passed on.
    pub(super) opening: &'a dyn Fn(Descriptor, Descriptor) -> bool,
}

/// The kernel's own answers.
pub(super) const IN_COMMON: InCommon<'static> = InCommon { files: &share_files, opening: &share_opening };

/// A thread that has not exited.
struct Thread {
    id: i32,
    path: PathBuf,
    name: String,
    killed: bool,
}

/// All processes, with their directories.
///
/// # Errors
/// `proc` itself cannot be read.
pub(super) fn directories(proc: &Path) -> io::Result<Vec<(i32, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(proc)? {
        let entry = entry?;
        if let Some(pid) = number(&entry) {
            found.push((pid, entry.path()));
        }
    }
    Ok(found)
}

fn number(entry: &fs::DirEntry) -> Option<i32> {
    entry.file_name().to_str()?.parse().ok()
}

/// Looks at one process; `None` if it is gone.
pub(super) fn look(
    pid: i32,
    directory: &Path,
    numbers: &BTreeSet<DeviceNumber>,
    in_common: &InCommon<'_>,
    unread: &mut Unread,
) -> Option<Process> {
    let entries = unread.entries(&directory.join("task"));
    let mut threads: Vec<Thread> =
        entries.iter().filter_map(|entry| thread(number(entry)?, entry.path(), unread)).collect();
    threads.sort_by_key(|thread| (thread.id != pid, thread.id));
    let first = threads.first()?;
    let state =
        if threads.iter().all(|thread| thread.killed) { OpenerState::Dying } else { OpenerState::Living };
    let mut look = Look {
        numbers,
        who: format!("{} (pid {pid})", first.name),
        unread,
        descriptors: Vec::new(),
        file_systems: BTreeSet::new(),
    };
    look.look_at_files(first);
    for other in &threads[1..] {
        if !(in_common.files)(first.id, other.id) {
            look.look_at_files(other);
        }
    }
    let mut holds = !look.descriptors.is_empty() || !look.file_systems.is_empty();
    // Reading the maps takes a lock that a process in the middle of a frozen page fault may hold; of one
    // that is dying it does not matter, since its descriptors are still listed.
    holds = holds || state == OpenerState::Living && look.maps_a_file_there(first);
    let Look { descriptors, file_systems, .. } = look;
    Some(Process { name: first.name.clone(), state, holds, descriptors, file_systems })
}

/// A thread that has neither exited nor vanished.
fn thread(id: i32, path: PathBuf, unread: &mut Unread) -> Option<Thread> {
    let text = unread.text(&path.join("status"))?;
    let field =
        |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim);
    if field("State").is_some_and(|state| state.starts_with(['Z', 'X'])) {
        return None;
    }
    let killed = ["SigPnd", "ShdPnd"].iter().any(|key| {
        field(key)
            .and_then(|mask| u64::from_str_radix(mask, 16).ok())
            .is_some_and(|mask| mask & SIGKILL_BIT != 0)
    });
    Some(Thread { id, path, name: field("Name").unwrap_or("?").to_owned(), killed })
}

/// A look at one process.
struct Look<'a> {
    numbers: &'a BTreeSet<DeviceNumber>,
    who: String,
    unread: &'a mut Unread,
    descriptors: Vec<Descriptor>,
    file_systems: BTreeSet<DeviceNumber>,
}

impl Look<'_> {
    /// Finds what the thread has open there: devices, files, its directory, its program.
    fn look_at_files(&mut self, thread: &Thread) {
        let links = ["cwd", "root", "exe"].map(|name| (None, thread.path.join(name)));
        let read = fs::read_dir(thread.path.join("fd")).and_then(|entries| entries.collect());
        let descriptors: Vec<fs::DirEntry> = self.keep(read, "descriptors").unwrap_or_default();
        let descriptors = descriptors.iter().map(|entry| (number(entry), entry.path()));
        for (descriptor, link) in links.into_iter().chain(descriptors) {
            let Some((file_system, device)) = self.keep(numbers_of(&link), "open files") else { continue };
            if self.numbers.contains(&file_system) {
                self.file_systems.insert(file_system);
            }
            if let (Some(number), Some(device)) = (descriptor, device)
                && self.numbers.contains(&device)
            {
                self.descriptors.push(Descriptor { device, thread: thread.id, number });
            }
        }
    }

    /// Whether the process has a file there in its memory.
    fn maps_a_file_there(&mut self, thread: &Thread) -> bool {
        let read = fs::read_to_string(thread.path.join("maps"));
        self.keep(read, "memory map").is_some_and(|text| {
            text.lines().any(|line| {
                let number = line.split_ascii_whitespace().nth(3).and_then(hexadecimal);
                number.is_some_and(|number| self.numbers.contains(&number))
            })
        })
    }

    fn keep<T>(&mut self, read: io::Result<T>, what: &str) -> Option<T> {
        let who = &self.who;
        self.unread.keep(read, || format!("the {what} of {who}"))
    }
}

/// Reads "fe:05" of `/proc/PID/maps`.
fn hexadecimal(text: &str) -> Option<DeviceNumber> {
    let (major, minor) = text.split_once(':')?;
    Some(DeviceNumber {
        major: u32::from_str_radix(major, 16).ok()?,
        minor: u32::from_str_radix(minor, 16).ok()?,
    })
}

/// Numbers of the file system that a path leads to, and of the device if it leads to a block device's node.
///
/// Opened with `O_PATH`, which asks no file system anything, and then examined without synchronising: the
/// file may lie on a network file system whose server is away.
///
/// # Errors
/// It does not lead anywhere, or this process may not follow it.
pub(super) fn numbers_of(path: &Path) -> io::Result<(DeviceNumber, Option<DeviceNumber>)> {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = nix::libc::O_PATH | nix::libc::O_CLOEXEC;
    let examined = examine(&fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?)?;
    let number = |major, minor| DeviceNumber { major, minor };
    let is_block = u32::from(examined.stx_mode) & nix::libc::S_IFMT == nix::libc::S_IFBLK;
    let device = is_block.then(|| number(examined.stx_rdev_major, examined.stx_rdev_minor));
    Ok((number(examined.stx_dev_major, examined.stx_dev_minor), device))
}

/// Asks for no field: numbers and type are given always, and some file systems in user space refuse more.
#[allow(unsafe_code)]
fn examine(file: &fs::File) -> io::Result<nix::libc::statx> {
    let mut examined = std::mem::MaybeUninit::<nix::libc::statx>::zeroed();
    // SAFETY: the descriptor is open for the whole call, the path is an empty C string as AT_EMPTY_PATH
    // asks for, and the buffer is a whole statx that is valid for writing.
    let status = unsafe {
        nix::libc::statx(
            file.as_raw_fd(),
            c"".as_ptr(),
            nix::libc::AT_EMPTY_PATH | nix::libc::AT_STATX_DONT_SYNC,
            0,
            examined.as_mut_ptr(),
        )
    };
    if status != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: every bit pattern is a valid statx, and all of it was zeroed before the call.
    Ok(unsafe { examined.assume_init() })
}

/// Whether the kernel says that two threads have their descriptors and their directories in common. A kernel
/// that cannot tell says no.
pub(super) fn share_files(one: i32, other: i32) -> bool {
    /// `KCMP_FILES` and `KCMP_FS` of `linux/kcmp.h`.
    const FILES_AND_DIRECTORIES: [nix::libc::c_int; 2] = [2, 3];
    FILES_AND_DIRECTORIES.into_iter().all(|kind| compare(one, other, kind, [0, 0]) == 0)
}

/// Whether the kernel says that two descriptors were opened once.
fn share_opening(one: Descriptor, other: Descriptor) -> bool {
    /// `KCMP_FILE` of `linux/kcmp.h`.
    const OPENING: nix::libc::c_int = 0;
    compare(one.thread, other.thread, OPENING, [one.number, other.number]) == 0
}

#[allow(unsafe_code)]
fn compare(
    one: i32,
    other: i32,
    kind: nix::libc::c_int,
    descriptors: [nix::libc::c_int; 2],
) -> nix::libc::c_long {
    let [first, second] = descriptors.map(nix::libc::c_long::from);
    // SAFETY: the call takes two thread ids, a kind and two numbers, which it knows as descriptors of these threads or
    // ignores; it reads and writes no memory of this process.
    unsafe { nix::libc::syscall(nix::libc::SYS_kcmp, one, other, kind, first, second) }
}
