//! The volumes of one volume group that carry Hawser's mark, whatever they are cut from.
//!
//! It must never remove or take over a volume whose tags are not exactly the mark that it was given.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use hawser_plan::{
    observed::{BackingFound, Looked},
    step::{BackingVolume, Provider},
};

use super::{
    super::{
        Deadline, HostError, beside, devices,
        storage::{check_taken, device_of, not_to_be_removed},
    },
    Lvm,
    report::{LogicalVolume, is_plain, tags},
};

/// Makes, finds and removes marked volumes in one volume group.
pub(super) struct MarkedVolumes {
    lvm: Arc<Lvm>,
    volume_group: String,
}

impl MarkedVolumes {
    pub(super) fn new(lvm: Arc<Lvm>, volume_group: &str) -> Self {
        MarkedVolumes { lvm, volume_group: volume_group.to_owned() }
    }

    pub(super) fn lvm(&self) -> &Lvm {
        &self.lvm
    }

    pub(super) fn group(&self) -> &str {
        &self.volume_group
    }

    pub(super) fn path_in_group(&self, name: &str) -> String {
        format!("{}/{name}", self.volume_group)
    }

    pub(super) fn object(&self, name: &str) -> String {
        format!("logical volume {}", self.path_in_group(name))
    }

    pub(super) fn device(&self, name: &str) -> PathBuf {
        device_of(&Provider::Lvm { volume_group: self.volume_group.clone() }, name)
    }

    /// All volumes of the group, from memory if that is young enough.
    pub(super) async fn list(
        &self,
        deadline: &Deadline,
    ) -> Result<BTreeMap<String, LogicalVolume>, HostError> {
        self.lvm.volumes(&self.volume_group, deadline).await
    }

    /// All volumes of the group as they are now, past the memory.
    pub(super) async fn list_now(
        &self,
        deadline: &Deadline,
    ) -> Result<BTreeMap<String, LogicalVolume>, HostError> {
        self.lvm.read(&self.volume_group, deadline).await
    }

    /// One volume as it is now, past the memory.
    pub(super) async fn now(
        &self,
        name: &str,
        deadline: &Deadline,
    ) -> Result<Option<LogicalVolume>, HostError> {
        self.lvm.volume(&self.volume_group, name, deadline).await
    }

    /// What is there under a name, and whether it `is_complete` but for being active.
    pub(super) async fn look(
        &self,
        name: &str,
        is_complete: impl Fn(&LogicalVolume) -> bool,
        deadline: &Deadline,
    ) -> Looked<BackingFound> {
        match self.list(deadline).await {
            Err(error) => Looked::Unknown(error.to_string()),
            Ok(volumes) => match volumes.get(name) {
                None => Looked::Absent,
                Some(volume) => Looked::Present(BackingFound {
                    size_bytes: volume.lv_size,
                    mark: volume.mark(),
                    active: volume.is_active() && is_complete(volume),
                    device: self.device(name),
                }),
            },
        }
    }

    /// Makes sure that a volume is there, active, of its size and with its mark, and returns what is there then.
    /// `kind` are the words of `lvcreate` that say what it is cut from; the others are the same for all. `made` is
    /// what LVM would say of one that was made a moment ago, but for what all have in common.
    pub(super) async fn ensure(
        &self,
        volume: &BackingVolume,
        kind: &[&str],
        made: LogicalVolume,
        deadline: &Deadline,
    ) -> Result<LogicalVolume, HostError> {
        self.check_words(volume)?;
        let remembered =
            self.lvm.with_group(&self.volume_group, |group| group.volumes.get(&volume.name).cloned());
        if let Some(found) = remembered {
            let accepted = self.accept(volume, found, deadline).await;
            if accepted.is_ok() {
                return accepted;
            }
            // The memory may be old: LVM is asked before anything is refused.
            self.changed(&volume.name, None);
            if let Some(found) = self.lvm.volume(&self.volume_group, &volume.name, deadline).await? {
                return self.accept(volume, found, deadline).await;
            }
        }
        let command = self.lvm.command("lvcreate").arg("-y").args(kind.iter().copied());
        let command = made
            .lv_tags
            .split(',')
            .fold(command.arg("-n").arg(&volume.name), |command, tag| command.arg("--addtag").arg(tag));
        match deadline.run(&command).await {
            Ok(_) => {
                let made = LogicalVolume {
                    lv_size: self.size_of_device(volume, deadline).await,
                    lv_active: "active".to_owned(),
                    ..made
                };
                self.changed(&volume.name, Some(Some(made.clone())));
                Ok(made)
            }
            Err(error) => {
                // After a failure nothing is remembered.
                self.changed(&volume.name, None);
                if error.says("already exists in volume group")
                    && let Some(found) = self.lvm.volume(&self.volume_group, &volume.name, deadline).await?
                {
                    return self.accept(volume, found, deadline).await;
                }
                Err(error.into())
            }
        }
    }

    /// Makes sure that a volume is gone.
    pub(super) async fn remove(&self, volume: &BackingVolume, deadline: &Deadline) -> Result<(), HostError> {
        self.check_words(volume)?;
        // One command looks at the tags and removes, under LVM's own lock.
        let mut selection = format!("lv_name=\"{}\"", volume.name);
        for tag in tags(&volume.mark) {
            selection.push_str(&format!(" && tags=\"{tag}\""));
        }
        let command = self.lvm.command("lvremove").args(["-y", "--select", &selection, &self.volume_group]);
        let removed = deadline.run(&command).await;
        let gone = removed.as_ref().is_ok_and(|output| output.stdout.contains("successfully removed"));
        self.changed(&volume.name, gone.then_some(None));
        removed?;
        if gone {
            return Ok(());
        }
        match self.lvm.volume(&self.volume_group, &volume.name, deadline).await? {
            None => Ok(()),
            Some(_) => Err(not_to_be_removed(self.object(&volume.name))),
        }
    }

    pub(super) async fn activate(&self, name: &str, deadline: &Deadline) -> Result<(), HostError> {
        let command = self.lvm.command("lvchange").args(["-ay", "-K", &self.path_in_group(name)]);
        deadline.run(&command).await?;
        Ok(())
    }

    /// Notes what a name stands for after a change of Hawser's own; `None` where that is not known.
    pub(super) fn changed(&self, name: &str, after: Option<Option<LogicalVolume>>) {
        self.lvm.changed(&self.volume_group, name, after);
    }

    fn check_words(&self, volume: &BackingVolume) -> Result<(), HostError> {
        let tags = tags(&volume.mark);
        let words = [&self.volume_group, &volume.name].into_iter().chain(&tags);
        match words.into_iter().find(|word| !is_plain(word)) {
            None => Ok(()),
            Some(word) => Err(HostError::refused(
                self.object(&volume.name),
                format!("LVM takes no name or tag like {word:?}"),
            )),
        }
    }

    /// LVM rounds up; the kernel knows to what.
    async fn size_of_device(&self, volume: &BackingVolume, deadline: &Deadline) -> u64 {
        let device = self.device(&volume.name);
        let size = beside::read(deadline, || device.display().to_string(), {
            let device = device.clone();
            move || devices::size(&device).ok()
        });
        size.await.ok().flatten().unwrap_or(volume.size_bytes)
    }

    /// Accepts a volume that is there already if it is what the step asks for.
    async fn accept(
        &self,
        volume: &BackingVolume,
        found: LogicalVolume,
        deadline: &Deadline,
    ) -> Result<LogicalVolume, HostError> {
        check_taken(&self.object(&volume.name), volume, found.mark().as_ref(), found.lv_size)?;
        let active = found.is_active();
        let mut after = found;
        if !active {
            self.activate(&volume.name, deadline).await?;
            "active".clone_into(&mut after.lv_active);
        }
        self.changed(&volume.name, Some(Some(after.clone())));
        Ok(after)
    }
}
