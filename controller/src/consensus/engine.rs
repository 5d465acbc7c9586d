//! What a log engine must do, so that another one can take sled's place.
//!
//! One thread writes; others may read at the same time. An engine must never acknowledge by `sync` what a
//! power cut could take back, and never drop or repair anything by itself.

use std::{fmt::Debug, io, ops::RangeInclusive, path::Path, sync::Arc, time::Duration};

/// A named value beside the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meta {
    /// Whose store this is.
    Identity,
    /// The latest vote.
    Vote,
    /// The latest log id that is known to be committed.
    Committed,
    /// The log id up to which entries were purged.
    Purged,
}

impl Meta {
    /// The key that it is stored under. Never changes.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Vote => "vote",
            Self::Committed => "committed",
            Self::Purged => "purged",
        }
    }
}

/// Makes and opens the log engines of stores.
pub trait Engines: Debug + Send + Sync + 'static {
    /// Makes an engine without entries in `directory`, which is not there yet.
    ///
    /// # Errors
    /// If the system refuses.
    fn make(&self, directory: &Path) -> io::Result<Arc<dyn Engine>>;

    /// Opens the engine in `directory`. It must never make one there.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] if there is none or it is damaged, else what the system says.
    fn open(&self, directory: &Path) -> io::Result<Arc<dyn Engine>>;

    /// Who waits for the disk.
    fn pace(&self) -> Pace {
        Pace::Thread
    }
}

/// Who waits for the disk while an engine syncs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// A thread of its own.
    Thread,
    /// A task: the disk is simulated, and a sync takes this long on tokio's clock.
    Task(Duration),
}

/// A store of consecutive log entries and a few named values.
///
/// What a write did is readable at once, and lasts once a later [`Engine::sync`] has returned. After a power
/// cut an engine holds what was written up to some moment not before the last `sync`.
pub trait Engine: Debug + Send + Sync + 'static {
    /// Writes the value of the entry at `index`, replacing one that is there.
    ///
    /// # Errors
    /// If the system refuses; the engine must not be used any more.
    fn append(&self, index: u64, value: &[u8]) -> io::Result<()>;

    /// Removes all entries after `index`, the last one first; all of them for `None`.
    ///
    /// # Errors
    /// As [`Engine::append`].
    fn truncate_after(&self, index: Option<u64>) -> io::Result<()>;

    /// Removes entries up to `index`, the first one first and at most `limit` of them. True if that was all.
    ///
    /// # Errors
    /// As [`Engine::append`].
    fn purge(&self, index: u64, limit: usize) -> io::Result<bool>;

    /// Writes a named value; removes it for `None`.
    ///
    /// # Errors
    /// As [`Engine::append`].
    fn put_meta(&self, meta: Meta, value: Option<&[u8]>) -> io::Result<()>;

    /// A named value.
    ///
    /// # Errors
    /// If it cannot be read, or is not what was written.
    fn get_meta(&self, meta: Meta) -> io::Result<Option<Vec<u8>>>;

    /// The entries in the range that are there, in order, with their indices.
    ///
    /// # Errors
    /// If one cannot be read, or is not what was written.
    fn range(&self, indices: RangeInclusive<u64>) -> io::Result<Vec<(u64, Vec<u8>)>>;

    /// Makes everything that was written so far last through a power cut.
    ///
    /// # Errors
    /// As [`Engine::append`]. It must not be tried again: the system may have forgotten what it could not
    /// write.
    fn sync(&self) -> io::Result<()>;
}
