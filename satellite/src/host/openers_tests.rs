//! Openers, on a `/proc` and a `/sys` made for the purpose and on the real ones.
#![allow(clippy::unwrap_used)]

use std::{
    os::unix::fs::{MetadataExt, symlink},
    path::PathBuf,
};

use hawser_hostile::{check, texts};
use hawser_plan::observed::Suspended;

use super::*;
use crate::host::devices::DeviceNumber;

const GATE: DeviceNumber = DeviceNumber { major: 254, minor: 5 };
/// Nothing that these threads share is known to the real kernel.
const NOTHING_IN_COMMON: InCommon<'static> = InCommon { files: &|_, _| false, opening: &|_, _| false };
const MOUNTED: &str = "22 1 0:20 / /proc rw - proc proc rw\n\
                       36 22 254:5 / /mnt/v rw,relatime shared:17 - ext4 /dev/mapper/hawser-a rw\n";

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

fn status(name: &str, state: &str, pending: &str) -> String {
    format!("Name:\t{name}\nState:\t{state}\nSigPnd:\t{pending}\nShdPnd:\t0000000000000000\n")
}

fn living(name: &str) -> String {
    status(name, "D (disk sleep)", "0000000000000000")
}

fn killed(name: &str) -> String {
    status(name, "D (disk sleep)", "0000000000000100")
}

fn exited(name: &str) -> String {
    status(name, "Z (zombie)", "0000000000000000")
}

/// A `/proc` and a `/sys` of a test.
struct Node {
    proc: tempfile::TempDir,
    sys: tempfile::TempDir,
}

impl Node {
    fn new() -> Self {
        let node = Node { proc: tempfile::tempdir().unwrap(), sys: tempfile::tempdir().unwrap() };
        // What is no process is passed over.
        node.write_proc("sys/kernel/osrelease", "6.1.176");
        node
    }

    fn write_proc(&self, path: &str, text: &str) {
        write(&self.proc.path().join(path), text);
    }

    fn write_sys(&self, path: &str, text: &str) {
        write(&self.sys.path().join(path), text);
    }

    /// A process of one thread that sees `mounts` and has `open` open.
    fn process(&self, pid: i32, status: &str, mounts: &str, open: &[&Path]) {
        self.write_proc(&format!("{pid}/mountinfo"), mounts);
        self.thread(pid, pid, status, open);
    }

    fn thread(&self, pid: i32, id: i32, status: &str, open: &[&Path]) -> PathBuf {
        let thread = self.proc.path().join(format!("{pid}/task/{id}"));
        write(&thread.join("status"), status);
        fs::create_dir(thread.join("fd")).unwrap();
        for (number, target) in open.iter().enumerate() {
            symlink(target, thread.join("fd").join(number.to_string())).unwrap();
        }
        thread
    }

    fn find(&self, map: &Map) -> Looked<Vec<Opener>> {
        self.find_all(map).openers
    }

    fn find_all(&self, map: &Map) -> Found {
        find_with(self.proc.path(), self.sys.path(), &[map], std::slice::from_ref(map), &NOTHING_IN_COMMON)
    }

    /// Who was found, as (pid, name, living).
    fn found(&self, map: &Map) -> Vec<(i32, String, bool)> {
        let Looked::Present(found) = self.find(map) else { panic!("{:?}", self.find(map)) };
        found
            .into_iter()
            .map(|opener| (opener.pid, opener.name, opener.state == OpenerState::Living))
            .collect()
    }
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn opener(pid: i32, name: &str, living: bool) -> (i32, String, bool) {
    (pid, name.to_owned(), living)
}

#[test]
fn a_process_dies_only_by_sigkill_or_when_it_is_dead() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let gate = map(number_of(file.path()), &[]);
    let terminated = status("sync", "S (sleeping)", "0000000000004000");
    for (status, expected) in [
        (living("writer"), vec![opener(10, "writer", true)]),
        (killed("sync"), vec![opener(10, "sync", false)]),
        (terminated, vec![opener(10, "sync", true)]),
        (exited("sh"), vec![]),
    ] {
        let node = Node::new();
        node.process(10, &status, "", &[file.path()]);
        assert_eq!(node.found(&gate), expected, "{status}");
    }
}

#[test]
fn users_of_a_mounted_file_system_are_named_and_others_are_not() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let elsewhere = Path::new("/proc/self/status");
    let node = Node::new();
    node.process(10, &living("writer"), "", &[elsewhere, file.path()]);
    node.process(11, &killed("sync"), "", &[file.path()]);
    node.process(12, &living("other"), "", &[elsewhere]);

    let found = node.found(&map(number_of(file.path()), &[]));

    assert_eq!(found, [opener(10, "writer", true), opener(11, "sync", false)]);
}

#[test]
fn threads_go_on_after_their_main_thread_has_exited_and_may_have_files_of_their_own() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let gate = map(number_of(file.path()), &[]);
    for (main, other, expected) in [
        (exited("main"), living("worker"), opener(10, "worker", true)),
        (exited("main"), killed("worker"), opener(10, "worker", false)),
        (living("main"), living("worker"), opener(10, "main", true)),
        (killed("main"), living("worker"), opener(10, "main", true)),
    ] {
        let node = Node::new();
        node.process(10, &main, "", &[]);
        node.thread(10, 11, &other, &[file.path()]);
        assert_eq!(node.found(&gate), [expected], "{main} {other}");
    }
}

#[test]
fn threads_that_share_their_files_are_looked_at_once() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let gate = map(number_of(file.path()), &[]);
    let node = Node::new();
    node.process(10, &living("main"), "", &[]);
    node.thread(10, 11, &living("worker"), &[file.path()]);
    let find = |share: bool| {
        let files = |one, other| {
            assert_eq!((one, other), (10, 11));
            share
        };
        let in_common = InCommon { files: &files, ..NOTHING_IN_COMMON };
        find_with(node.proc.path(), node.sys.path(), &[&gate], &[], &in_common).openers
    };

    assert_eq!(find(true), Looked::Present(Vec::new()));
    assert_ne!(find(false), Looked::Present(Vec::new()));
    let own = i32::try_from(std::process::id()).unwrap();
    assert!(!(processes::IN_COMMON.files)(own, i32::MAX), "of what is not there nothing is known");
}

#[test]
fn what_cannot_be_read_of_a_process_may_hold_the_gate() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let gate = map(number_of(file.path()), &[]);
    type Spoil = fn(&Path);
    let table: [(&str, Spoil); 3] = [
        // A folder where a file belongs stands for a file that the system does not give out.
        ("the memory map of odd (pid 10)", |thread| fs::create_dir(thread.join("maps")).unwrap()),
        ("task/10/status", |thread| {
            fs::remove_file(thread.join("status")).unwrap();
            fs::create_dir(thread.join("status")).unwrap();
        }),
        ("the descriptors of odd (pid 10)", |thread| {
            fs::remove_dir(thread.join("fd")).unwrap();
            fs::write(thread.join("fd"), "").unwrap();
        }),
    ];
    for (what, spoil) in table {
        let node = Node::new();
        node.process(10, &living("odd"), "", &[]);
        spoil(&node.proc.path().join("10/task/10"));
        let Looked::Unknown(why) = node.find(&gate) else { panic!("{what}: {:?}", node.find(&gate)) };
        assert!(why.contains(what), "{why}");

        // Whatever else is unknown: somebody living is named.
        node.process(12, &living("writer"), "", &[file.path()]);
        assert_eq!(node.found(&gate), [opener(12, "writer", true)]);
    }
}

#[test]
fn a_process_that_vanishes_meanwhile_holds_nothing() {
    let node = Node::new();
    node.process(10, &living("short"), MOUNTED, &[Path::new("/nonexistent/closed")]);
    fs::create_dir_all(node.proc.path().join("11/task/11")).unwrap();
    fs::create_dir_all(node.proc.path().join("12")).unwrap();

    assert_eq!(node.found(&map(GATE, &[])), [opener(0, "file system mounted at /mnt/v", false)]);
}

#[test]
fn without_a_proc_nothing_is_known() {
    let found = find(Path::new("/nonexistent"), Path::new("/nonexistent"), &[&map(GATE, &[])], &[]).openers;
    assert!(matches!(&found, Looked::Unknown(why) if why.contains("/nonexistent")), "{found:?}");
}

#[test]
fn a_mount_in_any_namespace_that_nobody_uses_is_named_by_its_place() {
    let node = Node::new();
    node.process(10, &living("one"), "", &[]);
    node.process(11, &living("other"), MOUNTED, &[]);

    let found = node.found(&map(GATE, &["dm-9"]));

    assert_eq!(found, [opener(0, "device dm-9", true), opener(0, "file system mounted at /mnt/v", false)]);
}

#[test]
fn writers_through_an_overlay_are_found_by_the_overlays_number() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let DeviceNumber { major, minor } = number_of(file.path());
    for (upper, found_it) in [("/mnt/v/upper", true), ("relative/upper", true), ("/mnt/other/upper", false)] {
        let overlay = format!(
            "48 30 {major}:{minor} / /run/c rw - overlay overlay rw,lowerdir=/mnt/v/lower,upperdir={upper},workdir=/w\n"
        );
        let node = Node::new();
        node.process(10, &living("container"), &format!("{overlay}{MOUNTED}"), &[file.path()]);
        let expected = if found_it {
            opener(10, "container", true)
        } else {
            opener(0, "file system mounted at /mnt/v", false)
        };
        assert_eq!(node.found(&map(GATE, &[])), [expected], "{upper}");
    }
}

#[test]
fn a_file_system_whose_files_have_other_numbers_counts_as_used() {
    let node = Node::new();
    let btrfs = "36 22 0:45 /@ /mnt/v rw - btrfs /dev/mapper/hawser-a rw\n";
    node.process(10, &living("one"), btrfs, &[]);

    let found = node.found(&map(GATE, &[]));

    assert!(
        found.contains(&opener(0, "btrfs mounted at /mnt/v, whose users cannot be told", true)),
        "{found:?}"
    );
}

#[test]
fn what_the_kernel_has_open_is_named() {
    let image = tempfile::NamedTempFile::new().unwrap();
    let image = image.path().to_str().unwrap();
    let bound = "60 22 0:6 /dm-5 /var/lib/kubelet/volume rw - devtmpfs udev rw\n";
    let swaps = "Filename\tType\tSize\tUsed\tPriority\n";
    let iblock = "Status: ACTIVATED\n        iBlock device: dm-5  UDEV PATH: x  readonly: 0\n        Major: 254 Minor: 5  CLAIMED: IBLOCK\n";
    let fileio = "Status: ACTIVATED\n        TCM FILEIO ID: 0        File: /mnt/v/lun 0  Size: 1  Mode: Buffered-WCE Async: 0\n";
    let loop_file = "block/loop0/loop/backing_file";
    let table: [(&str, &str, &str, &str); 9] = [
        ("sys", loop_file, "/dev/dm-5\n", "loop device loop0 on /dev/dm-5"),
        ("sys", loop_file, "/dev/mapper/hawser-a\n", "loop device loop0 on /dev/mapper/hawser-a"),
        ("sys", loop_file, "/mnt/v/a b\n", "loop device loop0 on /mnt/v/a b"),
        ("sys", loop_file, "/var/lib/kubelet/volume\n", "loop device loop0 on /var/lib/kubelet/volume"),
        ("proc", "swaps", "/dev/dm-5 partition 1 0 -2\n", "swap on /dev/dm-5"),
        ("proc", "swaps", "/mnt/v/a\\040b file 1 0 -2\n", "swap on /mnt/v/a b"),
        ("sys", "kernel/config/target/core/iblock_0/one/info", iblock, "SCSI target iblock_0/one"),
        (
            "sys",
            "kernel/config/target/core/fileio_0/two/info",
            fileio,
            "SCSI target fileio_0/two on /mnt/v/lun",
        ),
        (
            "sys",
            "kernel/config/nvmet/subsystems/three/namespaces/1/device_path",
            "/dev/dm-5\n",
            "NVMe target three on /dev/dm-5",
        ),
    ];
    for (root, path, text, expected) in table {
        for mine in [true, false] {
            let node = Node::new();
            let killed = killed("dd");
            node.process(10, &killed, if mine { MOUNTED } else { "" }, &[]);
            node.process(11, &living("pod"), if mine { bound } else { "" }, &[]);
            let gate = if mine {
                map(GATE, &[])
            } else {
                Map { name: "hawser-b".into(), block_name: "dm-6".into(), ..map(GATE_OF_ANOTHER, &[]) }
            };
            let text = if mine {
                text.to_owned()
            } else {
                text.replace("/dev/dm-5", image).replace("/dev/mapper/hawser-a", image)
            };
            let text = if root == "proc" { format!("{swaps}{text}") } else { text };
            match root {
                "proc" => node.write_proc(path, &text),
                _ => node.write_sys(path, &text),
            }
            let found = node.found(&gate);
            assert_eq!(found.contains(&opener(0, expected, true)), mine, "{expected}: {found:?}");
        }
    }
}

const GATE_OF_ANOTHER: DeviceNumber = DeviceNumber { major: 254, minor: 6 };

#[test]
fn a_loop_device_is_found_by_the_number_of_what_it_lies_on() {
    let image = tempfile::NamedTempFile::new().unwrap();
    let node = Node::new();
    let path = image.path().display();
    node.write_sys("block/loop3/loop/backing_file", &format!("{path}\n"));

    let found = node.found(&map(number_of(image.path()), &[]));

    assert_eq!(found, [opener(0, &format!("loop device loop3 on {path}"), true)]);
}

#[test]
fn a_device_in_another_namespace_may_be_the_gate() {
    let node = Node::new();
    node.write_sys("block/loop3/loop/backing_file", "/dev/hawser-no-such-device\n");

    let found = node.find(&map(GATE, &[]));

    assert!(
        matches!(&found, Looked::Unknown(why) if why.contains("loop device loop3 on /dev/hawser-no-such-device")),
        "{found:?}"
    );
}

#[test]
fn a_file_system_that_the_kernels_nfs_server_may_export_is_used() {
    let exports = |path: &str| format!("# Version 1.1\n# Path Client(Flags) # IPs\n{path}\t*(rw,sync)\n");
    for (server, exported, used) in [
        (false, None, false),
        (true, None, true),
        (true, Some(exports("/mnt/v")), true),
        (true, Some(exports("/mnt/v/data")), true),
        (true, Some(exports("/mnt")), true),
        (true, Some(exports("/srv")), false),
    ] {
        let node = Node::new();
        node.process(10, &living("sh"), MOUNTED, &[]);
        if server {
            node.process(11, &living("nfsd"), "", &[]);
        }
        if let Some(exported) = &exported {
            node.write_proc("fs/nfsd/exports", exported);
        }
        let found = node.found(&map(GATE, &[]));
        let named = opener(0, "the kernel's NFS server on /mnt/v", true);
        assert_eq!(found.contains(&named), used, "{server} {exported:?}: {found:?}");
    }
}

#[test]
fn the_real_proc_shows_this_very_process() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let found = find(Path::new("/proc"), Path::new("/sys"), &[&map(number_of(file.path()), &[])], &[]);
    let own = i32::try_from(std::process::id()).unwrap();
    let Looked::Present(openers) = &found.openers else { panic!("{found:?}") };
    assert!(
        openers.iter().any(|opener| opener.pid == own && opener.state == OpenerState::Living),
        "{found:?}"
    );
}

#[test]
fn the_real_kernel_knows_that_threads_share_their_files() {
    let own = i32::try_from(std::process::id()).unwrap();
    // Where the kernel or the container forbids the question, every thread is looked at.
    let share_files = processes::IN_COMMON.files;
    let can_tell = share_files(own, own);
    let threads = fs::read_dir("/proc/self/task").unwrap();
    for thread in threads {
        let id = thread.unwrap().file_name().to_str().unwrap().parse().unwrap();
        assert!(!can_tell || share_files(own, id) || !Path::new(&format!("/proc/self/task/{id}")).exists());
    }
}

#[test]
fn a_file_system_counts_once_wherever_it_is_mounted_and_whoever_uses_it() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let used = number_of(file.path());
    let lines = |number: DeviceNumber| {
        let DeviceNumber { major, minor } = number;
        let line = |point| format!("36 22 {major}:{minor} / {point} rw - ext4 /dev/mapper/hawser-a rw\n");
        ["/mnt/v", "/mnt/w"].map(line).concat()
    };
    let nothing = String::new();
    for (what, number, mounts, files, expected) in [
        ("nobody", GATE, &nothing, vec![], 0),
        ("mounted twice and unused", GATE, &lines(GATE), vec![], 1),
        ("mounted and used twice", used, &lines(used), vec![file.path(), file.path()], 1),
        ("unmounted while it is used", used, &nothing, vec![file.path()], 1),
        ("another one", GATE, &lines(GATE_OF_ANOTHER), vec![file.path()], 0),
    ] {
        let node = Node::new();
        node.process(10, &killed("one"), mounts, &files);
        node.process(11, &killed("other"), mounts, &files);
        assert_eq!(node.find_all(&map(number, &[])).opens, [(number, expected)].into(), "{what}");
    }
}

#[test]
fn a_device_counts_once_for_each_time_that_it_was_opened() {
    let descriptor = |device, thread, number| Descriptor { device, thread, number };
    // Thread 11 has inherited descriptor 3 of thread 10, which has opened the device once more.
    let descriptors = [
        descriptor(GATE, 10, 3),
        descriptor(GATE, 10, 4),
        descriptor(GATE, 11, 3),
        descriptor(GATE_OF_ANOTHER, 11, 5),
    ];
    let inherited = |one: Descriptor, other: Descriptor| (one.number, other.number) == (3, 3);
    let knows = InCommon { opening: &inherited, ..NOTHING_IN_COMMON };
    for (file_systems, in_common, expected) in [
        (vec![], &knows, 2),
        (vec![GATE], &knows, 3),
        (vec![GATE_OF_ANOTHER], &knows, 2),
        (vec![], &NOTHING_IN_COMMON, 3),
    ] {
        let file_systems = file_systems.into_iter().collect();
        assert_eq!(opens_of(GATE, &descriptors, &file_systems, in_common), expected, "{file_systems:?}");
    }
}

#[test]
fn the_real_kernel_tells_an_opening_that_was_passed_on_from_another_one() {
    use std::os::fd::AsRawFd;
    let own = i32::try_from(std::process::id()).unwrap();
    let first = fs::File::open("/dev/null").unwrap();
    let (passed_on, second) = (first.try_clone().unwrap(), fs::File::open("/dev/null").unwrap());
    let descriptor = |file: &fs::File| Descriptor { device: GATE, thread: own, number: file.as_raw_fd() };
    let once = |other: &fs::File| (processes::IN_COMMON.opening)(descriptor(&first), descriptor(other));
    // Where the kernel or the container forbids the question, everything was opened by itself.
    let can_tell = once(&first);
    assert_eq!((once(&passed_on), once(&second)), (can_tell, false));
}

#[test]
fn where_the_gate_is_not_found_a_frozen_device_is_looked_at_itself() {
    let volume =
        SubjectVolume { number: 0, minor: 1000, backing_name: "v".into(), gate_name: "hawser-a".into() };
    let kernel = |role, fencing| {
        Looked::Present(KernelResource {
            role,
            suspended: Suspended { fencing, ..Suspended::default() },
            volumes: [].into(),
            peers: [].into(),
            to_a_stranger: false,
        })
    };
    let frozen = kernel(Role::Primary, true);
    let gate = map(GATE, &[]);
    let node = Node::new();
    let ways_in = |kernel, all: &[Map]| {
        let found = ways_in(node.sys.path(), std::slice::from_ref(&volume), kernel, all);
        found.map(|maps| maps.into_iter().map(|map| map.name).collect::<Vec<_>>())
    };
    assert!(ways_in(&frozen, &[]).is_err(), "the device cannot be looked at");

    node.write_sys("block/drbd1000/dev", "147:1000");
    node.write_sys("block/drbd1000/holders/dm-5", "");

    for (kernel, all, expected) in [
        (&frozen, vec![gate.clone()], vec!["hawser-a"]),
        (&frozen, vec![], vec!["drbd1000"]),
        (&kernel(Role::Primary, false), vec![], vec![]),
        (&kernel(Role::Secondary, true), vec![], vec![]),
        (&Looked::Absent, vec![], vec![]),
    ] {
        assert_eq!(ways_in(kernel, &all).unwrap(), expected, "{kernel:?}");
    }
    let device = drbd_device(node.sys.path(), 1000).unwrap();
    assert_eq!(device.number, DeviceNumber { major: 147, minor: 1000 });
    assert_eq!(node.found(&device), [opener(0, "device dm-5", true)], "a map that nobody recognizes lives");
}

#[test]
fn hostile_files_of_a_process() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let gate = map(number_of(file.path()), &[]);
    let maps = "7f00-7f01 r--p 00000000 fe:05 1337 /mnt/v/lib.so\n7f02-7f03 rw-p 00000000 00:00 0 [heap]\n";
    let samples = [&living("writer"), &killed("sync"), &exited("sh"), MOUNTED, maps];
    let node = Node::new();
    node.process(10, &living("writer"), MOUNTED, &[file.path()]);
    node.process(11, &living("other"), MOUNTED, &[]);
    check(&texts(&samples, &["State:", "SigPnd:\t", "fe:05", "254:5", "Name:", "Z (zombie)"]), |text| {
        for path in ["11/mountinfo", "11/task/11/status", "11/task/11/maps"] {
            node.write_proc(path, &text);
        }
        // Whatever the one has become, the other is not lost over it.
        assert!(node.found(&gate).contains(&opener(10, "writer", true)), "{:?}", node.find(&gate));
    });
}

#[test]
fn hostile_files_of_what_the_kernel_has_open() {
    let swaps = "Filename\tType\tSize\tUsed\tPriority\n/mnt/v/a\\040b file 1 0 -2\n";
    let iblock =
        "iBlock device: dm-5  UDEV PATH: x  readonly: 0\n        Major: 254 Minor: 5  CLAIMED: IBLOCK\n";
    let fileio = "TCM FILEIO ID: 0        File: /mnt/v/lun 0  Size: 1  Mode: Buffered-WCE Async: 0\n";
    let exports = "# Version 1.1\n/mnt/v\t*(rw,no_root_squash)\n";
    let node = Node::new();
    node.process(10, &killed("nfsd"), MOUNTED, &[]);
    node.write_sys("block/loop9/loop/backing_file", "/dev/dm-5\n");
    check(
        &texts(&[swaps, iblock, fileio, exports, "/dev/dm-5\n"], &["Major: ", "File: ", "/dev/dm-5"]),
        |text| {
            node.write_proc("swaps", &text);
            node.write_proc("fs/nfsd/exports", &text);
            node.write_sys("block/loop0/loop/backing_file", &text);
            node.write_sys("kernel/config/target/core/iblock_0/one/info", &text);
            node.write_sys("kernel/config/target/core/iblock_0/one/udev_path", &text);
            node.write_sys("kernel/config/nvmet/subsystems/three/namespaces/1/device_path", &text);
            let found = node.found(&map(GATE, &[]));
            assert!(found.contains(&opener(0, "loop device loop9 on /dev/dm-5", true)), "{found:?}");
        },
    );
}
