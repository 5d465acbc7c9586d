//! DRBD 8.4's commands.
//!
//! `drbdsetup` is called directly: `drbdadm` would start the same commands one by one and read every `.res`
//! file each time. It is used where it knows more, to check a file and to follow a changed one. This file
//! never forces a promotion, never discards data and never skips the activity log.

use std::{
    fs,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use hawser_plan::{
    observed::{ConnectionState, DiskState},
    step::{BackingVolume, Configuration, Connection, Metadata},
};
use tokio::io::{AsyncBufReadExt, BufReader};

use super::{
    super::{
        CommandError, Deadline, HostError, beside,
        command::{CommandLine, Output, start},
        devices::SECTOR,
        durable::remove_if_there,
    },
    DrbdDriver,
    configuration::{self, Surroundings},
    events2::{self, KernelState},
    files::ConfigurationFiles,
    metadata::{self, Making, Superblock},
    shown,
};

/// DRBD 8.4 on this node.
pub struct Driver84 {
    files: ConfigurationFiles,
    surroundings: Surroundings,
    device: fn(&BackingVolume) -> PathBuf,
}

impl Driver84 {
    /// `directory` holds the `.res` files and is there already; `device` names the device of a volume.
    pub fn new(directory: &Path, surroundings: Surroundings, device: fn(&BackingVolume) -> PathBuf) -> Self {
        Driver84 { files: ConfigurationFiles::new(directory), surroundings, device }
    }

    fn text(&self, configuration: &Configuration) -> Result<String, HostError> {
        configuration::render(configuration, &self.surroundings, self.device)
    }

    async fn setup<I: IntoIterator<Item = String>>(
        &self,
        verb: &str,
        arguments: I,
        deadline: &Deadline,
    ) -> Result<Output, CommandError> {
        deadline.run(&CommandLine::new("drbdsetup").arg(verb).args(arguments)).await
    }

    async fn attach_volume(
        &self,
        configuration: &Configuration,
        minor: u32,
        size_bytes: u64,
        backing: &BackingVolume,
        deadline: &Deadline,
    ) -> Result<(), HostError> {
        let device = (self.device)(backing);
        let options = configuration::options(configuration, &self.surroundings)?;
        if let Superblock::V8_4(found) = read_superblock(&device, deadline).await? {
            for command in metadata::before_attaching(&found) {
                match drbdmeta(minor, &device, [command], deadline).await {
                    // Attached already: the kernel takes care of it.
                    Err(error) if error.says("is configured") => return Ok(()),
                    other => other?,
                };
            }
        }
        let device = device.display().to_string();
        let mut arguments = vec![minor.to_string(), device.clone(), device, "internal".to_owned()];
        arguments.push(format!("--size={}s", size_bytes / SECTOR));
        arguments.extend(configuration::arguments(&options.disk));
        match self.setup("attach", arguments, deadline).await {
            Err(error) if error.says("(124)") => Ok(()),
            other => other.map(drop).map_err(HostError::from),
        }
    }

    async fn attach_all(&self, configuration: &Configuration, deadline: &Deadline) -> Result<(), HostError> {
        for volume in &configuration.volumes {
            if let Some(backing) = &volume.backing {
                self.attach_volume(configuration, volume.minor, volume.size_bytes, backing, deadline).await?;
            }
        }
        Ok(())
    }

    /// What `drbdadm adjust` refuses to do without a peer. The connection goes before the fencing, or a peer that a
    /// Primary lets go of would not learn that it is outdated.
    async fn adjust_alone(
        &self,
        configuration: &Configuration,
        deadline: &Deadline,
    ) -> Result<(), HostError> {
        let options = configuration::options(configuration, &self.surroundings)?;
        let name = &configuration.drbd_name;
        let shown = self.setup("show", [name.clone()], deadline).await?;
        if let Some(ends) = shown::ends(&shown.stdout) {
            self.end_connection(ends, false, deadline).await?;
        }
        for volume in configuration.volumes.iter().filter(|volume| volume.backing.is_some()) {
            let own = [volume.minor.to_string(), "--set-defaults".to_owned()];
            let disk = own.into_iter().chain(configuration::arguments(&options.disk));
            self.setup("disk-options", disk, deadline).await?;
        }
        let own = [name.clone(), "--set-defaults".to_owned()];
        let resource = own.into_iter().chain(configuration::arguments(&options.resource));
        self.setup("resource-options", resource, deadline).await?;
        Ok(())
    }

    /// In order, or by force: then neither side is told that it is outdated.
    async fn end_connection(
        &self,
        ends: [String; 2],
        force: bool,
        deadline: &Deadline,
    ) -> Result<(), HostError> {
        let arguments = ends.into_iter().chain(force.then(|| "--force".to_owned()));
        match self.setup("disconnect", arguments, deadline).await {
            Err(error) if error.says("unknown connection") => Ok(()),
            other => other.map(drop).map_err(HostError::from),
        }
    }

    async fn connect_to(
        &self,
        configuration: &Configuration,
        peer: &str,
        deadline: &Deadline,
    ) -> Result<(), HostError> {
        let options = configuration::options(configuration, &self.surroundings)?;
        let [here, there] = addresses(configuration, peer)?;
        let mut arguments = vec![configuration.drbd_name.clone(), here, there];
        arguments.extend(configuration::arguments(&options.net));
        match self.setup("connect", arguments, deadline).await {
            // The address is in use: by this very connection, unless it is some other resource's.
            Err(error) if error.says("(102)") || error.says("(103)") => {
                let state = self.state(deadline).await?;
                let connected = state.resources.get(&configuration.drbd_name).is_some_and(|resource| {
                    resource.connections.values().any(|found| found.state != ConnectionState::StandAlone)
                });
                if connected { Ok(()) } else { Err(error.into()) }
            }
            other => other.map(drop).map_err(HostError::from),
        }
    }
}

#[async_trait]
impl DrbdDriver for Driver84 {
    async fn state(&self, deadline: &Deadline) -> Result<KernelState, HostError> {
        let command = CommandLine::new("drbdsetup").args(["events2", "--now", "--statistics", "all"]);
        let output = deadline.run(&command).await?;
        events2::parse_dump(&output.stdout).map_err(|error| {
            CommandError::Unintelligible { command: command.to_string(), message: error.to_string() }.into()
        })
    }

    async fn create_metadata(
        &self,
        metadata: &Metadata,
        device: &Path,
        deadline: &Deadline,
    ) -> Result<(), HostError> {
        let object = || format!("metadata of DRBD resource {} on {}", metadata.drbd_name, device.display());
        let due = |found: &Superblock| {
            metadata::making(found, metadata.day0, metadata.size_bytes)
                .map_err(|reason| HostError::refused(object(), reason))
        };
        let making = due(&read_superblock(device, deadline).await?)?;
        if making == Making::All {
            drbdmeta(metadata.minor, device, ["create-md"], deadline).await?;
        }
        let dump = self.files.dump(&metadata.drbd_name, metadata.volume);
        let mut restored = Ok(());
        if let (Some(day0), Making::All | Making::Day0Only) = (metadata.day0, making) {
            fs::write(&dump, metadata::day0_dump(day0, metadata.size_bytes))
                .map_err(|error| HostError::file(&dump, &error))?;
            let restore = ["restore-md", &dump.display().to_string()];
            restored = drbdmeta(metadata.minor, device, restore, deadline).await.map(drop);
        }
        // Also where there is nothing to do: this step may have been killed after the dump was restored.
        remove_if_there(&dump).map_err(|error| HostError::file(&dump, &error))?;
        restored?;
        match due(&read_superblock(device, deadline).await?)? {
            Making::Nothing => Ok(()),
            _ => Err(HostError::refused(object(), "is not there although `drbdmeta` said so")),
        }
    }

    async fn write_configuration(
        &self,
        configuration: &Configuration,
        deadline: &Deadline,
    ) -> Result<(), HostError> {
        self.files.write(configuration, &self.text(configuration)?, deadline).await
    }

    fn remove_configuration(&self, drbd_name: &str) -> Result<(), HostError> {
        self.files.remove(drbd_name)
    }

    fn fingerprint(&self, drbd_name: &str) -> Result<Option<u64>, HostError> {
        self.files.fingerprint(drbd_name)
    }

    async fn bring_up(
        &self,
        configuration: &Configuration,
        attach: bool,
        connect: bool,
        deadline: &Deadline,
    ) -> Result<(), HostError> {
        let options = configuration::options(configuration, &self.surroundings)?;
        let name = &configuration.drbd_name;
        if self.files.is_pending(name, &self.text(configuration)?)?
            && !self.state(deadline).await?.resources.contains_key(name)
        {
            // Whatever comes into the kernel from now on is made by this configuration.
            self.files.note_followed(configuration)?;
        }
        let own = std::iter::once(name.clone()).chain(configuration::arguments(&options.resource));
        self.setup("new-resource", own, deadline).await?;
        for volume in &configuration.volumes {
            let arguments = [name.clone(), volume.minor.to_string(), volume.number.to_string()];
            self.setup("new-minor", arguments, deadline).await?;
        }
        if attach {
            self.attach_all(configuration, deadline).await?;
        }
        if connect {
            for peer in configuration.peers.iter().filter(|peer| peer.node != configuration.node) {
                self.connect_to(configuration, &peer.node, deadline).await?;
            }
        }
        Ok(())
    }

    async fn attach(&self, configuration: &Configuration, deadline: &Deadline) -> Result<(), HostError> {
        self.attach_all(configuration, deadline).await
    }

    async fn connect(&self, connection: &Connection, deadline: &Deadline) -> Result<(), HostError> {
        self.connect_to(&connection.configuration, &connection.peer, deadline).await
    }

    async fn turn_away(&self, connection: &Connection, deadline: &Deadline) -> Result<(), HostError> {
        // What the kernel has may not be what the configuration says by now.
        let shown = self.setup("show", [connection.configuration.drbd_name.clone()], deadline).await?;
        match shown::ends(&shown.stdout) {
            Some(ends) => self.end_connection(ends, true, deadline).await,
            None => Ok(()),
        }
    }

    async fn adjust(&self, configuration: &Configuration, deadline: &Deadline) -> Result<(), HostError> {
        if configuration.peers.len() > 1 {
            let command = CommandLine::new("drbdadm").args(["adjust", &configuration.drbd_name]);
            deadline.run(&command).await?;
        } else {
            self.adjust_alone(configuration, deadline).await?;
        }
        let pending = self.files.is_pending(&configuration.drbd_name, &self.text(configuration)?)?;
        if pending { self.files.note_followed(configuration) } else { Ok(()) }
    }

    async fn promote(&self, _: &str, minors: &[u32], deadline: &Deadline) -> Result<(), HostError> {
        for minor in minors {
            match self.setup("primary", [minor.to_string()], deadline).await {
                // Not a device that hangs: the kernel waits for the handler, and nothing kills that.
                Err(CommandError::Wedged { .. }) => {
                    return Err(deadline.missed(format!(
                        "the fence-peer handler's answer to the promotion of minor {minor}"
                    )));
                }
                other => other.map(drop)?,
            }
        }
        Ok(())
    }

    async fn demote(&self, _: &str, minors: &[u32], deadline: &Deadline) -> Result<(), HostError> {
        for minor in minors {
            self.setup("secondary", [minor.to_string()], deadline).await?;
        }
        Ok(())
    }

    async fn detach_force(&self, drbd_name: &str, minor: u32, deadline: &Deadline) -> Result<(), HostError> {
        self.setup("detach", [minor.to_string(), "--force".to_owned()], deadline).await?;
        // While it says `Failed`, a resumption would write a new UUID and end in a split brain.
        let command = CommandLine::new("drbdsetup").args(["events2", drbd_name]);
        let mut child = start(&command, true)?;
        let Some(output) = child.stdout.take() else {
            return Err(CommandError::NotStarted {
                command: command.to_string(),
                reason: "no output".into(),
            }
            .into());
        };
        let mut lines = BufReader::new(output).lines();
        let mut state = KernelState::default();
        let diskless = async {
            while let Ok(Some(line)) = lines.next_line().await {
                state.take(&line).map_err(|error| error.to_string())?;
                let devices =
                    state.resources.get(drbd_name).into_iter().flat_map(|found| found.devices.values());
                if devices
                    .into_iter()
                    .any(|device| device.minor == minor && device.disk == DiskState::Diskless)
                {
                    return Ok(());
                }
            }
            Err("it ended before the disk was gone".to_owned())
        };
        match tokio::time::timeout(deadline.left(), diskless).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(message)) => {
                Err(CommandError::Unintelligible { command: command.to_string(), message }.into())
            }
            Err(_) => Err(deadline.missed(format!("the state Diskless of minor {minor} of {drbd_name}"))),
        }
    }

    async fn resume_io(&self, minor: u32, deadline: &Deadline) -> Result<(), HostError> {
        self.setup("resume-io", [minor.to_string()], deadline).await?;
        Ok(())
    }

    async fn take_down(&self, drbd_name: &str, deadline: &Deadline) -> Result<(), HostError> {
        self.setup("down", [drbd_name.to_owned()], deadline).await?;
        Ok(())
    }
}

fn addresses(configuration: &Configuration, peer: &str) -> Result<[String; 2], HostError> {
    let here = configuration::own_peer(configuration)?;
    let there = configuration::find_peer(configuration, peer)?;
    Ok([here, there].map(configuration::address_argument))
}

async fn drbdmeta<I, S>(
    minor: u32,
    device: &Path,
    verb: I,
    deadline: &Deadline,
) -> Result<Output, CommandError>
where
    I: IntoIterator<Item = S>,
    S: Into<String>,
{
    // `--force` answers questions; what may be overwritten was decided from the superblock before.
    let command = CommandLine::new("drbdmeta").arg("--force").arg(minor.to_string()).arg("v08");
    deadline.run(&command.arg(device.display().to_string()).arg("internal").args(verb)).await
}

async fn read_superblock(device: &Path, deadline: &Deadline) -> Result<Superblock, HostError> {
    let path = device.to_owned();
    beside::read(
        deadline,
        || format!("DRBD's metadata on {}", device.display()),
        move || metadata::read(&path),
    )
    .await?
    .map_err(|error| HostError::file(device, &error))
}
