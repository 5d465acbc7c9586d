//! The main job and its two network cuts, on real kernels, in one lab.

use anyhow::Result;
use hawser_e2e::cluster::{Cluster, lab_or_skipped};
use hawser_e2e::narrator::Narrator;
use hawser_e2e::stories::{Place, cut_from_everybody, cut_from_peer, main_job};

/// One lab for all three, for booting is what costs time; each story leaves nothing behind.
#[test]
fn acknowledged_records_survive_a_power_cut_and_two_network_cuts() -> Result<()> {
    if !lab_or_skipped() {
        return Ok(());
    }
    let cluster = Cluster::up("main-job", 3)?;
    let narrator = Narrator::new();
    main_job(&cluster, Place::THIN, &narrator)?;
    cut_from_peer(&cluster, &narrator)?;
    cut_from_everybody(&cluster, &narrator)
}
