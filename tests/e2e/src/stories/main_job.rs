//! The main job: a volume outlives the power cut of the node that is Raft leader and Primary.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hawser_lab::cluster::POOL;
use hawser_proto::sizes;

use crate::cluster::{Cluster, Progress};
use crate::narrator::{Narrator, seconds};
use crate::story::{
    Holdings, MOUNT_POINT, RECORDS, device, format_and_mount, leader, mount, verify_records, wait_until_whole,
};
use crate::writer::Writer;

/// A crashed Primary that catches up by its bitmap needs less: what was written meanwhile and lately.
const MOST_BY_BITMAP_KIB: u64 = 256 * 1024;

/// Where the volume of the main job lies.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// A pool of this name on each node.
    pub pool: &'a str,
    /// Size of the volume.
    pub size_mib: u64,
    /// Whether new volumes of that pool read zero, so that replicas are equal from the start.
    pub reads_zero: bool,
}

impl Place<'_> {
    /// The pool that every lab has.
    pub const THIN: Place<'static> = Place { pool: POOL, size_mib: 1024, reads_zero: true };
}

/// What the main job measured.
#[derive(Debug, Clone, Copy)]
pub struct MainJob {
    /// From the request to a volume that is ready on two nodes.
    pub create: Duration,
    /// From the power cut to the next accepted write.
    pub failover: Duration,
    /// From the power cut to the file system mounted on the survivor.
    pub mounted: Duration,
    /// Records acknowledged before the cut.
    pub records: u64,
}

/// Tells the main job on a cluster of three nodes.
pub fn main_job(cluster: &Cluster, place: Place<'_>, narrator: &Narrator) -> Result<MainJob> {
    let primary = leader(cluster)?;
    let others: Vec<&str> = ["n1", "n2", "n3"].into_iter().filter(|node| *node != primary).collect();
    let survivor = others[0];
    let name = "ledger";

    let began = Instant::now();
    let size = format!("{}MiB", place.size_mib);
    let create = ["resource", "create", name, "--size", &size, "--pool", place.pool];
    cluster.must(&[&create[..], &["--node", &primary, "--node", survivor]].concat())?;
    let create = began.elapsed();
    let holdings = Holdings::of(cluster, name)?;
    narrator.say(format!(
        "a volume of {} is ready on {primary} and {survivor} after {}",
        sizes::format(place.size_mib * sizes::MIB),
        seconds(create)
    ));
    let synced = || -> Result<u64> {
        Ok(holdings.received_kib(cluster, &primary)? + holdings.received_kib(cluster, survivor)?)
    };
    if place.reads_zero {
        let synced = synced()?;
        ensure!(synced == 0, "{synced} KiB were sent to make a new volume equal");
        narrator.say("nothing had to be synced");
    }

    cluster.must(&["attachment", "create", name, &primary])?;
    let path = device(cluster, name, &primary)?;
    format_and_mount(cluster, &primary, &path)?;
    narrator.say(format!("attached on {primary}, which leads Raft, too; ext4 made and mounted on {path}"));
    if !place.reads_zero {
        let whole = wait_until_whole(cluster, name, Duration::from_secs(120))?;
        let synced = synced()?;
        // What is written meanwhile is not sent a second time.
        let least = place.size_mib * 1024 * 3 / 4;
        ensure!(synced >= least, "only {synced} KiB were sent to make the copies equal");
        narrator.say(format!("{survivor} has its first copy, {synced} KiB ({})", seconds(whole)));
    }

    let mut writer = Writer::start(cluster, &primary, RECORDS, 0)?;
    writer.wait_for_more(100, Duration::from_secs(60))?;
    narrator.say("records are written, each with a checksum and synced before it counts");

    let cut = Instant::now();
    cluster.kill(&primary)?;
    let records = writer.end();
    narrator.say(format!("{primary} loses its power after record {records}"));

    cluster.wait("a write to be accepted again", Duration::from_secs(30), || {
        let said =
            cluster.hawser(&["--timeout", "1s", "group", "create", "after-the-cut", "--replicas", "2"])?;
        // One that was accepted may be answered too late, and the next try finds what it made.
        let is_accepted = said.ok() || said.error.contains("after-the-cut exists already");
        Ok(if is_accepted { Progress::Reached(()) } else { Progress::NotYet(said.error) })
    })?;
    let failover = cut.elapsed();
    narrator.say(format!("a new leader accepts writes {} after the cut", seconds(failover)));

    cluster.must(&["attachment", "create", name, survivor])?;
    mount(cluster, survivor, &device(cluster, name, survivor)?)?;
    let mounted = cut.elapsed();
    narrator.say(format!("{survivor} has taken over and mounted it {} after the cut", seconds(mounted)));

    let beyond = verify_records(cluster, survivor, records)?;
    ensure!(beyond <= 1, "{beyond} records are there that were never acknowledged");
    narrator.say(format!("all {records} acknowledged records are there"));

    let mut writer = Writer::start(cluster, survivor, RECORDS, records + beyond)?;
    writer.wait_for_more(50, Duration::from_secs(60))?;
    cluster.start_node(&primary)?;
    narrator.say(format!("{primary} has power again; {survivor} goes on writing"));
    let whole = wait_until_whole(cluster, name, Duration::from_secs(90))?;
    // Its kernel counts from its boot on: the resync and what was written meanwhile.
    let received = holdings.received_kib(cluster, &primary)?;
    ensure!(
        received < MOST_BY_BITMAP_KIB.min(place.size_mib * 1024 / 2),
        "{primary} needed {received} KiB to catch up: not by its bitmap"
    );
    narrator.say(format!(
        "{primary} has caught up by its bitmap with {received} KiB and is UpToDate ({})",
        seconds(whole)
    ));

    writer.wait_for_more(10, Duration::from_secs(30))?;
    let all = writer.kill(cluster)?;
    verify_records(cluster, survivor, all)?;
    cluster.must_exec(survivor, &["umount", MOUNT_POINT])?;
    cluster.must(&["attachment", "delete", name, survivor])?;
    cluster.must(&["resource", "delete", name])?;
    cluster.must(&["group", "delete", "after-the-cut"])?;
    holdings.expect_gone(cluster, &["n1", "n2", "n3"]).context("after the volume was deleted")?;
    narrator.say(format!("{all} records later: detached, deleted, nothing is left on any node"));
    Ok(MainJob { create, failover, mounted, records })
}
