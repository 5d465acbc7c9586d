//! Commands through Raft with fsync: three controller processes on this machine, their stores on a real disk,
//! 16 clients over gRPC with mutual TLS.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hawser_client::{Client, request_key};
use hawser_process::tls::Identity;
use hawser_proto::v1;
use tempfile::TempDir;

use super::Figures;

const CLIENTS: u32 = 16;
const MEASURED: Duration = Duration::from_secs(10);
const NAMES: [&str; 3] = ["c1", "c2", "c3"];

pub(super) fn measure(figures: &mut Figures) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let controllers = Controllers::start()?;
    let per_second = runtime.block_on(load(&controllers))?;
    figures.add("commands_per_s", per_second, ">= 2000");
    Ok(())
}

/// Three controllers of one cluster, ended when dropped.
struct Controllers {
    directory: TempDir,
    processes: Vec<Child>,
    addresses: Vec<String>,
}

impl Controllers {
    fn start() -> Result<Self> {
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
            let log = std::fs::File::create(controllers.path(&format!("{name}.log")))?;
            let process = Command::new(programs.join("hawser-controller"))
                .arg("--config")
                .arg(&configuration)
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log)
                .spawn()
                .context("cannot start hawser-controller")?;
            controllers.processes.push(process);
        }
        Ok(controllers)
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

/// Commands per second over all clients, after a second of warming up.
async fn load(controllers: &Controllers) -> Result<f64> {
    let identity = Identity::load(&controllers.path("keys/administrator"))?;
    let done = Arc::new(AtomicU64::new(0));
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let client = Client::new(&controllers.addresses, &identity)?;
        let done = done.clone();
        clients.push(tokio::spawn(async move {
            loop {
                create_and_delete(&client, number).await?;
                done.fetch_add(2, Ordering::Relaxed);
            }
            #[allow(unreachable_code)]
            anyhow::Ok(())
        }));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (began, before) = (Instant::now(), done.load(Ordering::Relaxed));
    tokio::time::sleep(MEASURED).await;
    let (took, after) = (began.elapsed(), done.load(Ordering::Relaxed));
    for client in clients {
        ensure!(!client.is_finished(), "a client ended early: {:?}", client.await);
        client.abort();
    }
    Ok((after - before) as f64 / took.as_secs_f64())
}

/// Two committed commands that leave nothing behind.
async fn create_and_delete(client: &Client, number: u32) -> Result<()> {
    let within = Duration::from_secs(30);
    let name = format!("load-{number}");
    let create = v1::CreateResourceGroupRequest {
        request_key: request_key(),
        name: name.clone(),
        replicas: 2,
        ..Default::default()
    };
    client
        .call("create group", within, async |controller| {
            controller.resource_groups().create_resource_group(create.clone()).await
        })
        .await?;
    let delete = v1::DeleteResourceGroupRequest { request_key: request_key(), name };
    client
        .call("delete group", within, async |controller| {
            controller.resource_groups().delete_resource_group(delete.clone()).await
        })
        .await?;
    Ok(())
}

/// Ports that were free a moment ago. All are held until the last is known, so that they differ.
fn free_ports(count: usize) -> Result<Vec<u16>> {
    let listeners = (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<Vec<_>, _>>()?;
    Ok(listeners.iter().map(|listener| listener.local_addr().map(|a| a.port())).collect::<Result<_, _>>()?)
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}
