//! Backing volumes cut from an LVM volume group, which take their whole size at once.
//!
//! Such a volume holds whatever the disks held: data, and perhaps the metadata of another replica. It must never be
//! handed on before the place of the metadata was wiped. A tag says so until then, and outlives a crash.

use std::{fs::File, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use hawser_plan::{
    observed::{BackingFound, Looked, PoolFound},
    step::BackingVolume,
};

use super::{
    super::{Deadline, HostError, beside, command::CommandLine, storage::StorageProvider},
    Lvm,
    marked::MarkedVolumes,
    report::{LogicalVolume, tags},
};

/// The tag of a volume whose end was not wiped yet.
const UNWIPED: &str = "hawser-unwiped";

/// Bytes of data for which DRBD's internal metadata has one byte of bitmap: a bit for 4 KiB.
const DATA_PER_BITMAP: u64 = 8 * 4096;
/// Superblock and activity log of the metadata, generously.
const BESIDE_BITMAP: u64 = 1 << 20;

/// A volume group that volumes are cut from.
pub struct LvmVolumeGroup {
    volumes: MarkedVolumes,
}

impl LvmVolumeGroup {
    /// The volume group of that name. It need not be there.
    pub fn new(lvm: Arc<Lvm>, volume_group: &str) -> Self {
        LvmVolumeGroup { volumes: MarkedVolumes::new(lvm, volume_group) }
    }

    /// Wipes the end of a new volume, where metadata will lie, and takes the tag from it.
    async fn wipe(&self, made: LogicalVolume, deadline: &Deadline) -> Result<(), HostError> {
        let device = self.volumes.device(&made.lv_name);
        let length = wiped_bytes(made.lv_size);
        let command = CommandLine::new("blkdiscard").args([
            "--zeroout",
            "--offset",
            &(made.lv_size - length).to_string(),
            "--length",
            &length.to_string(),
            &device.display().to_string(),
        ]);
        deadline.run(&command).await?;
        // On the disk before the tag that says so is gone.
        let flushed = beside::read(deadline, || device.display().to_string(), {
            let device = device.clone();
            move || File::open(&device).and_then(|device| device.sync_all())
        });
        flushed.await?.map_err(|error| HostError::file(&device, &error))?;

        let path = self.volumes.path_in_group(&made.lv_name);
        let command = self.volumes.lvm().command("lvchange").args(["--deltag", UNWIPED, &path]);
        let untagged = deadline.run(&command).await;
        let mut tags: Vec<&str> = made.lv_tags.split(',').collect();
        tags.retain(|tag| *tag != UNWIPED);
        let wiped = LogicalVolume { lv_tags: tags.join(","), ..made.clone() };
        self.volumes.changed(&made.lv_name, untagged.is_ok().then_some(Some(wiped)));
        untagged?;
        Ok(())
    }
}

/// Whether the end of a volume was wiped.
fn is_wiped(volume: &LogicalVolume) -> bool {
    volume.lv_tags.split(',').all(|tag| tag != UNWIPED)
}

/// Bytes at the end of a volume of this size in which nothing may be found that could be taken for metadata. The
/// bitmaps of further peers are written when the metadata is made.
fn wiped_bytes(volume_bytes: u64) -> u64 {
    let bytes = volume_bytes / DATA_PER_BITMAP + BESIDE_BITMAP;
    bytes.div_ceil(4096).saturating_mul(4096).min(volume_bytes)
}

#[async_trait]
impl StorageProvider for LvmVolumeGroup {
    async fn pool(&self, deadline: &Deadline) -> Result<PoolFound, HostError> {
        // One command, so that sizes and free room are of one moment. It lists nothing where there is nothing.
        self.volumes.lvm().forget(self.volumes.group());
        let volumes = self.volumes.list(deadline).await?;
        let own = volumes.values().filter(|volume| volume.mark().is_some() && volume.pool_lv.is_empty());
        let own_bytes = own.map(|volume| volume.lv_size).fold(0, u64::saturating_add);
        let free_bytes = match volumes.values().find_map(|volume| volume.vg_free) {
            Some(free_bytes) => free_bytes,
            None => self.volumes.lvm().group(self.volumes.group(), deadline).await?.vg_free,
        };
        // What others have taken of the group is not the pool's.
        let capacity_bytes = free_bytes.saturating_add(own_bytes);
        Ok(PoolFound { capacity_bytes, free_bytes, metadata_used_permyriad: 0 })
    }

    async fn look(&self, name: &str, deadline: &Deadline) -> Looked<BackingFound> {
        self.volumes.look(name, is_wiped, deadline).await
    }

    async fn ensure(&self, volume: &BackingVolume, deadline: &Deadline) -> Result<(), HostError> {
        let mut words = tags(&volume.mark).to_vec();
        words.push(UNWIPED.to_owned());
        let made = LogicalVolume {
            vg_name: self.volumes.group().to_owned(),
            lv_name: volume.name.clone(),
            lv_attr: "-wi-a-----".to_owned(),
            lv_tags: words.join(","),
            ..LogicalVolume::default()
        };
        let size = format!("{}b", volume.size_bytes);
        // Known signatures at the front go at once: a consumer must not find the file system of another one.
        let kind = ["--type", "linear", "-Wy", "-Zy", "-L", &size, self.volumes.group()];
        let there = self.volumes.ensure(volume, &kind, made, deadline).await?;
        if is_wiped(&there) { Ok(()) } else { self.wipe(there, deadline).await }
    }

    async fn remove(&self, volume: &BackingVolume, deadline: &Deadline) -> Result<(), HostError> {
        self.volumes.remove(volume, deadline).await
    }

    async fn new_volumes_read_zero(&self, _: &Deadline) -> Result<(), HostError> {
        Err(HostError::refused(
            format!("volume group {}", self.volumes.group()),
            "new volumes hold what the disks held before, so replicas cannot start equal: all but one have to sync",
        ))
    }

    fn device(&self, name: &str) -> PathBuf {
        self.volumes.device(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wiped_has_room_for_the_metadata_of_any_size_and_stays_in_the_volume() {
        for (volume, wiped) in [
            (4 << 10, 4 << 10),
            (4 << 20, (1 << 20) + 4096),
            (1 << 30, (1 << 20) + (32 << 10)),
            (1 << 40, (1 << 20) + (32 << 20)),
        ] {
            assert_eq!(wiped_bytes(volume), wiped, "{volume}");
        }
        assert!(wiped_bytes(u64::MAX) < u64::MAX);
    }

    #[test]
    fn a_volume_counts_as_wiped_once_the_tag_is_gone() {
        let tagged = |tags: &str| LogicalVolume { lv_tags: tags.to_owned(), ..LogicalVolume::default() };
        for (tags, wiped) in [("", true), ("hawser:c1,hawser-unwiped", false), ("hawser-unwiped2", true)] {
            assert_eq!(is_wiped(&tagged(tags)), wiped, "{tags}");
        }
    }
}
