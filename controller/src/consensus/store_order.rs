//! Only an order makes a store: it stands in the data directory as `create-store.json`, written by
//! `hawser cluster init`, `hawser cluster add-member` or `hawser cluster restore`, and is put aside once it is obeyed.
//!
//! A controller without store and without order may be one that lost its disk; it must never begin anew by
//! itself, for it may have promised something.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use hawser_proto::v1;
use prost::Message;
use serde::{Deserialize, Serialize};

use super::{
    StartError,
    engine::{Engine, Engines, Meta},
    ordered_numbers::OrderedNumbers,
    restored_store,
    witness::Witness,
};

/// The order, in the data directory.
pub const ORDER_FILE: &str = "create-store.json";
/// The order after it was obeyed.
pub const OBEYED_FILE: &str = "create-store.done.json";
const STORE_DIRECTORY: &str = "store";
/// A store that is not complete; nobody has heard of it.
const UNFINISHED_DIRECTORY: &str = "store.unfinished";
const LOG_DIRECTORY: &str = "log";
const SNAPSHOTS_DIRECTORY: &str = "snapshots";
const WITNESS_FILE: &str = "witness";
/// The first member's raft id. The others' are log indices, and the first command's index is above it.
const FIRST_RAFT_ID: u64 = 1;
const FIRST_LINEAGE: u64 = 1;

/// What is to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum StoreOrder {
    /// The first store of a new cluster.
    Init {
        /// Id of the new cluster.
        cluster_id: String,
        /// Its name, for people.
        cluster_name: String,
        /// This controller's name.
        name: String,
        /// host:port that the other controllers use.
        address: String,
        /// What the cluster may hand out for DRBD, for its whole life.
        #[serde(default)]
        numbers: OrderedNumbers,
    },
    /// The store of a controller that an administrator has announced.
    Join {
        /// Id of the cluster.
        cluster_id: String,
        /// Its name, for people.
        cluster_name: String,
        /// Its lineage.
        #[serde(default = "first_lineage")]
        lineage: u64,
        /// The id that was allotted to this controller.
        raft_id: u64,
        /// This controller's name.
        name: String,
        /// host:port that the other controllers use.
        address: String,
        /// Controllers to ask for admission.
        members: Vec<Introducer>,
    },
    /// The first store of a new lineage, made out of the backup that lies beside the order.
    Restore {
        /// Id of the cluster that the backup is of.
        cluster_id: String,
        /// Its name, for people.
        cluster_name: String,
        /// The lineage that begins.
        lineage: u64,
        /// This controller's name.
        name: String,
        /// host:port that the other controllers use.
        address: String,
        /// What the restore record says, in hexadecimal digits.
        statement: String,
        /// Its signature, in hexadecimal digits.
        signature: String,
    },
}

/// A member that a new controller may ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Introducer {
    /// Its raft id.
    pub raft_id: u64,
    /// Its name.
    pub name: String,
    /// host:port of its gRPC endpoint.
    pub address: String,
    /// Its store.
    pub store_incarnation: u64,
}

fn first_lineage() -> u64 {
    FIRST_LINEAGE
}

/// Where a store is looked for, and whose it has to be.
pub(super) struct Place {
    pub(super) data_directory: PathBuf,
    pub(super) cluster_id: String,
    pub(super) name: String,
    pub(super) engines: Arc<dyn Engines>,
}

/// An open store.
pub(super) struct Store {
    pub(super) directory: PathBuf,
    pub(super) snapshots_directory: PathBuf,
    pub(super) identity: v1::StoreIdentity,
    pub(super) engine: Arc<dyn Engine>,
    /// Where the witness lies.
    pub(super) witness_path: PathBuf,
}

/// Opens the store, or makes it if that was ordered.
pub(super) fn find_or_make(place: &Place, fresh_incarnation: u64) -> Result<Store, StartError> {
    let order_path = place.data_directory.join(ORDER_FILE);
    let directory = place.data_directory.join(STORE_DIRECTORY);
    let order = read_order(&order_path)?;
    if !directory.exists() {
        let Some(order) = &order else {
            return Err(StartError::NoStore { data_directory: place.data_directory.clone() });
        };
        let begun = restored_store::prepare(place, order, &order_path)?;
        let identity = match &begun {
            Some(begun) => begun.identity.clone(),
            None => obey(order, &order_path, fresh_incarnation)?,
        };
        check_identity(place, &identity)
            .map_err(|reason| StartError::Order { path: order_path.clone(), reason })?;
        make(place, &directory, &identity, begun.as_ref())?;
    }
    let store = open(place, directory)?;
    check_identity(place, &store.identity)
        .map_err(|reason| StartError::ForeignStore { path: store.directory.clone(), reason })?;
    if let Some(order) = &order {
        check_obeyed(order, &order_path, &store)?;
        let obeyed = place.data_directory.join(OBEYED_FILE);
        restored_store::forget_backup(place)?;
        fs::rename(&order_path, &obeyed)
            .and_then(|()| sync_directory(&place.data_directory))
            .map_err(io_error("rename", &order_path))?;
    }
    Ok(store)
}

/// Whether the store that is there is the one that the order makes.
fn check_obeyed(order: &StoreOrder, path: &Path, store: &Store) -> Result<(), StartError> {
    let there = &store.identity;
    let (is_it, ordered) = match order {
        StoreOrder::Restore { cluster_id, lineage, .. } => {
            let is_it = *cluster_id == there.cluster_id
                && restored_store::restore_id(order, path)? == there.incarnation;
            (is_it, format!("lineage {lineage} of cluster {cluster_id}"))
        }
        StoreOrder::Init { .. } | StoreOrder::Join { .. } => {
            let ordered = obey(order, path, there.incarnation)?;
            let is_it = (&ordered.cluster_id, ordered.raft_id) == (&there.cluster_id, there.raft_id);
            (is_it, format!("member {} of cluster {}", ordered.raft_id, ordered.cluster_id))
        }
    };
    if is_it {
        return Ok(());
    }
    Err(StartError::Order {
        path: path.to_owned(),
        reason: format!(
            "it orders a store for {ordered}, but the store of member {} of cluster {} is there; remove the order to \
             keep that store, or move {} away to obey the order",
            there.raft_id,
            there.cluster_id,
            store.directory.display()
        ),
    })
}

pub(super) fn read_order(path: &Path) -> Result<Option<StoreOrder>, StartError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("read", path)(error)),
    };
    let order: StoreOrder = serde_json::from_slice(&text).map_err(|error| StartError::Order {
        path: path.to_owned(),
        reason: format!("it is not an order to make a store: {error}"),
    })?;
    let problem = match &order {
        StoreOrder::Join { raft_id, .. } if *raft_id <= FIRST_RAFT_ID => {
            Some(format!("raft_id: {raft_id} is not the id of a controller that joins"))
        }
        StoreOrder::Join { members, .. } if members.is_empty() => {
            Some("members: names no controller that could be asked to join".to_owned())
        }
        _ => None,
    };
    match problem {
        Some(reason) => Err(StartError::Order { path: path.to_owned(), reason }),
        None => Ok(Some(order)),
    }
}

/// The identity of the store that is ordered.
pub(super) fn obey(
    order: &StoreOrder,
    path: &Path,
    incarnation: u64,
) -> Result<v1::StoreIdentity, StartError> {
    Ok(match order.clone() {
        StoreOrder::Init { cluster_id, cluster_name, name, address, numbers } => {
            v1::StoreIdentity {
                cluster_id,
                cluster_name,
                lineage: FIRST_LINEAGE,
                raft_id: FIRST_RAFT_ID,
                name,
                address,
                incarnation,
                began_the_cluster: true,
                introduced_by: Vec::new(),
                numbers: Some(numbers.read().map_err(|error| StartError::Order {
                    path: path.to_owned(),
                    reason: error.to_string(),
                })?),
            }
        }
        StoreOrder::Join { cluster_id, cluster_name, lineage, raft_id, name, address, members } => {
            v1::StoreIdentity {
                cluster_id,
                cluster_name,
                lineage,
                raft_id,
                name,
                address,
                incarnation,
                began_the_cluster: false,
                introduced_by: members
                    .into_iter()
                    .map(|member| v1::Member {
                        raft_id: member.raft_id,
                        name: member.name,
                        address: member.address,
                        store_incarnation: member.store_incarnation,
                    })
                    .collect(),
                numbers: None,
            }
        }
        StoreOrder::Restore { .. } => {
            let reason = "it needs the backup that is to be restored".to_owned();
            return Err(StartError::Order { path: path.to_owned(), reason });
        }
    })
}

fn check_identity(place: &Place, identity: &v1::StoreIdentity) -> Result<(), String> {
    if identity.cluster_id != place.cluster_id {
        return Err(format!(
            "is for cluster {:?}, but this controller's certificate is for cluster {:?}; give it the \
             certificate, or the data directory, of the right cluster",
            identity.cluster_id, place.cluster_id
        ));
    }
    if identity.name != place.name {
        return Err(format!(
            "is for the controller {:?}, but this one is configured as {:?}; a store cannot be given to \
             another controller",
            identity.name, place.name
        ));
    }
    if identity.incarnation == 0 {
        return Err("has no incarnation".to_owned());
    }
    Ok(())
}

/// Makes the store aside, syncs all of it, and puts it in its place.
fn make(
    place: &Place,
    directory: &Path,
    identity: &v1::StoreIdentity,
    begun: Option<&restored_store::Begun>,
) -> Result<(), StartError> {
    let unfinished = place.data_directory.join(UNFINISHED_DIRECTORY);
    let build = || -> io::Result<()> {
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished)?;
        }
        fs::create_dir_all(unfinished.join(SNAPSHOTS_DIRECTORY))?;
        let engine = place.engines.make(&unfinished.join(LOG_DIRECTORY))?;
        engine.put_meta(Meta::Identity, Some(&identity.encode_to_vec()))?;
        if let Some(begun) = begun {
            begun.write(&unfinished.join(SNAPSHOTS_DIRECTORY), engine.as_ref())?;
        }
        engine.sync()?;
        drop(engine);
        Witness::create(&unfinished.join(WITNESS_FILE))?;
        sync_directory(&unfinished.join(SNAPSHOTS_DIRECTORY))?;
        sync_directory(&unfinished)?;
        fs::rename(&unfinished, directory)?;
        sync_directory(&place.data_directory)
    };
    build().map_err(io_error("make the store in", &unfinished))
}

fn open(place: &Place, directory: PathBuf) -> Result<Store, StartError> {
    let damaged = |reason: String| StartError::Damaged { path: directory.clone(), reason };
    let log_directory = directory.join(LOG_DIRECTORY);
    let snapshots_directory = directory.join(SNAPSHOTS_DIRECTORY);
    if !snapshots_directory.is_dir() {
        return Err(damaged(format!("{} is missing", snapshots_directory.display())));
    }
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::InvalidData => damaged(error.to_string()),
        _ => io_error("open", &log_directory)(error),
    };
    let engine = place.engines.open(&log_directory).map_err(failed)?;
    let identity = engine.get_meta(Meta::Identity).map_err(failed)?;
    let identity = identity.ok_or_else(|| damaged("it does not say whose it is".to_owned()))?;
    let identity = v1::StoreIdentity::decode(identity.as_slice())
        .map_err(|error| damaged(format!("whose it is cannot be read: {error}")))?;
    let witness_path = directory.join(WITNESS_FILE);
    Ok(Store { directory, snapshots_directory, identity, engine, witness_path })
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

pub(super) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StartError {
    let path = path.to_owned();
    move |source| StartError::Io { action, path, source }
}
