//! Where a lab keeps its files. Everything of one lab lies below one directory, so that removing it leaves nothing.

use std::path::{Path, PathBuf};

/// The variable that says where labs and packages lie when no directory is given.
pub const HOME_VARIABLE: &str = "HAWSER_LAB_HOME";

/// Where labs and unpacked packages lie: `HAWSER_LAB_HOME`, else `lab` in the build's target directory, else
/// beside the program.
pub fn home() -> PathBuf {
    if let Some(home) = std::env::var_os(HOME_VARIABLE) {
        return PathBuf::from(home);
    }
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("target/hawser-lab"));
    let profile = program.ancestors().find(|path| path.ends_with("debug") || path.ends_with("release"));
    let beside = profile.and_then(Path::parent).or_else(|| program.parent());
    beside.unwrap_or(Path::new("target")).join("lab")
}

/// Where `hawser-lab setup` unpacks packages for an ordinary user.
pub fn packages() -> PathBuf {
    home().join("packages")
}

/// The files of one lab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabDirectory(PathBuf);

impl LabDirectory {
    /// The directory of the lab with this name.
    pub fn named(name: &str) -> Self {
        Self(home().join("labs").join(name))
    }

    /// A directory given by a person; it must be absolute, because nodes see the same path.
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Marks the directory as a lab's, and holds its options.
    pub fn mark(&self) -> PathBuf {
        self.0.join("lab.json")
    }

    /// Locked as long as the lab runs.
    pub fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }

    /// What exists only while the lab runs.
    pub fn runtime(&self) -> PathBuf {
        self.0.join("run")
    }

    /// The name of the control socket inside [`Self::runtime`].
    pub const CONTROL: &'static str = "control";

    /// The log of the lab's own process.
    pub fn log(&self) -> PathBuf {
        self.0.join("lab.log")
    }

    /// The directory that nodes see as `/host`.
    pub fn share(&self) -> PathBuf {
        self.0.join("share")
    }

    /// Where a node's services write their logs.
    pub fn service_logs(&self, node: &str) -> PathBuf {
        self.share().join("logs").join(node)
    }

    /// A node's disks, console and configuration.
    pub fn node(&self, node: &str) -> PathBuf {
        self.0.join("nodes").join(node)
    }

    /// Names of the nodes that have files here, in order.
    ///
    /// # Errors
    /// There is no lab here.
    pub fn nodes(&self) -> std::io::Result<Vec<String>> {
        let entries = std::fs::read_dir(self.0.join("nodes"))?;
        let mut names: Vec<_> = entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<std::io::Result<_>>()?;
        names.sort();
        Ok(names)
    }

    /// A node's console.
    pub fn console(&self, node: &str) -> PathBuf {
        self.node(node).join("console.log")
    }

    /// What `hawser cluster init` made for the lab's cluster.
    pub fn cluster(&self) -> PathBuf {
        self.0.join("cluster")
    }

    /// The configuration for `hawser` on the host; it is there when the lab has a cluster.
    pub fn client_configuration(&self) -> PathBuf {
        self.0.join("client/client.toml")
    }

    /// Removes what a lab made. The directory itself goes when nothing else is in it.
    ///
    /// # Errors
    /// The system's error for the first thing that cannot be removed.
    pub fn remove(&self) -> std::io::Result<()> {
        for directory in
            [self.runtime(), self.share(), self.0.join("nodes"), self.0.join("client"), self.cluster()]
        {
            if directory.exists() {
                std::fs::remove_dir_all(directory)?;
            }
        }
        for file in [self.log(), self.mark(), self.lock()] {
            if file.exists() {
                std::fs::remove_file(file)?;
            }
        }
        // It may be the caller's own and hold other things.
        let _ = std::fs::remove_dir(&self.0);
        Ok(())
    }
}
