//! The controllers' disks: a log engine that loses in a power cut what was not synced.
//!
//! After a power cut it holds everything up to some moment not before the last sync, as `Engine` asks of all engines.
//! A process that has been killed cannot write any more, whatever its remains still call.

use std::{
    collections::BTreeMap,
    fs, io,
    ops::RangeInclusive,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hawser_controller::consensus::engine::{Engine, Engines, Meta, Pace};
use rand::{Rng, SeedableRng, rngs::StdRng};

/// Stands in the directory of a log and says which one it is.
const NUMBER_FILE: &str = "number";
/// What a sync takes.
const SYNC: Duration = Duration::from_millis(2);

/// The disk of one host. Cheap to share.
#[derive(Clone, Debug)]
pub struct Disk(Arc<Mutex<Platters>>);

#[derive(Debug)]
struct Platters {
    random: StdRng,
    logs: BTreeMap<u64, Log>,
    next_number: u64,
    /// Of the process that may write.
    process: u64,
}

#[derive(Clone, Debug, Default)]
struct Log {
    durable: Content,
    /// What is readable: the durable content with the unsynced changes.
    cached: Content,
    unsynced: Vec<Change>,
}

#[derive(Clone, Debug, Default)]
struct Content {
    entries: BTreeMap<u64, Vec<u8>>,
    meta: BTreeMap<&'static str, Vec<u8>>,
}

#[derive(Clone, Debug)]
enum Change {
    Append(u64, Vec<u8>),
    Remove(RangeInclusive<u64>),
    Meta(&'static str, Option<Vec<u8>>),
}

impl Content {
    fn apply(&mut self, change: Change) {
        match change {
            Change::Append(index, value) => {
                self.entries.insert(index, value);
            }
            Change::Remove(indices) => self.entries.retain(|index, _| !indices.contains(index)),
            Change::Meta(key, Some(value)) => {
                self.meta.insert(key, value);
            }
            Change::Meta(key, None) => {
                self.meta.remove(key);
            }
        }
    }
}

impl Disk {
    /// An empty disk, whose chances come from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Platters {
            random: StdRng::seed_from_u64(seed),
            logs: BTreeMap::new(),
            next_number: 1,
            process: 1,
        })))
    }

    /// The process that wrote was killed. What it wrote is in the kernel's cache.
    pub fn process_ended(&self) {
        self.platters().process += 1;
    }

    /// The disk is gone, with everything on it; an empty one takes its place.
    pub fn replace(&self) {
        let mut platters = self.platters();
        platters.process += 1;
        platters.logs.clear();
    }

    /// The power is cut: some of what was not synced is lost, the later before the earlier.
    pub fn power_cut(&self) {
        let mut platters = self.platters();
        platters.process += 1;
        let Platters { random, logs, .. } = &mut *platters;
        for log in logs.values_mut() {
            let kept = random.random_range(0..=log.unsynced.len());
            log.unsynced.truncate(kept);
            for change in std::mem::take(&mut log.unsynced) {
                log.durable.apply(change);
            }
            log.cached = log.durable.clone();
        }
    }

    /// What the newest log on it holds at `index`.
    #[must_use]
    pub fn entry(&self, index: u64) -> Option<Vec<u8>> {
        self.platters().logs.values().next_back()?.cached.entries.get(&index).cloned()
    }

    /// Entries of the largest log on it, and their bytes.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        let size = |log: &Log| (log.cached.entries.len(), log.cached.entries.values().map(Vec::len).sum());
        self.platters().logs.values().map(size).max().unwrap_or_default()
    }

    fn platters(&self) -> MutexGuard<'_, Platters> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn engine(&self, number: u64) -> Arc<dyn Engine> {
        Arc::new(SimulatedLog { disk: self.clone(), number, process: self.platters().process })
    }
}

impl Engines for Disk {
    fn make(&self, directory: &Path) -> io::Result<Arc<dyn Engine>> {
        fs::create_dir_all(directory)?;
        let number = {
            let mut platters = self.platters();
            let number = platters.next_number;
            platters.next_number += 1;
            platters.logs.insert(number, Log::default());
            number
        };
        fs::write(directory.join(NUMBER_FILE), number.to_string())?;
        Ok(self.engine(number))
    }

    fn open(&self, directory: &Path) -> io::Result<Arc<dyn Engine>> {
        let damaged = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
        let number = fs::read_to_string(directory.join(NUMBER_FILE))
            .ok()
            .and_then(|number| number.parse().ok())
            .filter(|number| self.platters().logs.contains_key(number))
            .ok_or_else(|| damaged(format!("{} holds no log", directory.display())))?;
        Ok(self.engine(number))
    }

    fn pace(&self) -> Pace {
        Pace::Task(SYNC)
    }
}

#[derive(Debug)]
struct SimulatedLog {
    disk: Disk,
    number: u64,
    process: u64,
}

impl SimulatedLog {
    fn with<T>(&self, work: impl FnOnce(&mut Log) -> T) -> io::Result<T> {
        let mut platters = self.disk.platters();
        if platters.process != self.process {
            return Err(io::Error::other("the process has been killed"));
        }
        let log = platters.logs.get_mut(&self.number).ok_or_else(|| io::Error::other("the log is gone"))?;
        Ok(work(log))
    }

    fn change(&self, change: Change) -> io::Result<()> {
        self.with(|log| {
            log.cached.apply(change.clone());
            log.unsynced.push(change);
        })
    }
}

impl Engine for SimulatedLog {
    fn append(&self, index: u64, value: &[u8]) -> io::Result<()> {
        self.change(Change::Append(index, value.to_vec()))
    }

    fn truncate_after(&self, index: Option<u64>) -> io::Result<()> {
        self.change(Change::Remove(index.map_or(0, |index| index + 1)..=u64::MAX))
    }

    fn purge(&self, index: u64, limit: usize) -> io::Result<bool> {
        let (last, all) = self.with(|log| {
            let mut stored = log.cached.entries.range(..=index).map(|(index, _)| *index);
            let last = stored.by_ref().take(limit).last();
            (last, stored.next().is_none())
        })?;
        if let Some(last) = last {
            self.change(Change::Remove(0..=last))?;
        }
        Ok(all)
    }

    fn put_meta(&self, meta: Meta, value: Option<&[u8]>) -> io::Result<()> {
        self.change(Change::Meta(meta.key(), value.map(<[u8]>::to_vec)))
    }

    fn get_meta(&self, meta: Meta) -> io::Result<Option<Vec<u8>>> {
        self.with(|log| log.cached.meta.get(meta.key()).cloned())
    }

    fn range(&self, indices: RangeInclusive<u64>) -> io::Result<Vec<(u64, Vec<u8>)>> {
        self.with(|log| {
            log.cached.entries.range(indices).map(|(index, value)| (*index, value.clone())).collect()
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|log| {
            for change in std::mem::take(&mut log.unsynced) {
                log.durable.apply(change);
            }
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn value(index: u64) -> Vec<u8> {
        index.to_le_bytes().to_vec()
    }

    #[test]
    fn a_power_cut_takes_the_latest_that_were_not_synced_and_nothing_else() {
        let mut kept = std::collections::BTreeSet::new();
        for seed in 0..50 {
            let directory = tempfile::tempdir().unwrap();
            let disk = Disk::new(seed);
            let log = disk.make(directory.path()).unwrap();
            (1..=3).for_each(|index| log.append(index, &value(index)).unwrap());
            log.sync().unwrap();
            (4..=6).for_each(|index| log.append(index, &value(index)).unwrap());

            disk.power_cut();

            let found = disk.open(directory.path()).unwrap().range(0..=9).unwrap();
            let length = found.len() as u64;
            assert!((3..=6).contains(&length), "{length}");
            assert_eq!(found, (1..=length).map(|index| (index, value(index))).collect::<Vec<_>>());
            kept.insert(length);
        }
        assert_eq!(kept.len(), 4, "each length must come about: {kept:?}");
    }

    #[test]
    fn a_killed_process_leaves_what_it_wrote_and_writes_no_more() {
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::new(1);
        let log = disk.make(directory.path()).unwrap();
        log.append(1, &value(1)).unwrap();

        disk.process_ended();

        assert!(log.append(2, &value(2)).is_err());
        let found = disk.open(directory.path()).unwrap().range(0..=9).unwrap();
        assert_eq!(found, [(1, value(1))]);
    }

    #[test]
    fn a_log_that_was_never_made_is_not_opened() {
        let directory = tempfile::tempdir().unwrap();
        let refusal = Disk::new(1).open(directory.path()).unwrap_err();
        assert_eq!(refusal.kind(), io::ErrorKind::InvalidData);
    }
}
