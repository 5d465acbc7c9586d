//! Three controllers of one cluster as processes of this machine, their stores on a real disk.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use hawser_process::tls::Identity;
use tempfile::TempDir;

const NAMES: [&str; 3] = ["c1", "c2", "c3"];

/// Three controllers of one cluster, ended when dropped.
pub(super) struct Controllers {
    directory: TempDir,
    processes: Vec<Child>,
    pub(super) addresses: Vec<String>,
}

impl Controllers {
    pub(super) fn start() -> Result<Self> {
        // Beside the programs, for /tmp may be memory, where nothing is ever synced.
        let programs = hawser_lab::options::programs();
        let directory = tempfile::Builder::new().prefix("bench-").tempdir_in(&programs)?;
        let ports = free_ports(6)?;
        let addresses: Vec<String> = ports[..3].iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let mut controllers = Self { directory, processes: Vec::new(), addresses };
        let keys = controllers.path("keys");
        let first = format!("c1={}", controllers.addresses[0]);
        controllers.hawser(&[
            "cluster",
            "init",
            "bench",
            "--controller",
            &first,
            "--directory",
            text(&keys)?,
        ])?;
        for (number, name) in NAMES.iter().enumerate() {
            let data = controllers.path(name);
            std::fs::create_dir_all(&data)?;
            let order = data.join("create-store.json");
            if number == 0 {
                std::fs::copy(keys.join("controllers/c1/create-store.json"), &order)?;
            } else {
                controllers.hawser(&[
                    "cluster",
                    "certificate",
                    "controller",
                    name,
                    "--directory",
                    text(&keys)?,
                ])?;
                let address = controllers.addresses[number].clone();
                controllers.hawser(&["cluster", "add-member", name, &address, "--out", text(&order)?])?;
            }
            let configuration = controllers.path(&format!("{name}.toml"));
            std::fs::write(
                &configuration,
                format!(
                    "name = \"{name}\"\nlisten = \"{0}\"\nadvertise = \"{0}\"\nhealth_listen = \"127.0.0.1:{1}\"\n\
                     data_directory = \"{2}\"\ntls_directory = \"{3}\"\n",
                    controllers.addresses[number],
                    ports[3 + number],
                    data.display(),
                    keys.join("controllers").join(name).join("tls").display(),
                ),
            )?;
            let process = controllers.spawn(number)?;
            controllers.processes.push(process);
        }
        Ok(controllers)
    }

    fn spawn(&self, number: usize) -> Result<Child> {
        let name = NAMES[number];
        let log =
            std::fs::File::options().create(true).append(true).open(self.path(&format!("{name}.log")))?;
        Command::new(hawser_lab::options::programs().join("hawser-controller"))
            .arg("--config")
            .arg(self.path(&format!("{name}.toml")))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start hawser-controller")
    }

    /// Name of a controller.
    pub(super) fn name(&self, number: usize) -> &'static str {
        NAMES[number]
    }

    /// Kills a controller as a power cut of its machine would, but for its disk.
    pub(super) fn kill(&mut self, number: usize) -> Result<()> {
        let process = &mut self.processes[number];
        process.kill().and_then(|()| process.wait()).context("cannot kill a controller")?;
        Ok(())
    }

    /// Starts one again that was killed.
    pub(super) fn start_again(&mut self, number: usize) -> Result<()> {
        self.processes[number] = self.spawn(number)?;
        Ok(())
    }

    /// Resident memory of the largest of them, in MiB.
    pub(super) fn largest_resident_mib(&self) -> Result<f64> {
        let mut largest = 0.0_f64;
        for process in &self.processes {
            let status = std::fs::read_to_string(format!("/proc/{}/status", process.id()))?;
            largest = largest.max(super::memory::resident_mib(&status)?);
        }
        Ok(largest)
    }

    /// The identity of the cluster's administrator.
    pub(super) fn administrator(&self) -> Result<Identity> {
        Ok(Identity::load(&self.path("keys/administrator"))?)
    }

    /// Signs and loads the identity of a node's satellite.
    pub(super) fn satellite(&self, node: &str) -> Result<Identity> {
        let (keys, place) = (self.path("keys"), self.path("satellites").join(node));
        let words = [
            "cluster",
            "certificate",
            "satellite",
            node,
            "--directory",
            text(&keys)?,
            "--out",
            text(&place)?,
        ];
        self.hawser(&words)?;
        Ok(Identity::load(&place)?)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn hawser(&self, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new(hawser_lab::options::programs().join("hawser"));
        command.env("HAWSER_CONFIG", self.path("keys/client.toml")).args(arguments).stdin(Stdio::null());
        let ended = command.output()?;
        let words = String::from_utf8_lossy(&ended.stderr);
        ensure!(ended.status.success(), "hawser {} failed: {words}", arguments.join(" "));
        Ok(())
    }
}

impl Drop for Controllers {
    fn drop(&mut self) {
        for process in &mut self.processes {
            if let Err(error) = process.kill().and_then(|()| process.wait()) {
                eprintln!("a controller could not be ended: {error}");
            }
        }
    }
}

/// Ports that were free a moment ago. All are held until the last is known, so that they differ.
fn free_ports(count: usize) -> Result<Vec<u16>> {
    let listeners = (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<Vec<_>, _>>()?;
    Ok(listeners.iter().map(|listener| listener.local_addr().map(|a| a.port())).collect::<Result<_, _>>()?)
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}
