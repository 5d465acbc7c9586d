//! Backing volumes in an LVM thin pool.
//!
//! It must never take a pool that keeps writes waiting when it is full.

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use hawser_plan::{
    observed::{BackingFound, Looked, PoolFound},
    step::BackingVolume,
};

use super::{
    super::{Deadline, HostError, storage::StorageProvider},
    Lvm,
    marked::MarkedVolumes,
    report::{LogicalVolume, is_plain, tags},
};

/// One thin pool.
pub struct LvmThinPool {
    volumes: MarkedVolumes,
    thin_pool: String,
}

impl LvmThinPool {
    /// The thin pool of that name. It need not be there.
    pub fn new(lvm: Arc<Lvm>, volume_group: &str, thin_pool: &str) -> Self {
        LvmThinPool { volumes: MarkedVolumes::new(lvm, volume_group), thin_pool: thin_pool.to_owned() }
    }

    fn object(&self) -> String {
        format!("thin pool {}", self.path())
    }

    fn path(&self) -> String {
        self.volumes.path_in_group(&self.thin_pool)
    }

    /// The pool itself, from memory if it was active then. One that nobody has activated since the boot, as
    /// where there is no udev, is activated: it was registered to be used.
    async fn pool_volume(&self, deadline: &Deadline) -> Result<LogicalVolume, HostError> {
        let refused = |reason: &str| HostError::refused(self.object(), reason);
        let mut activated = false;
        loop {
            match self.volumes.list(deadline).await?.get(&self.thin_pool) {
                None => return Err(there_is_no_thin_pool(self.volumes.group(), &self.thin_pool)),
                Some(volume) if !volume.is_thin_pool() => return Err(refused("is not a thin pool")),
                Some(volume) if volume.is_active() => return Ok(volume.clone()),
                Some(_) if activated => return Err(refused("does not become active; see `lvchange -ay`")),
                Some(_) => {
                    self.volumes.activate(&self.thin_pool, deadline).await?;
                    self.volumes.changed(&self.thin_pool, None);
                    activated = true;
                }
            }
        }
    }

    /// A full pool has to fail writes: one that keeps them waiting stalls every Primary that replicates to it.
    fn check_full(&self, pool: &LogicalVolume) -> Result<(), HostError> {
        if !pool.queues_when_full() {
            return Ok(());
        }
        Err(HostError::refused(
            self.object(),
            format!(
                "keeps writes waiting when it is full, which stalls every Primary that replicates to it; have it fail \
                 them with `lvchange --errorwhenfull y {}`",
                self.path()
            ),
        ))
    }
}

#[async_trait]
impl StorageProvider for LvmThinPool {
    async fn pool(&self, deadline: &Deadline) -> Result<PoolFound, HostError> {
        // How full a pool is changes with every write: never from memory.
        self.volumes.lvm().forget(self.volumes.group());
        let pool = self.pool_volume(deadline).await?;
        self.check_full(&pool)?;
        let used = u64::from(pool.data_percent.unwrap_or(0).min(10_000));
        Ok(PoolFound {
            capacity_bytes: pool.lv_size,
            // In 128 bits: the product of a large pool and 10,000 passes 2^64.
            free_bytes: u64::try_from(u128::from(pool.lv_size) * u128::from(10_000 - used) / 10_000)
                .unwrap_or(u64::MAX),
            metadata_used_permyriad: pool.metadata_percent.unwrap_or(0),
        })
    }

    async fn look(&self, name: &str, deadline: &Deadline) -> Looked<BackingFound> {
        self.volumes.look(name, |_| true, deadline).await
    }

    async fn ensure(&self, volume: &BackingVolume, deadline: &Deadline) -> Result<(), HostError> {
        if !is_plain(&self.thin_pool) {
            let reason = format!("LVM takes no name like {:?}", self.thin_pool);
            return Err(HostError::refused(self.object(), reason));
        }
        let made = LogicalVolume {
            vg_name: self.volumes.group().to_owned(),
            lv_name: volume.name.clone(),
            lv_attr: "Vwi-a-tz--".to_owned(),
            lv_tags: tags(&volume.mark).join(","),
            pool_lv: self.thin_pool.clone(),
            data_percent: Some(0),
            zero: "zero".to_owned(),
            ..LogicalVolume::default()
        };
        let (size, pool) = (format!("{}b", volume.size_bytes), self.path());
        let kind = ["--type", "thin", "-V", &size, "--thinpool", &pool];
        self.volumes.ensure(volume, &kind, made, deadline).await.map(drop)
    }

    async fn remove(&self, volume: &BackingVolume, deadline: &Deadline) -> Result<(), HostError> {
        self.volumes.remove(volume, deadline).await
    }

    async fn new_volumes_read_zero(&self, deadline: &Deadline) -> Result<(), HostError> {
        let pool = self.pool_volume(deadline).await?;
        if pool.zero == "zero" {
            return Ok(());
        }
        Err(HostError::refused(
            self.object(),
            format!(
                "new blocks are not zeroed, so replicas cannot start equal; switch it on with `lvchange -Zy {}`",
                self.path()
            ),
        ))
    }

    fn device(&self, name: &str) -> PathBuf {
        self.volumes.device(name)
    }
}

/// The refusal of a thin pool that is not in its volume group.
pub(crate) fn there_is_no_thin_pool(volume_group: &str, thin_pool: &str) -> HostError {
    HostError::refused(
        format!("thin pool {volume_group}/{thin_pool}"),
        format!(
            "there is none of this name; make it with `lvcreate --type thin-pool --zero y --errorwhenfull y --size SIZE \
             --name {thin_pool} {volume_group}`, or name another"
        ),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{super::report::parse_volumes, *};

    #[test]
    fn a_pool_that_queues_when_it_is_full_is_refused_with_the_command_that_mends_it() {
        let recorded = include_str!("../../../tests/recorded/lvs_pool_that_queues.json");
        let mut found = parse_volumes(recorded).unwrap().remove(0);
        assert!(found.is_thin_pool() && found.queues_when_full());
        let pool = LvmThinPool::new(Arc::new(Lvm::new(None)), "vg0", "thin");
        for (when_full, refused) in [(None, false), (Some("error"), false), (Some("queue"), true)] {
            found.lv_when_full = when_full.map(str::to_owned);
            let checked = pool.check_full(&found).map_err(|error| error.to_string());
            assert_eq!(checked.is_err(), refused, "{when_full:?}: {checked:?}");
            assert!(checked.err().is_none_or(|text| text.contains("`lvchange --errorwhenfull y vg0/thin`")));
        }
    }
}
