//! Kill -9 of each process, one after another, in the middle of a create and of a delete: each operation
//! finishes or says why it waits, and nothing is left behind.
//!
//! The moments are tied to what the kernel of a node with a replica shows, not to time.
#![allow(clippy::print_stdout)]

use std::io::Read as _;
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use hawser_e2e::cluster::{Cluster, Progress, lab_or_skipped};
use hawser_e2e::story::{expect_nothing_left, leader};
use hawser_lab::cluster::THIN_POOL;
use serde_json::Value;

const NODES: [&str; 3] = ["n1", "n2", "n3"];
/// The nodes with replicas; the kernel of the first is watched.
const REPLICAS: [&str; 2] = ["n1", "n2"];

/// How long an operation may run without a word on what it waits for: a leader has to be elected, and
/// satellites come back to it.
const LONGEST_SILENCE: Duration = Duration::from_secs(10);

/// Whose process is killed.
#[derive(Debug, Clone, Copy)]
enum Victim {
    LeadingController,
    FollowingController,
    Satellite(&'static str),
}

/// When it is killed: once a node's kernel shows this. In bash, without starting a program in the loop.
struct Moment {
    what: &'static str,
    seen: &'static str,
}

const NOW: Moment = Moment { what: "at once", seen: "true" };
const VOLUME_IS_THERE: Moment = Moment { what: "once the logical volume is there", seen: "volume" };
const CONFIGURED: Moment = Moment { what: "once DRBD's configuration is there", seen: "configuration" };
const DRBD_IS_UP: Moment = Moment { what: "once DRBD is up", seen: "drbd" };
const DRBD_IS_DOWN: Moment = Moment { what: "once DRBD is down", seen: "! drbd" };
const CONFIGURATION_IS_GONE: Moment =
    Moment { what: "once DRBD's configuration is gone", seen: "! configuration" };
const VOLUME_IS_GONE: Moment = Moment { what: "once the logical volume is gone", seen: "! volume" };

/// When a process is killed in a create, and when in the delete that follows.
const MOMENTS: [(Moment, Moment); 4] = [
    (NOW, NOW),
    (VOLUME_IS_THERE, DRBD_IS_DOWN),
    (CONFIGURED, CONFIGURATION_IS_GONE),
    (DRBD_IS_UP, VOLUME_IS_GONE),
];

#[test]
fn a_killed_process_leaves_no_operation_stuck_and_nothing_behind() -> Result<()> {
    if !lab_or_skipped() {
        return Ok(());
    }
    let cluster = Cluster::up("kills", 3)?;
    let (mut kills, mut in_the_middle) = (0, 0);
    let mut deleted: Option<Deleted> = None;
    for (round, (in_create, in_delete)) in MOMENTS.iter().enumerate() {
        for (number, victim) in victims(round).into_iter().enumerate() {
            // Names of their own, so that what one has left is looked for while the next is made.
            let name = format!("round{round}victim{number}");
            let nodes = ["--node", REPLICAS[0], "--node", REPLICAS[1]];
            let create = [&["resource", "create", &name, "--size", "64MiB"][..], &nodes[..]].concat();
            let delete = ["resource", "delete", &name];
            let before = deleted.take();
            in_the_middle += u32::from(beside(
                || before.as_ref().map_or(Ok(()), |before| before.expect_nothing_left(&cluster)),
                || {
                    // Who was killed at the end of the last deletion may still be on its way back.
                    wait_for_room(&cluster)?;
                    interrupted(&cluster, &create, &name, victim, in_create)
                },
            )?);
            in_the_middle += u32::from(interrupted(&cluster, &delete, &name, victim, in_delete)?);
            kills += 2;
            let how = format!("{victim:?} killed {}, {}", in_create.what, in_delete.what);
            deleted = Some(Deleted { name, how });
        }
    }
    deleted.context("nothing was deleted")?.expect_nothing_left(&cluster)?;
    // The last moments of an operation may be over before anybody is killed.
    ensure!(in_the_middle * 4 >= kills * 3, "only {in_the_middle} of {kills} kills fell into an operation");
    Ok(())
}

/// Whose processes are killed in a round. A controller that follows only passes on what others decide: it is killed
/// in every other round.
fn victims(round: usize) -> Vec<Victim> {
    let satellites = REPLICAS.map(Victim::Satellite);
    let follower = (round.is_multiple_of(2)).then_some(Victim::FollowingController);
    [Victim::LeadingController].into_iter().chain(follower).chain(satellites).collect()
}

/// A resource whose deletion has succeeded.
struct Deleted {
    name: String,
    how: String,
}

impl Deleted {
    fn expect_nothing_left(&self, cluster: &Cluster) -> Result<()> {
        expect_nothing_left(cluster, &NODES, &self.name).with_context(|| self.how.clone())
    }
}

/// Waits until every node's satellite and pool are known to the leader: placement refuses others.
fn wait_for_room(cluster: &Cluster) -> Result<()> {
    let all = |list: &Value, known: fn(&Value) -> bool| {
        list["items"].as_array().is_some_and(|items| items.len() == NODES.len() && items.iter().all(known))
    };
    cluster.wait("every satellite to be back", Duration::from_secs(20), || {
        let (nodes, pools) = (cluster.json(&["node", "list"])?, cluster.json(&["pool", "list"])?);
        let known =
            all(&nodes, |node| node["online"] == true) && all(&pools, |pool| !pool["observed"].is_null());
        Ok(if known { Progress::Reached(()) } else { Progress::NotYet(format!("{nodes} {pools}")) })
    })
}

/// Does both at the same time; fails if one of them does.
fn beside<T>(check: impl FnOnce() -> Result<()> + Send, action: impl FnOnce() -> Result<T>) -> Result<T> {
    std::thread::scope(|scope| {
        let check = scope.spawn(check);
        let done = action();
        check.join().map_err(|_| anyhow!("the check panicked"))??;
        done
    })
}

/// Carries out an operation on the resource `name` while a process is killed at a moment of it, and returns
/// whether that moment came before the operation's end.
fn interrupted(
    cluster: &Cluster,
    operation: &[&str],
    name: &str,
    victim: Victim,
    moment: &Moment,
) -> Result<bool> {
    let what = format!("`hawser {}`, {victim:?} killed {}", operation.join(" "), moment.what);
    let (node, program) = match victim {
        Victim::Satellite(node) => (node.to_owned(), "hawser-satellite"),
        Victim::LeadingController => (leader(cluster)?, "hawser-controller"),
        Victim::FollowingController => {
            let leader = leader(cluster)?;
            let follower = NODES.into_iter().find(|node| *node != leader);
            (follower.context("nobody follows")?.to_owned(), "hawser-controller")
        }
    };
    let began = Instant::now();
    let watched = match victim {
        Victim::Satellite(node) => node,
        _ => REPLICAS[0],
    };
    let watch = watch(cluster, watched, name, moment)?;
    let mut typed = vec!["--no-wait"];
    typed.extend(operation);
    let answer = cluster.json(&typed)?;
    let id = answer["operation"].as_u64().with_context(|| format!("no operation in {answer}"))?;
    let seen_at = wait_for(watch).with_context(|| what.clone())?;
    cluster.must_exec(&node, &["pkill", "-9", "-f", &format!("{program}$")])?;
    let ended_at = ended(cluster, id).with_context(|| what.clone())?;
    let in_the_middle = seen_at < ended_at;
    let place = if in_the_middle { "in the middle" } else { "at its end" };
    println!("{what}: {:.1} s, {place}", began.elapsed().as_secs_f32());
    Ok(in_the_middle)
}

/// Begins to wait in a node for what its kernel shows; prints the time of day when it does.
fn watch(cluster: &Cluster, node: &str, name: &str, moment: &Moment) -> Result<Child> {
    let group = THIN_POOL.split('/').next().unwrap_or(THIN_POOL);
    let script = format!(
        r#"
        volume() {{
            local file words
            for file in /sys/block/dm-*/dm/name; do
                {{ read -r words <"$file"; }} 2>/dev/null && [[ $words == {group}-{name}.* ]] && return 0
            done
            return 1
        }}
        configuration() {{ compgen -G '/var/lib/hawser/satellite/drbd.d/{name}.*.res' >/dev/null; }}
        drbd() {{ compgen -G '/sys/block/drbd*' >/dev/null; }}
        until {}; do read -r -t 0.01 <>/dev/watch; done
        date -u +%FT%T.%NZ
        "#,
        moment.seen
    );
    // Reading from a pipe that nobody writes to is a pause that starts no program.
    let script = format!("[ -p /dev/watch ] || mkfifo /dev/watch\necho watches\n{script}");
    let mut child = cluster.start(node, &["timeout", "60", "bash", "-c", &script])?;
    let mut word = [0; "watches\n".len()];
    child.stdout.as_mut().context("the watch has no output")?.read_exact(&mut word)?;
    Ok(child)
}

/// Waits until a watch has seen it, and returns when it did, in RFC 3339.
fn wait_for(watch: Child) -> Result<String> {
    let output = watch.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    ensure!(
        output.status.success(),
        "the moment never came: {said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(said)
}

/// Waits until the operation has succeeded, and returns when it did. Until then it may wait, but not long
/// without saying what for.
fn ended(cluster: &Cluster, id: u64) -> Result<String> {
    let id = id.to_string();
    let mut spoke = Instant::now();
    cluster.wait(&format!("operation {id} to end"), Duration::from_secs(60), || {
        let said = cluster.hawser(&["operation", "show", &id, "-o", "json"])?;
        let shown: Value = serde_json::from_str(&said.output).unwrap_or_default();
        ensure!(shown["state"] != "failed", "operation {id} failed: {shown}");
        if shown["state"] == "succeeded" {
            return Ok(Progress::Reached(shown["ended_at"].as_str().unwrap_or_default().to_owned()));
        }
        let silent = shown["waits_for"].is_null() && shown["progress"].as_array().is_none_or(Vec::is_empty);
        if !silent {
            spoke = Instant::now();
        }
        ensure!(
            spoke.elapsed() < LONGEST_SILENCE,
            "operation {id} does not say what it waits for: {}{}",
            said.output,
            said.error
        );
        Ok(Progress::NotYet(format!("{}{}", said.output, said.error)))
    })
}
