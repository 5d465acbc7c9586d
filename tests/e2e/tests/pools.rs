//! The main job on every kind of pool but the lab's usual one, with the same records compared.

use anyhow::{Result, ensure};
use hawser_e2e::cluster::{Cluster, lab_or_skipped};
use hawser_e2e::narrator::Narrator;
use hawser_e2e::stories::{Place, main_job};
use hawser_lab::cluster::VOLUME_GROUP;

const NODES: [&str; 3] = ["n1", "n2", "n3"];
/// On the nodes' state disk, which has ext4.
const DIRECTORY: &str = "/state/volumes";
/// The links to its volumes.
const LINKS: &str = "/dev/hawser/*";

#[test]
fn the_main_job_is_done_on_every_kind_of_pool() -> Result<()> {
    if !lab_or_skipped() {
        return Ok(());
    }
    let cluster = Cluster::up("pools", 3)?;
    let narrator = Narrator::new();
    // The lab's thin pool leaves a twentieth of its volume group.
    let group = VOLUME_GROUP;
    for node in NODES {
        cluster.must(&["pool", "create", node, "cut", "--lvm", group])?;
    }
    main_job(&cluster, Place { pool: "cut", size_mib: 256, reads_zero: false }, &narrator)?;

    for node in NODES {
        cluster.must_exec(node, &["mkdir", DIRECTORY])?;
        cluster.must(&["pool", "create", node, "files", "--directory", DIRECTORY])?;
    }
    main_job(&cluster, Place { pool: "files", size_mib: 256, reads_zero: true }, &narrator)?;
    for node in NODES {
        let left = [
            &["ls", "-A", DIRECTORY][..],
            &["losetup", "--list", "--noheadings"],
            &["find", "/dev", "-path", LINKS, "-type", "l"],
        ];
        for look in left {
            let said = cluster.must_exec(node, look)?;
            ensure!(said.trim().is_empty(), "`{}` on {node} still shows {said}", look.join(" "));
        }
    }
    Ok(())
}
