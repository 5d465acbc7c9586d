//! The log engine on sled 0.34, with the barrier that sled lacks.
//!
//! sled's `flush` ends in `sync_file_range`, which survives a crash of the process but not a power cut; so
//! every `sync` is followed by `fdatasync` of sled's one data file. A value that lands in one of sled's blob
//! files would not be covered by that. sled rewrites a leaf of up to 16 values as one page and moves pages
//! above 128 KiB into blob files, so values are cut into parts of 4 KiB, written in one atomic batch.
//!
//! An entry of one part, as nearly all are, is written without a batch: for each batch sled writes its buffer to the
//! file twice and wakes all its threads, which costs more than everything else about an entry.
//!
//! Every part carries the format and a checksum over its key and content. It must never repair anything:
//! what does not verify is reported as damaged.

use std::{
    fs::{self, File},
    io,
    ops::RangeInclusive,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use sled::{Batch, Db, Tree};

use super::engine::{Engine, Engines, Meta};

/// sled's page cache. Its default of 1 GiB is more than the whole controller may use.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;
/// Content of one part. 20 of them, the most that a leaf can hold for a moment, stay below 128 KiB.
const PART_BYTES: usize = 4 * 1024;
/// Format, checksum, and number of the parts that follow.
const PART_HEADER: usize = 1 + 4 + 2;
const FORMAT: u8 = 1;
const LOG_TREE: &str = "log";
const META_TREE: &str = "meta";
/// How sled's words begin when another process has the database open.
const LOCKED: &str = "could not acquire lock";
const LOCK_DEADLINE: Duration = Duration::from_secs(3);
const LOCK_PAUSE: Duration = Duration::from_millis(5);
/// sled's data file.
const DATA_FILE: &str = "db";

/// What stands between sled's `flush` and the acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Barrier {
    /// `fdatasync` of the data file. The only one that survives a power cut.
    Fdatasync,
    /// Nothing. Only for the test that proves that the power-cut test can fail.
    None,
}

/// Logs on sled, with its barrier.
#[derive(Clone, Copy, Debug)]
pub struct SledEngines;

impl Engines for SledEngines {
    fn make(&self, directory: &Path) -> io::Result<Arc<dyn Engine>> {
        Ok(Arc::new(SledEngine::open(directory, Barrier::Fdatasync)?))
    }

    fn open(&self, directory: &Path) -> io::Result<Arc<dyn Engine>> {
        // sled would make an empty log in the place of a lost one.
        if !directory.is_dir() {
            return Err(damaged(format!("{} is missing", directory.display())));
        }
        if !directory.join(DATA_FILE).exists() {
            return Err(damaged(format!("{} holds no log", directory.display())));
        }
        Ok(Arc::new(SledEngine::open(directory, Barrier::Fdatasync)?))
    }
}

/// Key of a part, and what to write under it; `None` to remove it.
type PartChange = (Vec<u8>, Option<Vec<u8>>);

/// A sled database that holds a log.
#[derive(Debug)]
pub struct SledEngine {
    database: Db,
    log: Tree,
    meta: Tree,
    data_file: File,
    barrier: Barrier,
}

impl SledEngine {
    /// Opens the database in `directory`, or makes an empty one there and syncs it with its directories.
    ///
    /// # Errors
    /// If the system refuses or sled finds its files damaged.
    pub fn open(directory: &Path, barrier: Barrier) -> io::Result<Self> {
        let is_new = !directory.join(DATA_FILE).exists();
        let database = open_database(directory)?;
        let log = database.open_tree(LOG_TREE).map_err(to_io)?;
        let meta = database.open_tree(META_TREE).map_err(to_io)?;
        let data_file = File::open(directory.join(DATA_FILE))?;
        refuse_blobs(directory)?;
        let engine = Self { database, log, meta, data_file, barrier };
        if is_new {
            engine.database.flush().map_err(to_io)?;
            sync_files(directory)?;
        }
        Ok(engine)
    }
}

impl Engine for SledEngine {
    fn append(&self, index: u64, value: &[u8]) -> io::Result<()> {
        let mut changes = Vec::with_capacity(1);
        let mut remaining = value.len().div_ceil(PART_BYTES).saturating_sub(1);
        let mut number = 0_u16;
        let mut rest = value;
        loop {
            let (content, after) = rest.split_at(rest.len().min(PART_BYTES));
            let key = part_key(index, number);
            let following = u16::try_from(remaining).map_err(|_| too_large(value.len()))?;
            changes.push((key.to_vec(), Some(seal(&key, following, content))));
            number += 1;
            if remaining == 0 {
                break;
            }
            remaining -= 1;
            rest = after;
        }
        // What was there may have had more parts.
        let mut stale = number;
        while self.log.contains_key(part_key(index, stale)).map_err(to_io)? {
            changes.push((part_key(index, stale).to_vec(), None));
            stale += 1;
        }
        self.change(changes)
    }

    fn truncate_after(&self, index: Option<u64>) -> io::Result<()> {
        let first = index.map_or(Some(0), |index| index.checked_add(1));
        let Some(first) = first else { return Ok(()) };
        for index in self.stored_indices(part_key(first, 0).to_vec()..).rev() {
            self.remove_entry(index?)?;
        }
        Ok(())
    }

    fn purge(&self, index: u64, limit: usize) -> io::Result<bool> {
        let indices = self.stored_indices(..=part_key(index, u16::MAX).to_vec());
        for (removed, index) in indices.enumerate() {
            if removed == limit {
                return Ok(false);
            }
            self.remove_entry(index?)?;
        }
        Ok(true)
    }

    fn put_meta(&self, meta: Meta, value: Option<&[u8]>) -> io::Result<()> {
        let key = meta.key().as_bytes();
        match value {
            Some(value) => self.meta.insert(key, seal(key, 0, value)).map_err(to_io)?,
            None => self.meta.remove(key).map_err(to_io)?,
        };
        Ok(())
    }

    fn get_meta(&self, meta: Meta) -> io::Result<Option<Vec<u8>>> {
        let key = meta.key();
        let Some(sealed) = self.meta.get(key).map_err(to_io)? else { return Ok(None) };
        let (_, content) =
            unseal(key.as_bytes(), &sealed).map_err(|reason| damaged(format!("the {key} {reason}")))?;
        Ok(Some(content.to_vec()))
    }

    fn range(&self, indices: RangeInclusive<u64>) -> io::Result<Vec<(u64, Vec<u8>)>> {
        let keys = part_key(*indices.start(), 0)..=part_key(*indices.end(), u16::MAX);
        let mut entries: Vec<(u64, Vec<u8>)> = Vec::new();
        // Number of the next part and how many are to come after it, while an entry is incomplete.
        let mut expected: Option<(u64, u16, u16)> = None;
        for part in self.log.range(keys) {
            let (key, sealed) = part.map_err(to_io)?;
            let (index, number) = split_key(&key)?;
            let (following, content) = unseal(&key, &sealed)
                .map_err(|reason| damaged(format!("part {number} of entry {index} {reason}")))?;
            match expected {
                None if number == 0 => entries.push((index, content.to_vec())),
                Some(next) if next == (index, number, following) => {
                    if let Some((_, value)) = entries.last_mut() {
                        value.extend_from_slice(content);
                    }
                }
                Some((index, number, _)) => {
                    return Err(damaged(format!("entry {index} lacks part {number}")));
                }
                None => {
                    return Err(damaged(format!("entry {index} lacks a part before part {number}")));
                }
            }
            expected = (following > 0).then(|| (index, number + 1, following - 1));
        }
        match expected {
            Some((index, number, _)) => Err(damaged(format!("entry {index} lacks part {number}"))),
            None => Ok(entries),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.database.flush().map_err(to_io)?;
        match self.barrier {
            Barrier::Fdatasync => self.data_file.sync_data(),
            Barrier::None => Ok(()),
        }
    }
}

impl SledEngine {
    /// Indices of the entries whose first part lies in the range, in order from either end.
    fn stored_indices<R>(&self, keys: R) -> impl DoubleEndedIterator<Item = io::Result<u64>> + use<R>
    where
        R: std::ops::RangeBounds<Vec<u8>>,
    {
        self.log.range(keys).keys().filter_map(|key| {
            match key.map_err(to_io).and_then(|key| split_key(&key)) {
                Ok((index, 0)) => Some(Ok(index)),
                Ok(_) => None,
                Err(error) => Some(Err(error)),
            }
        })
    }

    /// Removes all parts of an entry at once, so that no part of it is ever met alone.
    fn remove_entry(&self, index: u64) -> io::Result<()> {
        let keys = self.log.range(part_key(index, 0)..=part_key(index, u16::MAX)).keys();
        let changes = keys.map(|key| key.map(|key| (key.to_vec(), None)).map_err(to_io));
        self.change(changes.collect::<io::Result<_>>()?)
    }

    /// Writes or removes parts of one entry, all at once or none.
    fn change(&self, mut changes: Vec<PartChange>) -> io::Result<()> {
        if changes.len() == 1
            && let Some((key, value)) = changes.pop()
        {
            return match value {
                Some(value) => self.log.insert(key, value),
                None => self.log.remove(key),
            }
            .map(drop)
            .map_err(to_io);
        }
        let mut batch = Batch::default();
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        self.log.apply_batch(batch).map_err(to_io)
    }
}

/// sled lets go of its lock some time after a database was dropped.
fn open_database(directory: &Path) -> io::Result<Db> {
    let started = Instant::now();
    loop {
        let config = sled::Config::new().path(directory).cache_capacity(CACHE_BYTES).flush_every_ms(None);
        match config.open() {
            Ok(database) => return Ok(database),
            Err(sled::Error::Io(error)) if error.to_string().starts_with(LOCKED) => {
                if started.elapsed() > LOCK_DEADLINE {
                    return Err(io::Error::new(
                        io::ErrorKind::WouldBlock,
                        format!("{} is in use by another process; end that one first", directory.display()),
                    ));
                }
                thread::sleep(LOCK_PAUSE);
            }
            Err(error) => return Err(to_io(error)),
        }
    }
}

fn part_key(index: u64, number: u16) -> [u8; 10] {
    let mut key = [0; 10];
    key[..8].copy_from_slice(&index.to_be_bytes());
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

pub(super) fn split_key(key: &[u8]) -> io::Result<(u64, u16)> {
    match (key.first_chunk::<8>(), key.last_chunk::<2>()) {
        (Some(index), Some(number)) if key.len() == 10 => {
            Ok((u64::from_be_bytes(*index), u16::from_be_bytes(*number)))
        }
        _ => Err(damaged(format!("the log holds a key of {} bytes", key.len()))),
    }
}

pub(super) fn seal(key: &[u8], following: u16, content: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(PART_HEADER + content.len());
    sealed.push(FORMAT);
    sealed.extend_from_slice(&checksum(key, following, content).to_le_bytes());
    sealed.extend_from_slice(&following.to_le_bytes());
    sealed.extend_from_slice(content);
    sealed
}

pub(super) fn unseal<'a>(key: &[u8], sealed: &'a [u8]) -> Result<(u16, &'a [u8]), &'static str> {
    let (header, content) = sealed.split_first_chunk::<PART_HEADER>().ok_or("is cut short")?;
    let [format, a, b, c, d, e, f] = *header;
    if format != FORMAT {
        return Err("has a format that this release does not know");
    }
    let following = u16::from_le_bytes([e, f]);
    if u32::from_le_bytes([a, b, c, d]) != checksum(key, following, content) {
        return Err("does not match its checksum");
    }
    Ok((following, content))
}

/// Covers the key, so that a value under another one's key does not verify.
fn checksum(key: &[u8], following: u16, content: &[u8]) -> u32 {
    let sum = crc32c::crc32c(key);
    let sum = crc32c::crc32c_append(sum, &following.to_le_bytes());
    crc32c::crc32c_append(sum, content)
}

/// Only sled's own page sizes lead there, see the top of this file; sled would never sync such a file.
fn refuse_blobs(directory: &Path) -> io::Result<()> {
    let blobs = directory.join("blobs");
    if blobs.exists() && fs::read_dir(&blobs)?.next().is_some() {
        return Err(damaged(format!("{} holds a value that was never synced", blobs.display())));
    }
    Ok(())
}

/// Syncs the files of a new database, their directories, and the directory that these stand in.
fn sync_files(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        File::open(entry?.path())?.sync_all()?;
    }
    File::open(directory)?.sync_all()?;
    match directory.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => Ok(()),
    }
}

fn damaged(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

fn too_large(size: usize) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("a value of {size} bytes has too many parts"))
}

fn to_io(error: sled::Error) -> io::Error {
    match error {
        sled::Error::Io(error) => error,
        sled::Error::Corruption { at, .. } => damaged(format!("sled finds its files corrupt at {at:?}")),
        other => io::Error::other(other),
    }
}
