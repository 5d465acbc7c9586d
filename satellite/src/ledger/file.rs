//! One small file that is replaced as a whole and checked when it is read.
//!
//! Layout: 8 bytes that name its kind and form, crc32c of the body (4 bytes, little endian), length of the
//! body (8 bytes, little endian), the body. It is written aside, synced, renamed, and its directory synced:
//! after [`SealedFile::replace`] has returned, either the old or the new content is there whatever happens,
//! and before it has returned `Ok` nobody may rely on the new one.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Bytes before the body.
const HEADER: usize = 8 + 4 + 8;

/// Why a file cannot be trusted or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The content is not what was written.
    #[error(
        "{} is damaged ({problem}). The satellite does not start on it, because it could then obey an older \
         order or make a replica twice. Check the disk. If this node's memory is lost for good, move {} away \
         as a whole and start again: the next document from a controller is then taken as the first, and \
         replicas that are there are left as they are", .path.display(), .path.parent().unwrap_or(.path).display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        problem: String,
    },
    /// The system refused.
    #[error("cannot {doing} {}: {source}", .path.display())]
    System {
        /// "read" or "write".
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// A file of one kind at one place.
#[derive(Debug, Clone)]
pub(super) struct SealedFile {
    path: PathBuf,
    kind: &'static [u8; 8],
}

impl SealedFile {
    /// A file `name` in `directory`, of the kind and form that `kind` names.
    pub(super) fn new(directory: &Path, name: &str, kind: &'static [u8; 8]) -> Self {
        Self { path: directory.join(name), kind }
    }

    /// The body, or `None` where the file was never written.
    ///
    /// # Errors
    /// If the file is damaged or cannot be read.
    pub(super) fn read(&self) -> Result<Option<Vec<u8>>, FileError> {
        let content = match fs::read(&self.path) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(self.system("read", source)),
        };
        self.open(&content)
            .map(Some)
            .map_err(|problem| FileError::Damaged { path: self.path.clone(), problem })
    }

    /// Replaces the body.
    ///
    /// # Errors
    /// If the system refused, e.g. on a full disk. The old content then stands, or, where only the directory could not be
    /// synced, either.
    pub(super) fn replace(&self, body: &[u8]) -> Result<(), FileError> {
        let aside = self.aside();
        let written = self.write_aside(&aside, body);
        if written.is_err() {
            // A leftover would only take room; the next write truncates it.
            let _ = fs::remove_file(&aside);
        }
        written.map_err(|source| self.system("write", source))
    }

    /// For whoever waited for a write that was given up.
    pub(super) fn not_written(&self) -> FileError {
        self.system("write", io::Error::other("it was given up; the journal says why"))
    }

    fn write_aside(&self, aside: &Path, body: &[u8]) -> io::Result<()> {
        let mut content = Vec::with_capacity(HEADER + body.len());
        content.extend_from_slice(self.kind);
        content.extend_from_slice(&crc32c::crc32c(body).to_le_bytes());
        content.extend_from_slice(&(body.len() as u64).to_le_bytes());
        content.extend_from_slice(body);
        let mut file = File::create(aside)?;
        file.write_all(&content)?;
        file.sync_all()?;
        fs::rename(aside, &self.path)?;
        let directory = self.path.parent().unwrap_or(Path::new("."));
        File::open(directory)?.sync_all()
    }

    fn open(&self, content: &[u8]) -> Result<Vec<u8>, String> {
        let (header, body) =
            content.split_at_checked(HEADER).ok_or_else(|| format!("{} bytes are too few", content.len()))?;
        let (kind, numbers) = header.split_at(self.kind.len());
        if kind != self.kind {
            return Err(format!("it does not start with {:?}", String::from_utf8_lossy(self.kind)));
        }
        let (sum, length) = numbers.split_at(4);
        if length != (body.len() as u64).to_le_bytes() {
            return Err(format!("its body of {} bytes has another length than its header says", body.len()));
        }
        if sum != crc32c::crc32c(body).to_le_bytes() {
            return Err("its checksum does not fit".to_owned());
        }
        Ok(body.to_vec())
    }

    fn aside(&self) -> PathBuf {
        let mut name = self.path.file_name().map_or_else(OsString::new, OsString::from);
        name.push(".new");
        self.path.with_file_name(name)
    }

    fn system(&self, doing: &'static str, source: io::Error) -> FileError {
        FileError::System { doing, path: self.path.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::symlink;

    use super::*;

    fn file() -> (tempfile::TempDir, SealedFile) {
        let directory = tempfile::tempdir().unwrap();
        let file = SealedFile::new(directory.path(), "facts", b"HAWSERT1");
        (directory, file)
    }

    #[test]
    fn what_was_written_is_read_back() {
        let (_directory, file) = file();

        assert_eq!(file.read().unwrap(), None);
        for body in [&b"one"[..], b"", b"another, longer one"] {
            file.replace(body).unwrap();
            assert_eq!(file.read().unwrap().unwrap(), body);
        }
    }

    #[test]
    fn a_file_cut_or_flipped_at_any_byte_is_refused() {
        let (directory, file) = file();
        file.replace(b"the body").unwrap();
        let path = directory.path().join("facts");
        let whole = fs::read(&path).unwrap();

        for at in 0..whole.len() {
            fs::write(&path, &whole[..at]).unwrap();
            let torn = file.read();
            let mut flipped = whole.clone();
            flipped[at] ^= 0x10;
            fs::write(&path, &flipped).unwrap();
            let flipped = file.read();
            for read in [torn, flipped] {
                let error = read.unwrap_err().to_string();
                assert!(error.contains("facts is damaged"), "byte {at}: {error}");
            }
        }
    }

    #[test]
    fn a_full_disk_leaves_the_old_content() {
        let (directory, file) = file();
        file.replace(b"old").unwrap();
        symlink("/dev/full", directory.path().join("facts.new")).unwrap();

        let error = file.replace(b"new").unwrap_err().to_string();

        assert!(error.starts_with("cannot write ") && error.contains("No space left"), "{error}");
        assert_eq!(file.read().unwrap().unwrap(), b"old");
        file.replace(b"newer").unwrap();
        assert_eq!(file.read().unwrap().unwrap(), b"newer");
    }

    #[test]
    fn a_write_that_was_cut_off_before_its_rename_changes_nothing() {
        let (directory, file) = file();
        file.replace(b"old").unwrap();

        fs::write(directory.path().join("facts.new"), b"HAWSER").unwrap();

        assert_eq!(file.read().unwrap().unwrap(), b"old");
    }
}
