//! The files that volumes are in a directory pool: made whole or not at all, found with their mark, removed.
//!
//! Everything here may wait for the disk; it is for threads that may. It must never change what is in a file that has a
//! volume's name.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::AsRawFd,
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use hawser_plan::{observed::PoolFound, step::Mark};
use hawser_proto::ids::Incarnation;
use nix::{
    errno::Errno,
    fcntl::{self, AT_FDCWD, AtFlags, FallocateFlags},
    sys::{statfs, statvfs},
    unistd::linkat,
};
use xattr::FileExt;

use super::super::durable::{remove_if_there, sync_directory};

/// The extended attribute that carries a mark: cluster, resource, replica and volume, by spaces.
const MARK: &str = "user.hawser.mark";
/// `st_blocks` counts these.
const ALLOCATION_UNIT: u64 = 512;

/// A file that has a volume's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct VolumeFile {
    pub(super) size_bytes: u64,
    /// `None` where it carries none of Hawser's.
    pub(super) mark: Option<Mark>,
    /// The file system's number and the file's in it.
    pub(super) identity: (u64, u64),
}

/// Whether a word can be a volume's name here: a file's, and no hidden one's.
pub(super) fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 127
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.+-".contains(&byte))
}

/// The file of that name.
pub(super) fn find(directory: &Path, name: &str) -> io::Result<Option<VolumeFile>> {
    // Where the directory itself is not there nothing is known of its files.
    fs::metadata(directory)?;
    let path = directory.join(name);
    match fs::symlink_metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
        Ok(metadata) => Ok(Some(VolumeFile {
            size_bytes: metadata.len(),
            mark: if metadata.is_file() { mark_of(&path)? } else { None },
            identity: (metadata.dev(), metadata.ino()),
        })),
    }
}

/// Makes a file of that size, with its room reserved and its mark on it. It has no name before it is complete and on the
/// disk, so a crash leaves nothing. If the name is taken by then, what has it stays and is returned.
pub(super) fn make(directory: &Path, name: &str, size_bytes: u64, mark: &Mark) -> io::Result<VolumeFile> {
    let nameless =
        OpenOptions::new().write(true).custom_flags(nix::libc::O_TMPFILE).mode(0o600).open(directory)?;
    reserve(&nameless, size_bytes)?;
    nameless.set_xattr(MARK, in_words(mark).as_bytes())?;
    nameless.sync_all()?;
    let now = PathBuf::from(format!("/proc/self/fd/{}", nameless.as_raw_fd()));
    match linkat(AT_FDCWD, &now, AT_FDCWD, &directory.join(name), AtFlags::AT_SYMLINK_FOLLOW) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(error) => return Err(error.into()),
    }
    sync_directory(directory)?;
    find(directory, name)?.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
}

/// Reserves the room of a volume again where holes were punched, and has its name on the disk. A volume is not kept from
/// use because there is no room for its holes.
pub(super) fn keep(directory: &Path, name: &str) -> io::Result<()> {
    let path = directory.join(name);
    let file = OpenOptions::new().write(true).open(&path)?;
    let metadata = file.metadata()?;
    // Only then: XFS wants as much free room as the range is long, although all of it is there.
    if metadata.blocks().saturating_mul(ALLOCATION_UNIT) < metadata.len() {
        match reserve(&file, metadata.len()) {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                tracing::warn!(file = %path.display(), "a volume has holes, and the file system has no room for them");
            }
            reserved => reserved?,
        }
    }
    sync_directory(directory)
}

fn reserve(file: &File, size_bytes: u64) -> io::Result<()> {
    let length = i64::try_from(size_bytes).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    Ok(fcntl::fallocate(file, FallocateFlags::empty(), 0, length)?)
}

/// Removes a file.
pub(super) fn remove(directory: &Path, name: &str) -> io::Result<()> {
    remove_if_there(&directory.join(name))?;
    sync_directory(directory)
}

/// How the directory stands.
pub(super) fn room(directory: &Path) -> io::Result<PoolFound> {
    check_kind(directory)?;
    // Looked at before and after: only what was there all the while counts beside what was free in between.
    let before = taken(directory)?;
    let system = statvfs::statvfs(directory)?;
    let after = taken(directory)?;
    let both = before.iter().filter_map(|(inode, bytes)| Some(*bytes.min(after.get(inode)?)));
    let own = both.fold(0, u64::saturating_add);
    let free_bytes = system.blocks_available().saturating_mul(system.fragment_size());
    // What others have taken of the file system is not the pool's.
    let capacity_bytes = free_bytes.saturating_add(own);
    Ok(PoolFound { capacity_bytes, free_bytes, metadata_used_permyriad: 0 })
}

/// Refuses what no volume can lie in.
fn check_kind(directory: &Path) -> io::Result<()> {
    let refused = |reason: &str| Err(io::Error::other(reason.to_owned()));
    if !fs::metadata(directory)?.is_dir() {
        return refused("is not a directory");
    }
    let kind = statfs::statfs(directory)?.filesystem_type();
    if kind == statfs::TMPFS_MAGIC || kind == statfs::OVERLAYFS_SUPER_MAGIC {
        return refused("lies in memory or in a container's layer, and what is in it does not last");
    }
    // Says whether the file system has such attributes.
    xattr::get(directory, MARK).map(drop)
}

/// Bytes that each marked file has taken, by inode.
fn taken(directory: &Path) -> io::Result<BTreeMap<u64, u64>> {
    let mut taken = BTreeMap::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = match entry.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            metadata => metadata?,
        };
        if metadata.is_file() && mark_of(&entry.path())?.is_some() {
            taken.insert(metadata.ino(), metadata.blocks().saturating_mul(ALLOCATION_UNIT));
        }
    }
    Ok(taken)
}

fn mark_of(path: &Path) -> io::Result<Option<Mark>> {
    match xattr::get(path, MARK) {
        Ok(value) => Ok(value.as_deref().and_then(|value| parse_mark(std::str::from_utf8(value).ok()?))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn in_words(mark: &Mark) -> String {
    format!("{} {} {} {}", mark.cluster_id, mark.resource, mark.replica_incarnation, mark.volume)
}

/// Reads the words of a mark. What Hawser does not write in just this way is none.
fn parse_mark(text: &str) -> Option<Mark> {
    let mut words = text.split(' ');
    let mark = Mark {
        cluster_id: words.next()?.to_owned(),
        resource: words.next()?.to_owned(),
        replica_incarnation: words.next()?.parse().ok().map(Incarnation::new)?,
        volume: words.next()?.parse().ok()?,
    };
    (in_words(&mark) == text).then_some(mark)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::print_stderr, clippy::unwrap_used)]
    use hawser_hostile::{check, texts};

    use super::*;

    fn mark(volume: u32) -> Mark {
        Mark {
            cluster_id: "5f0c".into(),
            resource: "db".into(),
            replica_incarnation: Incarnation::new(7),
            volume,
        }
    }

    /// A directory on a file system that volumes can lie in; `None`, said aloud, where the machine has none.
    fn directory() -> Option<tempfile::TempDir> {
        let program = std::env::current_exe().unwrap();
        let directory = tempfile::tempdir_in(program.parent().unwrap()).unwrap();
        match room(directory.path()) {
            Ok(_) => Some(directory),
            Err(error) => {
                eprintln!("SKIPPED: no volume can lie in {}: {error}", directory.path().display());
                None
            }
        }
    }

    #[test]
    fn a_file_is_made_with_its_room_and_its_mark_and_never_over_another() {
        let Some(directory) = directory() else { return };
        let path = directory.path();

        let made = make(path, "db.7-0", 1 << 20, &mark(0)).unwrap();

        assert_eq!((made.size_bytes, made.mark.as_ref()), (1 << 20, Some(&mark(0))));
        assert_eq!(find(path, "db.7-0").unwrap(), Some(made.clone()));
        assert!(fs::read(path.join("db.7-0")).unwrap().iter().all(|byte| *byte == 0));
        // Looked at once: what others take and free meanwhile is not in it.
        let room = room(path).unwrap();
        assert!(room.capacity_bytes >= room.free_bytes + (1 << 20), "{room:?}");
        assert_eq!(make(path, "db.7-0", 1 << 20, &mark(1)).unwrap(), made, "what is there stays");
        assert_eq!(fs::read_dir(path).unwrap().count(), 1, "the other one has left nothing");
    }

    #[test]
    fn room_that_holes_have_given_away_is_reserved_again() {
        let Some(directory) = directory() else { return };
        let path = directory.path();
        make(path, "db.7-0", 1 << 20, &mark(0)).unwrap();
        let reserved = || fs::metadata(path.join("db.7-0")).unwrap().blocks() * ALLOCATION_UNIT;
        let file = OpenOptions::new().write(true).open(path.join("db.7-0")).unwrap();
        let holes = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        fcntl::fallocate(&file, holes, 0, 1 << 20).unwrap();
        assert!(reserved() < 1 << 20);

        keep(path, "db.7-0").unwrap();

        assert!(reserved() >= 1 << 20);
    }

    #[test]
    fn what_is_not_hawsers_has_no_mark() {
        let Some(directory) = directory() else { return };
        let path = directory.path();
        assert_eq!(find(path, "db.7-0").unwrap(), None);
        fs::write(path.join("db.7-0"), "somebody's").unwrap();
        assert_eq!(find(path, "db.7-0").unwrap().unwrap().mark, None);
        fs::create_dir(path.join("db.8-0")).unwrap();
        assert_eq!(find(path, "db.8-0").unwrap().unwrap().mark, None);
        assert!(find(&path.join("not-there"), "db.7-0").is_err(), "nothing is known of its files");
    }

    #[test]
    fn one_that_does_not_fit_leaves_nothing() {
        let Some(directory) = directory() else { return };
        assert!(make(directory.path(), "db.7-0", 1 << 60, &mark(0)).is_err());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_name_leads_nowhere_else() {
        assert!(is_plain("db.7-0"));
        for name in ["", ".db", "..", "a/b", "a b", "ä"] {
            assert!(!is_plain(name), "{name:?}");
        }
    }

    #[test]
    fn hostile_marks_of_files() {
        check(&texts(&[&in_words(&mark(0))], &[" ", "00", "db"]), |text| {
            if let Some(mark) = parse_mark(&text) {
                assert_eq!(in_words(&mark), text);
            }
        });
    }
}
