//! With every controller stopped: what runs goes on running, also while its satellite restarts, and a node that
//! reboots brings its replica up and connects it, but is promoted nowhere.

#![allow(clippy::print_stdout)]

use std::time::Duration;

use anyhow::{Result, ensure};
use hawser_e2e::cluster::{Cluster, Progress, lab_or_skipped};
use hawser_e2e::stories::written_volume;
use hawser_e2e::story::{MOUNT_POINT, device, leader, mount, verify_records, wait_until_whole};

const NODES: [&str; 3] = ["n1", "n2", "n3"];
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn io_goes_on_and_replicas_return_while_every_controller_is_down() -> Result<()> {
    if !lab_or_skipped() {
        return Ok(());
    }
    let cluster = Cluster::up("autonomy", 3)?;
    leader(&cluster)?;
    let name = "alone";
    let [primary, secondary] = ["n1", "n2"];
    let mut writer = written_volume(&cluster, name, "256MiB", [primary, secondary])?;
    writer.wait_for_more(20, LIMIT)?;

    for node in NODES {
        service(&cluster, node, "stop", "hawser-controller")?;
    }
    writer.wait_for_more(20, LIMIT)?;

    // A satellite that ends and begins again without controllers touches nothing.
    let began = minor_line(&cluster, primary)?;
    service(&cluster, primary, "stop", "hawser-satellite")?;
    writer.wait_for_more(20, LIMIT)?;
    service(&cluster, primary, "start", "hawser-satellite")?;
    writer.wait_for_more(20, LIMIT)?;
    let now = minor_line(&cluster, primary)?;
    ensure!(now == began, "the satellite's restart changed {began:?} to {now:?}");

    // The secondary's node reboots. Its own controller comes back with it and finds no majority.
    cluster.kill(secondary)?;
    let frozen_at = writer.wait_until_frozen(Duration::from_millis(500), LIMIT)?;
    cluster.start_node(secondary)?;
    cluster.wait("the replica to come up and connect without a controller", LIMIT, || {
        let line = minor_line(&cluster, primary)?;
        let whole = line.contains("cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate");
        Ok(if whole { Progress::Reached(()) } else { Progress::NotYet(line) })
    })?;
    writer.wait_for_more(20, LIMIT)?;
    println!("writes stood still at record {frozen_at} and went on once the peer was back");

    // So does the primary's: its ledger says that it is attached here, and nobody is there to confirm it.
    cluster.kill(primary)?;
    let acknowledged = writer.end();
    cluster.start_node(primary)?;
    cluster.wait("both replicas to be connected", LIMIT, || {
        let line = minor_line(&cluster, primary)?;
        let connected = line.contains("cs:Connected") && line.contains("ds:UpToDate/UpToDate");
        Ok(if connected { Progress::Reached(()) } else { Progress::NotYet(line) })
    })?;
    // Two of three controllers are back with their nodes: they are a majority, and confirm the attachment.
    cluster.wait("the attachment that a majority confirms", LIMIT, || {
        let line = minor_line(&cluster, primary)?;
        Ok(if line.contains("ro:Primary/Secondary") { Progress::Reached(()) } else { Progress::NotYet(line) })
    })?;
    service(&cluster, "n3", "start", "hawser-controller")?;
    wait_until_whole(&cluster, name, LIMIT)?;

    mount(&cluster, primary, &device(&cluster, name, primary)?)?;
    verify_records(&cluster, primary, acknowledged)?;
    cluster.must_exec(primary, &["umount", MOUNT_POINT])?;
    cluster.must(&["attachment", "delete", name, primary])?;
    cluster.must(&["resource", "delete", name])?;
    Ok(())
}

fn service(cluster: &Cluster, node: &str, change: &str, service: &str) -> Result<()> {
    let said = cluster.hawser_lab(&["service", node, change, service])?;
    ensure!(said.ok(), "hawser-lab service {node} {change} {service}: {}{}", said.output, said.error);
    Ok(())
}

/// States of the first volume on a node, as the kernel prints them, without its counters and flags.
fn minor_line(cluster: &Cluster, node: &str) -> Result<String> {
    let proc_drbd = cluster.must_exec(node, &["cat", "/proc/drbd"])?;
    let line = proc_drbd.lines().find(|line| line.contains("cs:")).unwrap_or("nothing is configured");
    Ok(line.split(" C ").next().unwrap_or_default().trim().to_owned())
}
