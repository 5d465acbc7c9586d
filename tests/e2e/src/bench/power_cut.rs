//! The Primary's node loses its power; the time until the file system is mounted on the survivor.

use anyhow::Result;

use super::{Figures, milliseconds};
use crate::cluster::Cluster;
use crate::narrator::Narrator;
use crate::stories::main_job;

pub(super) fn measure(cluster: &Cluster, figures: &mut Figures) -> Result<()> {
    let job = main_job(cluster, &Narrator::new())?;
    figures.add("attach_after_power_cut_ms", milliseconds(job.mounted), "at most 7500");
    Ok(())
}
