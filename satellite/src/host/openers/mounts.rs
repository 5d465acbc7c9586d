//! Where file systems of the gates are mounted, in the mount namespace of every process, and what lies on them.
//!
//! Only reads mount tables. A mount whose users cannot be told by a device number is never taken for unused.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use super::{Unread, has_vanished};
use crate::host::devices::{DeviceNumber, Map};

/// What is mounted from the gates.
#[derive(Debug, Default)]
pub(super) struct Mounted {
    /// Numbers that files on the gates have: the gates' own and those of overlays that write to them.
    pub(super) numbers: BTreeSet<DeviceNumber>,
    /// The gates that have a file system of their own mounted.
    pub(super) sources: BTreeSet<DeviceNumber>,
    /// Mount points of file systems on the gates.
    pub(super) points: BTreeSet<String>,
    /// Places that lead to the gates' device nodes: bound into a container, they are mounts too.
    pub(super) nodes: BTreeSet<String>,
    /// Mounts whose users cannot be told, for people.
    pub(super) untold: BTreeSet<String>,
}

/// One line of a mount table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Mount {
    number: DeviceNumber,
    /// The directory or file of the file system that is mounted.
    root: String,
    point: String,
    kind: String,
    source: String,
    /// Where an overlay writes.
    upper: Option<String>,
}

impl Mounted {
    /// Reads the mount table of each of `processes`.
    pub(super) fn read(processes: &[(i32, PathBuf)], maps: &[&Map], unread: &mut Unread) -> Self {
        let mut all = BTreeSet::new();
        for (pid, directory) in processes {
            match std::fs::read_to_string(directory.join("mountinfo")) {
                Ok(text) => all.extend(text.lines().filter_map(parse)),
                // A process that has exited is in no namespace any more, which is what EINVAL says.
                Err(error) if has_vanished(&error) || error.kind() == std::io::ErrorKind::InvalidInput => {}
                Err(error) => unread.note(|| format!("the mounts of process {pid} cannot be read: {error}")),
            }
        }
        Self::of(&all, maps)
    }

    fn of(all: &BTreeSet<Mount>, maps: &[&Map]) -> Self {
        let mut mounted = Mounted {
            numbers: maps.iter().map(|map| map.number).collect(),
            nodes: maps.iter().flat_map(|map| device_paths(map)).collect(),
            ..Mounted::default()
        };
        for mount in all.iter().filter(|mount| mount.kind == "devtmpfs") {
            let node = |map: &&Map| is_node_of(&mount.root, map);
            if maps.iter().any(node) {
                mounted.nodes.insert(mount.point.clone());
            }
        }
        // An overlay may lie on another one.
        loop {
            let before = mounted.points.len();
            for mount in all {
                mounted.add(mount, maps);
            }
            if mounted.points.len() == before {
                return mounted;
            }
        }
    }

    fn add(&mut self, mount: &Mount, maps: &[&Map]) {
        let named = maps.iter().any(|map| device_paths(map).contains(&mount.source));
        if self.numbers.contains(&mount.number) {
            self.sources.extend(maps.iter().map(|map| map.number).filter(|number| *number == mount.number));
            self.points.insert(mount.point.clone());
        } else if named && mount.kind != "devtmpfs" {
            // As with btrfs, files there have numbers that the mount does not show.
            self.points.insert(mount.point.clone());
            self.untold
                .insert(format!("{} mounted at {}, whose users cannot be told", mount.kind, mount.point));
        } else if let Some(upper) = &mount.upper
            && !self.points.is_empty()
            && (!upper.starts_with('/') || self.is_below_a_point(upper))
        {
            // A relative directory may be anywhere.
            self.numbers.insert(mount.number);
            self.points.insert(mount.point.clone());
        }
    }

    /// Whether `path` lies on one of the file systems.
    pub(super) fn is_below_a_point(&self, path: &str) -> bool {
        self.points.iter().any(|point| Path::new(path).starts_with(point))
    }
}

/// The usual paths of a map's device node.
fn device_paths(map: &Map) -> [String; 2] {
    [format!("/dev/mapper/{}", map.name), format!("/dev/{}", map.block_name)]
}

/// Whether `root`, as mounted from the file system of device nodes, is the map's node.
fn is_node_of(root: &str, map: &Map) -> bool {
    device_paths(map).iter().any(|path| path.strip_prefix("/dev") == Some(root))
}

/// Reads "36 22 254:5 / /mnt/v rw,relatime shared:17 - ext4 /dev/mapper/hawser-a rw".
fn parse(line: &str) -> Option<Mount> {
    let (place, kind) = line.split_once(" - ")?;
    let mut place = place.split(' ').skip(2);
    let number = DeviceNumber::parse(place.next()?)?;
    let (root, point) = (unescaped(place.next()?), unescaped(place.next()?));
    let mut kind = kind.split(' ');
    let (kind, source) = (kind.next()?.to_owned(), (kind.next().unwrap_or_default(), kind.next()));
    let upper = source
        .1
        .filter(|_| kind == "overlay")
        .and_then(|options| options.split(',').find_map(|option| option.strip_prefix("upperdir=")))
        .map(unescaped);
    Some(Mount { number, root, point, kind, source: unescaped(source.0), upper })
}

/// Undoes the kernel's octal escapes: a blank is written as `\040`.
pub(super) fn unescaped(text: &str) -> String {
    let mut plain = Vec::with_capacity(text.len());
    let mut bytes = text.as_bytes();
    while let Some((first, rest)) = bytes.split_first() {
        let octal = rest
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        plain.push(octal.unwrap_or(*first));
        bytes = &rest[if octal.is_some() { 3 } else { 0 }..];
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use hawser_hostile::{check, texts};

    use super::*;

    const TABLE: &str = "\
22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
36 22 254:5 / /mnt/v rw,relatime shared:17 - ext4 /dev/mapper/hawser-a rw
37 22 0:5 /mapper/hawser-a /run/c/dev/xvda rw - devtmpfs udev rw,size=4k
48 30 0:44 / /run/c/merged rw,relatime - overlay overlay rw,lowerdir=/l/1:/l/2,upperdir=/mnt/v/u,workdir=/mnt/v/w
49 30 0:45 / /mnt/a\\040b rw - btrfs /dev/dm-5 rw
";

    fn gate() -> Map {
        Map {
            name: "hawser-a".into(),
            uuid: "HAWSER-hawser-a".into(),
            block_name: "dm-5".into(),
            number: DeviceNumber { major: 254, minor: 5 },
            suspended: false,
            sectors: 8,
            below: Vec::new(),
            above: Vec::new(),
        }
    }

    fn mounted(table: &str) -> Mounted {
        Mounted::of(&table.lines().filter_map(parse).collect(), &[&gate()])
    }

    #[test]
    fn hostile_mount_tables() {
        let words =
            ["254:5", "overlay", "upperdir=", "devtmpfs", " - ", "/dev/mapper/hawser-a", "\\040", "\\777"];
        check(&texts(&[TABLE], &words), |table| {
            let with = mounted(&format!("{table}\n{TABLE}"));
            for point in mounted(TABLE).points {
                assert!(with.points.contains(&point), "{point} is lost among the lines of {table:?}");
            }
        });
    }

    #[test]
    fn hostile_names_come_back_from_their_escapes() {
        check(&texts(&["/mnt/a b\tc\\d\ne", "/\\040"], &["\\", " ", "0", "040", "+12"]), |name| {
            let written: String = name
                .chars()
                .map(|character| match character {
                    ' ' | '\t' | '\n' | '\\' => format!("\\{:03o}", u32::from(character)),
                    other => other.to_string(),
                })
                .collect();
            assert_eq!(unescaped(&written), name);
        });
    }

    #[test]
    fn blanks_are_escaped_in_the_kernels_tables() {
        for (text, expected) in
            [("/mnt/a\\040b", "/mnt/a b"), ("/a\\134b", "/a\\b"), ("/a\\b", "/a\\b"), ("/a\\04", "/a\\04")]
        {
            assert_eq!(unescaped(text), expected);
        }
    }

    #[test]
    fn an_overlay_has_a_place_that_it_writes_to() {
        let line = "48 30 0:44 / /run/c/merged rw,relatime - overlay overlay rw,lowerdir=/l/1:/l/2,upperdir=/mnt/v/u,workdir=/mnt/v/w";
        let upper = parse(line).and_then(|mount| mount.upper);
        assert_eq!(upper.as_deref(), Some("/mnt/v/u"));
        let read_only = "48 30 0:44 / /run/c/merged ro - overlay overlay ro,lowerdir=/l/1:/l/2";
        assert_eq!(parse(read_only).and_then(|mount| mount.upper), None);
    }
}
