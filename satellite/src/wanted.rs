//! What the accepted document wants, one entry per replica incarnation.
//!
//! Only reading: an entry that cannot be read stops its own replica and no other.

use std::collections::BTreeMap;

use hawser_plan::desired::{Desired, Unreadable};

use crate::ledger::{Accepted, ReplicaKey};

/// What is wanted for one replica incarnation.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// As read, or why it could not be.
    pub desired: Result<Desired, Unreadable>,
    /// A controller has sent the document in this run ([`Accepted::fresh`]).
    pub fresh: bool,
}

/// Reads all entries of `accepted`. A replica that is wanted and removed at once counts as wanted: nothing
/// is removed on a contradiction.
pub fn wanted(accepted: &Accepted) -> BTreeMap<ReplicaKey, Wanted> {
    let document = &accepted.document;
    let mut entries = BTreeMap::new();
    for removed in &document.removed {
        let key = (removed.resource.clone(), removed.replica_incarnation);
        let desired = Desired::of_removal(document, removed);
        entries.insert(key, Wanted { desired, fresh: accepted.fresh });
    }
    for replica in &document.replicas {
        let key = (replica.resource.clone(), replica.replica_incarnation);
        let desired = Desired::of_replica(document, replica);
        entries.insert(key, Wanted { desired, fresh: accepted.fresh });
    }
    entries
}
