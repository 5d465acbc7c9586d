//! A copy of the whole state that a person can keep, in the form of a snapshot file.
//!
//! It must never be older than what was acknowledged before it was asked for.

use std::io;

use hawser_process::{beside::beside, wall_clock};
use hawser_proto::v1;

use super::{ReadError, codec::membership_to_stored, handle::Consensus, snapshot_format};
use crate::view::Published;

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// No linearizable read can be had.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It could not be made.
    #[error("the backup could not be made: {0}")]
    Io(#[from] io::Error),
    /// There is nothing yet.
    #[error("the cluster has not begun, so there is nothing to back up")]
    Empty,
}

/// A backup.
#[derive(Debug)]
pub struct Backup {
    /// What its bytes begin with.
    pub header: v1::SnapshotHeader,
    /// All of it.
    pub bytes: Vec<u8>,
}

impl Consensus {
    /// Everything that was acknowledged before this call. The leader alone can say so.
    ///
    /// # Errors
    /// See [`BackupError`].
    pub async fn backup(&self) -> Result<Backup, BackupError> {
        self.read_barrier().await?;
        let Published { state, revision } = self.view().published();
        if !state.is_initialized() {
            return Err(BackupError::Empty);
        }
        let metrics = self.inner.metrics();
        let members = &metrics.membership_config;
        let cluster = state.cluster();
        let header = v1::SnapshotHeader {
            cluster_id: cluster.cluster_id.clone(),
            lineage: cluster.lineage,
            last_log_id: Some(v1::StoredLogId { term: metrics.current_term, index: revision }),
            membership: Some(membership_to_stored(members.membership())),
            feature_level: cluster.feature_level,
            id: format!("backup-{}-{revision}", cluster.lineage),
            cluster_name: cluster.name.clone(),
            taken_at_unix_ms: wall_clock::unix_ms(),
            ..v1::SnapshotHeader::default()
        };
        let made = beside(move || -> io::Result<Backup> {
            let header = v1::SnapshotHeader { records_sha256: state.checksum().to_vec(), ..header };
            let mut bytes = Vec::new();
            snapshot_format::write(&mut bytes, &header, &state)?;
            Ok(Backup { header, bytes })
        });
        Ok(made.await?)
    }
}
