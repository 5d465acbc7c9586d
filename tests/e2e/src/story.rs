//! The pieces that stories are made of: a volume with a file system and a writer, and what is seen of it.
//!
//! Everything is asked of `hawser` and of the nodes' own tools. A piece must never change what it only
//! has to look at.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;

use crate::cluster::{Cluster, Progress};

/// Where a story mounts its file system in a node.
pub const MOUNT_POINT: &str = "/mnt/hawser";
/// The file of records on it.
pub const RECORDS: &str = "/mnt/hawser/records";

/// The controller that leads, as the cluster's members say.
pub fn leader(cluster: &Cluster) -> Result<String> {
    cluster.wait("a leader", Duration::from_secs(20), || {
        let said = cluster.hawser(&["cluster", "status", "-o", "json"])?;
        let status: Value = serde_json::from_str(&said.output).unwrap_or_default();
        Ok(match status["leader"].as_str() {
            Some(name) => Progress::Reached(name.to_owned()),
            None => Progress::NotYet(format!("{}{}", said.output, said.error)),
        })
    })
}

/// What `hawser resource show` says in JSON.
pub fn resource(cluster: &Cluster, name: &str) -> Result<Value> {
    cluster.json(&["resource", "show", name])
}

/// The device that consumers of an attached resource open.
pub fn device(cluster: &Cluster, name: &str, node: &str) -> Result<String> {
    let list = cluster.json(&["attachment", "list"])?;
    let items = list["items"].as_array().context("attachment list has no items")?;
    let found = items
        .iter()
        .find(|item| item["desired"]["resource"] == name && item["desired"]["node"] == node)
        .and_then(|item| item["device_paths"][0].as_str());
    found.map(str::to_owned).with_context(|| format!("{name} is not attached on {node}: {list}"))
}

/// Puts ext4 on a device and mounts it.
pub fn format_and_mount(cluster: &Cluster, node: &str, device: &str) -> Result<()> {
    cluster.must_exec(node, &["mkfs.ext4", "-q", "-E", "nodiscard", device])?;
    mount(cluster, node, device)
}

/// Mounts the file system on a device.
pub fn mount(cluster: &Cluster, node: &str, device: &str) -> Result<()> {
    cluster.must_exec(node, &["mkdir", "-p", MOUNT_POINT])?;
    cluster.must_exec(node, &["mount", device, MOUNT_POINT])?;
    Ok(())
}

/// Checks in a node that every acknowledged record is there, and returns how many whole ones follow them.
pub fn verify_records(cluster: &Cluster, node: &str, acknowledged: u64) -> Result<u64> {
    let program = cluster.program("hawser-records");
    let said = cluster
        .must_exec(node, &[&program.to_string_lossy(), "verify", RECORDS, &acknowledged.to_string()])?;
    let beyond = said.split_whitespace().nth(3).and_then(|word| word.parse().ok());
    beyond.with_context(|| format!("the check of the records said: {said}"))
}

/// Waits until every replica is UpToDate and none counts as outdated, and says how long it took.
pub fn wait_until_whole(cluster: &Cluster, name: &str, limit: Duration) -> Result<Duration> {
    // DRBD 8.4 connects a rebooted peer to a node that was frozen, thinks better of it, and syncs after all.
    const SETTLED: Duration = Duration::from_secs(2);
    let began = Instant::now();
    let mut since = None;
    let whole_since = cluster.wait(&format!("{name} to be UpToDate everywhere"), limit, || {
        let resource = resource(cluster, name)?;
        let nodes: Vec<_> = resource["replicas"].as_array().into_iter().flatten().collect();
        let whole = nodes.iter().all(|replica| replica["observed"]["volumes"][0]["disk"] == "up_to_date");
        let behind = resource["desired"]["arbitration"]["outdated"].as_array().is_none_or(Vec::is_empty);
        if whole && behind {
            let since = *since.get_or_insert_with(Instant::now);
            if since.elapsed() >= SETTLED {
                return Ok(Progress::Reached(since));
            }
        } else {
            since = None;
        }
        Ok(Progress::NotYet(cluster.must(&["resource", "show", name])?))
    })?;
    Ok(whole_since.duration_since(began))
}

/// Waits until every controller answers, one leads, and every node's satellite and pool are known to it: placement
/// refuses others.
pub fn wait_until_all_are_back(cluster: &Cluster, nodes: usize, limit: Duration) -> Result<()> {
    let every = |list: &Value, known: fn(&Value) -> bool| {
        list.as_array().is_some_and(|items| items.len() == nodes && items.iter().all(known))
    };
    cluster.wait("every controller and satellite to be back", limit, || {
        let said = cluster.hawser(&["cluster", "status", "-o", "json"])?;
        let status: Value = serde_json::from_str(&said.output).unwrap_or_default();
        if status["leader"].is_null() || !every(&status["asked"], |asked| asked["error"].is_null()) {
            return Ok(Progress::NotYet(format!("{}{}", said.output, said.error)));
        }
        let (nodes, pools) = (cluster.json(&["node", "list"])?, cluster.json(&["pool", "list"])?);
        let known = every(&nodes["items"], |node| node["online"] == true)
            && every(&pools["items"], |pool| !pool["observed"].is_null());
        Ok(if known { Progress::Reached(()) } else { Progress::NotYet(format!("{nodes} {pools}")) })
    })
}

/// SHA-256 of a file or device, as its node reads it.
pub fn checksum(cluster: &Cluster, node: &str, path: &str) -> Result<String> {
    let said = cluster.must_exec(node, &["sha256sum", path])?;
    said.split_whitespace().next().map(str::to_owned).context("no checksum")
}

const TCP_SOCKET: &str = "TCP socket";

/// Whether a line of `/proc/net/tcp` is a socket that somebody holds: it has an inode. Without one, the kernel only
/// sends the last words of a connection that is closed, or remembers it for a minute.
fn is_held(line: &str) -> bool {
    line.split_whitespace().nth(9).is_some_and(|inode| inode != "0")
}

/// Fails if anything under the name of a resource is left on any of the nodes. Where the resource was there long
/// enough to be asked, [`Holdings`] looks for its numbers as well.
pub fn expect_nothing_left(cluster: &Cluster, nodes: &[&str], name: &str) -> Result<()> {
    Holdings { name: name.to_owned(), minors: Vec::new(), ports: Vec::new() }.expect_gone(cluster, nodes)
}

/// What a resource holds on its nodes, to be looked for when it is gone.
#[derive(Debug, Clone)]
pub struct Holdings {
    name: String,
    minors: Vec<u64>,
    ports: Vec<u64>,
}

impl Holdings {
    /// Of a resource that is there.
    pub fn of(cluster: &Cluster, name: &str) -> Result<Self> {
        let shown = resource(cluster, name)?;
        let numbers = |objects: &Value, pointer: &str| -> Vec<u64> {
            let objects = objects.as_array().into_iter().flatten();
            objects.filter_map(|object| object.pointer(pointer)?.as_u64()).collect()
        };
        let minors = numbers(&shown["desired"]["volumes"], "/minor");
        let ports = numbers(&shown["replicas"], "/desired/port");
        ensure!(!minors.is_empty() && !ports.is_empty(), "{name} shows no minor or no port: {shown}");
        Ok(Self { name: name.to_owned(), minors, ports })
    }

    /// Fails if anything of it is left on any of the nodes.
    pub fn expect_gone(&self, cluster: &Cluster, nodes: &[&str]) -> Result<()> {
        let left = std::thread::scope(|scope| -> Result<Vec<String>> {
            let looks: Vec<_> =
                nodes.iter().map(|node| scope.spawn(|| self.left_over(cluster, node))).collect();
            let mut all = Vec::new();
            for look in looks {
                all.extend(look.join().map_err(|_| anyhow!("a look at a node panicked"))??);
            }
            Ok(all)
        })?;
        ensure!(left.is_empty(), "{}", left.join("; "));
        Ok(())
    }

    /// What of it is left on a node, in words; empty if nothing is.
    pub fn left_over(&self, cluster: &Cluster, node: &str) -> Result<Vec<String>> {
        let name = &self.name;
        // Names are `<resource>.<incarnation>`; the device mapper doubles the hyphens of LVM's.
        let mut traces = vec![format!("{name}."), format!("{}.", name.replace('-', "--"))];
        traces.extend(self.minors.iter().map(|minor| format!("drbd{minor}")));
        // The kernel lists TCP ports in hexadecimal.
        traces.extend(self.ports.iter().map(|port| format!(":{port:04X} ")));
        let looks: [(&str, &[&str]); 6] = [
            ("logical volume", &["lvs", "--noheadings", "-o", "lv_name"]),
            ("file", &["find", "/var/lib/hawser/satellite/drbd.d", "/etc/drbd.d"]),
            ("map", &["dmsetup", "ls"]),
            ("DRBD object", &["drbdsetup", "events2", "--now", "all"]),
            ("block device", &["ls", "/sys/block"]),
            (TCP_SOCKET, &["cat", "/proc/net/tcp", "/proc/net/tcp6"]),
        ];
        let mut found = Vec::new();
        for (what, argv) in looks {
            let said = cluster.must_exec(node, argv)?;
            let lines = said.lines().filter(|line| {
                traces.iter().any(|trace| line.contains(trace.as_str()))
                    && (what != TCP_SOCKET || is_held(line))
            });
            found.extend(lines.map(|line| format!("{what} on {node}: {}", line.trim())));
        }
        Ok(found)
    }

    /// Data that DRBD on `node` has received from its peer, in KiB, as `nr` in `/proc/drbd` counts it.
    pub fn received_kib(&self, cluster: &Cluster, node: &str) -> Result<u64> {
        let proc_drbd = cluster.must_exec(node, &["cat", "/proc/drbd"])?;
        let minor = format!("{}:", self.minors.first().context("a volume without a minor")?);
        let counters = proc_drbd.lines().skip_while(|line| !line.trim_start().starts_with(&minor)).nth(1);
        counters
            .and_then(|line| line.split_whitespace().find_map(|word| word.strip_prefix("nr:")?.parse().ok()))
            .with_context(|| format!("no counters of minor {minor} on {node}: {proc_drbd}"))
    }
}
