//! One volume gets a second replica and loses the first, under a writer: 1 → 2 → 1 → 2.
//!
//! What was written before, during and after is read on both sides. While the replica syncs, a satellite is killed
//! with -9 and the power of the joining node is cut.
#![allow(clippy::print_stdout)]

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hawser_e2e::cluster::{Cluster, Progress, lab_or_skipped};
use hawser_e2e::story::{
    Holdings, MOUNT_POINT, RECORDS, checksum, device, expect_nothing_left, format_and_mount, mount, resource,
    verify_records, wait_until_whole,
};
use hawser_e2e::writer::Writer;
use serde_json::Value;

const NODES: [&str; 3] = ["n1", "n2", "n3"];
const NAME: &str = "grown";
const LIMIT: Duration = Duration::from_secs(60);
/// Written before the second replica joins. With the rate below, it is copied in a bit more than ten seconds.
const BULK: &str = "/mnt/hawser/bulk";
const BULK_MIB: &str = "96";
const RATE: &str = "c-max-rate=8M";

#[test]
fn a_volume_gets_a_second_replica_and_loses_the_first_under_a_writer() -> Result<()> {
    if !lab_or_skipped() {
        return Ok(());
    }
    let cluster = Cluster::up("replicas", 3)?;
    let disk = ["--disk", RATE, "--disk", "resync-rate=8M", "--disk", "c-min-rate=8M"];
    cluster.must(&[&["group", "create", "one", "--replicas", "1"][..], &disk].concat())?;
    cluster.must(&["resource", "create", NAME, "--size", "160MiB", "--group", "one", "--node", "n1"])?;
    cluster.must(&["attachment", "create", NAME, "n1"])?;
    format_and_mount(&cluster, "n1", &device(&cluster, NAME, "n1")?)?;
    let sum = write_bulk(&cluster, "n1")?;
    let mut writer = Writer::start(&cluster, "n1", RECORDS, 0)?;
    writer.wait_for_more(20, LIMIT)?;

    joins(&cluster, &mut writer).context("a replica joins on n2")?;
    let written = taken_over(&cluster, writer, &sum).context("n2 takes over")?;
    let writer = leaves(&cluster, written).context("the replica on n1 leaves")?;
    let written = alone(&cluster, writer, &sum).context("n2 is alone")?;
    joins_in_peace(&cluster, written, &sum).context("a replica joins on n3")?;

    cluster.must(&["resource", "delete", NAME])?;
    expect_nothing_left(&cluster, &NODES, NAME)
}

/// n2 joins while n1 writes; in the middle of the sync both satellites are killed, and n2 loses its power.
fn joins(cluster: &Cluster, writer: &mut Writer) -> Result<()> {
    let refused = cluster.hawser(&["replica", "delete", NAME, "n1"])?;
    ensure!(!refused.ok() && refused.error.contains("attached on node n1"), "{}", refused.error);
    let begun = cluster.json(&["--no-wait", "replica", "create", NAME, "n2"])?;
    let id = begun["operation"].as_u64().with_context(|| format!("no operation in {begun}"))?.to_string();

    syncs(cluster)?;
    let refused = cluster.hawser(&["attachment", "create", NAME, "n2"])?;
    ensure!(!refused.ok(), "n2 took over before it had synced: {}", refused.output);
    for node in ["n2", "n1"] {
        cluster.must_exec(node, &["pkill", "-9", "-f", "hawser-satellite$"])?;
        let paused = writer.wait_for_more(5, LIMIT)?;
        println!("satellite of {node} killed: 5 more records within {:.1} s", paused.as_secs_f32());
    }
    syncs(cluster)?;
    cluster.kill("n2")?;
    let paused = writer.wait_for_more(5, LIMIT)?;
    println!("power of n2 cut: 5 more records within {:.1} s", paused.as_secs_f32());
    let shown = operation(cluster, &id)?;
    ensure!(shown["state"] == "running", "it ended without n2: {shown}");
    cluster.start_node("n2")?;
    ended(cluster, &id)?;
    writer.wait_for_more(5, LIMIT)?;
    wait_until_whole(cluster, NAME, LIMIT)?;
    let refused = cluster.hawser(&["replica", "create", NAME, "n3"])?;
    ensure!(!refused.ok() && refused.error.contains("at most 2"), "a third replica: {}", refused.error);
    Ok(())
}

/// The power of n1 is cut, and n2 has everything.
fn taken_over(cluster: &Cluster, writer: Writer, sum: &str) -> Result<u64> {
    cluster.kill("n1")?;
    let acknowledged = writer.end();
    cluster.must(&["attachment", "create", NAME, "n2"])?;
    mount(cluster, "n2", &device(cluster, NAME, "n2")?)?;
    let beyond = verify_records(cluster, "n2", acknowledged)?;
    ensure!(checksum(cluster, "n2", BULK)? == sum, "what was written before the sync differs on n2");
    cluster.start_node("n1")?;
    wait_until_whole(cluster, NAME, LIMIT)?;
    Ok(acknowledged + beyond)
}

/// The replica on n1 goes while n2 writes; nothing of it is left, and n2 is told of no peer.
fn leaves(cluster: &Cluster, written: u64) -> Result<Writer> {
    let mut writer = Writer::start(cluster, "n2", RECORDS, written)?;
    writer.wait_for_more(5, LIMIT)?;
    let holdings = Holdings::of(cluster, NAME)?;
    cluster.must(&["replica", "delete", NAME, "n1"])?;
    let left = holdings.left_over(cluster, "n1")?;
    ensure!(left.is_empty(), "{}", left.join("; "));
    let shown = resource(cluster, NAME)?;
    ensure!(shown["replicas"].as_array().is_some_and(|all| all.len() == 1), "{shown}");
    let outdated = &shown["desired"]["arbitration"]["outdated"];
    ensure!(outdated.as_array().is_none_or(Vec::is_empty), "{outdated}");
    writer.wait_for_more(10, LIMIT)?;
    let kernel = cluster.must_exec("n2", &["cat", "/proc/drbd"])?;
    ensure!(kernel.contains("cs:StandAlone ro:Primary"), "{kernel}");
    let refused = cluster.hawser(&["replica", "delete", NAME, "n2"])?;
    ensure!(!refused.ok(), "the last replica was removed: {}", refused.output);
    Ok(writer)
}

/// Through a power cut, n2 comes back by itself: there is nobody to ask about.
fn alone(cluster: &Cluster, writer: Writer, sum: &str) -> Result<u64> {
    cluster.kill("n2")?;
    let acknowledged = writer.end();
    cluster.start_node("n2")?;
    let path = cluster.wait("the gate to be open again", LIMIT, || {
        let said = cluster.hawser(&["resource", "show", NAME])?.output;
        let Ok(path) = device(cluster, NAME, "n2") else { return Ok(Progress::NotYet(said)) };
        let there = cluster.exec("n2", &["test", "-b", &path])?.ok();
        Ok(if there { Progress::Reached(path) } else { Progress::NotYet(said) })
    })?;
    mount(cluster, "n2", &path)?;
    let beyond = verify_records(cluster, "n2", acknowledged)?;
    ensure!(checksum(cluster, "n2", BULK)? == sum, "what was written at first differs on n2");
    Ok(acknowledged + beyond)
}

/// The same again to another node, and back by an orderly detachment.
fn joins_in_peace(cluster: &Cluster, written: u64, sum: &str) -> Result<()> {
    let mut writer = Writer::start(cluster, "n2", RECORDS, written)?;
    writer.wait_for_more(5, LIMIT)?;
    cluster.must(&["replica", "create", NAME, "n3"])?;
    writer.wait_for_more(5, LIMIT)?;
    let acknowledged = writer.kill(cluster)?;
    cluster.must_exec("n2", &["umount", MOUNT_POINT])?;
    cluster.must(&["attachment", "delete", NAME, "n2"])?;
    cluster.must(&["replica", "delete", NAME, "n2"])?;
    cluster.must(&["attachment", "create", NAME, "n3"])?;
    mount(cluster, "n3", &device(cluster, NAME, "n3")?)?;
    verify_records(cluster, "n3", acknowledged)?;
    ensure!(checksum(cluster, "n3", BULK)? == sum, "what was written at first differs on n3");
    cluster.must_exec("n3", &["umount", MOUNT_POINT])?;
    cluster.must(&["attachment", "delete", NAME, "n3"])?;
    Ok(())
}

/// Waits until data flows to n2.
fn syncs(cluster: &Cluster) -> Result<()> {
    cluster.wait("n2 to sync", LIMIT, || {
        let said = cluster.exec("n2", &["cat", "/proc/drbd"])?.output;
        Ok(if said.contains("cs:SyncTarget") { Progress::Reached(()) } else { Progress::NotYet(said) })
    })
}

fn operation(cluster: &Cluster, id: &str) -> Result<Value> {
    cluster.json(&["operation", "show", id])
}

fn ended(cluster: &Cluster, id: &str) -> Result<()> {
    cluster.wait(&format!("operation {id} to end"), LIMIT * 2, || {
        let said = cluster.hawser(&["operation", "show", id, "-o", "json"])?;
        let shown: Value = serde_json::from_str(&said.output).unwrap_or_default();
        let ended = ["failed", "cancelled"].iter().any(|state| shown["state"] == *state);
        ensure!(!ended, "operation {id} ended otherwise: {shown}");
        let seen = format!("{}{}", said.output, said.error);
        Ok(if shown["state"] == "succeeded" { Progress::Reached(()) } else { Progress::NotYet(seen) })
    })
}

fn write_bulk(cluster: &Cluster, node: &str) -> Result<String> {
    let (from, to, count) = ("if=/dev/urandom", format!("of={BULK}"), format!("count={BULK_MIB}"));
    cluster.must_exec(node, &["dd", from, &to, "bs=1M", &count, "conv=fsync", "status=none"])?;
    checksum(cluster, node, BULK)
}
