//! What runs inside a node: its first process, which gives it a root, and the agent, which runs commands and
//! services there. Nothing here may assume anything about the host but what the configuration says.

pub mod agent;
pub mod configuration;
pub mod execute;
pub mod files;
pub mod init;
pub mod root;
pub mod services;
pub mod system;

use std::io::Write;

/// Writes a line to the node's console, which is the host's log file of that node.
pub(crate) fn console(text: std::fmt::Arguments<'_>) {
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds = uptime.split(' ').next().unwrap_or_default();
    // A console that is gone is a node that is being cut off; there is nobody left to tell.
    let _ = writeln!(std::io::stderr(), "[lab {seconds:>6}] {text}");
}
