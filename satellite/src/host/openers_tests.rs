//! Openers, on a `/proc` made for the purpose and on the real one.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::{MetadataExt, symlink};

use super::*;

fn map(number: DeviceNumber, above: &[&str]) -> Map {
    Map {
        name: "hawser-a".into(),
        uuid: "HAWSER-hawser-a".into(),
        block_name: "dm-5".into(),
        number,
        suspended: false,
        sectors: 8,
        below: vec!["drbd1000".into()],
        above: above.iter().map(|name| (*name).to_owned()).collect(),
    }
}

/// The number of the file system that holds `path`.
fn number_of(path: &Path) -> DeviceNumber {
    let device = fs::metadata(path).unwrap().dev();
    DeviceNumber { major: nix::sys::stat::major(device) as u32, minor: nix::sys::stat::minor(device) as u32 }
}

struct Process<'a> {
    pid: i32,
    status: &'a str,
    mountinfo: String,
    open: Vec<&'a Path>,
}

fn proc_with(processes: &[Process<'_>]) -> tempfile::TempDir {
    let proc = tempfile::tempdir().unwrap();
    fs::create_dir(proc.path().join("sys")).unwrap();
    for process in processes {
        let path = proc.path().join(process.pid.to_string());
        fs::create_dir_all(path.join("fd")).unwrap();
        fs::write(path.join("status"), process.status).unwrap();
        fs::write(path.join("mountinfo"), &process.mountinfo).unwrap();
        for (number, target) in process.open.iter().enumerate() {
            symlink(target, path.join("fd").join(number.to_string())).unwrap();
        }
    }
    proc
}

const LIVING: &str =
    "Name:\twriter\nState:\tD (disk sleep)\nSigPnd:\t0000000000000000\nShdPnd:\t0000000000000000\n";
const KILLED: &str =
    "Name:\tsync\nState:\tD (disk sleep)\nSigPnd:\t0000000000000100\nShdPnd:\t0000000000000100\n";
const TERMINATED: &str =
    "Name:\tsync\nState:\tS (sleeping)\nSigPnd:\t0000000000004000\nShdPnd:\t0000000000004000\n";
const ZOMBIE: &str = "Name:\tsh\nState:\tZ (zombie)\nSigPnd:\t0000000000000000\nShdPnd:\t0000000000000000\n";

#[test]
fn a_process_dies_only_by_sigkill_or_when_it_is_dead() {
    let directory = tempfile::tempdir().unwrap();
    for (status, name, state) in [
        (LIVING, "writer", OpenerState::Living),
        (KILLED, "sync", OpenerState::Dying),
        (TERMINATED, "sync", OpenerState::Living),
        (ZOMBIE, "sh", OpenerState::Dying),
    ] {
        fs::write(directory.path().join("status"), status).unwrap();
        assert_eq!(status_of(directory.path()), Some((name.to_owned(), state)), "{status}");
    }
}

#[test]
fn users_of_a_mounted_file_system_are_named_and_others_are_not() {
    let file_system = tempfile::NamedTempFile::new().unwrap();
    let number = number_of(file_system.path());
    let elsewhere = Path::new("/proc/self/status");
    let proc = proc_with(&[
        Process {
            pid: 10,
            status: LIVING,
            mountinfo: String::new(),
            open: vec![elsewhere, file_system.path()],
        },
        Process { pid: 11, status: KILLED, mountinfo: String::new(), open: vec![file_system.path()] },
        Process { pid: 12, status: LIVING, mountinfo: String::new(), open: vec![elsewhere] },
    ]);
    let found = find(proc.path(), Path::new("/nonexistent"), &[&map(number, &[])], &[]).unwrap();
    let opener = |pid, name: &str, state| Opener { pid, name: name.to_owned(), state };
    assert_eq!(found, [opener(10, "writer", OpenerState::Living), opener(11, "sync", OpenerState::Dying)]);
}

#[test]
fn a_mount_in_any_namespace_that_nobody_uses_is_named_by_its_place() {
    let number = DeviceNumber { major: 254, minor: 5 };
    let mountinfo = "22 1 0:20 / /proc rw - proc proc rw\n36 22 254:5 / /mnt/v rw,relatime shared:17 - ext4 /dev/mapper/hawser-a rw\n";
    let proc = proc_with(&[
        Process { pid: 10, status: LIVING, mountinfo: String::new(), open: vec![] },
        Process { pid: 11, status: LIVING, mountinfo: mountinfo.to_owned(), open: vec![] },
    ]);
    let found = find(proc.path(), Path::new("/nonexistent"), &[&map(number, &["dm-9"])], &[]).unwrap();
    let names: Vec<_> = found.iter().map(|opener| (opener.pid, opener.name.as_str())).collect();
    assert_eq!(names, [(0, "device dm-9"), (0, "file system mounted at /mnt/v")]);
}

#[test]
fn the_real_proc_shows_this_very_process() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let found =
        find(Path::new("/proc"), Path::new("/sys"), &[&map(number_of(file.path()), &[])], &[]).unwrap();
    let own = i32::try_from(std::process::id()).unwrap();
    assert!(found.iter().any(|opener| opener.pid == own && opener.state == OpenerState::Living), "{found:?}");
}
