//! What the kernel itself has open on a gate, or on a file system of one, without any process: loop devices, swap,
//! targets that serve it to other machines, and the NFS server.
//!
//! Only reads sysfs, configfs and `/proc`. Whatever leads to a place that cannot be found may lead to the gate.

use std::path::Path;

use super::{
    Unread,
    mounts::{Mounted, unescaped},
    processes::numbers_of,
};
use crate::host::devices::{DeviceNumber, Map};

/// For people: what the kernel has open there. `serves_nfs`: threads of its NFS server run.
pub(super) fn find(
    proc: &Path,
    sys: &Path,
    maps: &[&Map],
    mounted: &Mounted,
    serves_nfs: bool,
    unread: &mut Unread,
) -> Vec<String> {
    let gates = maps.iter().map(|map| map.number).collect();
    let mut search = Search { mounted, gates, unread, found: Vec::new() };
    search.loop_devices(sys);
    search.swap(proc);
    search.scsi_targets(sys);
    search.nvme_targets(sys);
    if serves_nfs {
        search.exports(proc);
    }
    search.found
}

struct Search<'a> {
    mounted: &'a Mounted,
    gates: Vec<DeviceNumber>,
    unread: &'a mut Unread,
    found: Vec<String>,
}

impl Search<'_> {
    fn loop_devices(&mut self, sys: &Path) {
        for entry in self.unread.entries(&sys.join("block")) {
            if let Some(file) = self.unread.text(&entry.path().join("loop/backing_file")) {
                let device = entry.file_name();
                self.add(&format!("loop device {}", device.to_string_lossy()), file.trim_end_matches('\n'));
            }
        }
    }

    fn swap(&mut self, proc: &Path) {
        let Some(text) = self.unread.text(&proc.join("swaps")) else { return };
        for line in text.lines().skip(1) {
            if let Some(place) = line.split_ascii_whitespace().next() {
                self.add("swap", &unescaped(place));
            }
        }
    }

    /// Backstores of the kernel's SCSI target.
    fn scsi_targets(&mut self, sys: &Path) {
        for plugin in self.unread.entries(&sys.join("kernel/config/target/core")) {
            if !plugin.path().is_dir() {
                continue;
            }
            for store in self.unread.entries(&plugin.path()) {
                let what = format!(
                    "SCSI target {}/{}",
                    plugin.file_name().to_string_lossy(),
                    store.file_name().to_string_lossy()
                );
                // Only what has an `info` is a backstore.
                let Some(info) = self.unread.text(&store.path().join("info")) else { continue };
                if let Some(number) = number_in(&info) {
                    if self.gates.contains(&number) {
                        self.found.push(what);
                    }
                } else if let Some(file) = word_after(&info, "File: ") {
                    self.add(&what, file);
                } else if let Some(path) = self.unread.text(&store.path().join("udev_path"))
                    && !path.trim().is_empty()
                {
                    self.add(&what, path.trim());
                }
            }
        }
    }

    /// Namespaces of the kernel's NVMe target.
    fn nvme_targets(&mut self, sys: &Path) {
        for subsystem in self.unread.entries(&sys.join("kernel/config/nvmet/subsystems")) {
            for namespace in self.unread.entries(&subsystem.path().join("namespaces")) {
                let Some(path) = self.unread.text(&namespace.path().join("device_path")) else { continue };
                let what = format!("NVMe target {}", subsystem.file_name().to_string_lossy());
                if !matches!(path.trim(), "" | "(null)") {
                    self.add(&what, path.trim());
                }
            }
        }
    }

    /// File systems that the NFS server has exported; all of them where nobody can tell.
    fn exports(&mut self, proc: &Path) {
        let exported = std::fs::read_to_string(proc.join("fs/nfsd/exports")).ok();
        for point in &self.mounted.points {
            let serves = exported.as_ref().is_none_or(|exported| {
                let mut paths = exported
                    .lines()
                    .filter(|line| !line.starts_with('#'))
                    .filter_map(|line| Some(unescaped(line.split_ascii_whitespace().next()?)));
                paths.any(|path| Path::new(&path).starts_with(point) || Path::new(point).starts_with(&path))
            });
            if serves {
                self.found.push(format!("the kernel's NFS server on {point}"));
            }
        }
    }

    /// Adds what lies at `place` if that is a gate or a file on one.
    fn add(&mut self, what: &str, place: &str) {
        let there = || format!("{what} on {place}");
        if self.mounted.nodes.contains(place) || self.mounted.is_below_a_point(place) {
            return self.found.push(there());
        }
        match numbers_of(Path::new(place)) {
            Ok((file_system, device)) => {
                let lies_there = device.map_or(self.mounted.numbers.contains(&file_system), |device| {
                    self.gates.contains(&device)
                });
                if lies_there {
                    self.found.push(there());
                }
            }
            // A file in another mount namespace: whatever is mounted from a gate there is known.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !place.starts_with("/dev/") => {}
            Err(error) => self.unread.note(|| format!("cannot tell where {} lies: {error}", there())),
        }
    }
}

/// Reads "Major: 254 Minor: 5" in what a backstore says of itself.
fn number_in(info: &str) -> Option<DeviceNumber> {
    let number = |key| word_after(info, key)?.parse().ok();
    Some(DeviceNumber { major: number("Major: ")?, minor: number("Minor: ")? })
}

fn word_after<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.split_once(key)?.1.split_ascii_whitespace().next()
}
