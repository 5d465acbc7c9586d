//! Boots real nodes and does to them what the lab promises. Where no kernel can be had these tests say SKIPPED.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hawser_lab::directories::LabDirectory;
use hawser_lab::kernel::Kernel;
use hawser_lab::machine::memory;
use hawser_lab::wire::agent::{AgentRequest, Execute, Service};
use hawser_lab::wire::control::Power;
use hawser_lab::{Lab, LabOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Longer than anything takes on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(120);

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn lab(&self, name: &str) -> LabDirectory {
        LabDirectory::at(self.directory.path().join(name))
    }
}

/// A place for labs, or none, said loudly, where the machine cannot run one.
fn place(test: &str) -> Option<Place> {
    if let Err(reason) = Kernel::find() {
        eprintln!("SKIPPED {test}: {reason}");
        return None;
    }
    Some(Place { directory: tempfile::tempdir().unwrap() })
}

fn options(name: &str, nodes: u8) -> LabOptions {
    let programs = Path::new(env!("CARGO_BIN_EXE_hawser-lab")).parent().unwrap().to_owned();
    LabOptions { nodes, memory_mib: 256, data_mib: 256, state_mib: 256, programs, ..LabOptions::new(name) }
}

/// Processes whose command line or working directory is below `directory`.
fn processes_of(directory: &Path) -> Vec<PathBuf> {
    let inside = |process: &Path| {
        let line = std::fs::read(process.join("cmdline")).unwrap_or_default();
        let here = std::fs::read_link(process.join("cwd")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&*directory.to_string_lossy()) || here.starts_with(directory)
    };
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok).map(|entry| entry.path());
    entries.filter(|path| path.join("cmdline").exists() && inside(path)).collect()
}

/// Ids of this user's keepers that have their node's memory in `/dev/shm`.
fn keepers_with_memory() -> Vec<String> {
    let own = format!("hawser-lab-{}-", nix::unistd::getuid());
    let names = std::fs::read_dir("/dev/shm").unwrap().filter_map(Result::ok);
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter_map(|name| name.strip_prefix(&own).map(str::to_owned)).collect()
}

/// Those of [`keepers_with_memory`] whose node belongs to the lab in `directory`.
fn keepers_of(directory: &Path) -> Vec<String> {
    let processes = processes_of(directory);
    let mut keepers = keepers_with_memory();
    keepers.retain(|keeper| processes.iter().any(|process| process.ends_with(keeper)));
    keepers
}

/// The lab's control socket takes requests.
fn answers(lab: &LabDirectory) -> bool {
    // Opened first, because a socket's own path may have 107 characters only.
    let Ok(runtime) = std::fs::File::open(lab.runtime()) else { return false };
    let path = format!("/proc/self/fd/{}/{}", runtime.as_raw_fd(), LabDirectory::CONTROL);
    std::os::unix::net::UnixStream::connect(path).is_ok()
}

async fn text(lab: &Lab, node: &str, command: &str) -> String {
    let finished = lab.exec(node, &["sh", "-c", command]).await.unwrap();
    assert_eq!(finished.code, 0, "{command}: {}", String::from_utf8_lossy(&finished.error_output));
    finished.text().trim().to_owned()
}

async fn reaches(lab: &Lab, node: &str, peer: &str) -> bool {
    lab.exec(node, &["busybox", "ping", "-c", "1", "-W", "1", peer]).await.unwrap().code == 0
}

/// How long a node's ping takes to come back, as the node sees it.
async fn round_trip(lab: &Lab, node: &str, peer: &str) -> Duration {
    // The first one may have to find the peer's hardware address.
    let said = text(lab, node, &format!("busybox ping -c 2 -W 30 {peer}")).await;
    let times = said.lines().filter_map(|line| line.split_once("time=")?.1.split_once(' ')?.0.parse().ok());
    Duration::from_secs_f64(times.reduce(f64::min).unwrap() / 1000.0)
}

#[tokio::test]
async fn commands_run_in_a_node_with_input_output_code_and_storage_tools() {
    let Some(place) = place("commands") else { return };
    let lab = Lab::up(&options("commands", 1), place.lab("commands"), true).await.unwrap();

    let command = ["sh", "-c", "cat; echo $DM_DISABLE_UDEV; hostname; echo wrong >&2; exit 7"];
    let request = Execute { arguments: command.map(str::to_owned).to_vec(), ..Execute::default() };
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let code = lab.stream("n1", request, &b"typed\n"[..], &mut output, &mut errors).await.unwrap();
    assert_eq!((code, &output[..], &errors[..]), (7, &b"typed\n1\nn1\n"[..], &b"wrong\n"[..]));

    let typed = Execute {
        arguments: ["sh", "-c", "tty; read word; echo \"$TERM $word\""].map(str::to_owned).to_vec(),
        terminal: Some("xterm".into()),
        ..Execute::default()
    };
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let code = lab.stream("n1", typed, &b"typed\n"[..], &mut output, &mut errors).await.unwrap();
    let shown = String::from_utf8_lossy(&output);
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("/dev/pts/") && shown.contains("xterm typed"), "it has a terminal: {shown}");
    let left = lab.exec("n1", &["sh", "-c", "sleep 100 & echo started"]).await.unwrap();
    assert_eq!(
        (left.code, &left.output[..]),
        (0, &b"started\n"[..]),
        "what it leaves running is not waited for"
    );

    let killed = lab.exec("n1", &["sh", "-c", "kill -9 $$"]).await.unwrap();
    assert_eq!(killed.code, 137);
    let missing = lab.exec("n1", &["no-such-program"]).await.unwrap_err().to_string();
    assert!(missing.contains("cannot run no-such-program on node n1"), "{missing}");
    let unknown = lab.exec("n2", &["true"]).await.unwrap_err().to_string();
    assert!(unknown.contains("has no node n2; it has: n1"), "{unknown}");
    let long = text(&lab, "n1", "head -c 3000000 /dev/zero | tr '\\0' x").await;
    assert_eq!(long.len(), 3_000_000);

    text(&lab, "n1", "vgcreate vg0 /dev/mapper/disk-data && lvcreate -T -l 90%FREE vg0/thin --zero y").await;
    text(&lab, "n1", "lvcreate -V 32M -T vg0/thin -n v0 && test -b /dev/vg0/v0").await;
    assert_eq!(text(&lab, "n1", "lvs --noheadings -o lv_name | sort | tr -d ' \\n'").await, "thinv0");
    assert!(text(&lab, "n1", "cat /proc/drbd").await.contains("version:"));

    let write = "dd if=/dev/zero of=/dev/vg0/v0 bs=4k count=1 oflag=direct conv=notrunc";
    let read = "dd if=/dev/vg0/v0 of=/dev/null bs=4k count=1 iflag=direct";
    // Synced: a pool whose own metadata cannot be written while the disk fails would stay failed afterwards.
    text(&lab, "n1", &format!("{write},fsync")).await;
    lab.fail_disk("n1").await.unwrap();
    for command in [read, write] {
        let failed = lab.exec("n1", &["sh", "-c", command]).await.unwrap();
        let words = String::from_utf8_lossy(&failed.error_output);
        assert!(failed.code != 0 && words.contains("Input/output error"), "{command}: {words}");
    }
    text(&lab, "n1", "echo a | tee /var/lib/hawser/f && sync /var/lib/hawser/f").await;
    lab.mend_disk("n1").await.unwrap();
    text(&lab, "n1", read).await;
    let unknown = lab.fail_disk("n2").await.unwrap_err().to_string();
    assert!(unknown.contains("has no node n2"), "{unknown}");

    let source = place.directory.path().join("note");
    std::fs::write(&source, "for the nodes").unwrap();
    let inside = lab.copy_in(&source, "notes/note").unwrap();
    assert_eq!(text(&lab, "n1", &format!("cat {}", inside.display())).await, "for the nodes");
    text(&lab, "n1", "echo back > /host/answer").await;
    assert_eq!(std::fs::read_to_string(lab.directory().share().join("answer")).unwrap(), "back\n");
    text(&lab, "n1", "echo x > /usr/bin/written-by-a-node").await;
    assert!(
        !Path::new("/usr/bin/written-by-a-node").exists(),
        "the host's files are not the node's to write"
    );
    lab.down(false).await.unwrap();
}

#[tokio::test]
async fn a_power_cut_takes_memory_and_leaves_the_state_disk_and_the_partition() {
    let Some(place) = place("power") else { return };
    let lab = Lab::up(&options("power", 3), place.lab("power"), true).await.unwrap();
    assert!(reaches(&lab, "n1", "n2").await && reaches(&lab, "n2", "n3").await);

    lab.partition("n1", Some("n2")).await.unwrap();
    assert!(!reaches(&lab, "n1", "n2").await && !reaches(&lab, "n2", "n1").await);
    assert!(reaches(&lab, "n1", "n3").await && reaches(&lab, "n2", "n3").await, "only the named link is cut");
    lab.partition("n3", None).await.unwrap();
    assert!(!reaches(&lab, "n3", "n1").await && !reaches(&lab, "n2", "n3").await);
    lab.heal().await.unwrap();
    assert!(reaches(&lab, "n1", "n2").await && reaches(&lab, "n3", "n1").await);
    assert!(lab.status().await.unwrap().cuts.is_empty());

    let delay = Duration::from_millis(300);
    lab.delay("n1", "n2", delay).await.unwrap();
    let slow = lab.status().await.unwrap().delays;
    let [one, two] = ["n1", "n2"].map(str::to_owned);
    assert_eq!(slow, [(one.clone(), two.clone(), 300), (two, one, 300)]);
    assert!(round_trip(&lab, "n1", "n2").await > delay * 3 / 2, "it is slow in both directions");
    assert!(round_trip(&lab, "n1", "n3").await < delay, "only the named link is slow");
    lab.partition("n1", Some("n2")).await.unwrap();
    assert!(!reaches(&lab, "n1", "n2").await, "a slow link can be cut");
    lab.heal().await.unwrap();
    assert!(round_trip(&lab, "n1", "n2").await < delay, "healed, it is as fast as before");
    for (peer, delay, words) in [("n1", delay, "has no link to itself"), ("n2", PATIENCE, "longer than 60 s")]
    {
        let refused = lab.delay("n1", peer, delay).await.unwrap_err().to_string();
        assert!(refused.contains(words), "{refused}");
    }

    text(&lab, "n1", "echo kept > /var/lib/hawser/f; echo kept > /etc/hawser/f; echo lost > /var/f; sync")
        .await;
    let service = |program: &str| Service {
        name: "ticker".into(),
        arguments: ["sh", "-c", program].map(str::to_owned).to_vec(),
        environment: Default::default(),
    };
    lab.set_services("n1", vec![service("echo on >> /var/lib/hawser/starts; exec sleep 1000")])
        .await
        .unwrap();
    lab.partition("n1", Some("n2")).await.unwrap();
    let running = lab.exec("n1", &["sh", "-c", "touch /host/running; exec sleep 1000"]);
    let kill = async {
        while !lab.directory().share().join("running").exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        lab.kill("n1").await
    };
    let (ran, killed) = tokio::join!(running, kill);
    killed.unwrap();
    let ran = ran.unwrap_err().to_string();
    assert!(ran.contains("node n1 went away while sh ran there"), "{ran}");
    assert_eq!(lab.status().await.unwrap().nodes["n1"].power, Power::Off);
    let off = lab.exec("n1", &["true"]).await.unwrap_err().to_string();
    assert!(off.contains("node n1 is not running; start it"), "{off}");
    assert!(reaches(&lab, "n2", "n3").await, "the others go on");
    lab.start("n1").await.unwrap();
    let twice = lab.start("n1").await.unwrap_err().to_string();
    assert!(twice.contains("n1 is running"), "{twice}");
    assert_eq!(
        text(&lab, "n1", "cat /var/lib/hawser/f /etc/hawser/f; ls /var/f 2>/dev/null || true").await,
        "kept\nkept"
    );
    assert!(!reaches(&lab, "n1", "n2").await, "a node comes back into the partition that it left");

    let services = lab.service("n1", &AgentRequest::ListServices).await.unwrap();
    assert!(services[0].process.is_some(), "the service runs again after the boot: {services:?}");
    let process = services[0].process.unwrap();
    text(&lab, "n1", &format!("kill -9 {process}")).await;
    let began = Instant::now();
    loop {
        let services = lab.service("n1", &AgentRequest::ListServices).await.unwrap();
        if services[0].process.is_some_and(|other| other != process) {
            assert!(services[0].last_end.as_deref().unwrap().contains("signal: 9"), "{services:?}");
            break;
        }
        assert!(began.elapsed() < PATIENCE, "a service that ended is started again");
    }
    let stopped = lab.service("n1", &AgentRequest::StopService("ticker".into())).await.unwrap();
    assert!(stopped[0].stopped && stopped[0].process.is_none(), "{stopped:?}");
    let unknown = lab.service("n1", &AgentRequest::StopService("none".into())).await.unwrap_err().to_string();
    assert!(unknown.contains("has no service none; it has: ticker"), "{unknown}");
    lab.down(false).await.unwrap();
}

#[tokio::test]
async fn a_node_that_cannot_boot_says_why_and_the_lab_goes_on() {
    let Some(place) = place("boot") else { return };
    let lab = Lab::up(&options("boot", 2), place.lab("boot"), true).await.unwrap();
    lab.kill("n1").await.unwrap();
    let disk = lab.directory().node("n1").join("state.img");
    let whole = std::fs::read(&disk).unwrap();
    std::fs::write(&disk, vec![0; whole.len()]).unwrap();
    let reason = lab.start("n1").await.unwrap_err().to_string();
    assert!(reason.contains("node n1 did not boot: its kernel ended"), "{reason}");
    assert!(reason.contains("the state disk is not usable"), "the end of the console is shown: {reason}");
    assert_eq!(lab.status().await.unwrap().nodes["n1"].power, Power::Off);
    for (node, expected) in [("n1", "the state disk is not usable"), ("n9", "has no node n9; it has: n1, n2")]
    {
        let mut logs = tokio::process::Command::new(env!("CARGO_BIN_EXE_hawser-lab"));
        let said = logs.arg("--directory").arg(lab.directory().path()).args(["logs", node]).output().await;
        let said = said.unwrap();
        let words = String::from_utf8_lossy(if said.status.success() { &said.stdout } else { &said.stderr });
        assert!(words.contains(expected), "{node}: {words}");
    }
    assert_eq!(text(&lab, "n2", "hostname").await, "n2");
    std::fs::write(&disk, whole).unwrap();
    lab.start("n1").await.unwrap();
    assert!(reaches(&lab, "n1", "n2").await);
    lab.down(false).await.unwrap();
}

#[tokio::test]
async fn ports_are_forwarded_into_and_out_of_nodes_also_while_the_node_is_cut_off() {
    let Some(place) = place("ports") else { return };
    let lab = Lab::up(&options("ports", 2), place.lab("ports"), true).await.unwrap();
    lab.partition("n1", None).await.unwrap();
    let echo = Service {
        name: "echo".into(),
        arguments: ["busybox", "nc", "-ll", "-p", "6470", "-e", "cat"].map(str::to_owned).to_vec(),
        environment: Default::default(),
    };
    lab.set_services("n1", vec![echo]).await.unwrap();
    let port = lab.status().await.unwrap().nodes["n1"].forwards[&6470];
    assert_eq!(
        lab.forward("n1", 6470).await.unwrap(),
        port,
        "a port that is forwarded is not forwarded twice"
    );
    let sent: Vec<u8> = (0..4_000_000_u32).map(|number| (number % 251) as u8).collect();
    let began = Instant::now();
    let received = loop {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (mut reader, mut writer) = stream.split();
        let mut received = vec![0; sent.len()];
        let both = async { tokio::join!(writer.write_all(&sent), reader.read_exact(&mut received)) };
        let (written, read) = tokio::time::timeout(PATIENCE, both).await.unwrap();
        if written.is_ok() && read.is_ok() {
            break received;
        }
        assert!(began.elapsed() < PATIENCE, "the service has not come up");
    };
    assert!(received == sent, "bytes come back as they went");

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = listener.local_addr().unwrap().port();
    lab.export(own).await.unwrap();
    let command = format!("busybox nc 10.78.0.254 {own} < /dev/null");
    let host = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"from the host").await.unwrap();
    };
    let (inside, ()) = tokio::join!(text(&lab, "n1", &command), host);
    assert_eq!(inside, "from the host");
    lab.down(false).await.unwrap();
}

#[tokio::test]
async fn two_labs_live_beside_each_other_and_down_leaves_nothing_of_one() {
    let Some(place) = place("two labs") else { return };
    let (first, second) = (options("first", 1), options("second", 1));
    let (one, two) =
        tokio::join!(Lab::up(&first, place.lab("first"), true), Lab::up(&second, place.lab("second"), true));
    let (one, two) = (one.unwrap(), two.unwrap());
    let again = Lab::up(&options("first", 1), place.lab("first"), true).await.err().unwrap().to_string();
    assert!(again.contains("a lab runs in") && again.contains("already"), "{again}");
    text(&one, "n1", "echo one > /host/who").await;
    assert_eq!(text(&two, "n1", "ls /host/who 2>/dev/null || echo none").await, "none");

    let path = place.directory.path().join("first");
    let (keepers, others) = (keepers_of(&path), keepers_of(two.directory().path()));
    if memory::directory(1 << 30, &path) != path {
        assert_eq!((keepers.len(), others.len()), (1, 1), "each node has its memory in /dev/shm");
    }
    assert!(answers(&place.lab("first")) && answers(&place.lab("second")));
    one.down(false).await.unwrap();
    assert_eq!(processes_of(&path), Vec::<PathBuf>::new());
    assert!(!path.exists(), "the lab's own directory is gone");
    let left = keepers_with_memory();
    assert!(!keepers.iter().any(|keeper| left.contains(keeper)), "memory of {keepers:?} is left: {left:?}");
    assert!(others.iter().all(|keeper| left.contains(keeper)), "the other lab's memory stays: {left:?}");
    assert!(!answers(&place.lab("first")) && answers(&place.lab("second")));
    let gone = Lab::open(place.lab("first")).await.err().unwrap().to_string();
    assert!(gone.contains("no lab runs in"), "{gone}");
    assert_eq!(text(&two, "n1", "hostname").await, "n1", "the other lab goes on");

    let foreign = place.directory.path().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("precious"), "").unwrap();
    let refused = Lab::up(&options("third", 1), LabDirectory::at(foreign.clone()), true).await.err().unwrap();
    assert!(refused.to_string().contains("nothing in it was touched"), "{refused}");
    assert!(foreign.join("precious").exists());
    two.down(false).await.unwrap();
}

#[tokio::test]
async fn the_death_of_the_labs_process_leaves_nothing_and_a_new_lab_takes_its_place() {
    let Some(place) = place("death") else { return };
    let path = place.directory.path().join("death");
    let lab = Lab::up(&options("death", 2), place.lab("death"), false).await.unwrap();
    let process = i32::try_from(lab.status().await.unwrap().process).unwrap();
    assert!(processes_of(&path).len() > 4);
    let keepers = keepers_of(&path);
    if memory::directory(1 << 30, &path) != path {
        assert_eq!(keepers.len(), 2, "each node has its memory in /dev/shm");
    }
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(process), nix::sys::signal::Signal::SIGKILL).unwrap();
    let began = Instant::now();
    while !processes_of(&path).is_empty() || path.join("run").exists() {
        assert!(began.elapsed() < PATIENCE, "left: {:?}", processes_of(&path));
        std::thread::yield_now();
    }
    for node in ["n1", "n2"] {
        let left: Vec<_> = std::fs::read_dir(path.join("nodes").join(node).join("uml")).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
    let left = keepers_with_memory();
    assert!(keepers.iter().all(|keeper| !left.contains(keeper)), "{left:?} are left of {keepers:?}");
    assert!(!answers(&place.lab("death")));

    let lab = Lab::up(&options("death", 1), place.lab("death"), true).await.unwrap();
    assert_eq!(text(&lab, "n1", "hostname").await, "n1");
    drop(lab);
    let began = Instant::now();
    while !processes_of(&path).is_empty() {
        assert!(began.elapsed() < PATIENCE, "a tied lab ends with its handle");
        std::thread::yield_now();
    }
}
