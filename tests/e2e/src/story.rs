//! The pieces that stories are made of: a volume with a file system and a writer, and what is seen of it.
//!
//! Everything is asked of `hawser` and of the nodes' own tools. A piece must never change what it only
//! has to look at.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::cluster::{Cluster, Progress};

/// Where a story mounts its file system in a node.
pub const MOUNT_POINT: &str = "/mnt/hawser";
/// The file of records on it.
pub const RECORDS: &str = "/mnt/hawser/records";

/// The controller that leads, as the cluster's members say.
pub fn leader(cluster: &Cluster) -> Result<String> {
    cluster.wait("a leader", Duration::from_secs(20), || {
        let said = cluster.hawser(&["cluster", "status", "-o", "json"])?;
        let status: Value = serde_json::from_str(&said.output).unwrap_or_default();
        Ok(match status["leader"].as_str() {
            Some(name) => Progress::Reached(name.to_owned()),
            None => Progress::NotYet(format!("{}{}", said.output, said.error)),
        })
    })
}

/// What `hawser resource show` says in JSON.
pub fn resource(cluster: &Cluster, name: &str) -> Result<Value> {
    cluster.json(&["resource", "show", name])
}

/// Nodes of a resource's replicas, in the order of their node-ids.
pub fn replica_nodes(cluster: &Cluster, name: &str) -> Result<Vec<String>> {
    let resource = resource(cluster, name)?;
    let replicas = resource["replicas"].as_array().context("a resource without replicas")?;
    Ok(replicas.iter().filter_map(|replica| replica["desired"]["node"].as_str()).map(str::to_owned).collect())
}

/// The device that consumers of an attached resource open.
pub fn device(cluster: &Cluster, name: &str, node: &str) -> Result<String> {
    let list = cluster.json(&["attachment", "list"])?;
    let items = list["items"].as_array().context("attachment list has no items")?;
    let found = items
        .iter()
        .find(|item| item["desired"]["resource"] == name && item["desired"]["node"] == node)
        .and_then(|item| item["device_paths"][0].as_str());
    found.map(str::to_owned).with_context(|| format!("{name} is not attached on {node}: {list}"))
}

/// Puts ext4 on a device and mounts it.
pub fn format_and_mount(cluster: &Cluster, node: &str, device: &str) -> Result<()> {
    cluster.must_exec(node, &["mkfs.ext4", "-q", "-E", "nodiscard", device])?;
    mount(cluster, node, device)
}

/// Mounts the file system on a device.
pub fn mount(cluster: &Cluster, node: &str, device: &str) -> Result<()> {
    cluster.must_exec(node, &["mkdir", "-p", MOUNT_POINT])?;
    cluster.must_exec(node, &["mount", device, MOUNT_POINT])?;
    Ok(())
}

/// Checks in a node that every acknowledged record is there, and returns how many whole ones follow them.
pub fn verify_records(cluster: &Cluster, node: &str, acknowledged: u64) -> Result<u64> {
    let program = cluster.program("hawser-records");
    let said = cluster
        .must_exec(node, &[&program.to_string_lossy(), "verify", RECORDS, &acknowledged.to_string()])?;
    let beyond = said.split_whitespace().nth(3).and_then(|word| word.parse().ok());
    beyond.with_context(|| format!("the check of the records said: {said}"))
}

/// Disk state of the replica on `node` in the cluster's words, if it is known.
pub fn disk_state(resource: &Value, node: &str) -> Option<String> {
    let replicas = resource["replicas"].as_array()?;
    let replica = replicas.iter().find(|replica| replica["desired"]["node"] == node)?;
    replica["observed"]["volumes"][0]["disk"].as_str().map(str::to_owned)
}

/// Waits until every replica is UpToDate and none counts as outdated, and says how long it took.
pub fn wait_until_whole(cluster: &Cluster, name: &str, limit: Duration) -> Result<Duration> {
    let began = Instant::now();
    cluster.wait(&format!("{name} to be UpToDate everywhere"), limit, || {
        let resource = resource(cluster, name)?;
        let nodes: Vec<_> = resource["replicas"].as_array().into_iter().flatten().collect();
        let whole = nodes.iter().all(|replica| replica["observed"]["volumes"][0]["disk"] == "up_to_date");
        let behind = resource["desired"]["arbitration"]["outdated"].as_array().is_none_or(Vec::is_empty);
        Ok(if whole && behind {
            Progress::Reached(())
        } else {
            Progress::NotYet(cluster.must(&["resource", "show", name])?)
        })
    })?;
    Ok(began.elapsed())
}

/// What of a resource is left on a node, in words; empty if nothing is.
pub fn left_over(cluster: &Cluster, node: &str, name: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let looks: [(&str, &[&str]); 4] = [
        ("logical volume", &["lvs", "--noheadings", "-o", "lv_name"]),
        ("configuration", &["find", "/var/lib/hawser/satellite/drbd.d", "-name", "*.res"]),
        ("map", &["dmsetup", "ls"]),
        ("DRBD resource", &["drbdsetup", "status"]),
    ];
    for (what, argv) in looks {
        let said = cluster.exec(node, argv)?;
        found.extend(
            said.output
                .lines()
                .filter(|line| line.contains(&format!("{name}.")) || line.contains(&format!("{name}--")))
                .map(|line| format!("{what} on {node}: {}", line.trim())),
        );
    }
    Ok(found)
}

/// Fails if anything of a resource is left on any of the nodes.
pub fn expect_nothing_left(cluster: &Cluster, nodes: &[&str], name: &str) -> Result<()> {
    for node in nodes {
        let left = left_over(cluster, node, name)?;
        ensure!(left.is_empty(), "{}", left.join("; "));
    }
    Ok(())
}
