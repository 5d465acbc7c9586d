//! A node's disks: sparse files in its directory.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use super::command_line::{DATA_DISK, STATE_DISK};
use crate::error::{LabError, Tried};
use crate::kernel::Kernel;
use crate::options::LabOptions;

const MIB: u64 = 1 << 20;

/// Makes both disks; the state disk gets its file system, the data disk stays blank.
///
/// # Errors
/// Which file, and the system's or the tool's answer.
pub async fn make(directory: &Path, options: &LabOptions, kernel: &Kernel) -> Result<(), LabError> {
    for (name, size) in [(DATA_DISK, options.data_mib), (STATE_DISK, options.state_mib)] {
        let path = directory.join(name);
        let file = File::create(&path).tried(|| format!("cannot make the disk {}", path.display()))?;
        file.set_len(size * MIB).tried(|| format!("cannot give the disk {} {size} MiB", path.display()))?;
    }
    let path = directory.join(STATE_DISK);
    let output = Command::new(kernel.tool("usr/sbin/mkfs.ext4"))
        .args(["-q", "-F", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard"])
        .arg(&path)
        .stdin(Stdio::null())
        .output()
        .await
        .tried(|| format!("cannot run mkfs.ext4 for the state disk {}", path.display()))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(LabError::System {
            action: format!("cannot make a file system on the state disk {}", path.display()),
            source: std::io::Error::other(words),
        });
    }
    Ok(())
}
