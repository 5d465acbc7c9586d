//! Where the nodes' memory lies: a file that the kernel maps, executable, and deletes at once.

use std::path::{Path, PathBuf};

use nix::sys::statvfs::{FsFlags, statvfs};

const MEMORY_FILE_SYSTEM: &str = "/dev/shm";

/// The directory for the nodes' memory: `/dev/shm` when it allows execution and has `bytes` free, else `fallback`.
pub fn directory(bytes: u64, fallback: &Path) -> PathBuf {
    let suits = statvfs(MEMORY_FILE_SYSTEM).is_ok_and(|status| {
        let free = status.blocks_available().saturating_mul(status.fragment_size());
        !status.flags().contains(FsFlags::ST_NOEXEC) && free >= bytes
    });
    let writable = nix::unistd::access(MEMORY_FILE_SYSTEM, nix::unistd::AccessFlags::W_OK).is_ok();
    if suits && writable { PathBuf::from(MEMORY_FILE_SYSTEM) } else { fallback.to_owned() }
}
