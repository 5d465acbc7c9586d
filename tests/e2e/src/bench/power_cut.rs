//! The Primary's node, which leads Raft too, loses its power; the attachment on the survivor is asked for at once,
//! and the clock stops when the file system is mounted there.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Figures, milliseconds};
use crate::cluster::{Cluster, Progress};
use crate::stories::written_volume;
use crate::story::{MOUNT_POINT, device, leader, mount, verify_records, wait_until_whole};

pub(super) fn measure(cluster: &Cluster, figures: &mut Figures) -> Result<()> {
    let primary = leader(cluster)?;
    let survivor = if primary == "n1" { "n2" } else { "n1" };
    let name = "power-cut";
    let mut writer = written_volume(cluster, name, "1GiB", [&primary, survivor])?;
    writer.wait_for_more(100, Duration::from_secs(60))?;

    let cut = Instant::now();
    cluster.kill(&primary)?;
    // Refused until the survivor's own kernel has noticed; whoever wants it asks again.
    cluster.wait("the attachment on the survivor", Duration::from_secs(60), || {
        let said = cluster.hawser(&["attachment", "create", name, survivor])?;
        Ok(if said.ok() { Progress::Reached(()) } else { Progress::NotYet(said.error) })
    })?;
    mount(cluster, survivor, &device(cluster, name, survivor)?)?;
    figures.add("attach_after_power_cut_ms", milliseconds(cut.elapsed()), "at most 7500");

    verify_records(cluster, survivor, writer.end())?;
    cluster.start_node(&primary)?;
    wait_until_whole(cluster, name, Duration::from_secs(90))?;
    cluster.must_exec(survivor, &["umount", MOUNT_POINT])?;
    cluster.must(&["attachment", "delete", name, survivor])?;
    cluster.must(&["resource", "delete", name])?;
    Ok(())
}
