//! Volumes without a second copy, with DRBD and without: written to, through a power cut of their node, deleted.

use std::time::Duration;

use anyhow::{Context, Result};
use hawser_e2e::cluster::{Cluster, Progress, lab_or_skipped};
use hawser_e2e::story::{
    MOUNT_POINT, RECORDS, device, expect_nothing_left, format_and_mount, leader, mount, verify_records,
};
use hawser_e2e::writer::Writer;

const NODE: &str = "n1";
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_single_replica_comes_back_with_its_node_and_all_its_records() -> Result<()> {
    if !lab_or_skipped() {
        return Ok(());
    }
    let cluster = Cluster::up("single", 3)?;
    for layers in ["drbd,storage", "storage"] {
        let name = if layers == "storage" { "bare" } else { "alone" };
        through_a_power_cut(&cluster, name, layers).with_context(|| format!("layers {layers}"))?;
    }
    Ok(())
}

fn through_a_power_cut(cluster: &Cluster, name: &str, layers: &str) -> Result<()> {
    cluster.must(&["group", "create", name, "--replicas", "1", "--layers", layers])?;
    cluster.must(&["resource", "create", name, "--size", "128MiB", "--group", name, "--node", NODE])?;
    cluster.must(&["attachment", "create", name, NODE])?;
    format_and_mount(cluster, NODE, &device(cluster, name, NODE)?)?;
    let mut writer = Writer::start(cluster, NODE, RECORDS, 0)?;
    writer.wait_for_more(50, LIMIT)?;

    cluster.kill(NODE)?;
    let acknowledged = writer.end();
    cluster.start_node(NODE)?;
    leader(cluster)?;
    let path = cluster.wait("the gate to be open again", LIMIT, || {
        let path = device(cluster, name, NODE)?;
        let there = cluster.exec(NODE, &["test", "-b", &path])?;
        Ok(if there.ok() {
            Progress::Reached(path)
        } else {
            Progress::NotYet(cluster.hawser(&["resource", "show", name])?.output)
        })
    })?;

    mount(cluster, NODE, &path)?;
    verify_records(cluster, NODE, acknowledged)?;
    cluster.must_exec(NODE, &["umount", MOUNT_POINT])?;
    cluster.must(&["attachment", "delete", name, NODE])?;
    cluster.must(&["resource", "delete", name])?;
    cluster.must(&["group", "delete", name])?;
    expect_nothing_left(cluster, &["n1", "n2", "n3"], name)
}
