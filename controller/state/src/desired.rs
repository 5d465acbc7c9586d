//! Renders what one node should have.
//!
//! Rendering is frozen like [`apply`](crate::apply()): the same state gives the same bytes in every release of one
//! feature level. A node's document revision changes exactly when what is rendered here changes.
//! It must never render what another node keeps to itself, nor leave out a removal that is not
//! confirmed; and never say anything of a resource of which a node holds a replica that the state does not know.

use hawser_planted::{Defect, is_planted};
use hawser_proto::v1::{
    Attachment, AttachmentLifecycle, DesiredAttachment, DesiredDocument, DesiredPeer, DesiredPool,
    DesiredReplica, DesiredVolume, DrbdOptions, RemovedReplica, Replica, ReplicaLifecycle, Resource,
    StoragePool, desired_pool, storage_pool,
};

use crate::state::State;

/// What a document says of one replica.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ReplicaEntry {
    Wanted(Box<DesiredReplica>),
    Removed(RemovedReplica),
}

impl State {
    /// What a node should have, as of its document revision; `None` for a node that is not there.
    pub fn document(&self, node: &str) -> Option<DesiredDocument> {
        let wanted = self.node(node)?;
        let mut document = DesiredDocument {
            cluster_id: self.cluster().cluster_id.clone(),
            lineage: self.cluster().lineage,
            node: wanted.name.clone(),
            revision: wanted.document_revision,
            pools: pools(self, node),
            restore_id: self.cluster().restored.as_ref().map_or(0, |restored| restored.restore_id),
            ..DesiredDocument::default()
        };
        for resource in self.resources_on(node) {
            match entry(self, node, resource) {
                Some(ReplicaEntry::Wanted(replica)) => document.replicas.push(*replica),
                Some(ReplicaEntry::Removed(replica)) => document.removed.push(replica),
                None => {}
            }
        }
        if is_planted(Defect::UnknownDeleted) {
            document.removed.extend(self.unknown().filter(|held| held.node == node).map(|held| {
                RemovedReplica {
                    resource: held.resource.clone(),
                    resource_incarnation: held.resource_incarnation,
                    replica_incarnation: held.replica_incarnation,
                    drbd_name: held.drbd_name.clone(),
                    pool: held.pool.clone(),
                    volumes: held.volumes.clone(),
                    layers: held.layers.clone(),
                }
            }));
        }
        Some(document)
    }
}

/// What `node`'s document says of its replica of `resource`; `None` if it says nothing.
pub(crate) fn replica_entry(state: &State, node: &str, resource: &str) -> Option<ReplicaEntry> {
    entry(state, node, state.resource(resource)?)
}

/// What `node`'s document says of its pools.
pub(crate) fn pools(state: &State, node: &str) -> Vec<DesiredPool> {
    state.pools_on(node).map(pool).collect()
}

fn pool(pool: &StoragePool) -> DesiredPool {
    let provider = pool.provider.clone().map(|provider| match provider {
        storage_pool::Provider::LvmThin(provider) => desired_pool::Provider::LvmThin(provider),
        storage_pool::Provider::Lvm(provider) => desired_pool::Provider::Lvm(provider),
        storage_pool::Provider::Zfs(provider) => desired_pool::Provider::Zfs(provider),
        storage_pool::Provider::Directory(provider) => desired_pool::Provider::Directory(provider),
    });
    DesiredPool { name: pool.name.clone(), incarnation: pool.incarnation, provider }
}

fn entry(state: &State, node: &str, resource: &Resource) -> Option<ReplicaEntry> {
    let replica = resource.replicas.iter().find(|replica| replica.node == node)?;
    if state.is_contested(resource) {
        return None;
    }
    match replica.lifecycle() {
        ReplicaLifecycle::Unspecified | ReplicaLifecycle::Removed => None,
        ReplicaLifecycle::Removing => Some(ReplicaEntry::Removed(removed(resource, replica))),
        ReplicaLifecycle::Creating | ReplicaLifecycle::Ready | ReplicaLifecycle::Leaving => {
            Some(ReplicaEntry::Wanted(Box::new(wanted(state, resource, replica))))
        }
    }
}

fn removed(resource: &Resource, replica: &Replica) -> RemovedReplica {
    RemovedReplica {
        resource: resource.name.clone(),
        resource_incarnation: resource.incarnation,
        replica_incarnation: replica.incarnation,
        drbd_name: resource.drbd_name.clone(),
        pool: replica.pool.clone(),
        volumes: volumes(resource, replica),
        layers: resource.layers.clone(),
    }
}

fn wanted(state: &State, resource: &Resource, replica: &Replica) -> DesiredReplica {
    let arbitration = resource.arbitration.clone().unwrap_or_default();
    let outdated_number = |node: &str| {
        arbitration
            .outdated
            .iter()
            .find(|outdated| outdated.node == node)
            .map_or(0, |outdated| outdated.number)
    };
    let own_claim = arbitration.claim.as_ref().filter(|claim| claim.node == replica.node);
    let claim_number =
        |node: &str| own_claim.filter(|_| node == arbitration.owner).map_or(0, |claim| claim.number);
    let is_let_go = |peer: &&Replica| peer.node != replica.node && peer.is_going();
    let mut peers: Vec<DesiredPeer> = resource
        .replicas
        .iter()
        .filter(|peer| !is_let_go(peer))
        .map(|peer| {
            let peer_node = state.node(&peer.node);
            DesiredPeer {
                node: peer.node.clone(),
                uname: peer_node.map(|node| node.uname.clone()).unwrap_or_default(),
                node_id: peer.node_id,
                ip: peer_node
                    .and_then(|node| node.addresses.iter().find(|address| address.name == peer.address))
                    .map(|address| address.ip.clone())
                    .unwrap_or_default(),
                port: peer.port,
                kind: peer.kind,
                replica_incarnation: peer.incarnation,
                outdated_number: outdated_number(&peer.node),
                claim_number: claim_number(&peer.node),
            }
        })
        .collect();
    peers.sort_by_key(|peer| peer.node_id);
    let starts_from_day0 = !resource.data_may_exist && outdated_number(&replica.node) == 0;
    DesiredReplica {
        resource: resource.name.clone(),
        resource_incarnation: resource.incarnation,
        replica_incarnation: replica.incarnation,
        drbd_name: resource.drbd_name.clone(),
        layers: resource.layers.clone(),
        drbd_generation: resource.drbd_generation,
        maximum_peers: resource.maximum_peers,
        shared_secret: resource.shared_secret.clone(),
        options: Some(effective_options([
            state.node(&replica.node).and_then(|node| node.options.as_ref()),
            state.group(&resource.group).and_then(|group| group.options.as_ref()),
            resource.options.as_ref(),
        ])),
        volumes: volumes(resource, replica),
        peers,
        day0_generation_id: if starts_from_day0 { resource.day0_generation_id } else { 0 },
        outdated_number: outdated_number(&replica.node),
        owner: arbitration.owner,
        generation: arbitration.generation,
        attachment: attachment(state.attachment(&resource.name, &replica.node)).into(),
        pool: replica.pool.clone(),
        not_made_anew: replica.is_missing(),
    }
}

fn attachment(attachment: Option<&Attachment>) -> DesiredAttachment {
    match attachment.map(Attachment::lifecycle) {
        Some(AttachmentLifecycle::Attaching | AttachmentLifecycle::Attached) => DesiredAttachment::Attached,
        Some(AttachmentLifecycle::Revoked) => DesiredAttachment::Revoked,
        None | Some(AttachmentLifecycle::Detaching | AttachmentLifecycle::Unspecified) => {
            DesiredAttachment::Detached
        }
    }
}

fn volumes(resource: &Resource, replica: &Replica) -> Vec<DesiredVolume> {
    resource
        .volumes
        .iter()
        .map(|volume| {
            let backing = replica.backing_volumes.iter().find(|backing| backing.volume == volume.number);
            DesiredVolume {
                number: volume.number,
                minor: volume.minor,
                size_bytes: volume.size_bytes,
                backing_name: backing.map(|backing| backing.name.clone()).unwrap_or_default(),
                backing_size_bytes: backing.map_or(0, |backing| backing.size_bytes),
                gate_name: format!("hawser-{}.{}-{}", resource.name, resource.incarnation, volume.number),
            }
        })
        .collect()
}

/// The options of several levels, the later ones over the earlier.
fn effective_options<const LEVELS: usize>(levels: [Option<&DrbdOptions>; LEVELS]) -> DrbdOptions {
    let mut effective = DrbdOptions::default();
    for level in levels.into_iter().flatten().cloned() {
        effective.resource.extend(level.resource);
        effective.net.extend(level.net);
        effective.disk.extend(level.disk);
    }
    effective
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use prost::Message;
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::fixture::Cluster;

    #[test]
    fn a_node_that_is_not_there_has_no_document() {
        assert_eq!(Cluster::with_nodes(1).state.document("n2"), None);
    }

    #[test]
    fn a_node_is_told_of_its_own_pools_and_replicas_only() {
        let mut cluster = Cluster::with_nodes(3);
        cluster.add_resource("web", &["n1", "n2"]);
        let document = |node: &str| cluster.state.document(node).unwrap();
        assert_eq!((document("n1").pools.len(), document("n1").replicas.len()), (1, 1));
        assert_eq!((document("n3").pools.len(), document("n3").replicas.len()), (1, 0));
        assert_eq!(document("n1").cluster_id, "5f0c");
    }

    #[test]
    fn the_options_of_the_more_special_level_win() {
        let net = |entries: &[(&str, &str)]| DrbdOptions {
            net: entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            ..DrbdOptions::default()
        };
        let group = net(&[("max-buffers", "1"), ("sndbuf-size", "2")]);
        let resource = net(&[("max-buffers", "3")]);
        let merged = BTreeMap::from([
            ("max-buffers".to_owned(), "3".to_owned()),
            ("sndbuf-size".to_owned(), "2".to_owned()),
        ]);
        assert_eq!(effective_options([None, Some(&group), Some(&resource)]).net, merged);
    }

    /// A satellite that gets other bytes under a revision it has raises an alarm, and controllers of two
    /// releases run together: what was rendered once is rendered so for ever.
    #[test]
    fn rendering_is_frozen() {
        let cluster = Cluster::attached();
        let hash = |node: &str| {
            let bytes = cluster.state.document(node).unwrap().encode_to_vec();
            Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        assert_eq!(hash("n1"), "db6b976c68d05bd0f4f0071ec845b73460907b304423cd1b128547a53e7f970a");
        assert_eq!(hash("n2"), "b2fa38159771ef839c5b1be3a74bbebd4388dce65b91b1e8d72ba7dd7df500cf");
    }
}
