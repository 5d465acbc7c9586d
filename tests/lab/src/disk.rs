//! The data disk of a node, which can be made to fail: under its volume group lies a linear device-mapper map, whose
//! table is exchanged while it is in use.
//!
//! It must never touch the disk itself: what is on it is there again when it is mended.

use crate::error::LabError;
use crate::lab::Lab;

/// The disk as the node's kernel has it. Nothing in a node uses it but the map.
pub const DISK: &str = "/dev/ubdb";
/// The name of the map.
pub const MAP: &str = "disk-data";
/// What a node's volume group lies on.
pub const DEVICE: &str = "/dev/mapper/disk-data";
/// How many sectors the disk has, in the node.
pub(crate) const SIZE_FILE: &str = "/sys/block/ubdb/size";

/// The table of a disk that works.
pub(crate) fn working(sectors: &str) -> String {
    format!("0 {sectors} linear {DISK} 0")
}

/// The table of a disk that fails.
fn failing(sectors: &str) -> String {
    format!("0 {sectors} error")
}

impl Lab {
    /// Lets the data disk of a node fail: each read and write of it ends with an error, until it is mended or the node
    /// boots.
    ///
    /// # Errors
    /// That the node is unknown or not running, or the words of the tool that failed.
    pub async fn fail_disk(&self, node: &str) -> Result<(), LabError> {
        self.exchange(node, failing).await
    }

    /// Lets a data disk that failed work again, with what was on it.
    ///
    /// # Errors
    /// As [`Self::fail_disk`].
    pub async fn mend_disk(&self, node: &str) -> Result<(), LabError> {
        self.exchange(node, working).await
    }

    async fn exchange(&self, node: &str, table: impl Fn(&str) -> String) -> Result<(), LabError> {
        let sectors = self.must(node, &["cat", SIZE_FILE]).await?;
        self.must(node, &["dmsetup", "reload", MAP, "--table", &table(sectors.trim())]).await?;
        // Without a flush: it would wait for what the layers above have under way.
        self.must(node, &["dmsetup", "resume", "--noflush", "--nolockfs", MAP]).await.map(drop)
    }

    async fn must(&self, node: &str, arguments: &[&str]) -> Result<String, LabError> {
        let finished = self.exec(node, arguments).await?;
        if finished.code == 0 {
            return Ok(finished.text());
        }
        let words = String::from_utf8_lossy(&finished.error_output).trim().to_owned();
        Err(LabError::Refused(format!("{} failed on node {node}: {words}", arguments.join(" "))))
    }
}
