//! The satellite's host suite on real kernels: the same cases that its simulated host passes, run by the
//! example `hawser-host-suite` on both sides of a pair of nodes.
#![allow(clippy::print_stdout)]

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hawser_e2e::cluster::lab_or_skipped;
use hawser_lab::cluster::{THIN_POOL, VOLUME_GROUP, make_pool};
use hawser_lab::directories::LabDirectory;
use hawser_lab::{Finished, Lab, LabOptions};

/// Far longer than it takes; without it, two sides that wait for each other would wait for ever.
const LIMIT: Duration = Duration::from_secs(400);

/// On the nodes' state disk, which has ext4.
const DIRECTORY: &str = "/state/volumes";

#[tokio::test]
async fn the_real_host_passes_the_suite_of_the_simulated_one_in_a_thin_pool() -> Result<()> {
    passes_the_suite("thin", ["--lvm-thin", THIN_POOL]).await
}

#[tokio::test]
async fn the_real_host_passes_the_suite_of_the_simulated_one_in_a_volume_group() -> Result<()> {
    let group = VOLUME_GROUP;
    passes_the_suite("group", ["--lvm", group]).await
}

#[tokio::test]
async fn the_real_host_passes_the_suite_of_the_simulated_one_in_a_directory() -> Result<()> {
    passes_the_suite("directory", ["--directory", DIRECTORY]).await
}

async fn passes_the_suite(kind: &str, pool: [&str; 2]) -> Result<()> {
    if !lab_or_skipped() {
        return Ok(());
    }
    let name = format!("host-suite-{kind}-{}", std::process::id());
    let options = LabOptions { nodes: 2, ..LabOptions::new(&name) };
    let program = options.programs.join("examples/hawser-host-suite");
    ensure!(
        program.is_file(),
        "{} is not there; `cargo build --workspace --examples` makes it",
        program.display()
    );
    let lab = Lab::up(&options, LabDirectory::named(&name), true).await?;
    tokio::try_join!(make_pool(&lab, "n1"), make_pool(&lab, "n2"))?;
    std::fs::create_dir(lab.directory().share().join("meetings"))?;

    let side = |node, name| side(&lab, &program, pool, node, name);
    let both = async { tokio::try_join!(side("n1", "a"), side("n2", "b")) };
    let (one, other) = tokio::time::timeout(LIMIT, both)
        .await
        .with_context(|| format!("the suite has not ended within {LIMIT:?}"))??;

    let passed = passed(&one)?;
    ensure!(passed > 0, "the suite has no cases: {}", one.text());
    ensure!(passed == self::passed(&other)?, "one side has run other cases than the other: {}", other.text());
    lab.down(false).await?;
    Ok(())
}

async fn side(lab: &Lab, program: &Path, pool: [&str; 2], node: &str, side: &str) -> Result<Finished> {
    let program = program.to_string_lossy();
    let mut arguments = vec![
        &*program,
        "run",
        "--side",
        side,
        "--shared",
        "/host/meetings",
        "--a",
        "n1=10.77.0.1",
        "--b",
        "n2=10.77.0.2",
        "--interface",
        "vec0",
    ];
    arguments.extend(pool);
    Ok(lab.exec(node, &arguments).await?)
}

/// How many cases a side says to have passed; an error if one has failed.
fn passed(finished: &Finished) -> Result<u32> {
    let said = finished.text();
    println!("{said}");
    let errors = String::from_utf8_lossy(&finished.error_output);
    let summary = said.lines().last().unwrap_or_default();
    let (passed, failed) = summary
        .split_once(" passed, ")
        .with_context(|| format!("the suite ended without its summary: {said}{errors}"))?;
    ensure!(failed == "0 failed" && finished.code == 0, "{said}{errors}");
    Ok(passed.parse()?)
}
