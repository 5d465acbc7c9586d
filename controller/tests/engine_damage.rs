//! What a log store says when the disk does not hold what was acknowledged: it refuses, with words, and
//! drops nothing.

#![allow(clippy::unwrap_used)]

use std::{
    fs, io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use hawser_controller::consensus::{
    engine::{Engine, Meta},
    log_store::LogStore,
    sled_engine::{Barrier, SledEngine},
    types::{Entry, LogId, Proposal, TypeConfig, Vote, log_id},
    witness::Witness,
};
use hawser_proto::v1;
use nix::fcntl::{Flock, FlockArg};
use openraft::{
    EntryPayload, RaftLogReader,
    storage::{IOFlushed, RaftLogStorage},
    type_config::TypeConfigExt,
};
use tempfile::TempDir;

const ENTRIES: u64 = 40;
const COMMITTED: u64 = 35;

fn entry(index: u64) -> Entry {
    // The tenth is cut into several parts.
    let length = if index == 10 { 20_000 } else { 100 };
    let command = v1::Command {
        request: Some(v1::RequestKey { key: "k".repeat(length), ..v1::RequestKey::default() }),
        ..v1::Command::default()
    };
    Entry { log_id: log_id(1, index), payload: EntryPayload::Normal(Proposal(command)) }
}

fn open(directory: &Path, snapshot: Option<LogId>) -> io::Result<LogStore> {
    let engine = SledEngine::open(&directory.join("log"), Barrier::Fdatasync)?;
    LogStore::open(Arc::new(engine), Witness::open(&directory.join("witness"))?, snapshot)
}

async fn append(log: &mut LogStore, entries: impl IntoIterator<Item = Entry> + Send) -> io::Result<()> {
    let entries: Vec<Entry> = entries.into_iter().collect();
    let (done, flushed) = TypeConfig::oneshot();
    log.append(entries, IOFlushed::signal(done)).await?;
    flushed.await.unwrap()
}

/// A store with a vote, entries 0 to 39, of which up to 35 are known to be committed.
async fn filled() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    Witness::create(&directory.path().join("witness")).unwrap();
    let mut log = open(directory.path(), None).unwrap();
    log.save_vote(&Vote::new_committed(1, 1)).await.unwrap();
    append(&mut log, (0..ENTRIES).map(entry)).await.unwrap();
    log.save_committed(Some(log_id(1, COMMITTED))).await.unwrap();
    log.close();
    directory
}

/// sled lets go of its lock some time after a database was dropped; whoever waits for the lock is told.
fn open_below(directory: &Path) -> sled::Db {
    let locked = fs::File::open(directory.join("db")).unwrap();
    drop(Flock::lock(locked, FlockArg::LockExclusive).map_err(|(_, errno)| errno).unwrap());
    sled::open(directory).unwrap()
}

/// The refusal of a store after something was done to it below Hawser.
fn refusal_after(directory: &Path, damage: impl FnOnce(&sled::Db)) -> String {
    let database = open_below(&directory.join("log"));
    damage(&database);
    database.flush().unwrap();
    drop(database);
    let error = open(directory, None).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
    error.to_string()
}

fn key(index: u64, part: u16) -> Vec<u8> {
    [&index.to_be_bytes()[..], &part.to_be_bytes()[..]].concat()
}

fn remove(index: u64, part: u16) -> impl FnOnce(&sled::Db) {
    move |database| drop(database.open_tree("log").unwrap().remove(key(index, part)).unwrap().unwrap())
}

#[tokio::test]
async fn what_is_whole_is_opened_again() {
    let directory = filled().await;
    let mut log = open(directory.path(), None).unwrap();
    let state = log.get_log_state().await.unwrap();
    assert_eq!(state.last_log_id, Some(log_id(1, ENTRIES - 1)));
    assert_eq!(log.read_committed().await.unwrap(), Some(log_id(1, COMMITTED)));
    assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new_committed(1, 1)));
    let entries = log.try_get_log_entries(..).await.unwrap();
    assert_eq!(entries, (0..ENTRIES).map(entry).collect::<Vec<_>>());
}

#[tokio::test]
async fn every_kind_of_damage_is_named() {
    type Damage = Box<dyn FnOnce(&sled::Db)>;
    let flip = |tree: &'static str, key: Vec<u8>| -> Damage {
        Box::new(move |database: &sled::Db| {
            let tree = database.open_tree(tree).unwrap();
            let mut value = tree.get(&key).unwrap().unwrap().to_vec();
            *value.last_mut().unwrap() ^= 1;
            tree.insert(key, value).unwrap();
        })
    };
    let cases: Vec<(&str, Damage, &str)> = vec![
        ("a flipped bit", flip("log", key(7, 0)), "part 0 of entry 7 does not match its checksum"),
        ("a flipped bit in the vote", flip("meta", b"vote".to_vec()), "the vote does not match its checksum"),
        ("a flipped bit in what is committed", flip("meta", b"committed".to_vec()), "the committed does not"),
        ("a missing entry", Box::new(remove(12, 0)), "entries 12 to 12 are missing"),
        ("a missing first entry", Box::new(remove(0, 0)), "entries 0 to 0 are missing"),
        ("a missing part", Box::new(remove(10, 2)), "entry 10 lacks part 2"),
        ("a missing last part", Box::new(remove(10, 4)), "entry 10 lacks part 4"),
        (
            "an entry in another's place",
            Box::new(|database: &sled::Db| {
                let log = database.open_tree("log").unwrap();
                let value = log.get(key(20, 0)).unwrap().unwrap();
                log.insert(key(21, 0), value).unwrap();
            }),
            "part 0 of entry 21 does not match its checksum",
        ),
        (
            "a torn tail",
            Box::new(|database: &sled::Db| {
                let log = database.open_tree("log").unwrap();
                for index in 30..ENTRIES {
                    log.remove(key(index, 0)).unwrap();
                }
            }),
            "the log ends at entry 29, but entry 35 is known to be committed: acknowledged entries are missing",
        ),
        (
            "an empty log",
            Box::new(|database: &sled::Db| database.open_tree("log").unwrap().clear().unwrap()),
            "the log ends at its beginning, but entry 35 is known to be committed",
        ),
        (
            "a lost vote",
            Box::new(|database: &sled::Db| drop(database.open_tree("meta").unwrap().remove("vote").unwrap())),
            "this member has voted in term 1, but that vote is missing",
        ),
        (
            "a format of a later release",
            Box::new(|database: &sled::Db| {
                let log = database.open_tree("log").unwrap();
                let mut value = log.get(key(3, 0)).unwrap().unwrap().to_vec();
                value[0] = 9;
                log.insert(key(3, 0), value).unwrap();
            }),
            "entry 3 has a format that this release does not know",
        ),
    ];
    for (what, damage, words) in cases {
        let directory = filled().await;
        let refusal = refusal_after(directory.path(), damage);
        assert!(refusal.contains(words), "{what}: {refusal}");
        // Nothing was repaired: it is refused again, in the same words.
        assert_eq!(refusal_after(directory.path(), |_| ()), refusal, "{what}");
    }
}

#[tokio::test]
async fn a_bit_that_flips_in_sleds_own_file_is_never_a_shorter_log() {
    let directory = filled().await;
    let whole = fs::read(directory.path().join("log/db")).unwrap();
    let used = whole.iter().rposition(|byte| *byte != 0).unwrap();
    let mut refused = 0;
    for step in 0..100 {
        let damaged = tempfile::tempdir().unwrap();
        fs::create_dir(damaged.path().join("log")).unwrap();
        for folder in ["", "log"] {
            for entry in fs::read_dir(directory.path().join(folder)).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_file() {
                    fs::copy(entry.path(), damaged.path().join(folder).join(entry.file_name())).unwrap();
                }
            }
        }
        let mut bytes = whole.clone();
        bytes[used * step / 100] ^= 0x10;
        fs::write(damaged.path().join("log/db"), bytes).unwrap();

        // sled may panic on what it reads; a start that ends so has not dropped anything either.
        let opened = std::panic::catch_unwind(|| open(damaged.path(), None));
        match opened {
            Ok(Ok(mut log)) => {
                let last = log.get_log_state().await.unwrap().last_log_id;
                assert_eq!(last, Some(log_id(1, ENTRIES - 1)), "byte {}", used * step / 100);
                let vote = log.read_vote().await.unwrap();
                assert_eq!(vote, Some(Vote::new_committed(1, 1)), "byte {}", used * step / 100);
            }
            Ok(Err(_)) | Err(_) => refused += 1,
        }
    }
    assert!(refused > 0, "no flipped bit was noticed");
}

#[tokio::test]
async fn a_purged_log_needs_the_snapshot_that_it_follows() {
    let directory = filled().await;
    let mut log = open(directory.path(), None).unwrap();
    log.purge(log_id(1, 20)).await.unwrap();
    append(&mut log, [entry(ENTRIES)]).await.unwrap();
    log.close();

    for (snapshot, words) in
        [(None, "there is no snapshot"), (Some(log_id(1, 19)), "the newest snapshot ends at entry 19")]
    {
        let refusal = open(directory.path(), snapshot).map(|_| ()).unwrap_err().to_string();
        assert!(refusal.contains("the log begins after entry 20") && refusal.contains(words), "{refusal}");
    }
    let mut log = open(directory.path(), Some(log_id(1, 20))).unwrap();
    let state = log.get_log_state().await.unwrap();
    assert_eq!(
        (state.last_purged_log_id, state.last_log_id),
        (Some(log_id(1, 20)), Some(log_id(1, ENTRIES)))
    );
    assert_eq!(log.try_get_log_entries(..).await.unwrap().len(), 20);
}

#[tokio::test]
async fn a_snapshot_that_is_ahead_of_the_log_stands_for_what_is_missing() {
    let directory = filled().await;
    let mut log = open(directory.path(), None).unwrap();
    log.save_committed(Some(log_id(1, 90))).await.unwrap();
    log.close();

    assert!(open(directory.path(), Some(log_id(1, 89))).is_err());
    let mut log = open(directory.path(), Some(log_id(1, 90))).unwrap();
    assert_eq!(log.get_log_state().await.unwrap().last_log_id, Some(log_id(1, ENTRIES - 1)));
}

/// An engine whose syncs are counted, and one of them fails.
#[derive(Debug)]
struct WatchedDisk {
    engine: SledEngine,
    syncs: AtomicU64,
    fails_at: u64,
}

impl Engine for WatchedDisk {
    fn append(&self, index: u64, value: &[u8]) -> io::Result<()> {
        self.engine.append(index, value)
    }
    fn truncate_after(&self, index: Option<u64>) -> io::Result<()> {
        self.engine.truncate_after(index)
    }
    fn purge(&self, index: u64, limit: usize) -> io::Result<bool> {
        self.engine.purge(index, limit)
    }
    fn put_meta(&self, meta: Meta, value: Option<&[u8]>) -> io::Result<()> {
        self.engine.put_meta(meta, value)
    }
    fn get_meta(&self, meta: Meta) -> io::Result<Option<Vec<u8>>> {
        self.engine.get_meta(meta)
    }
    fn range(&self, indices: std::ops::RangeInclusive<u64>) -> io::Result<Vec<(u64, Vec<u8>)>> {
        self.engine.range(indices)
    }
    fn sync(&self) -> io::Result<()> {
        if self.syncs.fetch_add(1, Ordering::SeqCst) + 1 == self.fails_at {
            return Err(io::Error::other("the disk is gone"));
        }
        self.engine.sync()
    }
}

fn watched(directory: &TempDir, fails_at: u64) -> (LogStore, Arc<WatchedDisk>) {
    let engine = SledEngine::open(&directory.path().join("log"), Barrier::Fdatasync).unwrap();
    let disk = Arc::new(WatchedDisk { engine, syncs: AtomicU64::new(0), fails_at });
    let witness = Witness::create(&directory.path().join("witness")).unwrap();
    (LogStore::open(Arc::clone(&disk) as Arc<dyn Engine>, witness, None).unwrap(), disk)
}

#[tokio::test]
async fn what_waits_together_is_synced_together_and_can_be_read_before() {
    let directory = tempfile::tempdir().unwrap();
    let (mut log, disk) = watched(&directory, u64::MAX);
    let mut answers = Vec::new();
    for index in 0..2_000 {
        let (done, flushed) = TypeConfig::oneshot();
        log.append([entry(index)], IOFlushed::signal(done)).await.unwrap();
        answers.push(flushed);
    }
    assert_eq!(log.try_get_log_entries(..).await.unwrap().len(), 2_000);
    for answer in answers {
        answer.await.unwrap().unwrap();
    }
    let syncs = disk.syncs.load(Ordering::SeqCst);
    assert!(syncs < 1_000, "{syncs} syncs for 2000 appends that were handed over at once");
}

#[tokio::test]
async fn the_first_error_of_the_disk_is_the_end() {
    // Given a disk that fails once and would work again.
    let directory = tempfile::tempdir().unwrap();
    let (mut log, _) = watched(&directory, 2);
    log.save_vote(&Vote::new_committed(1, 1)).await.unwrap();

    // When it fails, whoever waits is told.
    let refusal = append(&mut log, [entry(0)]).await.unwrap_err();
    assert!(refusal.to_string().contains("the disk is gone"), "{refusal}");

    // Then nothing is written any more.
    assert!(append(&mut log, [entry(1)]).await.is_err());
    assert!(log.save_vote(&Vote::new(2, 1)).await.is_err());
}
