//! A controller that lost its disk is refused under its old identity, and joins anew under its old name.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hawser_e2e::cluster::{Cluster, Progress, lab_or_skipped};
use hawser_e2e::story::leader;
use serde_json::Value;

const NODES: [&str; 3] = ["n1", "n2", "n3"];
const LIMIT: Duration = Duration::from_secs(60);
const CONTROLLER: &str = "hawser-controller";
const STORE: &str = "/var/lib/hawser/controller/store";
const ORDER: &str = "/var/lib/hawser/controller/create-store.json";
const OBEYED: &str = "/var/lib/hawser/controller/create-store.done.json";

#[test]
fn a_controller_that_lost_its_disk_is_replaced_under_its_name() -> Result<()> {
    if !lab_or_skipped() {
        return Ok(());
    }
    let cluster = Cluster::up("lost-controller", 3)?;
    let leading = leader(&cluster)?;
    let lost = NODES.into_iter().find(|node| *node != leading).context("nobody follows")?;
    let before = member(&cluster, lost)?;

    // Given a node that lost its power, and came back without its controller's store.
    cluster.kill(lost)?;
    cluster.start_node(lost)?;
    service(&cluster, lost, "stop")?;
    cluster.must_exec(lost, &["rm", "-rf", STORE])?;

    // Then it begins nothing by itself, and nothing with its old order; each time it says what to do.
    service(&cluster, lost, "start")?;
    wait_for_words(&cluster, lost, "holds no store")?;
    service(&cluster, lost, "stop")?;
    cluster.must_exec(lost, &["cp", OBEYED, ORDER])?;
    service(&cluster, lost, "start")?;
    wait_for_words(&cluster, lost, "a lost store is not replaced under the same id")?;
    service(&cluster, lost, "stop")?;

    // When it is removed, and added again under its name and address.
    let said = cluster.must(&["cluster", "remove-member", lost])?;
    ensure!(said.contains(&format!("controller {lost} is removed; these vote: ")), "{said}");
    ensure!(said.contains("2 voters would tolerate no more failures than 1"), "{said}");
    let order = cluster.directory().share().join("order.json");
    let address = before["address"].as_str().context("a member without an address")?;
    cluster.must(&["cluster", "add-member", lost, address, "--out", &order.to_string_lossy()])?;
    cluster.must_exec(lost, &["rm", "-rf", STORE])?;
    cluster.must_exec(lost, &["cp", "/host/order.json", ORDER])?;
    service(&cluster, lost, "start")?;

    // Then three vote again, and it is a new one.
    cluster.wait("three voters", LIMIT, || {
        let status = cluster.json(&["cluster", "status"])?;
        let members = status["members"].as_array().into_iter().flatten();
        let voters = members.filter(|member| member["role"] == "voter").count();
        Ok(if voters == 3 { Progress::Reached(()) } else { Progress::NotYet(status.to_string()) })
    })?;
    let after = member(&cluster, lost)?;
    ensure!(after["raft_id"].as_u64() > before["raft_id"].as_u64(), "{before} {after}");

    // And it leads when it is told to, and takes the next change.
    let said = cluster.must(&["cluster", "transfer-leader", lost])?;
    ensure!(said.trim() == format!("controller {lost} leads"), "{said}");
    cluster.must(&["node", "create", "n9", "--address", "10.77.0.9"])?;
    Ok(())
}

/// What `hawser cluster status` says of a controller.
fn member(cluster: &Cluster, name: &str) -> Result<Value> {
    let status = cluster.json(&["cluster", "status"])?;
    let mut members = status["members"].as_array().into_iter().flatten();
    members.find(|member| member["name"] == name).cloned().with_context(|| format!("no {name} in {status}"))
}

fn service(cluster: &Cluster, node: &str, change: &str) -> Result<()> {
    let said = cluster.hawser_lab(&["service", node, change, CONTROLLER])?;
    ensure!(said.ok(), "{CONTROLLER} of {node}: {}{}", said.output, said.error);
    Ok(())
}

/// Waits until a controller's log says so.
fn wait_for_words(cluster: &Cluster, node: &str, words: &str) -> Result<()> {
    cluster.wait(&format!("{node} to say {words:?}"), LIMIT, || {
        let said = cluster.hawser_lab(&["logs", node, CONTROLLER])?;
        let last: Vec<&str> = said.output.lines().rev().take(3).collect();
        Ok(if said.output.contains(words) {
            Progress::Reached(())
        } else {
            Progress::NotYet(last.join("\n"))
        })
    })
}
