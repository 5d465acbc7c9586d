//! Block devices and device-mapper maps, read from sysfs and from the devices themselves.
//!
//! Starts no process, and changes nothing but whether a device takes discards. A tree other than `/sys` can be given,
//! so that it is tested on a recorded one.

use std::{
    fs,
    io::{self, Seek, SeekFrom},
    path::{Path, PathBuf},
};

/// Bytes in a sector, in all of the kernel's interfaces.
pub const SECTOR: u64 = 512;

/// A device number, as in `/proc/*/mountinfo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeviceNumber {
    /// Major.
    pub major: u32,
    /// Minor.
    pub minor: u32,
}

impl DeviceNumber {
    /// Reads "254:5".
    pub fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.trim().split_once(':')?;
        Some(DeviceNumber { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }
}

/// A device-mapper map as sysfs shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Map {
    /// Name of the map.
    pub name: String,
    /// What its maker called it, e.g. "HAWSER-…"; empty if nothing.
    pub uuid: String,
    /// Name of the block device, e.g. "dm-5".
    pub block_name: String,
    /// Device number.
    pub number: DeviceNumber,
    /// I/O is held at it.
    pub suspended: bool,
    /// Size in sectors.
    pub sectors: u64,
    /// Block names of the devices that its live table leads to. None for the `error` target.
    pub below: Vec<String>,
    /// Block names of devices made on top of it.
    pub above: Vec<String>,
}

/// All device-mapper maps of the node. One that vanishes meanwhile is left out, and no other: whoever does not
/// find a map here takes it for gone.
///
/// # Errors
/// `/sys/block`, or anything of a map that is still there, cannot be read.
pub fn maps(sys: &Path) -> io::Result<Vec<Map>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(sys.join("block"))? {
        let path = entry?.path();
        match read_map(&path) {
            Ok(map) => found.extend(map),
            Err(error) if has_vanished(&error) => {}
            Err(error) => return Err(io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// The map at `path`; `None` if the device there is none.
fn read_map(path: &Path) -> io::Result<Option<Map>> {
    if !fs::metadata(path.join("dm"))?.is_dir() {
        return Ok(None);
    }
    Ok(Some(Map {
        name: text(path, "dm/name")?,
        uuid: text(path, "dm/uuid")?,
        block_name: path.file_name().and_then(|name| name.to_str()).ok_or_else(|| invalid("no name"))?.into(),
        number: number(path)?,
        suspended: text(path, "dm/suspended")? == "1",
        sectors: text(path, "size")?.parse().map_err(|_| invalid("not a size"))?,
        // Read as empty, they would say that the map leads nowhere and that nothing lies on it.
        below: names_in(&path.join("slaves"))?,
        above: names_in(&path.join("holders"))?,
    }))
}

/// Device number of a block device, and the block names of the devices made on top of it.
///
/// # Errors
/// There is no such device, or it cannot be read.
pub fn number_and_holders(sys: &Path, block_name: &str) -> io::Result<(DeviceNumber, Vec<String>)> {
    let path = sys.join("block").join(block_name);
    Ok((number(&path)?, names_in(&path.join("holders"))?))
}

fn number(path: &Path) -> io::Result<DeviceNumber> {
    DeviceNumber::parse(&text(path, "dev")?).ok_or_else(|| invalid("not a device number"))
}

fn text(path: &Path, name: &str) -> io::Result<String> {
    fs::read_to_string(path.join(name)).map(|text| text.trim().to_owned())
}

fn names_in(directory: &Path) -> io::Result<Vec<String>> {
    let name = |entry: io::Result<fs::DirEntry>| {
        entry?.file_name().into_string().map_err(|name| invalid(&format!("{} is no name", name.display())))
    };
    let mut names = fs::read_dir(directory)?.map(name).collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Whether a failure to read something of a device says that it is not there.
fn has_vanished(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(nix::libc::ENODEV)
}

/// Sectors of a block device, by its name in sysfs; 0 while it has no size.
///
/// # Errors
/// There is no such device.
pub fn sectors(sys: &Path, block_name: &str) -> io::Result<u64> {
    let path = sys.join("block").join(block_name).join("size");
    let text = fs::read_to_string(path)?;
    text.trim()
        .parse()
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("not a size: {text:?}")))
}

/// Bytes of a block device or file.
///
/// # Errors
/// It cannot be opened for reading.
pub fn size(path: &Path) -> io::Result<u64> {
    fs::File::open(path)?.seek(SeekFrom::End(0))
}

/// Name in sysfs of the device that a node in `/dev` leads to, e.g. "dm-4" for `/dev/vg0/vol1.9-0`.
///
/// # Errors
/// There is no such node, or it is no block device.
pub fn block_name(sys: &Path, device: &Path) -> io::Result<String> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let metadata = fs::metadata(device)?;
    if !metadata.file_type().is_block_device() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a block device"));
    }
    let (major, minor) = (nix::sys::stat::major(metadata.rdev()), nix::sys::stat::minor(metadata.rdev()));
    let link: PathBuf = fs::read_link(sys.join(format!("dev/block/{major}:{minor}")))?;
    link.file_name()
        .and_then(|name| name.to_str())
        .map(str::to_owned)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no name in sysfs"))
}

/// Where the kernel keeps how much of a device one discard may take; 0: it takes none.
fn discard_limit(sys: &Path, device: &Path) -> io::Result<PathBuf> {
    Ok(sys.join("block").join(block_name(sys, device)?).join("queue/discard_max_bytes"))
}

/// Whether a device takes no discards.
pub fn takes_no_discards(sys: &Path, device: &Path) -> bool {
    let limit = discard_limit(sys, device).and_then(fs::read_to_string);
    limit.is_ok_and(|limit| limit.trim() == "0")
}

/// Has a device take no discards, until the next boot: what lies above it is told so when it is attached.
///
/// # Errors
/// There is no such device, or the kernel refuses, as where sysfs is mounted for reading only.
pub fn refuse_discards(sys: &Path, device: &Path) -> io::Result<()> {
    if takes_no_discards(sys, device) {
        return Ok(());
    }
    let limit = discard_limit(sys, device)?;
    fs::write(&limit, "0").map_err(|error| {
        let words = format!("discards cannot be switched off by {}: {error}", limit.display());
        io::Error::new(error.kind(), words)
    })
}

/// A tree in the form of `/sys/block`, for tests of this room.
#[cfg(test)]
pub(crate) mod test_tree {
    #![allow(clippy::unwrap_used)]
    use std::{fs, path::Path};

    /// Adds a map to the tree below `sys`.
    pub(crate) fn add_map(
        sys: &Path,
        block_name: &str,
        name: &str,
        uuid: &str,
        number: &str,
        below: &[&str],
    ) {
        let path = sys.join("block").join(block_name);
        for directory in ["dm", "slaves", "holders"] {
            fs::create_dir_all(path.join(directory)).unwrap();
        }
        for (file, text) in [
            ("dm/name", name),
            ("dm/uuid", uuid),
            ("dm/suspended", "0"),
            ("dev", number),
            ("size", "2105200"),
        ] {
            fs::write(path.join(file), format!("{text}\n")).unwrap();
        }
        for device in below {
            fs::create_dir_all(path.join("slaves").join(device)).unwrap();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hawser_hostile::{check, texts};

    use super::*;

    #[test]
    fn hostile_files_of_a_map() {
        let tree = tempfile::tempdir().unwrap();
        test_tree::add_map(tree.path(), "dm-5", "hawser-a", "HAWSER-a", "254:5", &[]);
        test_tree::add_map(tree.path(), "dm-6", "hawser-b", "HAWSER-b", "254:6", &[]);
        let samples = ["hawser-a\n", "HAWSER-a\n", "254:5\n", "2105200\n", "1\n"];
        check(&texts(&samples, &[]), |text| {
            for file in ["dm/name", "dm/uuid", "dm/suspended", "dev", "size"] {
                fs::write(tree.path().join("block/dm-5").join(file), &text).unwrap();
            }
            // The other map is read, or nothing: whoever is not found counts as gone.
            if let Ok(maps) = maps(tree.path()) {
                assert!(maps.len() == 2 && maps.iter().any(|map| map.uuid == "HAWSER-b"), "{maps:?}");
            }
        });
    }

    #[test]
    fn hostile_device_numbers() {
        check(&texts(&["254:5", "0:44\n"], &[]), |text| {
            if let Some(number) = DeviceNumber::parse(&text) {
                let again = format!("{}:{}", number.major, number.minor);
                assert_eq!(DeviceNumber::parse(&again), Some(number));
            }
        });
    }

    #[test]
    fn maps_are_read_with_what_lies_below() {
        let tree = tempfile::tempdir().unwrap();
        fs::create_dir_all(tree.path().join("block/drbd1000")).unwrap();
        test_tree::add_map(tree.path(), "dm-5", "hawser-vol1.9-0", "HAWSER-vol1", "254:5", &["drbd1000"]);
        test_tree::add_map(tree.path(), "dm-0", "vg0-thin", "LVM-x", "254:0", &[]);
        let maps = maps(tree.path()).unwrap();
        assert_eq!(maps.len(), 2, "a device that is no map is left out");
        let gate = &maps[0];
        assert_eq!((gate.name.as_str(), gate.block_name.as_str()), ("hawser-vol1.9-0", "dm-5"));
        assert_eq!(gate.number, DeviceNumber { major: 254, minor: 5 });
        assert_eq!(gate.below, ["drbd1000"]);
        assert_eq!(gate.sectors, 2_105_200);
        assert!(!gate.suspended);
    }

    #[test]
    fn only_a_map_that_has_vanished_is_left_out() {
        type Damage = fn(&Path);
        let unreadable = |path: &Path| {
            fs::remove_dir_all(path).or_else(|_| fs::remove_file(path)).unwrap();
            std::os::unix::fs::symlink(path, path).unwrap();
        };
        let table: [(Damage, bool); 6] = [
            (|_| {}, true),
            (|map| fs::remove_file(map.join("dm/name")).unwrap(), true),
            (|map| fs::remove_dir(map.join("slaves")).unwrap(), true),
            (|map| fs::write(map.join("dev"), "none").unwrap(), false),
            (|map| fs::write(map.join("size"), "").unwrap(), false),
            (|map| fs::write(map.join("dm/name"), [0xff]).unwrap(), false),
        ];
        for (number, (damage, known)) in table.into_iter().enumerate() {
            let tree = tempfile::tempdir().unwrap();
            test_tree::add_map(tree.path(), "dm-5", "hawser-a", "HAWSER-a", "254:5", &[]);
            damage(&tree.path().join("block/dm-5"));
            assert_eq!(maps(tree.path()).is_ok(), known, "{number}");
        }
        for part in ["dm", "dm/name", "dm/uuid", "dm/suspended", "dev", "size", "slaves", "holders"] {
            let tree = tempfile::tempdir().unwrap();
            test_tree::add_map(tree.path(), "dm-5", "hawser-a", "HAWSER-a", "254:5", &[]);
            unreadable(&tree.path().join("block/dm-5").join(part));
            assert!(maps(tree.path()).is_err(), "{part}");
        }
    }

    #[test]
    fn size_of_a_file_is_its_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(12 * SECTOR).unwrap();
        assert_eq!(size(file.path()).unwrap(), 12 * SECTOR);
        assert!(block_name(Path::new("/sys"), file.path()).is_err());
    }
}
