//! A node is declared lost: its volume goes on alone under its writer, gets another copy, and the node is refused when
//! it comes back.

use std::time::Duration;

use anyhow::{Result, ensure};
use hawser_e2e::cluster::{Cluster, Progress, lab_or_skipped};
use hawser_e2e::stories::written_volume;
use hawser_e2e::story::{MOUNT_POINT, leader, verify_records, wait_until_whole};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_volume_goes_on_without_a_lost_node_which_is_refused_when_it_is_back() -> Result<()> {
    if !lab_or_skipped() {
        return Ok(());
    }
    let cluster = Cluster::up("lost-node", 3)?;
    leader(&cluster)?;
    let name = "kept";
    let [primary, lost, other] = ["n1", "n2", "n3"];
    let mut writer = written_volume(&cluster, name, "256MiB", [primary, lost])?;
    writer.wait_for_more(20, LIMIT)?;

    // Given a node that lost its power, and is not coming back.
    let refused = cluster.hawser(&["node", "lost", lost, "--yes"])?;
    ensure!(refused.error.contains("its satellite is connected"), "{}", refused.error);
    cluster.kill(lost)?;
    writer.wait_for_more(20, LIMIT)?;
    cluster.wait("the end of its session", LIMIT, || {
        let node = cluster.json(&["node", "show", lost])?;
        Ok(if node["online"] == false { Progress::Reached(()) } else { Progress::NotYet(node.to_string()) })
    })?;

    // When it is declared lost.
    cluster.must(&["node", "lost", lost, "--yes"])?;

    // Then the volume has one replica under its writer, and another can be added.
    cluster.wait("one replica", LIMIT, || {
        let resource = cluster.json(&["resource", "show", name])?;
        let replicas = resource["replicas"].as_array().map_or(0, Vec::len);
        Ok(if replicas == 1 { Progress::Reached(()) } else { Progress::NotYet(resource.to_string()) })
    })?;
    writer.wait_for_more(20, LIMIT)?;
    cluster.must(&["replica", "create", name, other])?;
    wait_until_whole(&cluster, name, LIMIT)?;
    writer.wait_for_more(20, LIMIT)?;

    // And the lost one is refused when it comes back, and writes nothing.
    cluster.start_node(lost)?;
    cluster.wait("its satellite to be refused", LIMIT, || {
        let said = cluster.hawser_lab(&["logs", lost, "hawser-satellite"])?;
        let refused = said.output.contains(&format!("node {lost} was declared lost"));
        Ok(if refused { Progress::Reached(()) } else { Progress::NotYet(said.output) })
    })?;
    let kernel = cluster.must_exec(lost, &["cat", "/proc/drbd"])?;
    ensure!(!kernel.contains("ro:Primary") && !kernel.contains("cs:Connected"), "{kernel}");
    cluster.must(&["node", "delete", lost])?;
    writer.wait_for_more(20, LIMIT)?;
    let acknowledged = writer.kill(&cluster)?;
    verify_records(&cluster, primary, acknowledged)?;
    cluster.must_exec(primary, &["umount", MOUNT_POINT])?;
    Ok(())
}
