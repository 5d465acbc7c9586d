//! What helper and satellite say to each other: one line of JSON each way.
//!
//! Both ends are the same program, but not always the same version: fields are only ever added.

use serde::{Deserialize, Serialize};

/// Role of this node when the kernel called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AskedAs {
    /// It is Primary: I/O is frozen until there is an answer.
    Primary,
    /// It is being promoted: the kernel holds the resource's lock.
    Secondary,
    /// The helper could not tell.
    Unknown,
}

/// What the helper asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FenceQuestion {
    /// Name of the DRBD resource.
    pub resource: String,
    /// `uname -n` of the peer, where the kernel named one.
    pub peer: Option<String>,
    /// Role of this node.
    pub role: AskedAs,
}

/// What the satellite answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FenceAnswer {
    /// The peer is outdated: go on.
    pub outdated: bool,
    /// Why, for the log.
    pub reason: String,
}

/// The longest line that either end reads.
pub(crate) const LONGEST_LINE: u64 = 4096;
