//! The order to make a controller's store: the file without which a controller makes none.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use hawser_proto::v1;
use serde::Serialize;

use crate::failure::Failure;

/// Name under which a controller looks for it in its data directory.
pub(super) const FILE: &str = "create-store.json";

/// The file's content.
#[derive(Debug, Serialize)]
#[serde(tag = "mode", rename_all = "lowercase")]
pub(super) enum CreateStore {
    /// Begin the cluster.
    Init { cluster_id: String, cluster_name: String, name: String, address: String, numbers: Numbers },
    /// Join a cluster that has announced this member.
    Join {
        cluster_id: String,
        cluster_name: String,
        lineage: u64,
        raft_id: u64,
        name: String,
        address: String,
        members: Vec<Member>,
    },
    /// Begin a new lineage out of the backup that lies beside the order.
    Restore {
        cluster_id: String,
        cluster_name: String,
        lineage: u64,
        name: String,
        address: String,
        /// The restore record, in hexadecimal digits.
        statement: String,
        signature: String,
    },
}

/// What the cluster may hand out for DRBD, in the form that people write.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Numbers {
    pub(super) minors: String,
    pub(super) ports: String,
    pub(super) reserved_ports: String,
}

/// A controller that can be asked for admission.
#[derive(Debug, Serialize)]
pub(super) struct Member {
    raft_id: u64,
    name: String,
    address: String,
    store_incarnation: u64,
}

impl From<v1::JoinTicket> for CreateStore {
    fn from(ticket: v1::JoinTicket) -> Self {
        let member = |member: v1::Member| Member {
            raft_id: member.raft_id,
            name: member.name,
            address: member.address,
            store_incarnation: member.store_incarnation,
        };
        Self::Join {
            cluster_id: ticket.cluster_id,
            cluster_name: ticket.cluster_name,
            lineage: ticket.lineage,
            raft_id: ticket.raft_id,
            name: ticket.name,
            address: ticket.address,
            members: ticket.members.into_iter().map(member).collect(),
        }
    }
}

impl CreateStore {
    /// Writes the order to `path`, where nothing may be yet.
    pub(super) fn write(&self, path: &Path) -> Result<(), Failure> {
        Reservation::of(path.to_owned())?.fill(self)
    }
}

/// A file that was made, still empty, for an order that is not known yet: that it cannot be written is said
/// before anything is asked of the cluster. Dropped unfilled, it is removed.
pub(super) struct Reservation {
    path: PathBuf,
    file: File,
    filled: bool,
}

impl Reservation {
    /// Makes the file; nothing may be there yet.
    pub(super) fn of(path: PathBuf) -> Result<Self, Failure> {
        let file = create_new(&path)?;
        Ok(Self { path, file, filled: false })
    }

    /// Writes the order.
    pub(super) fn fill(mut self, order: &CreateStore) -> Result<(), Failure> {
        fill(&mut self.file, &self.path, &serde_json::to_string_pretty(order)?)?;
        self.filled = true;
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.filled {
            // Whoever gets here already has a failure to report; an empty file does no harm.
            let _left = fs::remove_file(&self.path);
        }
    }
}

/// Writes a file that is not there yet.
pub(super) fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    fill(&mut create_new(path)?, path, text)
}

fn create_new(path: &Path) -> Result<File, Failure> {
    OpenOptions::new().write(true).create_new(true).open(path).map_err(|source| failed(path, source))
}

fn fill(file: &mut File, path: &Path, text: &str) -> Result<(), Failure> {
    file.write_all(format!("{}\n", text.trim_end()).as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(|source| failed(path, source))
}

fn failed(path: &Path, source: io::Error) -> Failure {
    match source.kind() {
        io::ErrorKind::AlreadyExists => Failure::Exists(path.to_owned()),
        _ => Failure::Write { path: path.to_owned(), source },
    }
}
