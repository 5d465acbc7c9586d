//! The volume of a life: written to and compared, record by record, on what lies below DRBD on every node that has a
//! replica.
//!
//! It must never change what it compares, nor ask DRBD whether the copies are equal.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use hawser_lab::cluster::VOLUME_GROUP;

use super::interrupt::Outcome;
use crate::cluster::{Cluster, Progress};
use crate::story::{device, resource, wait_until_whole};
use crate::writer::Writer;

/// A sync of the whole volume, after a node has booted.
const LIMIT: Duration = Duration::from_secs(90);

/// A volume, and what it has acknowledged.
pub(super) struct Volume {
    pub(super) name: String,
    /// Number of the last record that was acknowledged.
    acknowledged: u64,
}

/// A writer at work on a node.
pub(super) struct Writing {
    node: &'static str,
    writer: Writer,
}

impl Volume {
    pub(super) fn new(name: String) -> Self {
        Self { name, acknowledged: 0 }
    }

    /// Starts to write where it is attached, after having read there what was acknowledged.
    pub(super) fn write(&mut self, cluster: &Cluster, node: &'static str) -> Result<Writing> {
        let gate = self.gate(cluster, node)?;
        self.acknowledged += self.verify(cluster, node, &gate)?;
        let mut writer = Writer::start(cluster, node, &gate, self.acknowledged)?;
        writer.wait_for_more(5, LIMIT)?;
        Ok(Writing { node, writer })
    }

    /// Fails unless the writer goes on, or, where its node lost the power, can go on with everything it had
    /// acknowledged.
    pub(super) fn goes_on(
        &mut self,
        cluster: &Cluster,
        writing: Writing,
        cut: Option<&Outcome>,
    ) -> Result<Writing> {
        let Writing { node, mut writer } = writing;
        if cut.is_some_and(|outcome| outcome.node == node) {
            self.acknowledged = writer.end();
            return self.write(cluster, node).with_context(|| format!("after the power cut of {node}"));
        }
        writer.wait_for_more(5, LIMIT).with_context(|| format!("the writer on {node}"))?;
        self.acknowledged = writer.acknowledged();
        Ok(Writing { node, writer })
    }

    /// Ends the writer.
    pub(super) fn stop(&mut self, cluster: &Cluster, writing: Writing) -> Result<()> {
        self.acknowledged = writing.writer.kill(cluster)?;
        Ok(())
    }

    /// Waits until all replicas are UpToDate, and reads every acknowledged record on each of them.
    pub(super) fn compare(&self, cluster: &Cluster) -> Result<()> {
        wait_until_whole(cluster, &self.name, LIMIT)?;
        let shown = resource(cluster, &self.name)?;
        let replicas = shown["replicas"].as_array().context("a resource without replicas")?;
        let group = VOLUME_GROUP;
        std::thread::scope(|scope| {
            let looks: Vec<_> = replicas
                .iter()
                .map(|replica| {
                    scope.spawn(move || {
                        let desired = &replica["desired"];
                        let node = desired["node"].as_str().context("a replica without a node")?;
                        let volume = desired["backing_volumes"][0]["name"].as_str();
                        let volume = volume.with_context(|| format!("no volume on {node}"))?;
                        let path = format!("/dev/mapper/{group}-{}", volume.replace('-', "--"));
                        self.verify(cluster, node, &path).with_context(|| format!("the copy on {node}"))
                    })
                })
                .collect();
            for look in looks {
                look.join().map_err(|_| anyhow!("a look at a copy panicked"))??;
            }
            Ok(())
        })
    }

    /// Reads the acknowledged records from the disk, not from memory, and returns how many whole ones follow.
    fn verify(&self, cluster: &Cluster, node: &str, path: &str) -> Result<u64> {
        let program = cluster.program("hawser-records");
        cluster.must_exec(node, &["blockdev", "--flushbufs", path])?;
        let said = cluster
            .must_exec(node, &[&program.to_string_lossy(), "verify", path, &self.acknowledged.to_string()])?;
        let beyond = said.split_whitespace().nth(3).and_then(|word| word.parse().ok());
        beyond.with_context(|| format!("the check of the records said: {said}"))
    }

    /// The path of the open gate. Opened sooner, it would be made as a file.
    fn gate(&self, cluster: &Cluster, node: &str) -> Result<String> {
        cluster.wait(&format!("the gate of {} on {node} to be open", self.name), LIMIT, || {
            let path = device(cluster, &self.name, node)?;
            let there = cluster.exec(node, &["test", "-b", &path])?.ok();
            let shown = || cluster.must(&["resource", "show", &self.name]);
            Ok(if there { Progress::Reached(path) } else { Progress::NotYet(shown()?) })
        })
    }

    /// Fails unless there is something to compare.
    pub(super) fn expect_records(&self) -> Result<()> {
        ensure!(self.acknowledged > 0, "{} was never written to", self.name);
        Ok(())
    }
}
