//! The controller's configuration file, checked before anything is opened.
//!
//! It must never reach for a file, a port or the network: it says what was asked for.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use hawser_process::configuration::{self, ConfigurationError};
use hawser_proto::names;
use serde::Deserialize;

/// Where the file is looked for when none is named.
pub const DEFAULT_PATH: &str = "/etc/hawser/controller.toml";

/// Everything that a controller has to be told.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Its name, as its certificate and the members' list have it.
    pub name: String,
    /// Address and port of the gRPC endpoint.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// `host:port` under which the others reach it; an IPv6 host in brackets.
    pub advertise: String,
    /// Address and port of health and metrics: plain HTTP, read-only.
    #[serde(default = "default_health_listen")]
    pub health_listen: SocketAddr,
    /// Where the store lies.
    #[serde(default = "default_data_directory")]
    pub data_directory: PathBuf,
    /// Where `ca.crt`, `tls.crt` and `tls.key` lie.
    #[serde(default = "default_tls_directory")]
    pub tls_directory: PathBuf,
    /// Time-outs of Raft.
    #[serde(default)]
    pub raft: RaftConfig,
}

/// Time-outs of Raft, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RaftConfig {
    /// Between two signs of life of the leader.
    pub heartbeat_ms: u64,
    /// The shortest time after which a member stands for election.
    pub election_min_ms: u64,
    /// The longest.
    pub election_max_ms: u64,
}

impl Default for RaftConfig {
    fn default() -> Self {
        Self { heartbeat_ms: 100, election_min_ms: 300, election_max_ms: 600 }
    }
}

impl RaftConfig {
    /// Longest time without a word of a leader that is nothing unusual: its lease and an election.
    #[must_use]
    pub fn patience(&self) -> Duration {
        Duration::from_millis(self.election_max_ms.saturating_mul(4))
    }
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 6470))
}

fn default_health_listen() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 6471))
}

fn default_data_directory() -> PathBuf {
    PathBuf::from("/var/lib/hawser/controller")
}

fn default_tls_directory() -> PathBuf {
    PathBuf::from("/etc/hawser/tls/controller")
}

impl Config {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// Names the file, and the line or the field that is wrong.
    pub fn load(path: &Path) -> Result<Self, ConfigurationError> {
        configuration::load::<Self>(path)?.checked(path)
    }

    fn checked(self, path: &Path) -> Result<Self, ConfigurationError> {
        let wrong = |field: &str, message: String| ConfigurationError::Field {
            path: path.to_owned(),
            field: field.to_owned(),
            message,
        };
        names::member_name("name", &self.name)
            .and_then(|()| names::endpoint("advertise", &self.advertise))
            .map_err(|invalid| wrong(&invalid.field, invalid.message))?;
        if self.listen == self.health_listen {
            return Err(wrong("health_listen", format!("{} is taken by `listen`", self.health_listen)));
        }
        let raft = self.raft;
        if raft.heartbeat_ms < 10 {
            return Err(wrong("raft.heartbeat_ms", "must be at least 10".into()));
        }
        if raft.election_min_ms < raft.heartbeat_ms.saturating_mul(2) {
            return Err(wrong(
                "raft.election_min_ms",
                format!("must be at least twice raft.heartbeat_ms ({})", raft.heartbeat_ms),
            ));
        }
        if raft.election_max_ms <= raft.election_min_ms {
            return Err(wrong(
                "raft.election_max_ms",
                format!("must be above raft.election_min_ms ({})", raft.election_min_ms),
            ));
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use hawser_hostile::{check, texts};

    use super::*;

    const SMALLEST: &str = "name = \"n1\"\nadvertise = \"10.77.0.1:6470\"\n";

    fn parse(text: &str) -> Result<Config, ConfigurationError> {
        let path = Path::new("controller.toml");
        configuration::parse::<Config>(path, text)?.checked(path)
    }

    #[test]
    fn the_smallest_file_gets_the_defaults() {
        let config = parse(SMALLEST).unwrap();
        assert_eq!(config.listen, "0.0.0.0:6470".parse().unwrap());
        assert_eq!(config.health_listen.port(), 6471);
        assert_eq!(config.raft, RaftConfig::default());
        assert_eq!(config.data_directory, Path::new("/var/lib/hawser/controller"));
    }

    #[test]
    fn an_error_names_the_field() {
        let table = [
            ("advertise = \"a:1\"", "name"),
            ("name = \"N 1\"\nadvertise = \"a:1\"", "name"),
            ("name = \"n1\"", "advertise"),
            ("name = \"n1\"\nadvertise = \"10.77.0.1\"", "advertise"),
            ("name = \"n1\"\nadvertise = \"fd00::1:6470\"", "advertise"),
            ("name = \"n1\"\nadvertise = \"a:0\"", "advertise"),
            ("name = \"n1\"\nadvertise = \"a:1\"\nlisten = \"everywhere\"", "listen"),
            ("name = \"n1\"\nadvertise = \"a:1\"\nlistne = \"0.0.0.0:1\"", "listne"),
            (
                "name = \"n1\"\nadvertise = \"a:1\"\nlisten = \"0.0.0.0:1\"\nhealth_listen = \"0.0.0.0:1\"",
                "health_listen",
            ),
            ("name = \"n1\"\nadvertise = \"a:1\"\n[raft]\nelection_min_ms = 150", "raft.election_min_ms"),
            ("name = \"n1\"\nadvertise = \"a:1\"\n[raft]\nelection_max_ms = 300", "raft.election_max_ms"),
            ("name = \"n1\"\nadvertise = \"a:1\"\n[raft]\nheartbeat_ms = 0", "raft.heartbeat_ms"),
            (
                "name = \"n1\"\nadvertise = \"a:1\"\n[raft]\nheartbeat_ms = 9223372036854775807",
                "raft.election_min_ms",
            ),
        ];
        for (text, field) in table {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(field), "{text:?}: {error}");
            assert!(error.contains("controller.toml"), "{error}");
        }
    }

    #[test]
    fn an_ipv6_host_stands_in_brackets() {
        assert!(parse("name = \"n1\"\nadvertise = \"[fd00::1]:6470\"").is_ok());
    }

    #[test]
    fn hostile_configurations() {
        let whole = format!(
            "{SMALLEST}listen = \"0.0.0.0:6470\"\n[raft]\nheartbeat_ms = 100\nelection_min_ms = 300\n"
        );
        check(&texts(&[&whole, SMALLEST], &["raft", "listen", "18446744073709551615", "[[", "= "]), |text| {
            match parse(&text) {
                Ok(config) => {
                    assert!(config.listen != config.health_listen);
                    assert!(config.raft.patience() > Duration::from_millis(config.raft.heartbeat_ms));
                }
                Err(error) => assert!(error.to_string().contains("controller.toml, "), "{error}"),
            }
        });
    }
}
