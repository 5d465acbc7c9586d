//! Documents of earlier lineages: what this node holds by them, and what of it no later document names.
//!
//! Only translating: whether anything of it is still there is not known here.

use std::collections::BTreeSet;

use hawser_plan::desired::{Desired, Unreadable};
use hawser_proto::v1::{self, DesiredDocument, HeldReplica};

use super::ReplicaKey;

/// A replica that only documents of earlier lineages name.
#[derive(Debug, Clone, PartialEq)]
pub struct Unknown {
    /// Resource and incarnation.
    pub key: ReplicaKey,
    /// What was wanted of it, so that it can be looked at; never to be acted on.
    pub desired: Result<Desired, Unreadable>,
}

/// All that a document names.
pub(super) fn keys(document: &DesiredDocument) -> BTreeSet<ReplicaKey> {
    let wanted = document.replicas.iter();
    let wanted = wanted.map(|replica| (replica.resource.clone(), replica.replica_incarnation()));
    let removed = document.removed.iter();
    wanted.chain(removed.map(|removed| (removed.resource.clone(), removed.replica_incarnation()))).collect()
}

/// The document without what `other` names.
pub(super) fn without(mut document: DesiredDocument, other: &DesiredDocument) -> DesiredDocument {
    let named = keys(other);
    let is_named = |resource: &str, incarnation| named.contains(&(resource.to_owned(), incarnation));
    document.replicas.retain(|replica| !is_named(&replica.resource, replica.replica_incarnation()));
    document.removed.retain(|removed| !is_named(&removed.resource, removed.replica_incarnation()));
    document
}

/// What a document names, to be looked at.
pub(super) fn unknown(document: &DesiredDocument) -> Vec<Unknown> {
    let wanted = document.replicas.iter().map(|replica| Unknown {
        key: (replica.resource.clone(), replica.replica_incarnation()),
        desired: Desired::of_replica(document, replica),
    });
    let removed = document.removed.iter().map(|removed| Unknown {
        key: (removed.resource.clone(), removed.replica_incarnation()),
        desired: Desired::of_removal(document, removed),
    });
    wanted.chain(removed).collect()
}

/// What this node holds by a document, as it is told to a restored cluster. Secrets stay here.
pub(super) fn held(document: &DesiredDocument) -> Vec<HeldReplica> {
    let of_document = || HeldReplica {
        node: document.node.clone(),
        lineage: document.lineage,
        revision: document.revision,
        ..HeldReplica::default()
    };
    let wanted = document.replicas.iter().map(|replica| {
        let own = replica.peers.iter().find(|peer| peer.node == document.node);
        let behind = replica.peers.iter().filter(|peer| peer.outdated_number().is_some());
        HeldReplica {
            resource: replica.resource.clone(),
            resource_incarnation: replica.resource_incarnation,
            replica_incarnation: replica.replica_incarnation,
            drbd_name: replica.drbd_name.clone(),
            pool: replica.pool.clone(),
            layers: replica.layers.clone(),
            volumes: replica.volumes.clone(),
            port: own.map_or(0, |own| own.port),
            owner: replica.owner.clone(),
            generation: replica.generation,
            attachment: replica.attachment,
            peers: replica.peers.iter().map(|peer| peer.node.clone()).collect(),
            outdated: behind.map(|peer| peer.node.clone()).collect(),
            data_may_exist: replica.day0_generation_id == 0,
            ..of_document()
        }
    });
    let removed = document.removed.iter().map(|removed: &v1::RemovedReplica| HeldReplica {
        resource: removed.resource.clone(),
        resource_incarnation: removed.resource_incarnation,
        replica_incarnation: removed.replica_incarnation,
        drbd_name: removed.drbd_name.clone(),
        pool: removed.pool.clone(),
        layers: removed.layers.clone(),
        volumes: removed.volumes.clone(),
        removing: true,
        ..of_document()
    });
    wanted.chain(removed).collect()
}
