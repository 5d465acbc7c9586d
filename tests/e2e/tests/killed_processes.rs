//! Kill -9 of each process, one after another, in the middle of a create and of a delete: each operation
//! finishes or says why it waits, and nothing is left behind.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hawser_e2e::cluster::{Cluster, Progress, lab_or_skipped};
use hawser_e2e::story::{expect_nothing_left, leader};

const NODES: [&str; 3] = ["n1", "n2", "n3"];

#[test]
fn a_killed_process_leaves_no_operation_stuck_and_nothing_behind() -> Result<()> {
    if !lab_or_skipped() {
        return Ok(());
    }
    let cluster = Cluster::up("kills", 3)?;
    for program in ["hawser-controller", "hawser-satellite"] {
        for node in NODES {
            let name = format!("{}-{node}", program.trim_start_matches("hawser-"));
            let leads = leader(&cluster)? == node;

            // When the process is killed while the operation is on its way.
            let create = operation(
                &cluster,
                &["resource", "create", &name, "--size", "64MiB", "--node", "n1", "--node", "n2"],
            )?;
            kill(&cluster, node, program)?;
            ended(&cluster, &create)?;
            let delete = operation(&cluster, &["resource", "delete", &name])?;
            kill(&cluster, node, program)?;
            ended(&cluster, &delete)?;

            // Then nothing is left, and the next one is not hindered.
            expect_nothing_left(&cluster, &NODES, &name)
                .with_context(|| format!("{program} killed on {node} (leading: {leads})"))?;
        }
    }
    Ok(())
}

/// Starts an operation without waiting for it and returns its id.
fn operation(cluster: &Cluster, arguments: &[&str]) -> Result<String> {
    let mut all = vec!["--no-wait"];
    all.extend(arguments);
    let answer = cluster.json(&all)?;
    answer["operation"].as_u64().map(|id| id.to_string()).with_context(|| format!("no operation in {answer}"))
}

fn kill(cluster: &Cluster, node: &str, program: &str) -> Result<()> {
    cluster.must_exec(node, &["pkill", "-9", "-f", &format!("{program}$")])?;
    Ok(())
}

/// The operation has succeeded; until then it may wait, but never without a reason for long.
fn ended(cluster: &Cluster, id: &str) -> Result<()> {
    cluster.wait(&format!("operation {id} to end"), Duration::from_secs(60), || {
        let said = cluster.hawser(&["operation", "show", id, "-o", "json"])?;
        let shown: serde_json::Value = serde_json::from_str(&said.output).unwrap_or_default();
        ensure!(shown["state"] != "failed", "operation {id} failed: {shown}");
        Ok(if shown["state"] == "succeeded" {
            Progress::Reached(())
        } else {
            Progress::NotYet(format!("{}{}", said.output, said.error))
        })
    })
}
