//! The first store of a new lineage, out of a backup: its state becomes a snapshot, and the log begins after it.
//!
//! A backup that is damaged, another cluster's or of a newer release makes no store. It must never begin a log at an
//! index that an earlier lineage may have come to.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufReader},
    path::Path,
};

use hawser_proto::v1;
use hawser_state::{Restoration, State};
use prost::Message;

use super::{
    StartError, StoreOrder,
    codec::{log_id_to_stored, vote_to_stored},
    engine::{Engine, Meta},
    snapshot::Snapshots,
    snapshot_format,
    store_order::{Place, io_error},
    types::{Membership, Node, SnapshotMeta, StoredMembership, Vote, log_id},
};

/// The backup, beside the order to restore it. It holds secrets, and goes once the store is made.
pub const BACKUP_FILE: &str = "restore.backup";

/// What a store of a new lineage begins with.
pub(super) struct Begun {
    pub(super) identity: v1::StoreIdentity,
    state: State,
    term: u64,
}

impl Begun {
    /// Writes the snapshot, and in the log where it begins. The caller syncs the engine.
    pub(super) fn write(&self, snapshots: &Path, engine: &dyn Engine) -> io::Result<()> {
        let v1::StoreIdentity { cluster_id, lineage, raft_id, .. } = &self.identity;
        // The only member's id is the index that the lineage begins after, so that no earlier one has it.
        let last = log_id(self.term, *raft_id);
        let member = v1::Member {
            raft_id: *raft_id,
            name: self.identity.name.clone(),
            address: self.identity.address.clone(),
            store_incarnation: self.identity.incarnation,
        };
        let members =
            Membership::new(vec![[*raft_id].into()], BTreeMap::from([(*raft_id, Node::from(member))]))
                .map_err(|error| io::Error::other(error.to_string()))?;
        let meta = SnapshotMeta {
            last_log_id: Some(last),
            last_membership: StoredMembership::new(Some(last), members),
        };
        Snapshots::open(snapshots, cluster_id, *lineage)?.write(&meta, &self.state)?;
        let last = log_id_to_stored(&last).encode_to_vec();
        let vote = vote_to_stored(&Vote::new(self.term, *raft_id)).encode_to_vec();
        engine.put_meta(Meta::Vote, Some(&vote))?;
        engine.put_meta(Meta::Committed, Some(&last))?;
        engine.put_meta(Meta::Purged, Some(&last))
    }
}

/// What the order to restore a backup makes; `None` for another order.
pub(super) fn prepare(
    place: &Place,
    order: &StoreOrder,
    order_path: &Path,
) -> Result<Option<Begun>, StartError> {
    let StoreOrder::Restore { cluster_id, cluster_name, lineage, name, address, .. } = order else {
        return Ok(None);
    };
    let (record, statement) = record(order, order_path)?;
    let refused = |reason: String| StartError::Order { path: order_path.to_owned(), reason };
    if (&statement.cluster_id, statement.lineage) != (cluster_id, *lineage) {
        return Err(refused(format!(
            "its restore record is for lineage {} of cluster {:?}, the order for lineage {lineage} of cluster \
             {cluster_id:?}",
            statement.lineage, statement.cluster_id
        )));
    }
    let path = place.data_directory.join(BACKUP_FILE);
    let (header, backup) = read(&path)?;
    let wrong = |reason: String| StartError::Backup { path: path.clone(), reason };
    if header.cluster_id != *cluster_id || backup.cluster().cluster_id != *cluster_id {
        return Err(wrong(format!(
            "is of cluster {:?}, and the order is for {cluster_id:?}",
            header.cluster_id
        )));
    }
    let last = header.last_log_id.unwrap_or_default();
    if (statement.from_lineage, statement.from_revision) != (header.lineage, last.index) {
        return Err(wrong(format!(
            "is of lineage {}, revision {}, and the restore record is for lineage {}, revision {}",
            header.lineage, last.index, statement.from_lineage, statement.from_revision
        )));
    }
    let restoration = Restoration {
        lineage: *lineage,
        restore_id: statement.restore_id,
        record,
        member_name: name.clone(),
        member_address: address.clone(),
    };
    let state = backup.restore(last.index, restoration).map_err(|error| wrong(error.to_string()))?;
    let identity = v1::StoreIdentity {
        cluster_id: cluster_id.clone(),
        cluster_name: cluster_name.clone(),
        lineage: *lineage,
        raft_id: state.revision(),
        name: name.clone(),
        address: address.clone(),
        incarnation: statement.restore_id,
        ..v1::StoreIdentity::default()
    };
    Ok(Some(Begun { identity, state, term: last.term.max(1) }))
}

/// Which restore an order is for.
pub(super) fn restore_id(order: &StoreOrder, path: &Path) -> Result<u64, StartError> {
    record(order, path).map(|(_, statement)| statement.restore_id)
}

/// Removes the backup, whose content is in the store by now.
pub(super) fn forget_backup(place: &Place) -> Result<(), StartError> {
    let path = place.data_directory.join(BACKUP_FILE);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", &path)(error)),
        _ => Ok(()),
    }
}

fn read(path: &Path) -> Result<(v1::SnapshotHeader, State), StartError> {
    let read = || snapshot_format::read_all(&mut BufReader::new(File::open(path)?));
    read().map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => StartError::Backup { path: path.to_owned(), reason: error.to_string() },
        _ => io_error("read the backup", path)(error),
    })
}

fn record(order: &StoreOrder, path: &Path) -> Result<(v1::RestoreRecord, v1::RestoreStatement), StartError> {
    let refused = |reason: &str| StartError::Order { path: path.to_owned(), reason: reason.to_owned() };
    let StoreOrder::Restore { statement, signature, .. } = order else {
        return Err(refused("it restores nothing"));
    };
    let bytes = |text: &str| {
        hexadecimal::read(text).ok_or_else(|| refused("its restore record is not made of hexadecimal digits"))
    };
    let record = v1::RestoreRecord { statement: bytes(statement)?, signature: bytes(signature)? };
    let statement = v1::RestoreStatement::decode(record.statement.as_slice())
        .map_err(|_| refused("its restore record cannot be read"))?;
    if statement.restore_id == 0 {
        return Err(refused("its restore record names no store"));
    }
    Ok((record, statement))
}

mod hexadecimal {
    /// The bytes; `None` if the text is not two digits for each.
    pub(super) fn read(text: &str) -> Option<Vec<u8>> {
        if !text.is_ascii() || !text.len().is_multiple_of(2) {
            return None;
        }
        let digits = |position: usize| u8::from_str_radix(text.get(position..position + 2)?, 16).ok();
        (0..text.len()).step_by(2).map(digits).collect()
    }
}
