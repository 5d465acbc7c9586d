//! What a lab is made of: chosen by whoever starts it, kept beside it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::LabError;

/// The most nodes of one lab; they share the machine's memory and processors.
pub const MOST_NODES: u8 = 32;

/// A lab's options.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabOptions {
    /// Its name: two labs on one machine have different ones.
    pub name: String,
    /// How many nodes it has; they are called n1, n2, …
    pub nodes: u8,
    /// Memory of each node, in MiB.
    pub memory_mib: u32,
    /// Size of each node's data disk, in MiB; the file is sparse.
    pub data_mib: u64,
    /// Size of each node's state disk, in MiB; the file is sparse.
    pub state_mib: u64,
    /// A directory with drbd.ko and drbd_transport_tcp.ko to use in place of the kernel's own.
    pub drbd_modules: Option<PathBuf>,
    /// A directory whose files lie over the nodes' root, such as other DRBD tools in `usr/sbin`.
    pub drbd_utils: Option<PathBuf>,
    /// The directory with Hawser's programs.
    pub programs: PathBuf,
}

impl LabOptions {
    /// The defaults, with the programs beside this one.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            nodes: 3,
            memory_mib: 512,
            data_mib: 8192,
            state_mib: 2048,
            drbd_modules: None,
            drbd_utils: None,
            programs: programs(),
        }
    }

    /// Checks what a person may have typed.
    ///
    /// # Errors
    /// [`LabError::Invalid`] naming the option.
    pub fn check(&self) -> Result<(), LabError> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.name.is_empty() || self.name.len() > 32 || !self.name.chars().all(plain) {
            let reason = format!("{:?} is not 1 to 32 lower-case letters, digits and hyphens", self.name);
            return Err(LabError::Invalid { field: "--name", reason });
        }
        if self.nodes == 0 || self.nodes > MOST_NODES {
            let reason = format!("{} is not between 1 and {MOST_NODES}", self.nodes);
            return Err(LabError::Invalid { field: "--nodes", reason });
        }
        if self.memory_mib < 192 {
            let reason = format!("{} MiB is too little to boot; give at least 192", self.memory_mib);
            return Err(LabError::Invalid { field: "--memory", reason });
        }
        for (field, size, least) in [("--data-disk", self.data_mib, 64), ("--state-disk", self.state_mib, 64)]
        {
            if size < least || size > 1 << 24 {
                let reason = format!("{size} MiB is not between {least} MiB and 16 TiB");
                return Err(LabError::Invalid { field, reason });
            }
        }
        let modules = self.drbd_modules.iter().map(|path| ("--drbd-modules", path.join("drbd.ko")));
        let tools = self.drbd_utils.iter().map(|path| ("--drbd-utils", path.join("usr/sbin/drbdadm")));
        for (field, file) in modules.chain(tools) {
            if !file.is_file() {
                return Err(LabError::Invalid { field, reason: format!("{} is not there", file.display()) });
            }
        }
        Ok(())
    }

    /// Names and numbers of the nodes.
    pub fn node_names(&self) -> Vec<(String, u8)> {
        (1..=self.nodes).map(|number| (format!("n{number}"), number)).collect()
    }
}

/// Where this build's programs lie: beside the running one, which may be a test in `deps`.
pub fn programs() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    let directory = program.parent().unwrap_or(std::path::Path::new("/"));
    let above = directory.ends_with("deps").then(|| directory.parent()).flatten();
    above.unwrap_or(directory).to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn bad_options_are_refused_by_name() {
        type Spoil = fn(&mut LabOptions);
        let cases: [(&str, Spoil); 7] = [
            ("--name", |options| options.name = "../x".into()),
            ("--name", |options| options.name = String::new()),
            ("--nodes", |options| options.nodes = 0),
            ("--nodes", |options| options.nodes = 33),
            ("--memory", |options| options.memory_mib = 16),
            ("--data-disk", |options| options.data_mib = 0),
            ("--drbd-modules", |options| options.drbd_modules = Some("/nowhere".into())),
        ];
        assert!(LabOptions::new("lab").check().is_ok());
        for (field, spoil) in cases {
            let mut options = LabOptions::new("lab");
            spoil(&mut options);
            let error = options.check().unwrap_err().to_string();
            assert!(error.starts_with(field), "{error}");
        }
    }
}
