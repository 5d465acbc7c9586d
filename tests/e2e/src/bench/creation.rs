//! Create-to-ready of a two-replica volume against the same commands typed by hand, in turn.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{Figures, median, milliseconds};
use crate::cluster::Cluster;

const ROUNDS: u32 = 7;
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/by-hand/create-volume.sh");

pub(super) fn measure(cluster: &Cluster, figures: &mut Figures) -> Result<()> {
    ensure!(Path::new(SCRIPT).exists(), "{SCRIPT} is missing: run the benchmark from its checkout");
    let (mut ours, mut by_hand) = (Vec::new(), Vec::new());
    // The first round of each fills caches and does not count.
    for round in 0..=ROUNDS {
        let hand = typed_by_hand(cluster, round)?;
        let hawser = created(cluster, round)?;
        if round > 0 {
            by_hand.push(hand);
            ours.push(hawser);
        }
    }
    let (ours, by_hand) = (median(&mut ours), median(&mut by_hand));
    figures.add("create_by_hand_ms", milliseconds(by_hand), "-");
    figures.add("create_ms", milliseconds(ours), "-");
    figures.add("create_ratio", ours.as_secs_f64() / by_hand.as_secs_f64(), "<= 1.3, at most 1.5");
    Ok(())
}

fn created(cluster: &Cluster, round: u32) -> Result<Duration> {
    let name = format!("created-{round}");
    let began = Instant::now();
    cluster.must(&["resource", "create", &name, "--size", "1GiB", "--node", "n1", "--node", "n2"])?;
    let took = began.elapsed();
    cluster.must(&["resource", "delete", &name])?;
    Ok(took)
}

/// Runs the script on both nodes at once, as two people would.
fn typed_by_hand(cluster: &Cluster, round: u32) -> Result<Duration> {
    let minor = (40_000 + round).to_string();
    let port = (8100 + round).to_string();
    let name = format!("by-hand-{round}");
    let on_both = |action: &str| -> Result<Duration> {
        let began = Instant::now();
        let children =
            ["n1", "n2"].map(|node| cluster.start(node, &["bash", SCRIPT, action, &name, &minor, &port]));
        for child in children {
            let ended = child?.wait_with_output()?;
            let words = String::from_utf8_lossy(&ended.stderr);
            ensure!(ended.status.success(), "{SCRIPT} {action} failed: {words}");
        }
        Ok(began.elapsed())
    };
    let took = on_both("create").context("by hand")?;
    on_both("delete").context("by hand")?;
    Ok(took)
}
