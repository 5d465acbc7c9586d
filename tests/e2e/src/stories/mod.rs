//! Whole stories, told by the demo and checked by the tests.

mod cut_off;
mod main_job;

pub use cut_off::{cut_from_everybody, cut_from_peer};
pub use main_job::{MainJob, Place, main_job};

use anyhow::Result;

use crate::cluster::Cluster;
use crate::story::{RECORDS, device, format_and_mount};
use crate::writer::Writer;

/// Makes a two-replica volume on `nodes`, attaches it on the first, puts ext4 on it and starts a writer.
pub fn written_volume(cluster: &Cluster, name: &str, size: &str, nodes: [&str; 2]) -> Result<Writer> {
    cluster.must(&["resource", "create", name, "--size", size, "--node", nodes[0], "--node", nodes[1]])?;
    cluster.must(&["attachment", "create", name, nodes[0]])?;
    format_and_mount(cluster, nodes[0], &device(cluster, name, nodes[0])?)?;
    Writer::start(cluster, nodes[0], RECORDS, 0)
}
