//! The host's conformance suite on real kernels. Run it on two nodes at the same time, with a folder that
//! both see; it ends with the line `N passed, N failed`.
//!
//! It makes and removes a volume and a DRBD resource named `suite.7`, and cuts the two nodes off from each
//! other for a while. For test nodes only.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

#[path = "../tests/host_suite/bench.rs"]
mod bench;
#[path = "../tests/host_suite/cases.rs"]
#[allow(dead_code)] // Some moves only the simulated run makes: it can cut the power.
mod cases;

use std::{
    fs,
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use clap::{Args, Parser, Subcommand};
use hawser_plan::step::{DrbdPeer, Provider};
use hawser_satellite::host::{Host, SystemHost, system::Settings};

use crate::bench::{Arbiter, Bench, Side, Writer};

/// Tests the host layer of two nodes against each other.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Runs this node's side of the suite.
    Run(Run),
    /// Is the fence-peer handler: answers what the suite left in the file.
    Helper { answer: PathBuf },
    /// Is a consumer: writes a record to a gate, says so, and holds the gate.
    Write { gate: PathBuf, record: u64 },
}

#[derive(Parser, Clone)]
struct Run {
    /// "a" or "b".
    #[arg(long)]
    side: String,
    /// Folder that both nodes see.
    #[arg(long)]
    shared: PathBuf,
    /// `uname -n` and address of side A, by `=`.
    #[arg(long)]
    a: String,
    /// The same of side B.
    #[arg(long)]
    b: String,
    /// Network interface that leads to the other node.
    #[arg(long)]
    interface: String,
    #[command(flatten)]
    pool: Pool,
    /// Passed to LVM's commands as `--config`.
    #[arg(long)]
    lvm_config: Option<String>,
}

/// What the suite's volumes are cut from.
#[derive(Args, Clone)]
#[group(required = true, multiple = false)]
struct Pool {
    /// Volume group and thin pool.
    #[arg(long)]
    lvm_thin: Option<String>,
    /// Volume group.
    #[arg(long)]
    lvm: Option<String>,
    /// Directory. It is made if it is not there.
    #[arg(long)]
    directory: Option<String>,
}

impl Pool {
    fn provider(&self) -> Provider {
        if let Some((group, pool)) = self.lvm_thin.as_deref().and_then(|pool| pool.split_once('/')) {
            return Provider::LvmThin { volume_group: group.to_owned(), thin_pool: pool.to_owned() };
        }
        match (&self.lvm, &self.directory) {
            (Some(volume_group), _) => Provider::Lvm { volume_group: volume_group.clone() },
            (_, Some(path)) => Provider::Directory { path: path.clone() },
            _ => panic!("a thin pool is a volume group and a volume, with a slash between"),
        }
    }
}

fn main() -> ExitCode {
    match Arguments::parse().role {
        Role::Helper { answer } => helper(&answer),
        Role::Write { gate, record } => write_record(&gate, record),
        Role::Run(run) => {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(run_side(run))
        }
    }
}

async fn run_side(run: Run) -> ExitCode {
    let own = std::env::current_exe().unwrap();
    let answer = PathBuf::from("/run/hawser-host-suite.answer");
    let _ = fs::remove_file(&answer);
    let host = SystemHost::start(Settings {
        lvm_config: run.lvm_config.clone(),
        configuration_directory: PathBuf::from("/run/hawser-host-suite.d"),
        fence_peer_handler: format!("{} helper {}", own.display(), answer.display()),
    })
    .await
    .unwrap();
    if let Some(directory) = &run.pool.directory {
        fs::create_dir_all(directory).unwrap();
    }
    let bench = RealBench { host, run, own, answer, meetings: AtomicU32::new(0) };
    let (mut passed, mut failed) = (0, 0);
    let started = std::time::Instant::now();
    cases::run(&bench, &mut |name, outcome| {
        match outcome {
            Ok(()) => passed += 1,
            Err(_) => failed += 1,
        }
        match outcome {
            Ok(()) => println!("ok     {name} ({:.1} s)", started.elapsed().as_secs_f32()),
            Err(why) => {
                println!("FAILED {name} ({:.1} s): {why}", started.elapsed().as_secs_f32());
                fs::write(bench.run.shared.join(format!("failed.{}", bench.run.side)), name).unwrap();
            }
        }
    })
    .await;
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn helper(answer: &Path) -> ExitCode {
    loop {
        if let Ok(text) = fs::read_to_string(answer)
            && let Ok(code) = text.trim().parse::<u8>()
        {
            return ExitCode::from(code);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// One aligned block, for direct I/O.
#[repr(align(4096))]
struct Block([u8; 4096]);

fn write_record(gate: &Path, record: u64) -> ExitCode {
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).custom_flags(nix::libc::O_DIRECT | nix::libc::O_DSYNC);
    let mut device = options.open(gate).unwrap();
    let mut block = Block([0; 4096]);
    block.0[..8].copy_from_slice(&record.to_le_bytes());
    if device.write_all(&block.0).is_err() {
        return ExitCode::FAILURE;
    }
    println!("acknowledged");
    std::thread::sleep(Duration::from_secs(3600));
    ExitCode::SUCCESS
}

struct RealBench {
    host: SystemHost,
    run: Run,
    own: PathBuf,
    answer: PathBuf,
    meetings: AtomicU32,
}

impl RealBench {
    fn lvm(&self, program: &str, arguments: &[&str]) {
        let mut command = Command::new(program);
        if let Some(config) = &self.run.lvm_config {
            command.arg("--config").arg(config);
        }
        let status = command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert!(status.success(), "{program} {arguments:?}");
    }
}

#[async_trait]
impl Bench for RealBench {
    fn host(&self) -> &dyn Host {
        &self.host
    }

    fn side(&self) -> Side {
        if self.run.side == "a" { Side::A } else { Side::B }
    }

    fn provider(&self) -> Provider {
        self.run.pool.provider()
    }

    async fn unfinish(&self, name: &str) -> bool {
        match self.provider() {
            Provider::Lvm { volume_group } => {
                let device = format!("/dev/{volume_group}/{name}");
                let mut old = fs::OpenOptions::new().write(true).open(&device).unwrap();
                old.write_all(b"an old file system").and_then(|()| old.sync_all()).unwrap();
                self.lvm("lvchange", &["--addtag", "hawser-unwiped", &format!("{volume_group}/{name}")]);
                // The host remembers its own volume; it hears of changes by others when it looks at the pool.
                self.host.pool(&self.provider()).await.unwrap();
                true
            }
            Provider::Directory { path } => {
                let device = fs::read_link(format!("/dev/hawser{path}/{name}")).unwrap();
                let status = Command::new("losetup").arg("--detach").arg(device).status().unwrap();
                assert!(status.success());
                true
            }
            Provider::LvmThin { .. } | Provider::Zfs { .. } => false,
        }
    }

    fn peers(&self, port: u16) -> Vec<DrbdPeer> {
        let peer = |(node_id, (node, text)): (u32, (&str, &String))| {
            let (uname, ip) = text.split_once('=').unwrap();
            DrbdPeer {
                node: node.to_owned(),
                uname: uname.to_owned(),
                node_id,
                ip: ip.parse().unwrap(),
                port,
                diskful: true,
            }
        };
        [("alpha", &self.run.a), ("bravo", &self.run.b)]
            .into_iter()
            .enumerate()
            .map(|(id, both)| peer((id as u32, both)))
            .collect()
    }

    async fn meet(&self) -> Result<(), String> {
        let number = self.meetings.fetch_add(1, Ordering::SeqCst);
        let (own, other) = if self.run.side == "a" { ("a", "b") } else { ("b", "a") };
        let file = |side: &str| self.run.shared.join(format!("meeting.{number}.{side}"));
        fs::write(file(own), "").unwrap();
        loop {
            if file(other).exists() {
                return Ok(());
            }
            if self.run.shared.join(format!("failed.{other}")).exists() {
                return Err("the other side has failed".to_owned());
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    async fn link(&self, up: bool) {
        // An interface that was down does not come up again on every test node; a wrong hardware address for
        // the peer cuts as well.
        let (_, peer) =
            if self.side() == Side::A { &self.run.b } else { &self.run.a }.split_once('=').unwrap();
        let mut command = Command::new("ip");
        if up {
            command.args(["neigh", "del", peer, "dev", &self.run.interface]);
        } else {
            command.args(["neigh", "replace", peer, "lladdr", "02:00:00:00:de:ad", "nud", "permanent"]);
            command.args(["dev", &self.run.interface]);
        }
        assert!(command.status().unwrap().success(), "{command:?}");
    }

    async fn arbiter(&self, answer: Arbiter) {
        match answer {
            Arbiter::Silent => drop(fs::remove_file(&self.answer)),
            Arbiter::Yes => fs::write(&self.answer, "4").unwrap(),
            Arbiter::No => fs::write(&self.answer, "1").unwrap(),
        }
    }

    async fn make_foreign_volume(&self, name: &str) {
        match self.provider() {
            Provider::LvmThin { volume_group, thin_pool } => {
                let pool = format!("{volume_group}/{thin_pool}");
                self.lvm("lvcreate", &["-y", "--type", "thin", "-V", "8M", "--thinpool", &pool, "-n", name]);
            }
            Provider::Lvm { volume_group } => {
                self.lvm("lvcreate", &["-y", "-Wn", "-Zn", "-L", "8M", "-n", name, &volume_group]);
            }
            Provider::Directory { path } => fs::write(Path::new(&path).join(name), "not Hawser's").unwrap(),
            Provider::Zfs { .. } => unreachable!("no option names one"),
        }
    }

    async fn remove_foreign_volume(&self, name: &str) {
        match self.provider() {
            Provider::Directory { path } => fs::remove_file(Path::new(&path).join(name)).unwrap(),
            provider => self.lvm("lvremove", &["-y", &format!("{}/{name}", provider.contention_domain())]),
        }
    }

    async fn write(&self, gate: &str, record: u64) -> Box<dyn Writer> {
        let mut command = tokio::process::Command::new(&self.own);
        command.arg("write").arg(format!("/dev/mapper/{gate}")).arg(record.to_string());
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let output = child.stdout.take().unwrap();
        Box::new(RealWriter { child, output: Some(output) })
    }

    async fn begins_with_zeros(&self, name: &str) -> bool {
        let device = match self.provider() {
            Provider::Directory { path } => format!("/dev/hawser{path}/{name}"),
            provider => format!("/dev/{}/{name}", provider.contention_domain()),
        };
        let mut block = [1; 512];
        fs::File::open(device).unwrap().read_exact(&mut block).unwrap();
        block.iter().all(|byte| *byte == 0)
    }

    async fn takes_discards(&self, gate: &str) -> bool {
        let mut command = Command::new("blkdiscard");
        command.args(["--length", "4096"]).arg(format!("/dev/mapper/{gate}")).stderr(Stdio::null());
        command.status().unwrap().success()
    }

    async fn read(&self, gate: &str) -> u64 {
        let mut record = [0; 8];
        fs::File::open(format!("/dev/mapper/{gate}")).unwrap().read_exact(&mut record).unwrap();
        u64::from_le_bytes(record)
    }
}

struct RealWriter {
    child: tokio::process::Child,
    output: Option<tokio::process::ChildStdout>,
}

#[async_trait]
impl Writer for RealWriter {
    async fn acknowledged(&mut self) -> bool {
        use tokio::io::AsyncReadExt;
        let Some(output) = &mut self.output else { return true };
        let mut word = [0; 12];
        let read = tokio::time::timeout(Duration::from_secs(5), output.read(&mut word)).await;
        matches!(read, Ok(Ok(count)) if count > 0)
    }

    async fn kill(&mut self) {
        let _ = self.child.start_kill();
    }
}
