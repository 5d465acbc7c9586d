//! Snapshot files: what a state consists of, on disk and on the way to another member.
//!
//! A file is written aside, synced and renamed; it is complete or not there. A damaged one must never be
//! passed over in favour of an older one: the log between the two is gone.

use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use hawser_proto::v1;
use hawser_state::State;

use super::{
    codec::{meta_from_header, meta_to_header},
    snapshot_format,
    types::SnapshotMeta,
    verify::damaged,
};

/// The one before the newest is kept for a person to look at.
const FILES_KEPT: usize = 2;
const SUFFIX: &str = "snapshot";
const PART_SUFFIX: &str = "part";

/// An open snapshot. It can be read until it is dropped, also when its file has been removed.
#[derive(Clone, Debug)]
pub struct SnapshotFile {
    path: PathBuf,
    file: Arc<File>,
    header: v1::SnapshotHeader,
}

impl SnapshotFile {
    fn open(path: PathBuf) -> io::Result<Self> {
        let file = File::open(&path)?;
        let header = snapshot_format::read_header(&mut BufReader::new(&file))
            .map_err(|error| name_file(&path, &error))?;
        Ok(Self { path, file: Arc::new(file), header })
    }

    /// What it contains and whose it is.
    #[must_use]
    pub fn header(&self) -> &v1::SnapshotHeader {
        &self.header
    }

    /// What it contains, in openraft's form.
    ///
    /// # Errors
    /// If the header's members are not valid.
    pub fn meta(&self) -> io::Result<SnapshotMeta> {
        meta_from_header(&self.header).map_err(|malformed| name_file(&self.path, &damaged(malformed.0)))
    }

    /// The bytes of the file from `offset` on, at most `limit`; empty at its end.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn read_at(&self, offset: u64, limit: usize) -> io::Result<Vec<u8>> {
        use std::os::unix::fs::FileExt;
        let mut bytes = vec![0; limit];
        let mut filled = 0;
        while filled < limit {
            match self.file.read_at(&mut bytes[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    /// The whole state in it, every byte of which is verified.
    ///
    /// # Errors
    /// If anything is damaged or of a kind that this release does not know.
    pub fn load(&self) -> io::Result<State> {
        let mut file = self.file.as_ref();
        file.seek(SeekFrom::Start(0))?;
        snapshot_format::read(&mut BufReader::new(file)).map_err(|error| name_file(&self.path, &error))
    }
}

/// The directory that a member keeps its snapshots in.
#[derive(Clone, Debug)]
pub struct Snapshots {
    directory: PathBuf,
    cluster_id: String,
    lineage: u64,
}

impl Snapshots {
    /// Uses an existing directory; removes what was not completed.
    ///
    /// # Errors
    /// If the directory cannot be read or written.
    pub fn open(directory: &Path, cluster_id: &str, lineage: u64) -> io::Result<Self> {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == PART_SUFFIX) {
                fs::remove_file(path)?;
            }
        }
        Ok(Self { directory: directory.to_owned(), cluster_id: cluster_id.to_owned(), lineage })
    }

    /// The newest snapshot, if there is one. Its header is verified, its records when they are loaded.
    ///
    /// # Errors
    /// If it is damaged; an older one is never taken in its place.
    pub fn newest(&self) -> io::Result<Option<SnapshotFile>> {
        self.files()?.pop().map(SnapshotFile::open).transpose()
    }

    /// Writes the state as a snapshot and makes it last.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn write(&self, meta: &SnapshotMeta, state: &State) -> io::Result<SnapshotFile> {
        let id = identifier(meta);
        let header = v1::SnapshotHeader {
            cluster_id: self.cluster_id.clone(),
            lineage: self.lineage,
            feature_level: state.cluster().feature_level,
            id: id.clone(),
            ..meta_to_header(meta)
        };
        let part = self.part_path(&format!("{id}-built"));
        let mut file = BufWriter::new(File::create(&part)?);
        snapshot_format::write(&mut file, &header, state)?;
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        self.complete(&part, &id)
    }

    /// A new file for the bytes of a snapshot that another member sends.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn receive(&self, header: &v1::SnapshotHeader) -> io::Result<IncomingSnapshot> {
        let id = header.last_log_id.as_ref().map_or(0, |id| id.index);
        let path = self.part_path(&format!("{id:020}-received"));
        let file = BufWriter::new(File::create(&path)?);
        Ok(IncomingSnapshot { path, file })
    }

    /// Takes a snapshot into this directory under its own name, unless it is there already.
    ///
    /// # Errors
    /// If it is another cluster's, or the system refuses.
    pub fn adopt(&self, snapshot: &SnapshotFile) -> io::Result<SnapshotFile> {
        let header = snapshot.header();
        if header.cluster_id != self.cluster_id || header.lineage != self.lineage {
            return Err(damaged(format!(
                "a snapshot of cluster {:?}, lineage {}, was sent to a member of cluster {:?}, lineage {}",
                header.cluster_id, header.lineage, self.cluster_id, self.lineage
            )));
        }
        let id = identifier(&snapshot.meta()?);
        if snapshot.path == self.final_path(&id) {
            return Ok(snapshot.clone());
        }
        let part = self.part_path(&format!("{id}-adopted"));
        if snapshot.path.parent() == Some(&self.directory) {
            fs::rename(&snapshot.path, &part)?;
        } else {
            fs::copy(&snapshot.path, &part)?;
        }
        File::open(&part)?.sync_all()?;
        self.complete(&part, &id)
    }

    fn complete(&self, part: &Path, id: &str) -> io::Result<SnapshotFile> {
        let path = self.final_path(id);
        fs::rename(part, &path)?;
        File::open(&self.directory)?.sync_all()?;
        let mut files = self.files()?;
        files.truncate(files.len().saturating_sub(FILES_KEPT));
        for old in files {
            fs::remove_file(old)?;
        }
        SnapshotFile::open(path)
    }

    /// The complete snapshots, oldest first.
    fn files(&self) -> io::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == SUFFIX) {
                files.push(path);
            }
        }
        // Names begin with the index in a fixed width.
        files.sort();
        Ok(files)
    }

    fn final_path(&self, id: &str) -> PathBuf {
        self.directory.join(format!("{id}.{SUFFIX}"))
    }

    fn part_path(&self, id: &str) -> PathBuf {
        self.directory.join(format!("{id}.{PART_SUFFIX}"))
    }
}

/// A snapshot that is being received.
#[derive(Debug)]
pub struct IncomingSnapshot {
    path: PathBuf,
    file: BufWriter<File>,
}

impl IncomingSnapshot {
    /// Adds the next bytes.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    /// The whole snapshot, synced. Its header is verified.
    ///
    /// # Errors
    /// If it is damaged or the system refuses.
    pub fn finish(self) -> io::Result<SnapshotFile> {
        self.file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        SnapshotFile::open(self.path)
    }
}

/// Sorts by index; two members' snapshots of the same state have the same one.
fn identifier(meta: &SnapshotMeta) -> String {
    let (term, index) = meta.last_log_id.map_or((0, 0), |id| (id.leader_id.term, id.index));
    format!("{index:020}-{term}")
}

fn name_file(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("the snapshot {}: {error}", path.display()))
}
