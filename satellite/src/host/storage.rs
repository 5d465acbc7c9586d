//! What backing volumes are cut from: the verbs that every kind of storage has.
//!
//! A provider changes only what carries the mark that it is given, and never guesses what is there.

use std::path::PathBuf;

use async_trait::async_trait;
use hawser_plan::{
    observed::{BackingFound, Looked, PoolFound},
    step::BackingVolume,
};

use super::{Deadline, HostError};

/// One pool of one kind of storage.
#[async_trait]
pub(crate) trait StorageProvider: Send + Sync {
    /// How the pool stands.
    ///
    /// # Errors
    /// It is not there, is of another kind, or cannot be asked.
    async fn pool(&self, deadline: &Deadline) -> Result<PoolFound, HostError>;

    /// What is there under a volume's name.
    async fn look(&self, name: &str, deadline: &Deadline) -> Looked<BackingFound>;

    /// Makes sure that the volume is there, active, of its size, and carries its mark.
    ///
    /// # Errors
    /// Something else has the name, it is smaller, or the tools failed.
    async fn ensure(&self, volume: &BackingVolume, deadline: &Deadline) -> Result<(), HostError>;

    /// Makes sure that the volume is gone.
    ///
    /// # Errors
    /// What is there does not carry the mark, it is in use, or the tools failed.
    async fn remove(&self, volume: &BackingVolume, deadline: &Deadline) -> Result<(), HostError>;

    /// Whether a volume that was just made reads as zero everywhere; the reason if it may not.
    async fn new_volumes_read_zero(&self, deadline: &Deadline) -> Result<(), HostError>;

    /// The device of a volume. It need not be there.
    fn device(&self, name: &str) -> PathBuf;
}
