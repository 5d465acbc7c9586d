//! The disk below a Primary fails while it is written to: I/O goes on through the peer, and what the failed disk holds
//! is never taken for the data again until it has synced, whatever becomes of the peer.
#![allow(clippy::print_stdout)]

use std::time::Duration;

use anyhow::{Result, ensure};
use hawser_e2e::cluster::{Cluster, Progress, lab_or_skipped};
use hawser_e2e::stories::written_volume;
use hawser_e2e::story::{
    MOUNT_POINT, device, expect_nothing_left, leader, mount, resource, verify_records, wait_until_whole,
};
use serde_json::Value;

const NODES: [&str; 3] = ["n1", "n2", "n3"];
const LIMIT: Duration = Duration::from_secs(60);
const NAME: &str = "alone";

#[test]
fn a_failing_disk_stops_no_writer_and_its_old_data_never_comes_back() -> Result<()> {
    if !lab_or_skipped() {
        return Ok(());
    }
    // Given a volume that is written to on a node that does not lead.
    let cluster = Cluster::up("disk", 3)?;
    let leading = leader(&cluster)?;
    let others: Vec<&str> = NODES.into_iter().filter(|node| *node != leading).collect();
    let [primary, peer] = others[..] else { anyhow::bail!("there are not two nodes beside {leading}") };
    let mut writer = written_volume(&cluster, NAME, "64MiB", [primary, peer])?;
    writer.wait_for_more(50, LIMIT)?;

    // When its disk fails.
    cluster.fail_disk(primary)?;

    // Then DRBD lets go of it, writes go on through the peer, and everybody can see why.
    let paused = writer.wait_for_more(50, LIMIT)?;
    println!("50 records more {:.1} s after the disk failed", paused.as_secs_f32());
    cluster.wait("the failed disk to count as outdated", LIMIT, || {
        let shown = resource(&cluster, NAME)?;
        let outdated = shown["desired"]["arbitration"]["outdated"][0]["node"] == primary;
        Ok(if outdated && disk(&shown, primary) == "diskless" && disk(&shown, peer) == "up_to_date" {
            Progress::Reached(())
        } else {
            Progress::NotYet(shown.to_string())
        })
    })?;
    let words = cluster.must(&["resource", "show", NAME])?;
    println!("{words}");
    ensure!(words.contains("Diskless") && words.contains("outdated"), "it does not say why: {words}");
    writer.wait_for_more(50, LIMIT)?;

    // When the peer is lost as well.
    cluster.kill(peer)?;
    let last = writer.wait_until_frozen(Duration::from_secs(3), LIMIT)?;
    cluster.kill(primary)?;
    let acknowledged = writer.end();
    println!("record {last} was the last before the peer was lost, {acknowledged} in all");

    // Then the node with the old data comes back with its disk, and does not hand that data out.
    cluster.start_node(primary)?;
    leader(&cluster)?;
    // Its satellite remembers by itself that it fell behind: alone, that disk is not even attached.
    cluster.wait("the old data to count as such", LIMIT, || {
        let (shown, words) = (resource(&cluster, NAME)?, cluster.must(&["resource", "show", NAME])?);
        let is_left = disk(&shown, primary) == "diskless" && words.contains("this replica may be behind");
        Ok(if is_left { Progress::Reached(()) } else { Progress::NotYet(words) })
    })?;
    ensure!(
        device(&cluster, NAME, primary).is_err() || !is_there(&cluster, primary)?,
        "old data was handed out"
    );
    let refused = cluster.hawser(&["attachment", "create", NAME, primary, "--timeout", "5s"])?;
    println!("asked for the old data: {}{}", refused.output, refused.error);
    ensure!(!is_there(&cluster, primary)?, "old data was handed out: {}", refused.output);

    // When the peer comes back, everything is there on both.
    cluster.start_node(peer)?;
    wait_until_whole(&cluster, NAME, Duration::from_secs(120))?;
    cluster.wait("the gate to be open again", LIMIT, || {
        Ok(if is_there(&cluster, primary)? {
            Progress::Reached(())
        } else {
            Progress::NotYet(cluster.must(&["resource", "show", NAME])?)
        })
    })?;
    mount(&cluster, primary, &device(&cluster, NAME, primary)?)?;
    verify_records(&cluster, primary, acknowledged)?;
    cluster.must_exec(primary, &["umount", MOUNT_POINT])?;
    cluster.must(&["attachment", "delete", NAME, primary])?;
    cluster.must(&["resource", "delete", NAME])?;
    expect_nothing_left(&cluster, &NODES, NAME)
}

/// The state of the disk of a node's replica, as it was reported.
fn disk(resource: &Value, node: &str) -> String {
    let mut replicas = resource["replicas"].as_array().into_iter().flatten();
    let found = replicas.find(|replica| replica["desired"]["node"] == node);
    found
        .and_then(|replica| replica["observed"]["volumes"][0]["disk"].as_str())
        .unwrap_or("unknown")
        .to_owned()
}

/// Whether a consumer could open the volume on a node.
fn is_there(cluster: &Cluster, node: &str) -> Result<bool> {
    Ok(match device(cluster, NAME, node) {
        Ok(path) => cluster.exec(node, &["test", "-b", &path])?.ok(),
        Err(_) => false,
    })
}
