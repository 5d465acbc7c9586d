//! What a node needs to know to boot: a file beside its disks, whose path its kernel's command line carries.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The variable that names the file; its presence makes process 1 a node's first process.
pub const VARIABLE: &str = "HAWSER_LAB_GUEST";

/// Where the node keeps it once it has its own root: the host's path may be hidden there.
pub const INSIDE: &str = "/run/hawser-lab.json";

/// A node's configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GuestConfiguration {
    /// The node's name.
    pub name: String,
    /// Its number, from which its addresses follow.
    pub number: u8,
    /// Names and numbers of all nodes of the lab, for the hosts file.
    pub nodes: Vec<(String, u8)>,
    /// The host's path of the modules of the node's kernel.
    pub modules: PathBuf,
    /// The host's directories that lie above its root in the node, highest first: unpacked packages, other
    /// DRBD tools.
    pub layers: Vec<PathBuf>,
    /// DRBD modules to load in place of the kernel's own.
    pub drbd_modules: Option<PathBuf>,
    /// The host's directory that the node sees as `/host` and may write to.
    pub share: PathBuf,
    /// The host's directory with Hawser's programs.
    pub programs: PathBuf,
}

impl GuestConfiguration {
    /// Reads the file.
    ///
    /// # Errors
    /// The system's error, or `InvalidData` when it is no such configuration.
    pub fn read(path: &Path) -> std::io::Result<Self> {
        let text = std::fs::read(path)?;
        serde_json::from_slice(&text)
            .map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidData, error))
    }

    /// Writes the file.
    ///
    /// # Errors
    /// The system's error.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        std::fs::write(path, serde_json::to_vec_pretty(self)?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hawser_hostile::{bytes, check};

    use super::*;

    #[test]
    fn hostile_configurations() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("guest.json");
        let whole = GuestConfiguration {
            name: "n1".into(),
            number: 1,
            nodes: vec![("n1".into(), 1), ("n2".into(), 2)],
            modules: "/modules".into(),
            layers: vec!["/layer".into()],
            drbd_modules: None,
            share: "/share".into(),
            programs: "/programs".into(),
        };
        check(&bytes(&[&serde_json::to_vec(&whole).unwrap()], &["nodes", "null", "[]"]), |text| {
            std::fs::write(&path, &text).unwrap();
            if let Err(error) = GuestConfiguration::read(&path) {
                assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
            }
        });
    }
}
