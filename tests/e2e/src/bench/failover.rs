//! The leading controller is killed; the time until a write is accepted again.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Figures, median, milliseconds};
use crate::cluster::{Cluster, Progress};
use crate::story::leader;

const ROUNDS: u32 = 20;

pub(super) fn measure(cluster: &Cluster, figures: &mut Figures) -> Result<()> {
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        wait_for_three(cluster)?;
        let leader = leader(cluster)?;
        let name = format!("failover-{round}");
        // The last one that is told to end is the process itself, so the cut begins when the command ends.
        let began = Instant::now();
        cluster.must_exec(&leader, &["pkill", "-9", "-f", "hawser-controller$"])?;
        cluster.must(&["--timeout", "30s", "group", "create", &name, "--replicas", "2"])?;
        times.push(began.elapsed());
        cluster.must(&["group", "delete", &name])?;
    }
    let longest = times.iter().copied().max().unwrap_or_default();
    figures.add("leader_failover_ms_p50", milliseconds(median(&mut times)), "<= 3000");
    figures.add("leader_failover_ms_max", milliseconds(longest), "p99 <= 1500, at most 3000");
    Ok(())
}

/// The killed controller is back and follows, so that the next round starts from a whole cluster.
fn wait_for_three(cluster: &Cluster) -> Result<()> {
    cluster.wait("three controllers that answer", Duration::from_secs(30), || {
        for node in ["n1", "n2", "n3"] {
            let said =
                cluster.exec(node, &["busybox", "wget", "-q", "-O", "-", "http://127.0.0.1:6471/ready"])?;
            if !said.ok() {
                return Ok(Progress::NotYet(format!("{node}: {}{}", said.output, said.error)));
            }
        }
        Ok(Progress::Reached(()))
    })
}
