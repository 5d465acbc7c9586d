//! The log store under power cuts, on ext4 inside a lab node, where that needs no root: with its barrier it
//! loses nothing; with the barrier taken out the same test notices the loss.

use anyhow::{Result, ensure};
use hawser_e2e::cluster::lab_or_skipped;
use hawser_lab::directories::LabDirectory;
use hawser_lab::{Lab, LabOptions};

#[tokio::test]
async fn acknowledged_entries_survive_power_cuts_and_only_with_the_barrier() -> Result<()> {
    if !lab_or_skipped() {
        return Ok(());
    }
    let name = format!("power-cut-{}", std::process::id());
    let options = LabOptions { nodes: 1, ..LabOptions::new(&name) };
    let lab = Lab::up(&options, LabDirectory::named(&name), true).await?;
    let program = options.programs.join("hawser-power-cut").to_string_lossy().into_owned();

    let safe = lab.exec("n1", &[&program]).await?;
    ensure!(safe.code == 0, "entries were lost with the barrier: {}", safe.text());

    let bare = lab.exec("n1", &[&program, "--without-barrier"]).await?;
    ensure!(bare.code == 1, "the test does not notice that the barrier is missing: {}", bare.text());
    lab.down(false).await?;
    Ok(())
}
