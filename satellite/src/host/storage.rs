//! What backing volumes are cut from: the verbs that every kind of storage has.
//!
//! A provider changes only what carries the mark that it is given, and never guesses what is there.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use hawser_plan::{
    observed::{BackingFound, Looked, PoolFound},
    step::{BackingVolume, Mark, Provider},
};

use super::{Deadline, HostError};

/// Where the links to volumes in directories are; below it, the directory's own path.
const LINKS: &str = "/dev/hawser";

/// The device of a volume, by its pool and name. It need not be there.
pub(crate) fn device_of(provider: &Provider, name: &str) -> PathBuf {
    match provider {
        Provider::LvmThin { volume_group, .. } | Provider::Lvm { volume_group } => {
            Path::new("/dev").join(volume_group).join(name)
        }
        Provider::Zfs { dataset } => Path::new("/dev/zvol").join(dataset).join(name),
        Provider::Directory { path } => Path::new(LINKS).join(path.trim_start_matches('/')).join(name),
    }
}

/// Refuses a volume whose name is taken by one with another mark, or smaller than it is asked for.
///
/// # Errors
/// Whose it is, or how large.
pub(crate) fn check_taken(
    object: &str,
    volume: &BackingVolume,
    mark: Option<&Mark>,
    size_bytes: u64,
) -> Result<(), HostError> {
    if mark != Some(&volume.mark) {
        let whose = match mark {
            None => "it is not Hawser's".to_owned(),
            Some(other) => format!(
                "it belongs to volume {} of resource {}, replica {}, of cluster {}",
                other.volume, other.resource, other.replica_incarnation, other.cluster_id
            ),
        };
        return Err(HostError::refused(
            object,
            format!("the name is taken and {whose}; remove or rename it"),
        ));
    }
    if size_bytes < volume.size_bytes {
        let reason = format!("has {size_bytes} bytes where {} are asked for", volume.size_bytes);
        return Err(HostError::refused(object, reason));
    }
    Ok(())
}

/// The refusal to remove what carries another mark than what is to be removed, or none.
pub(crate) fn not_to_be_removed(object: String) -> HostError {
    HostError::refused(object, "it does not carry the mark of what is to be removed, so it stays")
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_place_below_dev() {
        let (volume_group, thin_pool) = ("vg0".to_owned(), "thin".to_owned());
        for (provider, device) in [
            (Provider::LvmThin { volume_group: volume_group.clone(), thin_pool }, "/dev/vg0/db.7-0"),
            (Provider::Lvm { volume_group }, "/dev/vg0/db.7-0"),
            (Provider::Zfs { dataset: "tank/hawser".to_owned() }, "/dev/zvol/tank/hawser/db.7-0"),
            (Provider::Directory { path: "/srv/hawser".to_owned() }, "/dev/hawser/srv/hawser/db.7-0"),
        ] {
            assert_eq!(device_of(&provider, "db.7-0"), Path::new(device));
        }
    }
}
