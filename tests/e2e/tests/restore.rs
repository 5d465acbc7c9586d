//! All controllers and their disks are lost. The cluster is restored from a backup that is older than a volume which
//! somebody writes to all the while, and than the deletion of another.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hawser_e2e::cluster::{Cluster, Progress, lab_or_skipped};
use hawser_e2e::stories::written_volume;
use hawser_e2e::story::{MOUNT_POINT, leader, verify_records, wait_until_whole};
use serde_json::Value;

const NODES: [&str; 3] = ["n1", "n2", "n3"];
const LIMIT: Duration = Duration::from_secs(90);
const CONTROLLER: &str = "hawser-controller";
const DATA: &str = "/var/lib/hawser/controller";

#[test]
fn a_cluster_is_restored_from_an_older_backup_and_touches_nothing_newer() -> Result<()> {
    if !lab_or_skipped() {
        return Ok(());
    }
    let cluster = Cluster::up("restore", 3)?;
    leader(&cluster)?;
    let place = tempfile::tempdir()?;

    // Given a backup with two volumes, of which one is deleted since, and a third that was made and is written to.
    for (name, nodes) in [("kept", ["n2", "n3"]), ("gone", ["n1", "n3"])] {
        let [first, second] = nodes;
        cluster.must(&["resource", "create", name, "--size", "64MiB", "--node", first, "--node", second])?;
    }
    let said = hawser_in(&cluster, place.path(), &["cluster", "backup", "lab.backup"])?;
    ensure!(said.contains("lineage 1") && said.contains("2 resources"), "{said}");
    cluster.must(&["resource", "delete", "gone"])?;
    cluster.must(&["attachment", "create", "kept", "n3"])?;
    let [writes, mirrors] = ["n1", "n2"];
    let mut writer = written_volume(&cluster, "newer", "256MiB", [writes, mirrors])?;
    writer.wait_for_more(20, LIMIT)?;
    let newer = cluster.json(&["resource", "show", "newer"])?;
    let minor = newer["desired"]["volumes"][0]["minor"].clone();
    let port = port_on(&newer, writes)?;

    // When all controllers are gone with their disks, and one is restored.
    for node in NODES {
        service(&cluster, node, "stop")?;
        cluster.must_exec(node, &["sh", "-c", &format!("rm -rf {DATA}/*")])?;
    }
    writer.wait_for_more(20, LIMIT)?;
    let authority = cluster.directory().cluster();
    let out = cluster.directory().share().join("restored");
    let (authority, out) = (authority.to_string_lossy(), out.to_string_lossy());
    let restore = ["cluster", "restore", "lab.backup", "--controller", "n1=10.77.0.1:6470"];
    let restore = [&restore[..], &["--directory", &authority, "--out", &out]].concat();
    hawser_in(&cluster, place.path(), &restore)?;
    cluster.must_exec("n1", &["cp", "-r", "-T", "/host/restored", DATA])?;
    satellite(&cluster, "n3", "stop")?;
    service(&cluster, "n1", "start")?;

    // Then nothing is removed and nothing handed out, as long as one node has not said what it holds.
    cluster.wait("the restored cluster to wait for n3", LIMIT, || {
        let said = cluster.hawser(&["cluster", "status", "-o", "json"])?;
        let status: Value = serde_json::from_str(&said.output).unwrap_or_default();
        Ok(if status["waits_for_nodes"] == serde_json::json!(["n3"]) {
            Progress::Reached(())
        } else {
            Progress::NotYet(format!("{}{}", said.output, said.error))
        })
    })?;
    for change in [&["resource", "delete", "kept"][..], &["resource", "create", "early", "--size", "64MiB"]] {
        let refused = cluster.hawser(change)?;
        ensure!(refused.error.contains("it waits for n3"), "{change:?}: {}{}", refused.output, refused.error);
    }
    writer.wait_for_more(20, LIMIT)?;
    satellite(&cluster, "n3", "start")?;

    // And it settles once every node has said what it holds, and shows what it does not know.
    cluster.wait("the restored cluster to settle", LIMIT, || {
        let said = cluster.hawser(&["cluster", "status", "-o", "json"])?;
        let status: Value = serde_json::from_str(&said.output).unwrap_or_default();
        let waits = status["waits_for_nodes"].as_array().is_none_or(|nodes| !nodes.is_empty());
        Ok(if waits || status["has_quorum"] != true {
            Progress::NotYet(format!("{}{}", said.output, said.error))
        } else {
            Progress::Reached(())
        })
    })?;
    let status = cluster.must(&["cluster", "status"])?;
    ensure!(
        status.contains("lineage  2") && status.contains("2 replicas that were made after the backup"),
        "{status}"
    );
    let unknown = cluster.wait("the sight of what is unknown", LIMIT, || {
        let unknown = cluster.json(&["cluster", "unknown"])?;
        let items = unknown["items"].as_array().cloned().unwrap_or_default();
        let seen = items.iter().filter(|item| item["presence"] == "present").count();
        Ok(if seen == 2 { Progress::Reached(items) } else { Progress::NotYet(unknown.to_string()) })
    })?;
    let held: Vec<_> = unknown.iter().map(|item| (&item["resource"], &item["node"])).collect();
    ensure!(held == [(&"newer".into(), &writes.into()), (&"newer".into(), &mirrors.into())], "{unknown:?}");
    writer.wait_for_more(20, LIMIT)?;

    // Its name and numbers are not handed out.
    let nodes = ["--node", writes, "--node", mirrors];
    let refused =
        cluster.hawser(&[&["resource", "create", "newer", "--size", "64MiB"], &nodes[..]].concat())?;
    ensure!(refused.error.contains("was made after the backup"), "{}{}", refused.output, refused.error);
    cluster.must(&[&["resource", "create", "next", "--size", "64MiB"], &nodes[..]].concat())?;
    let next = cluster.json(&["resource", "show", "next"])?;
    ensure!(next["desired"]["volumes"][0]["minor"] != minor, "{next}");
    ensure!(port_on(&next, writes)? != port, "{next}");
    writer.wait_for_more(20, LIMIT)?;

    // What was deleted since says so, is not made again, and can be deleted for good.
    let gone = cluster.must(&["resource", "show", "gone"])?;
    ensure!(gone.contains("removed since the backup"), "{gone}");
    for node in ["n1", "n3"] {
        let volumes = cluster.must_exec(node, &["lvs", "--noheadings", "-o", "lv_name"])?;
        ensure!(!volumes.contains("gone."), "{node}: {volumes}");
    }
    cluster.must(&["resource", "delete", "gone"])?;

    // What is known goes on, and the others join.
    wait_until_whole(&cluster, "kept", LIMIT)?;
    let refused = cluster.hawser(&["attachment", "create", "kept", "n2"])?;
    ensure!(refused.error.contains("is attached on node n3"), "it was attached since: {}", refused.error);
    cluster.must(&["attachment", "delete", "kept", "n3"])?;
    cluster.must(&["attachment", "create", "kept", "n2"])?;
    cluster.must(&["attachment", "delete", "kept", "n2"])?;
    for (node, address) in [("n2", "10.77.0.2:6470"), ("n3", "10.77.0.3:6470")] {
        let order = cluster.directory().share().join(format!("{node}.json"));
        cluster.must(&["cluster", "add-member", node, address, "--out", &order.to_string_lossy()])?;
        let target = format!("{DATA}/create-store.json");
        cluster.must_exec(node, &["cp", &format!("/host/{node}.json"), &target])?;
        service(&cluster, node, "start")?;
    }
    cluster.wait("three voters", LIMIT, || {
        let status = cluster.json(&["cluster", "status"])?;
        let members = status["members"].as_array().into_iter().flatten();
        let voters = members.filter(|member| member["role"] == "voter").count();
        Ok(if voters == 3 { Progress::Reached(()) } else { Progress::NotYet(status.to_string()) })
    })?;

    // And nothing of the newer volume was touched.
    writer.wait_for_more(20, LIMIT)?;
    let kernel = cluster.must_exec(writes, &["cat", "/proc/drbd"])?;
    ensure!(kernel.contains("cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate"), "{kernel}");
    let acknowledged = writer.kill(&cluster)?;
    verify_records(&cluster, writes, acknowledged)?;
    cluster.must_exec(writes, &["umount", MOUNT_POINT])?;
    Ok(())
}

fn port_on(resource: &Value, node: &str) -> Result<u64> {
    let mut replicas = resource["replicas"].as_array().into_iter().flatten();
    let replica = replicas.find(|replica| replica["desired"]["node"] == node);
    replica.and_then(|it| it["desired"]["port"].as_u64()).with_context(|| format!("no port in {resource}"))
}

fn hawser_in(cluster: &Cluster, place: &Path, arguments: &[&str]) -> Result<String> {
    let said = cluster.hawser_in(place, arguments)?;
    ensure!(said.ok(), "hawser {} failed: {}{}", arguments.join(" "), said.output, said.error);
    Ok(said.output)
}

fn service(cluster: &Cluster, node: &str, change: &str) -> Result<()> {
    change_service(cluster, node, change, CONTROLLER)
}

fn satellite(cluster: &Cluster, node: &str, change: &str) -> Result<()> {
    change_service(cluster, node, change, "hawser-satellite")
}

fn change_service(cluster: &Cluster, node: &str, change: &str, service: &str) -> Result<()> {
    let said = cluster.hawser_lab(&["service", node, change, service])?;
    ensure!(said.ok(), "{service} of {node}: {}{}", said.output, said.error);
    Ok(())
}
