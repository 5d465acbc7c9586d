//! Create-to-ready of a two-replica volume against the same commands typed by hand, in turn.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hawser_lab::cluster::{POOL, VOLUME_GROUP};
use serde_json::Value;

use super::{Figures, median, milliseconds};
use crate::cluster::{Cluster, Progress};

const ROUNDS: u32 = 7;
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/by-hand/create-volume.sh");

/// What volumes are made in.
struct Kind {
    /// The script's word for it.
    word: &'static str,
    pool: &'static str,
    size: &'static str,
    /// What the names of its figures end with.
    suffix: &'static str,
    /// Beyond the minors and ports of the other kind.
    offset: u32,
}

const THIN: Kind = Kind { word: "thin", pool: POOL, size: "1GiB", suffix: "", offset: 0 };
/// What the thin pool leaves of its volume group has room for one volume of this size.
const GROUP: Kind = Kind { word: "group", pool: "group", size: "256MiB", suffix: "_thick", offset: 100 };

/// What a volume group has free when nothing is in it but the thin pool; at least.
const ROOM: u64 = 400 << 20;

pub(super) fn measure(cluster: &Cluster, figures: &mut Figures) -> Result<()> {
    ensure!(Path::new(SCRIPT).exists(), "{SCRIPT} is missing: run the benchmark from its checkout");
    measure_in(&THIN, cluster, figures)?;
    let group = VOLUME_GROUP;
    for node in ["n1", "n2"] {
        cluster.must(&["pool", "create", node, GROUP.pool, "--lvm", group])?;
    }
    measure_in(&GROUP, cluster, figures)?;
    for node in ["n1", "n2"] {
        cluster.must(&["pool", "delete", node, GROUP.pool])?;
    }
    Ok(())
}

fn measure_in(kind: &Kind, cluster: &Cluster, figures: &mut Figures) -> Result<()> {
    let (mut ours, mut by_hand) = (Vec::new(), Vec::new());
    // The first round of each fills caches and does not count.
    for round in 0..=ROUNDS {
        let hand = typed_by_hand(kind, cluster, round)?;
        let hawser = created(kind, cluster, round)?;
        if round > 0 {
            by_hand.push(hand);
            ours.push(hawser);
        }
    }
    let (ours, by_hand) = (median(&mut ours), median(&mut by_hand));
    let name = |what: &str| format!("create{what}{}", kind.suffix);
    figures.add(&name("_by_hand_ms"), milliseconds(by_hand), "-");
    figures.add(&name("_ms"), milliseconds(ours), "-");
    figures.add(&name("_ratio"), ours.as_secs_f64() / by_hand.as_secs_f64(), "<= 1.3");
    Ok(())
}

fn created(kind: &Kind, cluster: &Cluster, round: u32) -> Result<Duration> {
    let name = format!("created-{round}");
    if kind.pool != POOL {
        // A node tells in its own time of the room that was freed, also by hand.
        cluster.wait("the pool to have room again", Duration::from_secs(30), || {
            let pools = cluster.json(&["pool", "list"])?;
            let enough = |bytes: &Value| bytes.as_u64().is_some_and(|bytes| bytes >= ROOM);
            let has_room = |pool: &Value| {
                pool["desired"]["name"] != kind.pool
                    || (enough(&pool["desired"]["capacity_bytes"]) && enough(&pool["observed"]["free_bytes"]))
            };
            let all = pools["items"].as_array().is_some_and(|pools| pools.iter().all(has_room));
            Ok(if all { Progress::Reached(()) } else { Progress::NotYet(pools.to_string()) })
        })?;
    }
    let began = Instant::now();
    let create = ["resource", "create", &name, "--size", kind.size, "--pool", kind.pool];
    cluster.must(&[&create[..], &["--node", "n1", "--node", "n2"]].concat())?;
    let took = began.elapsed();
    cluster.must(&["resource", "delete", &name])?;
    Ok(took)
}

/// Runs the script on both nodes at once, as two people would.
fn typed_by_hand(kind: &Kind, cluster: &Cluster, round: u32) -> Result<Duration> {
    let minor = (40_000 + kind.offset + round).to_string();
    let port = (8100 + kind.offset + round).to_string();
    let name = format!("by-hand-{}-{round}", kind.word);
    let on_both = |action: &str| -> Result<Duration> {
        let began = Instant::now();
        let typed = ["bash", SCRIPT, action, &name, &minor, &port, kind.word];
        let children = ["n1", "n2"].map(|node| cluster.start(node, &typed));
        for child in children {
            let ended = child?.wait_with_output()?;
            let words = String::from_utf8_lossy(&ended.stderr);
            ensure!(ended.status.success(), "{SCRIPT} {action} failed: {words}");
        }
        Ok(began.elapsed())
    };
    let took = on_both("create").context("by hand")?;
    on_both("delete").context("by hand")?;
    Ok(took)
}
