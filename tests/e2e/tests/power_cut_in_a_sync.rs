//! A node loses its power in the middle of the first sync to it. What the two copies hold afterwards is compared below
//! the consumer, byte by byte, without anybody who writes and flushes meanwhile.

use std::time::Duration;

use anyhow::{Result, ensure};
use hawser_e2e::cluster::{Cluster, Progress, lab_or_skipped};
use hawser_e2e::story::{checksum, device, wait_until_whole};

const NAME: &str = "copied";
const LIMIT: Duration = Duration::from_secs(90);
/// The sync takes twenty seconds.
const RATE: [&str; 6] = ["--disk", "c-max-rate=8M", "--disk", "resync-rate=8M", "--disk", "c-min-rate=8M"];
/// DRBD writes its bitmap in pieces of 16 MiB, and the sixth has ended a moment ago: a thin pool commits once a second.
const PERCENT: f32 = 62.0;

#[test]
fn a_sync_that_a_power_cut_breaks_off_ends_with_equal_copies() -> Result<()> {
    if !lab_or_skipped() {
        return Ok(());
    }
    let cluster = Cluster::up("cut-in-a-sync", 2)?;
    cluster.must(&[&["group", "create", "one", "--replicas", "1"][..], &RATE].concat())?;
    cluster.must(&["resource", "create", NAME, "--size", "160MiB", "--group", "one", "--node", "n1"])?;
    cluster.must(&["attachment", "create", NAME, "n1"])?;
    let written = fill(&cluster, &device(&cluster, NAME, "n1")?)?;

    cluster.must(&["--no-wait", "replica", "create", NAME, "n2"])?;
    cluster.wait("the sync to be well under way", LIMIT, || {
        let said = cluster.exec("n2", &["cat", "/proc/drbd"])?.output;
        let is_far = percent(&said).is_some_and(|percent| percent >= PERCENT);
        Ok(if is_far { Progress::Reached(()) } else { Progress::NotYet(said) })
    })?;
    cluster.kill("n2")?;
    cluster.start_node("n2")?;
    cluster.wait("the replica to have joined", LIMIT, || {
        let running = cluster.must(&["operation", "list", "--running", "--resource", NAME])?;
        Ok(if running.is_empty() { Progress::Reached(()) } else { Progress::NotYet(running) })
    })?;
    wait_until_whole(&cluster, NAME, LIMIT)?;

    cluster.must(&["attachment", "delete", NAME, "n1"])?;
    cluster.must(&["attachment", "create", NAME, "n2"])?;
    let read = checksum(&cluster, "n2", &device(&cluster, NAME, "n2")?)?;
    ensure!(read == written, "n2 is called UpToDate and lacks some of what n1 has");
    Ok(())
}

fn fill(cluster: &Cluster, device: &str) -> Result<String> {
    let to = format!("of={device}");
    let write =
        ["dd", "if=/dev/urandom", &to, "bs=1M", "count=150", "oflag=direct", "conv=fsync", "status=none"];
    cluster.must_exec("n1", &write)?;
    checksum(cluster, "n1", device)
}

/// How far a sync is, by `/proc/drbd`: `sync'ed: 63.5%`.
fn percent(proc_drbd: &str) -> Option<f32> {
    let (_, rest) = proc_drbd.split_once("sync'ed:")?;
    rest.split_once('%')?.0.trim().parse().ok()
}
