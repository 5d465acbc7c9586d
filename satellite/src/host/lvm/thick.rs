//! Backing volumes cut from an LVM volume group, which take their whole size at once.
//!
//! Such a volume holds whatever the disks held: data, and perhaps the metadata of another replica. It must never be
//! handed on before its front and the place of the metadata were wiped: a tag says so until then, and outlives a crash.
//! Nor while it takes discards, after which two disks may read differently.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use hawser_plan::{
    observed::{BackingFound, Looked, PoolFound},
    step::BackingVolume,
};

use super::{
    super::{
        Deadline, HostError, beside,
        command::CommandLine,
        devices,
        storage::{StorageProvider, check_taken},
    },
    Lvm,
    marked::MarkedVolumes,
    report::{LogicalVolume, tags},
};

/// The tag of a volume whose front and end were not wiped yet.
const UNWIPED: &str = "hawser-unwiped";

/// Bytes at the front of a volume in which a file system or a partition table is known by its signature.
const FRONT: u64 = 1 << 20;
/// LVM's own default; what a volume takes of the pool is counted in these.
const LARGEST_EXTENT: u64 = 4 << 20;
const SYS: &str = "/sys";
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

    /// Wipes the front of a new volume, where a file system or a partition table may lie, and its end, where metadata will
    /// lie, and takes the tag from it. Rests on nothing remembered: LVM is asked whether it still is that volume.
    async fn wipe(&self, volume: &BackingVolume, deadline: &Deadline) -> Result<(), HostError> {
        let object = self.volumes.object(&volume.name);
        let found = self.volumes.now(&volume.name, deadline).await?;
        let made = found.ok_or_else(|| HostError::refused(&object, "was removed while it was being made"))?;
        check_taken(&object, volume, made.mark().as_ref(), made.lv_size)?;
        let device = self.volumes.device(&made.lv_name);
        if !is_wiped(&made) {
            let end = end_bytes(made.lv_size);
            for (offset, length) in [(0, FRONT.min(made.lv_size)), (made.lv_size - end, end)] {
                let command = CommandLine::new("blkdiscard").args(["--zeroout", "--offset"]);
                let command = command.arg(offset.to_string()).arg("--length").arg(length.to_string());
                deadline.run(&command.arg(device.display().to_string())).await?;
            }
            // On the disk before the tag that says so is gone.
            let flushed = beside::read(deadline, || device.display().to_string(), {
                let device = device.clone();
                move || File::open(&device).and_then(|device| device.sync_all())
            });
            flushed.await?.map_err(|error| HostError::file(&device, &error))?;
            let path = self.volumes.path_in_group(&made.lv_name);
            let untag = self.volumes.lvm().command("lvchange").args(["--deltag", UNWIPED, &path]);
            if let Err(error) = deadline.run(&untag).await {
                self.volumes.changed(&made.lv_name, None);
                return Err(error.into());
            }
        }
        let mut tags: Vec<&str> = made.lv_tags.split(',').collect();
        tags.retain(|tag| *tag != UNWIPED);
        let wiped = LogicalVolume { lv_tags: tags.join(","), ..made.clone() };
        self.volumes.changed(&made.lv_name, Some(Some(wiped)));
        Ok(())
    }

    /// A volume takes whole extents of its group: larger ones than it was promised in would take more than that.
    fn check_extents(&self, extent_bytes: u64) -> Result<(), HostError> {
        if extent_bytes > 0 && LARGEST_EXTENT.is_multiple_of(extent_bytes) {
            return Ok(());
        }
        Err(HostError::refused(
            format!("volume group {}", self.volumes.group()),
            format!(
                "has extents of {extent_bytes} bytes, and volumes are promised in steps of {LARGEST_EXTENT}: make it with \
                 `vgcreate --physicalextentsize 4m`"
            ),
        ))
    }

    /// Whether a volume is fit for use but for being active.
    fn is_fit(&self, volume: &LogicalVolume) -> bool {
        is_wiped(volume) && devices::takes_no_discards(Path::new(SYS), &self.volumes.device(&volume.lv_name))
    }
}

/// Whether front and end of a volume were wiped.
fn is_wiped(volume: &LogicalVolume) -> bool {
    volume.lv_tags.split(',').all(|tag| tag != UNWIPED)
}

/// Bytes at the end of a volume of this size in which nothing may be found that could be taken for metadata. The
/// bitmaps of further peers are written when the metadata is made.
fn end_bytes(volume_bytes: u64) -> u64 {
    let bytes = volume_bytes / DATA_PER_BITMAP + BESIDE_BITMAP;
    bytes.div_ceil(4096).saturating_mul(4096).min(volume_bytes)
}

#[async_trait]
impl StorageProvider for LvmVolumeGroup {
    async fn pool(&self, deadline: &Deadline) -> Result<PoolFound, HostError> {
        // One report, so that sizes and free room are of one moment. It lists nothing where there is nothing.
        let volumes = self.volumes.list_now(deadline).await?;
        let listed = volumes.values().find_map(|volume| volume.vg_free.zip(volume.vg_extent_size));
        let (free_bytes, extent_bytes) = match listed {
            Some(listed) => listed,
            None => {
                let group = self.volumes.lvm().group(self.volumes.group(), deadline).await?;
                (group.vg_free, group.vg_extent_size)
            }
        };
        self.check_extents(extent_bytes)?;
        let own = volumes.values().filter(|volume| volume.mark().is_some() && volume.pool_lv.is_empty());
        let own_bytes = own.map(|volume| volume.lv_size).fold(0, u64::saturating_add);
        // What others have taken of the group is not the pool's.
        let capacity_bytes = free_bytes.saturating_add(own_bytes);
        Ok(PoolFound { capacity_bytes, free_bytes, metadata_used_permyriad: 0 })
    }

    async fn look(&self, name: &str, deadline: &Deadline) -> Looked<BackingFound> {
        self.volumes.look(name, |volume| self.is_fit(volume), deadline).await
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
        // LVM wipes signatures before udev sees the volume, but may be killed after it is there: it is wiped below, too.
        let kind = ["--type", "linear", "-Wy", "-Zy", "-L", &size, self.volumes.group()];
        let there = self.volumes.ensure(volume, &kind, made, deadline).await?;
        if !is_wiped(&there) {
            self.wipe(volume, deadline).await?;
        }
        // What a discarded block reads is the disk's affair, and two disks may differ there while DRBD calls them equal.
        let device = self.volumes.device(&volume.name);
        devices::refuse_discards(Path::new(SYS), &device).map_err(|error| HostError::file(&device, &error))
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
            assert_eq!(end_bytes(volume), wiped, "{volume}");
        }
        assert!(end_bytes(u64::MAX) < u64::MAX);
    }

    #[test]
    fn a_volume_counts_as_wiped_once_the_tag_is_gone() {
        let tagged = |tags: &str| LogicalVolume { lv_tags: tags.to_owned(), ..LogicalVolume::default() };
        for (tags, wiped) in [("", true), ("hawser:c1,hawser-unwiped", false), ("hawser-unwiped2", true)] {
            assert_eq!(is_wiped(&tagged(tags)), wiped, "{tags}");
        }
    }
}
