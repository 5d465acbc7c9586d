//! Whether a log on disk can be what was acknowledged. Read-only, except that it finishes a purge that was
//! under way.
//!
//! sled drops a torn tail without a word, and a disk may do worse; a member that forgot an entry or its vote
//! could undo what the cluster has committed. So any doubt is an error. It must never drop an entry that was
//! not purged.

use std::io;

use hawser_proto::v1;
use prost::Message;

use super::{
    codec::{entry_from_stored, log_id_from_stored, vote_from_stored},
    engine::{Engine, Meta},
    types::{Entry, LogId, Vote},
    witness::Testimony,
};

/// Entries that are read at once, so that a long log does not fill the memory.
pub(super) const ENTRIES_AT_ONCE: u64 = 1_000;

/// What a verified log says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Verified {
    /// The last entry, or where the log was purged to if there is none after it.
    pub(super) last: Option<LogId>,
    pub(super) purged: Option<LogId>,
    pub(super) committed: Option<LogId>,
    pub(super) vote: Option<Vote>,
}

/// Verifies the whole log: each entry, that none is missing, and that it reaches as far as is known to be
/// committed, or to have been written. `snapshot` is the last entry of the newest snapshot.
pub(super) fn verify(
    engine: &dyn Engine,
    testimony: Testimony,
    snapshot: Option<LogId>,
) -> io::Result<Verified> {
    let purged = stored_log_id(engine, Meta::Purged)?;
    let committed = stored_log_id(engine, Meta::Committed)?;
    let vote = match engine.get_meta(Meta::Vote)? {
        Some(value) => Some(vote_from_stored(&decode::<v1::StoredVote>("the vote", &value)?)),
        None => None,
    };
    if let Some(purged) = purged {
        engine.purge(purged.index, usize::MAX)?;
        if snapshot.is_none_or(|snapshot| snapshot < purged) {
            return Err(damaged(format!(
                "the log begins after entry {}, but {}",
                purged.index,
                snapshot.map_or("there is no snapshot".to_owned(), |snapshot| format!(
                    "the newest snapshot ends at entry {}",
                    snapshot.index
                ))
            )));
        }
    }
    let last = verify_entries(engine, purged, committed)?;
    if let (Some(committed), None) = (committed, last.filter(|last| Some(*last) >= committed)) {
        // A snapshot is installed before the log is purged up to it.
        if snapshot.is_none_or(|snapshot| snapshot < committed) {
            return Err(damaged(format!(
                "the log ends at {}, but entry {} is known to be committed: acknowledged entries are missing",
                name_end(last),
                committed.index
            )));
        }
    }
    let length = last.map_or(0, |last| last.index + 1);
    if length < testimony.length {
        return Err(damaged(format!(
            "the log has come to entry {} before, and now ends at {}: acknowledged entries are missing",
            testimony.length - 1,
            name_end(last)
        )));
    }
    let term = testimony.term.max(last.map_or(0, |last| last.leader_id.term));
    if vote.map_or(0, |vote| vote.leader_id.term) < term {
        return Err(damaged(format!("this member has voted in term {term}, but that vote is missing")));
    }
    Ok(Verified { last, purged, committed, vote })
}

fn name_end(last: Option<LogId>) -> String {
    last.map_or("its beginning".to_owned(), |last| format!("entry {}", last.index))
}

/// The last entry of the log, if every one from the purged one on is as it must be.
fn verify_entries(
    engine: &dyn Engine,
    purged: Option<LogId>,
    committed: Option<LogId>,
) -> io::Result<Option<LogId>> {
    let mut last = purged;
    loop {
        let next = last.map_or(0, |id| id.index + 1);
        let entries = engine.range(next..=next.saturating_add(ENTRIES_AT_ONCE - 1))?;
        if entries.is_empty() {
            return match engine.range(next..=u64::MAX)?.first() {
                Some((index, _)) => Err(damaged(format!(
                    "entries {next} to {} are missing; the log goes on with entry {index}",
                    index - 1
                ))),
                None => Ok(last),
            };
        }
        for (index, value) in entries {
            let expected = last.map_or(0, |id| id.index + 1);
            if index != expected {
                return Err(damaged(format!(
                    "entries {expected} to {} are missing; the log goes on with entry {index}",
                    index - 1
                )));
            }
            let id = decode_entry(index, &value)?.log_id;
            if last.is_some_and(|last| last.leader_id > id.leader_id) {
                return Err(damaged(format!("entry {index} is of an older term than the one before it")));
            }
            if committed.is_some_and(|committed| committed.index == index && committed != id) {
                return Err(damaged(format!(
                    "entry {index} is of term {}, but another one is known to be committed there",
                    id.leader_id.term
                )));
            }
            last = Some(id);
        }
    }
}

/// The entry that is stored under an index.
pub(super) fn decode_entry(index: u64, value: &[u8]) -> io::Result<Entry> {
    let stored = decode::<v1::StoredEntry>(&format!("entry {index}"), value)?;
    let entry = entry_from_stored(stored).map_err(|malformed| damaged(malformed.0))?;
    if entry.log_id.index != index {
        return Err(damaged(format!("entry {index} says that it is entry {}", entry.log_id.index)));
    }
    Ok(entry)
}

fn stored_log_id(engine: &dyn Engine, meta: Meta) -> io::Result<Option<LogId>> {
    let Some(value) = engine.get_meta(meta)? else { return Ok(None) };
    let stored = decode::<v1::StoredLogId>(&format!("the {} log id", meta.key()), &value)?;
    Ok(Some(log_id_from_stored(&stored)))
}

fn decode<M: Message + Default>(what: &str, value: &[u8]) -> io::Result<M> {
    M::decode(value).map_err(|error| damaged(format!("{what} cannot be read: {error}")))
}

pub(super) fn damaged(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
