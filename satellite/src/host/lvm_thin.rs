//! Backing volumes in an LVM thin pool.
//!
//! What is in the volume group is remembered between looks and brought up to date by Hawser's own changes,
//! so that a step needs one LVM command and a look usually none. It must never remove or take over a volume
//! whose tags are not exactly the mark that it was given.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use hawser_plan::{
    observed::{BackingFound, Looked, PoolFound},
    step::BackingVolume,
};
use tokio::time::Instant;

use super::{
    CommandError, Deadline, HostError, beside,
    command::CommandLine,
    lvm_report::{LogicalVolume, VOLUME_COLUMNS, is_plain, parse_volumes, tags},
    storage::StorageProvider,
};

/// How long what was read of a volume group is taken for true when nobody but Hawser changes it.
const REMEMBERED_FOR: Duration = Duration::from_secs(30);

/// LVM's commands on this node, and what is remembered of its volume groups.
pub struct Lvm {
    /// Passed as `--config` to every command, if there is one.
    config: Option<String>,
    groups: Mutex<BTreeMap<String, Group>>,
}

/// What is remembered of one volume group.
#[derive(Default)]
struct Group {
    read_at: Option<Instant>,
    /// Counts Hawser's own changes, so that a list that was read across one is not kept.
    changes: u64,
    volumes: BTreeMap<String, LogicalVolume>,
}

impl Lvm {
    /// `config` is given to every command as `--config`.
    pub fn new(config: Option<String>) -> Self {
        Lvm { config, groups: Mutex::new(BTreeMap::new()) }
    }

    fn command(&self, program: &str) -> CommandLine {
        let command = CommandLine::new(program);
        match &self.config {
            Some(config) => command.arg("--config").arg(config),
            None => command,
        }
    }

    fn with_group<T>(&self, volume_group: &str, action: impl FnOnce(&mut Group) -> T) -> T {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        action(groups.entry(volume_group.to_owned()).or_default())
    }

    fn list(&self, what: &str) -> CommandLine {
        self.command("lvs").args([
            "--reportformat",
            "json",
            "--units",
            "b",
            "--nosuffix",
            "-o",
            VOLUME_COLUMNS,
            what,
        ])
    }

    /// All volumes of a group, from memory if that is young enough.
    async fn volumes(
        &self,
        volume_group: &str,
        deadline: &Deadline,
    ) -> Result<BTreeMap<String, LogicalVolume>, HostError> {
        for _ in 0..3 {
            let (remembered, changes) = self.with_group(volume_group, |group| {
                let young = group.read_at.is_some_and(|at| at.elapsed() < REMEMBERED_FOR);
                (young.then(|| group.volumes.clone()), group.changes)
            });
            if let Some(volumes) = remembered {
                return Ok(volumes);
            }
            let command = self.list(volume_group);
            let output = deadline.run(&command).await?;
            let volumes: BTreeMap<_, _> = parse(&command, &output.stdout)?
                .into_iter()
                .map(|volume| (volume.lv_name.clone(), volume))
                .collect();
            let unchanged = self.with_group(volume_group, |group| {
                let unchanged = group.changes == changes;
                if unchanged {
                    group.read_at = Some(Instant::now());
                    group.volumes.clone_from(&volumes);
                }
                unchanged
            });
            if unchanged {
                return Ok(volumes);
            }
        }
        Err(deadline.missed(format!("a quiet moment to list volume group {volume_group}")))
    }

    /// One volume as it is now, past the memory.
    async fn volume(
        &self,
        volume_group: &str,
        name: &str,
        deadline: &Deadline,
    ) -> Result<Option<LogicalVolume>, HostError> {
        let command = self.list(&format!("{volume_group}/{name}"));
        let output = deadline.run_any_status(&command).await?;
        let nothing = output.stderr.contains("Failed to find logical volume");
        if output.code != Some(0) && !nothing {
            return Err(super::command::failed(&command, &output).into());
        }
        let found = parse(&command, &output.stdout)?.into_iter().find(|volume| volume.lv_name == name);
        match (found, nothing) {
            (None, false) => Err(unintelligible(&command, format!("success, but no volume {name}"))),
            (found, _) => Ok(found),
        }
    }

    /// Notes that Hawser changes the group now: `after` is what the name stands for then. Without it the
    /// memory is dropped, because the outcome is not known.
    fn changed(&self, volume_group: &str, name: &str, after: Option<Option<LogicalVolume>>) {
        self.with_group(volume_group, |group| {
            group.changes += 1;
            match after {
                None => group.read_at = None,
                Some(None) => {
                    group.volumes.remove(name);
                }
                Some(Some(volume)) => {
                    group.volumes.insert(name.to_owned(), volume);
                }
            }
        });
    }
}

fn unintelligible(command: &CommandLine, message: String) -> HostError {
    CommandError::Unintelligible { command: command.to_string(), message }.into()
}

fn parse(command: &CommandLine, text: &str) -> Result<Vec<LogicalVolume>, HostError> {
    parse_volumes(text).map_err(|message| unintelligible(command, message))
}

/// Whether LVM says that there is no such volume group.
fn is_no_volume_group(error: &CommandError, volume_group: &str) -> bool {
    error.says(&format!("Volume group \"{volume_group}\" not found"))
}

/// The refusal of a thin pool whose volume group is not there.
fn no_volume_group(volume_group: &str) -> HostError {
    HostError::refused(
        format!("volume group {volume_group}"),
        format!("there is none of this name; make it with `vgcreate {volume_group} DEVICE`, or name another"),
    )
}

/// The refusal of a thin pool that is not in its volume group.
pub(super) fn no_thin_pool(volume_group: &str, thin_pool: &str) -> HostError {
    HostError::refused(
        format!("thin pool {volume_group}/{thin_pool}"),
        format!(
            "there is none of this name; make it with `lvcreate --type thin-pool --zero y --errorwhenfull y --size SIZE \
             --name {thin_pool} {volume_group}`, or name another"
        ),
    )
}

/// One thin pool.
pub struct LvmThinPool {
    lvm: Arc<Lvm>,
    volume_group: String,
    thin_pool: String,
}

impl LvmThinPool {
    /// The thin pool of that name. It need not be there.
    pub fn new(lvm: Arc<Lvm>, volume_group: &str, thin_pool: &str) -> Self {
        LvmThinPool { lvm, volume_group: volume_group.to_owned(), thin_pool: thin_pool.to_owned() }
    }

    fn object(&self, name: &str) -> String {
        format!("logical volume {}/{name}", self.volume_group)
    }

    fn check_words(&self, volume: &BackingVolume) -> Result<(), HostError> {
        let tags = tags(&volume.mark);
        let words = [&self.volume_group, &self.thin_pool, &volume.name].into_iter().chain(&tags);
        match words.into_iter().find(|word| !is_plain(word)) {
            None => Ok(()),
            Some(word) => Err(HostError::refused(
                self.object(&volume.name),
                format!("LVM takes no name or tag like {word:?}"),
            )),
        }
    }

    /// The pool itself, from memory if it was active then. One that nobody has activated since the boot, as
    /// where there is no udev, is activated: it was registered to be used.
    async fn pool_volume(&self, deadline: &Deadline) -> Result<LogicalVolume, HostError> {
        let refused = |reason: &str| {
            HostError::refused(format!("thin pool {}/{}", self.volume_group, self.thin_pool), reason)
        };
        let mut activated = false;
        loop {
            let volumes = match self.lvm.volumes(&self.volume_group, deadline).await {
                Err(HostError::Command(error)) if is_no_volume_group(&error, &self.volume_group) => {
                    return Err(no_volume_group(&self.volume_group));
                }
                looked => looked?,
            };
            match volumes.get(&self.thin_pool) {
                None => return Err(no_thin_pool(&self.volume_group, &self.thin_pool)),
                Some(volume) if !volume.is_thin_pool() => return Err(refused("is not a thin pool")),
                Some(volume) if volume.is_active() => return Ok(volume.clone()),
                Some(_) if activated => return Err(refused("does not become active; see `lvchange -ay`")),
                Some(_) => {
                    self.activate(&self.thin_pool, deadline).await?;
                    self.lvm.changed(&self.volume_group, &self.thin_pool, None);
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
        let pool = format!("{}/{}", self.volume_group, self.thin_pool);
        Err(HostError::refused(
            format!("thin pool {pool}"),
            format!(
                "keeps writes waiting when it is full, which stalls every Primary that replicates to it; have it fail \
                 them with `lvchange --errorwhenfull y {pool}`"
            ),
        ))
    }

    async fn activate(&self, name: &str, deadline: &Deadline) -> Result<(), HostError> {
        let name = format!("{}/{name}", self.volume_group);
        deadline.run(&self.lvm.command("lvchange").args(["-ay", "-K", &name])).await?;
        Ok(())
    }

    /// What `lvs` would say of a volume that was made a moment ago.
    async fn just_made(&self, volume: &BackingVolume, deadline: &Deadline) -> LogicalVolume {
        let device = self.device(&volume.name);
        let size = beside::read(deadline, || device.display().to_string(), {
            let device = device.clone();
            move || super::devices::size(&device).ok()
        });
        LogicalVolume {
            vg_name: self.volume_group.clone(),
            lv_name: volume.name.clone(),
            lv_size: size.await.ok().flatten().unwrap_or(volume.size_bytes),
            lv_attr: "Vwi-a-tz--".to_owned(),
            lv_tags: tags(&volume.mark).join(","),
            pool_lv: self.thin_pool.clone(),
            lv_active: "active".to_owned(),
            data_percent: Some(0),
            metadata_percent: None,
            zero: "zero".to_owned(),
            lv_when_full: None,
        }
    }

    /// Accepts a volume that is there already if it is what the step asks for.
    async fn accept(
        &self,
        volume: &BackingVolume,
        found: LogicalVolume,
        deadline: &Deadline,
    ) -> Result<(), HostError> {
        let object = || self.object(&volume.name);
        if found.mark().as_ref() != Some(&volume.mark) {
            let whose = match found.mark() {
                None => "it is not Hawser's".to_owned(),
                Some(other) => format!(
                    "it belongs to volume {} of resource {}, replica {}, of cluster {}",
                    other.volume, other.resource, other.replica_incarnation, other.cluster_id
                ),
            };
            return Err(HostError::refused(
                object(),
                format!("the name is taken and {whose}; remove or rename it"),
            ));
        }
        if found.lv_size < volume.size_bytes {
            return Err(HostError::refused(
                object(),
                format!("has {} bytes where {} are asked for", found.lv_size, volume.size_bytes),
            ));
        }
        let active = found.is_active();
        let mut after = found;
        if !active {
            self.activate(&volume.name, deadline).await?;
            "active".clone_into(&mut after.lv_active);
        }
        self.lvm.changed(&self.volume_group, &volume.name, Some(Some(after)));
        Ok(())
    }
}

#[async_trait]
impl StorageProvider for LvmThinPool {
    async fn pool(&self, deadline: &Deadline) -> Result<PoolFound, HostError> {
        // How full a pool is changes with every write: never from memory.
        self.lvm.with_group(&self.volume_group, |group| group.read_at = None);
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
        match self.lvm.volumes(&self.volume_group, deadline).await {
            Err(error) => Looked::Unknown(error.to_string()),
            Ok(volumes) => match volumes.get(name) {
                None => Looked::Absent,
                Some(volume) => Looked::Present(BackingFound {
                    size_bytes: volume.lv_size,
                    mark: volume.mark(),
                    active: volume.is_active(),
                    device: self.device(name),
                }),
            },
        }
    }

    async fn ensure(&self, volume: &BackingVolume, deadline: &Deadline) -> Result<(), HostError> {
        self.check_words(volume)?;
        let remembered =
            self.lvm.with_group(&self.volume_group, |group| group.volumes.get(&volume.name).cloned());
        if let Some(found) = remembered {
            let accepted = self.accept(volume, found, deadline).await;
            if accepted.is_ok() {
                return accepted;
            }
            // The memory may be old: LVM is asked before anything is refused.
            self.lvm.changed(&self.volume_group, &volume.name, None);
            if let Some(found) = self.lvm.volume(&self.volume_group, &volume.name, deadline).await? {
                return self.accept(volume, found, deadline).await;
            }
        }
        let mut command = self.lvm.command("lvcreate").args(["-y", "--type", "thin", "-V"]);
        command = command.arg(format!("{}b", volume.size_bytes)).arg("-n").arg(&volume.name);
        for tag in tags(&volume.mark) {
            command = command.arg("--addtag").arg(tag);
        }
        command = command.arg("--thinpool").arg(format!("{}/{}", self.volume_group, self.thin_pool));
        let made = deadline.run(&command).await;
        // What was made is known well enough; after a failure nothing is remembered.
        let after = if made.is_ok() { Some(Some(self.just_made(volume, deadline).await)) } else { None };
        self.lvm.changed(&self.volume_group, &volume.name, after);
        match made {
            Ok(_) => Ok(()),
            Err(error) if error.says("already exists in volume group") => {
                match self.lvm.volume(&self.volume_group, &volume.name, deadline).await? {
                    Some(found) => self.accept(volume, found, deadline).await,
                    None => Err(error.into()),
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn remove(&self, volume: &BackingVolume, deadline: &Deadline) -> Result<(), HostError> {
        self.check_words(volume)?;
        // One command looks at the tags and removes, under LVM's own lock.
        let mut selection = format!("lv_name=\"{}\"", volume.name);
        for tag in tags(&volume.mark) {
            selection.push_str(&format!(" && tags=\"{tag}\""));
        }
        let command = self.lvm.command("lvremove").args(["-y", "--select", &selection, &self.volume_group]);
        let removed = deadline.run(&command).await;
        let gone = removed.as_ref().is_ok_and(|output| output.stdout.contains("successfully removed"));
        self.lvm.changed(&self.volume_group, &volume.name, gone.then_some(None));
        removed?;
        if gone {
            return Ok(());
        }
        match self.lvm.volume(&self.volume_group, &volume.name, deadline).await? {
            None => Ok(()),
            Some(_) => Err(HostError::refused(
                self.object(&volume.name),
                "it does not carry the mark of what is to be removed, so it stays",
            )),
        }
    }

    async fn new_volumes_read_zero(&self, deadline: &Deadline) -> Result<(), HostError> {
        let pool = self.pool_volume(deadline).await?;
        if pool.zero == "zero" {
            return Ok(());
        }
        Err(HostError::refused(
            format!("thin pool {}/{}", self.volume_group, self.thin_pool),
            "new blocks are not zeroed, so replicas cannot start equal; switch it on with `lvchange -Zy`",
        ))
    }

    fn device(&self, name: &str) -> PathBuf {
        PathBuf::from("/dev").join(&self.volume_group).join(name)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_pool_that_queues_when_it_is_full_is_refused_with_the_command_that_mends_it() {
        let recorded = include_str!("../../tests/recorded/lvs_pool_that_queues.json");
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
