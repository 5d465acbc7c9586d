//! Changes of files that outlast a power cut.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

/// Removes a file that need not be there.
///
/// # Errors
/// It is there and cannot be removed.
pub(super) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Has everything that was made, renamed and removed in a directory on the disk.
///
/// # Errors
/// As the system says.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
