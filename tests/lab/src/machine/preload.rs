//! What a node's kernel is preloaded with, so that it runs on processors with more extended state than it has room for
//! (`preload/xstate.rs`). It must never reach a program that runs in the node.

use std::path::Path;

use crate::error::{LabError, Tried};

/// The library, in the node's directory.
const FILE: &str = "xstate.so";
/// The variable of the host's dynamic linker, and the library as the kernel sees it from the node's directory: a path
/// with a space or a colon in it would be two (ld.so(8)).
pub const VARIABLE: (&str, &str) = ("LD_PRELOAD", "./xstate.so");

const LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/xstate.so"));

/// Puts the library into the node's directory.
///
/// # Errors
/// When the file cannot be written.
pub fn write(directory: &Path) -> Result<(), LabError> {
    let path = directory.join(FILE);
    std::fs::write(&path, LIBRARY).tried(|| format!("cannot write {}", path.display()))
}
