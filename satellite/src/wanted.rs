//! What the accepted document wants, one entry per replica incarnation.
//!
//! Only reading: an entry that cannot be read stops its own replica and no other.

use std::collections::BTreeMap;

use hawser_plan::desired::{Desired, Unreadable};
use hawser_proto::ids::DocumentVersion;

use crate::ledger::{Accepted, ReplicaKey};

/// What is wanted for one replica incarnation.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// As read, or why it could not be.
    pub desired: Result<Desired, Unreadable>,
    /// A controller has sent the document in this run ([`Accepted::fresh`]).
    pub fresh: bool,
    /// Which document that is, or a later one that says the same of this replica.
    pub version: DocumentVersion,
}

impl Wanted {
    /// Whether it is about the same as `other`, whatever became of other replicas in between.
    pub fn says_the_same(&self, other: &Wanted) -> bool {
        self.desired == other.desired && self.fresh == other.fresh
    }
}

/// Reads all entries of `accepted`. A replica that is wanted and removed at once counts as wanted: nothing
/// is removed on a contradiction.
pub fn wanted(accepted: &Accepted) -> BTreeMap<ReplicaKey, Wanted> {
    let document = &accepted.document;
    let mut entries = BTreeMap::new();
    for removed in &document.removed {
        let key = (removed.resource.clone(), removed.replica_incarnation());
        let desired = Desired::of_removal(document, removed);
        entries.insert(key, Wanted { desired, fresh: accepted.fresh, version: document.version() });
    }
    for replica in &document.replicas {
        let key = (replica.resource.clone(), replica.replica_incarnation());
        let desired = Desired::of_replica(document, replica);
        entries.insert(key, Wanted { desired, fresh: accepted.fresh, version: document.version() });
    }
    entries
}

#[cfg(test)]
mod tests {
    use hawser_proto::{ids::Incarnation, v1};

    use super::*;

    #[test]
    fn a_document_that_changed_elsewhere_says_the_same_of_a_replica() {
        let removal = |resource: &str| {
            Desired::Removal(hawser_plan::desired::Removal {
                resource: resource.to_owned(),
                incarnation: Incarnation::new(7),
                drbd_name: None,
                volumes: Vec::new(),
            })
        };
        let wanted = |resource, fresh, revision| Wanted {
            desired: Ok(removal(resource)),
            fresh,
            version: DocumentVersion::new(1, revision),
        };

        assert!(wanted("db", true, 12).says_the_same(&wanted("db", true, 13)));
        assert!(!wanted("db", true, 12).says_the_same(&wanted("log", true, 12)));
        assert!(!wanted("db", false, 12).says_the_same(&wanted("db", true, 12)));
    }

    #[test]
    fn a_second_claim_is_another_order_than_the_first() {
        let wanted = |claim_number| {
            let peer = |node: &str, claim_number| v1::DesiredPeer {
                node: node.into(),
                kind: v1::ReplicaKind::Diskless.into(),
                ip: "10.77.0.1".into(),
                port: 7000,
                claim_number,
                ..Default::default()
            };
            let replica = v1::DesiredReplica {
                resource: "db".into(),
                layers: vec![v1::Layer::Drbd.into(), v1::Layer::Storage.into()],
                drbd_generation: v1::DrbdGeneration::DrbdGeneration84.into(),
                attachment: v1::DesiredAttachment::Detached.into(),
                volumes: vec![v1::DesiredVolume::default()],
                peers: vec![peer("n1", claim_number), peer("n2", 0)],
                ..Default::default()
            };
            let document = v1::DesiredDocument { node: "n2".into(), ..Default::default() };
            let desired = Desired::of_replica(&document, &replica);
            assert!(desired.is_ok(), "{desired:?}");
            Wanted { desired, fresh: true, version: DocumentVersion::new(1, 12) }
        };
        assert!(wanted(11).says_the_same(&wanted(11)));
        assert!(!wanted(11).says_the_same(&wanted(12)));
    }
}
