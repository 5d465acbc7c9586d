//! Resident memory of controller and satellite in a cluster that holds nothing yet.

use anyhow::{Context, Result};

use super::Figures;
use crate::cluster::Cluster;

pub(super) fn measure(cluster: &Cluster, figures: &mut Figures) -> Result<()> {
    figures.add("controller_rss_mib_empty", largest(cluster, "hawser-controller")?, "<= 50");
    figures.add("satellite_rss_mib", largest(cluster, "hawser-satellite")?, "<= 30");
    Ok(())
}

/// The largest over all nodes, in MiB.
fn largest(cluster: &Cluster, program: &str) -> Result<f64> {
    let mut largest = 0.0_f64;
    for node in ["n1", "n2", "n3"] {
        let pid = cluster.must_exec(node, &["pgrep", "-o", "-f", &format!("{program}$")])?;
        let status = cluster.must_exec(node, &["cat", &format!("/proc/{}/status", pid.trim())])?;
        largest = largest.max(resident_mib(&status).with_context(|| format!("{program} on {node}"))?);
    }
    Ok(largest)
}

/// Resident memory in MiB, from a process' `/proc/PID/status` (proc(5)).
pub(super) fn resident_mib(status: &str) -> Result<f64> {
    let kibibytes: f64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .with_context(|| format!("there is no VmRSS in {status:?}"))?;
    Ok(kibibytes / 1024.0)
}
