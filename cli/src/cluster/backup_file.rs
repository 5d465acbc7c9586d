//! The file of a backup: written whole or not at all, and read only when every byte is what was written.
//!
//! It holds the secrets of all resources, so nobody but its owner may read it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use hawser_proto::{snapshot_file, v1::snapshot_record::Record};
use serde::Serialize;

use crate::failure::Failure;

/// What a backup holds.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) cluster_id: String,
    pub(super) cluster_name: String,
    pub(super) lineage: u64,
    pub(super) revision: u64,
    /// Null where the file does not say.
    pub(super) taken_at_unix_ms: Option<u64>,
    pub(super) members: usize,
    pub(super) nodes: usize,
    pub(super) pools: usize,
    pub(super) resources: usize,
    pub(super) bytes: u64,
}

impl Contents {
    /// In one line.
    pub(super) fn line(&self) -> String {
        let count =
            |number: usize, one: &str| format!("{number} {one}{}", if number == 1 { "" } else { "s" });
        format!(
            "cluster {} ({}), lineage {}, revision {}: {}, {}, {}, {}",
            self.cluster_name,
            self.cluster_id,
            self.lineage,
            self.revision,
            count(self.members, "controller"),
            count(self.nodes, "node"),
            count(self.pools, "pool"),
            count(self.resources, "resource")
        )
    }
}

/// Reads a backup and verifies every byte of it.
pub(super) fn read(path: &Path) -> Result<Contents, Failure> {
    let wrong = |reason: String| Failure::NoBackup { path: path.to_owned(), reason };
    let file = File::open(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let bytes = file.metadata().map(|about| about.len()).unwrap_or_default();
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::InvalidData => wrong(format!("is no backup that can be used: it {error}")),
        _ => wrong(format!("cannot be read: {error}")),
    };
    let (header, mut records) = snapshot_file::open(BufReader::new(file)).map_err(unreadable)?;
    let mut contents = Contents {
        cluster_id: header.cluster_id.clone(),
        cluster_name: header.cluster_name.clone(),
        lineage: header.lineage,
        revision: header.last_log_id.unwrap_or_default().index,
        taken_at_unix_ms: (header.taken_at_unix_ms > 0).then_some(header.taken_at_unix_ms),
        members: 0,
        nodes: 0,
        pools: 0,
        resources: 0,
        bytes,
    };
    let mut unknown = false;
    for record in &mut records {
        match record.record {
            Some(Record::Cluster(cluster)) => contents.cluster_name = cluster.name,
            Some(Record::Member(_)) => contents.members += 1,
            Some(Record::Node(_)) => contents.nodes += 1,
            Some(Record::Pool(_)) => contents.pools += 1,
            Some(Record::Resource(_)) => contents.resources += 1,
            Some(_) => {}
            None => unknown = true,
        }
    }
    let sha256 = records.finish().map_err(unreadable)?;
    if unknown {
        return Err(wrong(
            "holds what this release does not know: use the release that wrote it, or a newer one".into(),
        ));
    }
    if !header.records_sha256.is_empty() && header.records_sha256 != sha256 {
        return Err(wrong("is no backup that can be used: its records do not match its checksum".into()));
    }
    if contents.cluster_id.is_empty() || contents.lineage == 0 {
        return Err(wrong("is no backup that can be used: it does not say of which cluster it is".into()));
    }
    Ok(contents)
}

/// A backup that is being written, under another name. Dropped unfinished, nothing of it is left.
pub(super) struct Unfinished {
    path: PathBuf,
    aside: PathBuf,
    file: File,
}

impl Unfinished {
    /// Begins to write what is to be `path`, where nothing may be yet.
    pub(super) fn begin(path: &Path) -> Result<Self, Failure> {
        if path.symlink_metadata().is_ok() {
            return Err(Failure::Exists(path.to_owned()));
        }
        let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        let aside = path.with_file_name(format!(".{name}.{}", std::process::id()));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside);
        let file = file.map_err(|source| Failure::Write { path: aside.clone(), source })?;
        Ok(Self { path: path.to_owned(), aside, file })
    }

    /// Adds bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.file.write_all(bytes).map_err(|source| Failure::Write { path: self.aside.clone(), source })
    }

    /// Verifies what was written, makes it last, and gives it its name.
    pub(super) fn finish(self) -> Result<Contents, Failure> {
        let failed = |source| Failure::Write { path: self.path.clone(), source };
        self.file.sync_all().map_err(failed)?;
        let contents = read(&self.aside).map_err(|failure| match failure {
            Failure::NoBackup { reason, .. } => {
                Failure::BrokeOff { reason: format!("what arrived {reason}") }
            }
            other => other,
        })?;
        // A link takes no other file's place.
        fs::hard_link(&self.aside, &self.path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Failure::Exists(self.path.clone()),
            _ => failed(error),
        })?;
        let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new("."))).and_then(|it| it.sync_all()).map_err(failed)?;
        Ok(contents)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Finished, its content has another name by now; else it is of no use.
        let _left = fs::remove_file(&self.aside);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use hawser_hostile::{bytes, check, each_cut};
    use hawser_proto::v1;

    use super::*;

    /// The bytes of a backup of these records.
    fn sample(header: &v1::SnapshotHeader, records: Vec<v1::SnapshotRecord>) -> Vec<u8> {
        let mut bytes = Vec::new();
        snapshot_file::write(&mut bytes, header, records.into_iter()).unwrap();
        bytes
    }

    fn whole() -> Vec<u8> {
        let header = v1::SnapshotHeader {
            cluster_id: "c1".into(),
            lineage: 3,
            last_log_id: Some(v1::StoredLogId { term: 2, index: 45 }),
            taken_at_unix_ms: 7,
            ..Default::default()
        };
        let cluster =
            v1::ClusterRecord { cluster_id: "c1".into(), name: "prod".into(), ..Default::default() };
        let node = |name: &str| Record::Node(v1::Node { name: name.into(), ..Default::default() });
        let records = [Record::Cluster(cluster), node("n1"), node("n2")];
        sample(&header, records.map(|record| v1::SnapshotRecord { record: Some(record) }).into())
    }

    fn write(path: &Path, bytes: &[u8]) -> Result<Contents, Failure> {
        let mut unfinished = Unfinished::begin(path)?;
        unfinished.write(bytes)?;
        unfinished.finish()
    }

    #[test]
    fn a_backup_is_there_as_a_whole_and_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("prod.backup");

        let contents = write(&path, &whole()).unwrap();

        assert_eq!(
            contents.line(),
            "cluster prod (c1), lineage 3, revision 45: 0 controllers, 2 nodes, 0 pools, 0 resources"
        );
        assert_eq!(read(&path).unwrap(), contents);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = write(&path, b"other").unwrap_err().to_string();
        assert!(again.contains("exists already and is not overwritten"), "{again}");
        assert_eq!(read(&path).unwrap(), contents);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn what_broke_off_is_not_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("prod.backup");
        let whole = whole();
        let error = write(&path, &whole[..whole.len() / 2]).unwrap_err().to_string();
        assert!(error.contains("the backup broke off"), "{error}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_no_backup_says_why() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let mut newer = whole();
        newer[8] = 9;
        let mut flipped = whole();
        let last = flipped.len() - 6;
        flipped[last] ^= 0x10;
        let nobodys = sample(&v1::SnapshotHeader::default(), Vec::new());
        for (bytes, words) in [
            (&b"[client]\n"[..], "does not begin as one does"),
            (b"", "is cut short"),
            (&newer, "has format 9, which this release does not know"),
            (&flipped, "is no backup that can be used"),
            (&nobodys, "does not say of which cluster it is"),
        ] {
            fs::write(&path, bytes).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("file"), "{error}");
        }
        let missing = read(&directory.path().join("nowhere")).unwrap_err().to_string();
        assert!(missing.contains("cannot be read"), "{missing}");
    }

    #[test]
    fn hostile_backups() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let whole = whole();
        fs::write(&path, &whole).unwrap();
        let expected = read(&path).unwrap();
        each_cut(&whole, |at, cut| {
            fs::write(&path, cut).unwrap();
            assert!(read(&path).is_err(), "cut at {at}");
        });
        check(&bytes(&[&whole], &["HWSRSNAP", "c1"]), |bytes| {
            fs::write(&path, &bytes).unwrap();
            match read(&path) {
                Ok(contents) => assert_eq!(contents.line(), expected.line()),
                Err(error) => assert!(error.to_string().contains("file"), "{error}"),
            }
        });
    }
}
