//! LVM's commands, and what is remembered of its volume groups.
//!
//! What is in a volume group is remembered between looks and brought up to date by Hawser's own changes, so that a
//! step needs one LVM command and a look usually none. It must never run a command that changes what does not carry
//! the mark that it was given.
//!
//! * [`report`]: what LVM's commands say. * [`marked`]: the volumes that carry Hawser's mark, whatever they are cut
//!   from.
//! * [`thin`] and [`thick`]: the two kinds of pools.

mod marked;
pub mod report;
pub mod thick;
pub mod thin;

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use self::report::{GROUP_COLUMNS, LogicalVolume, VOLUME_COLUMNS, VolumeGroup, parse_groups, parse_volumes};
use super::{CommandError, Deadline, HostError, command, command::CommandLine};

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

    fn report(&self, program: &str, columns: &str, what: &str) -> CommandLine {
        let form = ["--reportformat", "json", "--units", "b", "--nosuffix", "-o", columns, what];
        self.command(program).args(form)
    }

    /// All volumes of a group, from memory if that is young enough.
    ///
    /// # Errors
    /// There is no such group, or LVM cannot be asked.
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
            let volumes = self.read(volume_group, deadline).await?;
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

    /// All volumes of a group as they are now: one report of one moment.
    async fn read(
        &self,
        volume_group: &str,
        deadline: &Deadline,
    ) -> Result<BTreeMap<String, LogicalVolume>, HostError> {
        let command = self.report("lvs", VOLUME_COLUMNS, volume_group);
        let output = deadline.run(&command).await.map_err(|error| no_volume_group(error, volume_group))?;
        let volumes = parse(&command, &output.stdout)?;
        Ok(volumes.into_iter().map(|volume| (volume.lv_name.clone(), volume)).collect())
    }

    /// One volume as it is now, past the memory.
    async fn volume(
        &self,
        volume_group: &str,
        name: &str,
        deadline: &Deadline,
    ) -> Result<Option<LogicalVolume>, HostError> {
        let command = self.report("lvs", VOLUME_COLUMNS, &format!("{volume_group}/{name}"));
        let output = deadline.run_any_status(&command).await?;
        let nothing = output.stderr.contains("Failed to find logical volume");
        if output.code != Some(0) && !nothing {
            return Err(command::failed(&command, &output).into());
        }
        let found = parse(&command, &output.stdout)?.into_iter().find(|volume| volume.lv_name == name);
        match (found, nothing) {
            (None, false) => Err(unintelligible(&command, format!("success, but no volume {name}"))),
            (found, _) => Ok(found),
        }
    }

    /// A volume group itself, never from memory.
    async fn group(&self, name: &str, deadline: &Deadline) -> Result<VolumeGroup, HostError> {
        let command = self.report("vgs", GROUP_COLUMNS, name);
        let output = deadline.run(&command).await.map_err(|error| no_volume_group(error, name))?;
        let groups = parse_groups(&output.stdout).map_err(|message| unintelligible(&command, message))?;
        let found = groups.into_iter().find(|group| group.vg_name == name);
        found.ok_or_else(|| unintelligible(&command, format!("success, but no volume group {name}")))
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

    /// Has the next look ask LVM.
    fn forget(&self, volume_group: &str) {
        self.with_group(volume_group, |group| group.read_at = None);
    }
}

fn unintelligible(command: &CommandLine, message: String) -> HostError {
    CommandError::Unintelligible { command: command.to_string(), message }.into()
}

fn parse(command: &CommandLine, text: &str) -> Result<Vec<LogicalVolume>, HostError> {
    parse_volumes(text).map_err(|message| unintelligible(command, message))
}

/// The error of a command on a volume group, in words that help where there is no such group.
fn no_volume_group(error: CommandError, volume_group: &str) -> HostError {
    if !error.says(&format!("Volume group \"{volume_group}\" not found")) {
        return error.into();
    }
    there_is_no_group(volume_group)
}

/// The refusal of what lies in a volume group that is not there.
pub(crate) fn there_is_no_group(volume_group: &str) -> HostError {
    HostError::refused(
        format!("volume group {volume_group}"),
        format!("there is none of this name; make it with `vgcreate {volume_group} DEVICE`, or name another"),
    )
}
