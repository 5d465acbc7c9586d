//! `satellite.toml`.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use hawser_process::configuration::{ConfigurationError, load};
use hawser_proto::names;
use serde::Deserialize;

/// Where the configuration is looked for unless `--config` names another file.
pub const DEFAULT_PATH: &str = "/etc/hawser/satellite.toml";

/// The satellite's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    /// Hawser's name of this node; the certificate must carry it.
    pub node: String,
    /// Controllers, HOST:PORT each.
    pub controllers: Vec<String>,
    /// Where the ledger and DRBD's configuration lie.
    #[serde(default = "data_directory")]
    pub data_directory: PathBuf,
    /// Address of the read-only port.
    #[serde(default = "health_listen")]
    pub health_listen: SocketAddr,
    /// The identity: `ca.crt`, `tls.crt`, `tls.key`.
    #[serde(default = "tls_directory")]
    pub tls_directory: PathBuf,
    /// Where the fence-peer helper asks.
    #[serde(default = "socket")]
    pub socket: PathBuf,
    /// LVM.
    #[serde(default)]
    pub lvm: Lvm,
    /// DRBD.
    #[serde(default)]
    pub drbd: Drbd,
}

/// How LVM is called.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lvm {
    /// Passed to each command as `--config`.
    pub config: Option<String>,
}

/// Where DRBD's configuration goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drbd {
    /// Directory of the `.res` files; `drbd.d` in the data directory unless set.
    pub configuration_directory: Option<PathBuf>,
}

impl Configuration {
    /// Reads and checks `path`.
    ///
    /// # Errors
    /// Names the file, the place and the field that is wrong.
    pub fn load(path: &Path) -> Result<Self, ConfigurationError> {
        load::<Self>(path)?.checked(path)
    }

    fn checked(self, path: &Path) -> Result<Self, ConfigurationError> {
        let wrong = |field: &str, message: String| ConfigurationError::Field {
            path: path.to_owned(),
            field: field.to_owned(),
            message,
        };
        names::node_name("node", &self.node).map_err(|error| wrong("node", error.to_string()))?;
        if self.controllers.is_empty() {
            return Err(wrong("controllers", "is empty; name at least one as HOST:6470".to_owned()));
        }
        for (field, directory) in [
            ("data_directory", &self.data_directory),
            ("tls_directory", &self.tls_directory),
            ("socket", &self.socket),
        ] {
            if !directory.is_absolute() {
                return Err(wrong(field, format!("{} is not absolute", directory.display())));
            }
        }
        Ok(self)
    }

    /// Directory of the `.res` files.
    pub fn drbd_directory(&self) -> PathBuf {
        self.drbd.configuration_directory.clone().unwrap_or_else(|| self.data_directory.join("drbd.d"))
    }
}

fn data_directory() -> PathBuf {
    "/var/lib/hawser/satellite".into()
}

fn health_listen() -> SocketAddr {
    ([0, 0, 0, 0], 6472).into()
}

fn tls_directory() -> PathBuf {
    "/etc/hawser/tls/satellite".into()
}

fn socket() -> PathBuf {
    "/run/hawser/satellite.sock".into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hawser_hostile::{check, texts};
    use hawser_process::configuration::parse;

    use super::*;

    fn read(text: &str) -> Result<Configuration, ConfigurationError> {
        let path = Path::new("/etc/hawser/satellite.toml");
        parse::<Configuration>(path, text)?.checked(path)
    }

    #[test]
    fn two_fields_are_enough() {
        let read = read("node = \"n1\"\ncontrollers = [\"10.77.0.1:6470\"]\n").unwrap();

        assert_eq!(read.health_listen.port(), 6472);
        assert_eq!(read.drbd_directory(), Path::new("/var/lib/hawser/satellite/drbd.d"));
        assert_eq!(read.lvm.config, None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, expected) in [
            ("node = \"N 1\"\ncontrollers = [\"a:1\"]\n", "field node"),
            ("node = \"n1\"\ncontrollers = []\n", "field controllers"),
            ("node = \"n1\"\ncontrollers = [\"a:1\"]\nsocket = \"x.sock\"\n", "field socket"),
            ("node = \"n1\"\n", "missing field `controllers`"),
            ("node = \"n1\"\ncontrollers = [\"a:1\"]\n[lvm]\nconf = \"\"\n", "unknown field `conf`"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }

    #[test]
    fn hostile_configurations() {
        let whole = "node = \"n1\"\ncontrollers = [\"10.77.0.1:6470\"]\nsocket = \"/run/x.sock\"\n\
                     health_listen = \"0.0.0.0:6472\"\n[lvm]\nconfig = \"devices{}\"\n[drbd]\n";
        check(&texts(&[whole], &["node", "controllers", "[lvm]", "= "]), |text| match read(&text) {
            Ok(read) => assert!(!read.controllers.is_empty() && read.socket.is_absolute()),
            Err(error) => assert!(error.to_string().contains("/etc/hawser/satellite.toml, "), "{error}"),
        });
    }
}
