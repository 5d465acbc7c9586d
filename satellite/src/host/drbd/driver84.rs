//! DRBD 8.4's commands.
//!
//! `drbdsetup` is called directly: `drbdadm` would start the same commands one by one and read every `.res`
//! file each time. It is used where it knows more, to check a file and to follow a changed one. This file
//! never forces a promotion, never discards data and never skips the activity log.

use std::{
    fs, io,
    os::unix::fs::FileExt,
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
    },
    DrbdDriver,
    configuration::{self, Surroundings},
    events2::{self, KernelState},
    metadata::{self, Making, Superblock},
};

/// DRBD 8.4 on this node.
pub struct Driver84 {
    directory: PathBuf,
    surroundings: Surroundings,
    device: fn(&BackingVolume) -> PathBuf,
}

impl Driver84 {
    /// `directory` holds the `.res` files and is there already; `device` names the device of a volume.
    pub fn new(directory: &Path, surroundings: Surroundings, device: fn(&BackingVolume) -> PathBuf) -> Self {
        Driver84 { directory: directory.to_owned(), surroundings, device }
    }

    fn path(&self, drbd_name: &str) -> Result<PathBuf, HostError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.+-".contains(&byte);
        if drbd_name.is_empty() || drbd_name.starts_with('.') || !drbd_name.bytes().all(plain) {
            return Err(HostError::refused(
                format!("DRBD resource {drbd_name:?}"),
                "cannot be the name of a file",
            ));
        }
        Ok(self.directory.join(format!("{drbd_name}.res")))
    }

    /// Whether the file says this configuration and the kernel may not follow it yet.
    fn is_pending(&self, configuration: &Configuration) -> Result<bool, HostError> {
        let text = configuration::render(configuration, &self.surroundings, self.device)?;
        let path = self.path(&configuration.drbd_name)?;
        Ok(fs::read_to_string(path).is_ok_and(|present| present == text))
    }

    /// Says in the file that the kernel follows it. Written over its first line and not synced: with the power the
    /// kernel's resource is gone too, and what is brought up then follows the file.
    fn note_followed(&self, configuration: &Configuration) -> Result<(), HostError> {
        let path = self.path(&configuration.drbd_name)?;
        fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|file| file.write_all_at(configuration::followed_header(configuration).as_bytes(), 0))
            .map_err(|error| HostError::file(&path, &error))
    }

    /// Files of a resource that a step leaves behind when it is killed: a configuration that was being checked, and
    /// dumps of metadata.
    fn unfinished(&self, drbd_name: &str) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let rest = name.to_str().and_then(|name| name.strip_prefix(drbd_name));
            let is_dump = |rest: &str| {
                let volume = rest.strip_prefix('-').and_then(|rest| rest.strip_suffix(".day0"));
                volume.is_some_and(|volume| volume.parse::<u32>().is_ok())
            };
            if rest.is_some_and(|rest| rest == ".res_new" || is_dump(rest)) {
                found.push(entry.path());
            }
        }
        Ok(found)
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
        if let Superblock::V8_4(found) = read_superblock(&device, deadline).await?
            && found.unclean
        {
            match drbdmeta(minor, &device, ["apply-al"], deadline).await {
                // Attached already: the kernel takes care of the log itself.
                Err(error) if error.says("is configured") => return Ok(()),
                other => other?,
            };
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
        let dump = self.directory.join(format!("{}-{}.day0", metadata.drbd_name, metadata.volume));
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
        let text = configuration::render(configuration, &self.surroundings, self.device)?;
        let path = self.path(&configuration.drbd_name)?;
        let written = fs::read_to_string(&path).is_ok_and(|present| {
            present == text || present == with_header(&text, &configuration::followed_header(configuration))
        });
        if written {
            return Ok(());
        }
        let aside = path.with_extension("res_new");
        write_synced(&aside, &text).map_err(|error| HostError::file(&aside, &error))?;
        // By itself: 8.4's tool cannot test a file in place of the one that it replaces.
        let check = CommandLine::new("drbdadm").arg("-c").arg(aside.display().to_string()).arg("sh-nop");
        if let Err(error) = deadline.run(&check).await {
            fs::remove_file(&aside).map_err(|error| HostError::file(&aside, &error))?;
            return Err(error.into());
        }
        fs::rename(&aside, &path)
            .and_then(|()| sync_directory(&self.directory))
            .map_err(|error| HostError::file(&path, &error))
    }

    fn remove_configuration(&self, drbd_name: &str) -> Result<(), HostError> {
        let path = self.path(drbd_name)?;
        let unfinished =
            self.unfinished(drbd_name).map_err(|error| HostError::file(&self.directory, &error))?;
        for file in std::iter::once(path).chain(unfinished) {
            remove_if_there(&file).map_err(|error| HostError::file(&file, &error))?;
        }
        sync_directory(&self.directory).map_err(|error| HostError::file(&self.directory, &error))
    }

    fn fingerprint(&self, drbd_name: &str) -> Result<Option<u64>, HostError> {
        let path = self.path(drbd_name)?;
        match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(HostError::file(&path, &error)),
            // A file that the kernel may not follow, or somebody else's, is there and never equals what is wanted.
            Ok(text) => Ok(Some(configuration::fingerprint_in(&text).unwrap_or(0))),
        }
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
        if self.is_pending(configuration)? && !self.state(deadline).await?.resources.contains_key(name) {
            // Whatever comes into the kernel from now on is made by this configuration.
            self.note_followed(configuration)?;
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

    async fn disconnect(&self, connection: &Connection, deadline: &Deadline) -> Result<(), HostError> {
        let addresses = addresses(&connection.configuration, &connection.peer)?;
        match self.setup("disconnect", addresses, deadline).await {
            Err(error) if error.says("unknown connection") => Ok(()),
            other => other.map(drop).map_err(HostError::from),
        }
    }

    async fn adjust(&self, configuration: &Configuration, deadline: &Deadline) -> Result<(), HostError> {
        let command = CommandLine::new("drbdadm").args(["adjust", &configuration.drbd_name]);
        deadline.run(&command).await?;
        if self.is_pending(configuration)? { self.note_followed(configuration) } else { Ok(()) }
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

/// `text` with another first line.
fn with_header(text: &str, header: &str) -> String {
    let rest = text.split_once('\n').map_or("", |(_, rest)| rest);
    format!("{header}{rest}")
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

fn write_synced(path: &Path, text: &str) -> io::Result<()> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    // It holds the shared secret.
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use hawser_plan::step::{DrbdPeer, Generation, SharedSecret};

    use super::*;

    #[tokio::test]
    async fn a_file_counts_once_the_kernel_follows_it_and_writing_it_again_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let surroundings = Surroundings { fence_peer_handler: "handler".into(), authenticate: true };
        let driver = Driver84::new(directory.path(), surroundings, |_| unreachable!("it has no storage"));
        let peer = DrbdPeer {
            node: "n1".into(),
            uname: "n1".into(),
            node_id: 0,
            ip: "10.77.0.1".parse().unwrap(),
            port: 7000,
            diskful: false,
        };
        let configuration = Configuration {
            drbd_name: "db.5".into(),
            node: "n1".into(),
            generation: Generation::V8_4,
            shared_secret: SharedSecret("secret".into()),
            resource_options: [].into(),
            net_options: [].into(),
            disk_options: [].into(),
            ask_arbiter: true,
            volumes: Vec::new(),
            peers: vec![peer],
        };
        let written = configuration::render(&configuration, &driver.surroundings, driver.device).unwrap();
        let path = directory.path().join("db.5.res");
        let deadline = &Deadline::after(Duration::from_secs(10));
        fs::write(&path, &written).unwrap();

        driver.write_configuration(&configuration, deadline).await.unwrap();
        assert_eq!(driver.fingerprint("db.5"), Ok(Some(0)));
        assert_eq!(driver.is_pending(&configuration), Ok(true));

        driver.note_followed(&configuration).unwrap();
        driver.write_configuration(&configuration, deadline).await.unwrap();
        assert_eq!(driver.fingerprint("db.5"), Ok(Some(configuration.fingerprint())));
        assert_eq!(driver.is_pending(&configuration), Ok(false));
        let body = |text: &str| text.split_once('\n').map(|(_, body)| body.to_owned());
        assert_eq!(body(&fs::read_to_string(&path).unwrap()), body(&written));
    }

    #[test]
    fn what_a_killed_step_left_goes_with_the_configuration_and_nothing_else_does() {
        let directory = tempfile::tempdir().unwrap();
        let own = ["data.63.res", "data.63.res_new", "data.63-0.day0", "data.63-1.day0"];
        let others = ["data.6.res", "data.6-0.day0", "data.631.res", "data.63-0.dump", "data.63-x.day0"];
        for name in own.iter().chain(&others) {
            fs::write(directory.path().join(name), "").unwrap();
        }
        let surroundings = Surroundings { fence_peer_handler: "/bin/false".to_owned(), authenticate: true };
        let driver = Driver84::new(directory.path(), surroundings, |_| PathBuf::new());

        driver.remove_configuration("data.63").unwrap();
        driver.remove_configuration("data.63").unwrap();

        let mut left: Vec<String> = fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort_unstable();
        let mut expected = others.map(str::to_owned);
        expected.sort_unstable();
        assert_eq!(left, expected);
    }
}
