//! The kernel's fence-peer helper, the satellite that answers it, and both are killed with -9 while a Primary
//! is frozen: it goes on by itself after the committed yes.
#![allow(clippy::print_stdout)]

use std::io::Read as _;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hawser_e2e::cluster::{Cluster, lab_or_skipped};
use hawser_e2e::stories::written_volume;
use hawser_e2e::story::{
    MOUNT_POINT, expect_nothing_left, leader, resource, verify_records, wait_until_whole,
};

const NODES: [&str; 3] = ["n1", "n2", "n3"];
/// DRBD's own detection, the pause that is left to a helper, and a satellite's return.
const LIMIT: Duration = Duration::from_secs(40);

/// What is killed while the helper waits for its answer, which it cannot get: the satellite is stopped.
const KILLED: [(&str, &str); 3] = [
    ("the helper", r#"kill -9 $helper; kill -CONT $satellite"#),
    ("the satellite", r#"kill -9 $satellite"#),
    ("the helper and the satellite", r#"kill -9 $helper $satellite"#),
];

#[test]
fn a_frozen_primary_goes_on_although_its_helper_is_killed() -> Result<()> {
    if !lab_or_skipped() {
        return Ok(());
    }
    let cluster = Cluster::up("helper", 3)?;
    let leading = leader(&cluster)?;
    let others: Vec<&str> = NODES.into_iter().filter(|node| *node != leading).collect();
    let [primary, peer] = others[..] else { anyhow::bail!("there are not two nodes beside {leading}") };
    let name = "alone";
    let mut writer = written_volume(&cluster, name, "64MiB", [primary, peer])?;

    for (what, kill) in KILLED {
        writer.wait_for_more(20, Duration::from_secs(60))?;
        let mut killer = cluster.start(primary, &["timeout", "30", "bash", "-c", &killer(kill)])?;
        let mut word = [0; "ready\n".len()];
        killer.stdout.as_mut().context("the killer has no output")?.read_exact(&mut word)?;

        cluster.partition(primary, Some(peer))?;
        let killed = killer.wait_with_output()?;
        ensure!(
            killed.status.success(),
            "no helper was seen on {primary}: {}",
            String::from_utf8_lossy(&killed.stderr)
        );
        let frozen = writer.acknowledged();
        let paused = writer.wait_for_more(1, LIMIT).with_context(|| format!("{what} was killed"))?;
        println!("{what} killed at record {frozen}: writes went on {:.1} s later", paused.as_secs_f32());

        let outdated = &resource(&cluster, name)?["desired"]["arbitration"]["outdated"];
        ensure!(outdated[0]["node"] == peer, "{primary} went on without {peer} outdated in Raft: {outdated}");
        let refused = cluster.hawser(&["attachment", "create", name, peer])?;
        ensure!(!refused.ok(), "{peer} took over while {primary} goes on: {}", refused.output);

        cluster.heal()?;
        wait_until_whole(&cluster, name, Duration::from_secs(60))?;
    }

    let all = writer.kill(&cluster)?;
    verify_records(&cluster, primary, all)?;
    cluster.must_exec(primary, &["umount", MOUNT_POINT])?;
    cluster.must(&["attachment", "delete", name, primary])?;
    cluster.must(&["resource", "delete", name])?;
    expect_nothing_left(&cluster, &NODES, name)
}

/// Stops the satellite, so that the helper has to wait, and kills once a helper runs. The shell and `drbdadm`
/// between the kernel and the helper have its name in their command lines, too.
fn killer(kill: &str) -> String {
    format!(
        r#"
        satellite=$(pgrep -o -f 'hawser-satellite$')
        kill -STOP $satellite
        echo ready
        until helper=$(pgrep -f '^[^ ]*hawser-(fence-peer|satellite .*fence-peer)'); do :; done
        {kill}
        "#
    )
}
