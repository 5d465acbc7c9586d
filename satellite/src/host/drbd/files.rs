//! The files that DRBD's tools read: one `.res` per resource, written whole or not at all, stamped once the kernel
//! follows it, and removed with whatever a killed step has left beside it.
//!
//! It must never touch a file of another resource, nor start anything but the tool's check of a file.

use std::{
    fs, io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use hawser_plan::step::Configuration;

use super::{
    super::{
        Deadline, HostError,
        command::CommandLine,
        durable::{remove_if_there, sync_directory},
    },
    configuration,
};

/// The folder of the `.res` files.
pub(super) struct ConfigurationFiles {
    directory: PathBuf,
}

impl ConfigurationFiles {
    /// `directory` is there already.
    pub(super) fn new(directory: &Path) -> Self {
        ConfigurationFiles { directory: directory.to_owned() }
    }

    /// Where a dump of a volume's metadata may lie while `drbdmeta` reads it.
    pub(super) fn dump(&self, drbd_name: &str, volume: u32) -> PathBuf {
        self.directory.join(format!("{drbd_name}-{volume}.day0"))
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

    /// Whether the file of a resource says `text` and the kernel may not follow it yet.
    ///
    /// # Errors
    /// The resource's name cannot be that of a file.
    pub(super) fn is_pending(&self, drbd_name: &str, text: &str) -> Result<bool, HostError> {
        Ok(fs::read_to_string(self.path(drbd_name)?).is_ok_and(|present| present == text))
    }

    /// Says in the file that the kernel follows it. Written over its first line and not synced: with the power the
    /// kernel's resource is gone too, and what is brought up then follows the file.
    ///
    /// # Errors
    /// There is no such file, or it cannot be written.
    pub(super) fn note_followed(&self, configuration: &Configuration) -> Result<(), HostError> {
        let path = self.path(&configuration.drbd_name)?;
        fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|file| file.write_all_at(configuration::followed_header(configuration).as_bytes(), 0))
            .map_err(|error| HostError::file(&path, &error))
    }

    /// Makes sure that the file of a configuration says `text`, as it was rendered, also after a power cut. A file that
    /// says it already is left alone.
    ///
    /// # Errors
    /// `drbdadm` does not take the text, or it cannot be written.
    pub(super) async fn write(
        &self,
        configuration: &Configuration,
        text: &str,
        deadline: &Deadline,
    ) -> Result<(), HostError> {
        let path = self.path(&configuration.drbd_name)?;
        let written = fs::read_to_string(&path).is_ok_and(|present| {
            present == text || present == with_header(text, &configuration::followed_header(configuration))
        });
        if written {
            return Ok(());
        }
        let aside = path.with_extension("res_new");
        write_synced(&aside, text).map_err(|error| HostError::file(&aside, &error))?;
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

    /// Makes sure that neither the file of a resource is there nor anything that a killed step has left of it.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub(super) fn remove(&self, drbd_name: &str) -> Result<(), HostError> {
        let path = self.path(drbd_name)?;
        let unfinished =
            self.unfinished(drbd_name).map_err(|error| HostError::file(&self.directory, &error))?;
        for file in std::iter::once(path).chain(unfinished) {
            remove_if_there(&file).map_err(|error| HostError::file(&file, &error))?;
        }
        sync_directory(&self.directory).map_err(|error| HostError::file(&self.directory, &error))
    }

    /// Fingerprint of the configuration that the kernel follows by the file of a resource: 0 where it may not follow
    /// that yet, `None` without a file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn fingerprint(&self, drbd_name: &str) -> Result<Option<u64>, HostError> {
        let path = self.path(drbd_name)?;
        match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(HostError::file(&path, &error)),
            // A file that the kernel may not follow, or somebody else's, is there and never equals what is wanted.
            Ok(text) => Ok(Some(configuration::fingerprint_in(&text).unwrap_or(0))),
        }
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
}

/// `text` with another first line.
fn with_header(text: &str, header: &str) -> String {
    let rest = text.split_once('\n').map_or("", |(_, rest)| rest);
    format!("{header}{rest}")
}

fn write_synced(path: &Path, text: &str) -> io::Result<()> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    // It holds the shared secret.
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use hawser_hostile::{check, each_cut, each_flip, texts};
    use hawser_plan::step::{DrbdPeer, Generation, SharedSecret};

    use super::*;
    use crate::host::drbd::configuration::Surroundings;

    #[tokio::test]
    async fn a_file_counts_once_the_kernel_follows_it_and_writing_it_again_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let surroundings = Surroundings { fence_peer_handler: "handler".into(), authenticate: true };
        let files = ConfigurationFiles::new(directory.path());
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
        let written =
            configuration::render(&configuration, &surroundings, |_| unreachable!("it has no storage"));
        let written = written.unwrap();
        let path = directory.path().join("db.5.res");
        let deadline = &Deadline::after(Duration::from_secs(10));
        fs::write(&path, &written).unwrap();

        files.write(&configuration, &written, deadline).await.unwrap();
        assert_eq!(files.fingerprint("db.5"), Ok(Some(0)));
        assert_eq!(files.is_pending("db.5", &written), Ok(true));

        files.note_followed(&configuration).unwrap();
        files.write(&configuration, &written, deadline).await.unwrap();
        assert_eq!(files.fingerprint("db.5"), Ok(Some(configuration.fingerprint())));
        assert_eq!(files.is_pending("db.5", &written), Ok(false));
        let body = |text: &str| text.split_once('\n').map(|(_, body)| body.to_owned());
        assert_eq!(body(&fs::read_to_string(&path).unwrap()), body(&written));
    }

    #[test]
    fn a_damaged_first_line_never_passes_for_what_was_written() {
        let whole = format!("{}{:016x}        \nresource \"db.5\" {{\n}}\n", configuration::HEADER, 0x7d_u64);
        assert_eq!(configuration::fingerprint_in(&whole), Some(0x7d));
        let line = &whole.as_bytes()[..configuration::HEADER.len() + 16];
        let mut never = |at: usize, damaged: &[u8]| {
            let read = configuration::fingerprint_in(&String::from_utf8_lossy(damaged));
            assert_ne!(read, Some(0x7d), "byte {at}");
        };
        each_cut(line, &mut never);
        each_flip(line, &mut never);
    }

    #[test]
    fn hostile_configurations() {
        let followed = format!("{}{:016x}        \nresource \"db.5\" {{\n}}\n", configuration::HEADER, 7);
        let pending = format!("{}{:016x} pending\n", configuration::HEADER, 7);
        check(&texts(&[&followed, &pending], &["Fingerprint", "pending"]), |text| {
            if configuration::fingerprint_in(&text).is_some() {
                let first = text.lines().next().unwrap_or_default();
                assert!(first.starts_with(configuration::HEADER) && !first.contains("pending"), "{first}");
            }
        });
    }

    #[test]
    fn what_a_killed_step_left_goes_with_the_configuration_and_nothing_else_does() {
        let directory = tempfile::tempdir().unwrap();
        let own = ["data.63.res", "data.63.res_new", "data.63-0.day0", "data.63-1.day0"];
        let others = ["data.6.res", "data.6-0.day0", "data.631.res", "data.63-0.dump", "data.63-x.day0"];
        for name in own.iter().chain(&others) {
            fs::write(directory.path().join(name), "").unwrap();
        }
        let files = ConfigurationFiles::new(directory.path());

        files.remove("data.63").unwrap();
        files.remove("data.63").unwrap();

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
