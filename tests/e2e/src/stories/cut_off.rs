//! The network is cut instead of the power: from the peer alone, and from everybody.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::written_volume;
use crate::cluster::{Cluster, Progress};
use crate::narrator::{Narrator, seconds};
use crate::story::{
    Holdings, MOUNT_POINT, device, leader, mount, resource, verify_records, wait_until_whole,
};

/// A Primary that is cut from its peer alone goes on, and the peer's take-over is refused. The peer's node
/// leads Raft, so that the Primary's question has to be relayed.
pub fn cut_from_peer(cluster: &Cluster, narrator: &Narrator) -> Result<()> {
    let peer = leader(cluster)?;
    let primary = ["n1", "n2", "n3"].into_iter().find(|node| *node != peer).unwrap_or("n1");
    let name = "one-link";
    let mut writer = written_volume(cluster, name, "256MiB", [primary, &peer])?;
    writer.wait_for_more(50, Duration::from_secs(60))?;

    let cut = Instant::now();
    cluster.partition(primary, Some(&peer))?;
    narrator.say(format!("{primary}, Primary, is cut from its peer {peer}, which leads Raft"));
    let before = writer.wait_until_frozen(Duration::from_millis(500), Duration::from_secs(10))?;
    writer.wait_for_more(1, Duration::from_secs(10))?;
    let paused = cut.elapsed();
    narrator.say(format!("writes go on {} after the cut, at record {}", seconds(paused), before + 1));
    ensure!(paused <= Duration::from_secs(4), "writes went on only {} after the cut", seconds(paused));

    let refused = cluster.hawser(&["attachment", "create", name, &peer])?;
    ensure!(!refused.ok(), "the peer took over while the owner goes on: {}", refused.output);
    narrator.say(format!("the peer's take-over is refused: {}", refused.error.trim()));

    cluster.heal()?;
    let whole = wait_until_whole(cluster, name, Duration::from_secs(60))?;
    narrator.say(format!("the link is back; {peer} is UpToDate {} later", seconds(whole)));
    writer.wait_for_more(10, Duration::from_secs(30))?;

    let all = writer.kill(cluster)?;
    verify_records(cluster, primary, all)?;
    clean_up(cluster, name, primary)
}

/// A Primary that is cut from everybody freezes, its peer takes over, and it comes back without a reboot
/// once its writer is dead. While the writer lives it stays frozen and names it.
pub fn cut_from_everybody(cluster: &Cluster, narrator: &Narrator) -> Result<()> {
    let primary = leader(cluster)?;
    let others: Vec<&str> = ["n1", "n2", "n3"].into_iter().filter(|node| *node != primary).collect();
    let survivor = others[0];
    let name = "alone";
    let mut writer = written_volume(cluster, name, "256MiB", [&primary, survivor])?;
    writer.wait_for_more(50, Duration::from_secs(60))?;

    cluster.partition(&primary, None)?;
    narrator.say(format!("{primary}, Primary and leader, is cut from everybody"));
    let records = writer.wait_until_frozen(Duration::from_secs(2), Duration::from_secs(20))?;
    narrator.say(format!("its writes are frozen after record {records}"));

    cluster.wait("the survivor to take over", Duration::from_secs(30), || {
        let said = cluster.hawser(&["attachment", "create", name, survivor])?;
        Ok(if said.ok() { Progress::Reached(()) } else { Progress::NotYet(said.error) })
    })?;
    mount(cluster, survivor, &device(cluster, name, survivor)?)?;
    let beyond = verify_records(cluster, survivor, records)?;
    ensure!(beyond <= 1, "{beyond} records are there that were never acknowledged");
    narrator.say(format!("{survivor} has taken over; all {records} acknowledged records are there"));
    ensure!(
        writer.acknowledged() == records,
        "the frozen Primary acknowledged {} more records",
        writer.acknowledged() - records
    );

    cluster.heal()?;
    narrator.say(format!("the network is back; the writer on {primary} still lives"));
    let named = cluster.wait("the living writer to be named", Duration::from_secs(30), || {
        let shown = cluster.must(&["resource", "show", name])?;
        Ok(match shown.lines().find(|line| line.contains("hawser-records")) {
            Some(line) => Progress::Reached(line.trim().to_owned()),
            None => Progress::NotYet(shown),
        })
    })?;
    narrator.say(format!("{primary} stays frozen and says why: {named}"));
    ensure!(writer.acknowledged() == records, "the frozen Primary acknowledged a record after the heal");

    cluster.must_exec(&primary, &["pkill", "-9", "hawser-records"])?;
    let whole = wait_until_whole(cluster, name, Duration::from_secs(60))?;
    let acknowledged = writer.end();
    ensure!(acknowledged == records, "the frozen Primary acknowledged record {acknowledged} on its release");
    narrator.say(format!(
        "the writer is dead; {primary} has let go and is UpToDate {} later, without a reboot",
        seconds(whole)
    ));
    ensure!(
        resource(cluster, name)?["desired"]["arbitration"]["owner"] == survivor,
        "the survivor is not the owner any more"
    );
    verify_records(cluster, survivor, records)?;
    cluster.must_exec(&primary, &["umount", "-l", MOUNT_POINT])?;
    clean_up(cluster, name, survivor)
}

fn clean_up(cluster: &Cluster, name: &str, node: &str) -> Result<()> {
    let holdings = Holdings::of(cluster, name)?;
    cluster.must_exec(node, &["umount", MOUNT_POINT])?;
    cluster.must(&["attachment", "delete", name, node])?;
    cluster.must(&["resource", "delete", name])?;
    holdings.expect_gone(cluster, &["n1", "n2", "n3"])
}
