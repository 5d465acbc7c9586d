//! Renders what one node should have.
//!
//! Rendering is frozen like [`apply`](crate::apply()): the same state gives the same bytes in every release of one
//! feature level. A node's document revision changes exactly when what is rendered here changes.
//! It must never render what another node keeps to itself, nor leave out a removal that is not
//! confirmed.

use hawser_proto::v1::{
    Attachment, AttachmentLifecycle, DesiredAttachment, DesiredDocument, DesiredPeer, DesiredPool,
    DesiredReplica, DesiredVolume, DrbdOptions, RemovedReplica, Replica, ReplicaLifecycle, Resource,
    ResourceGroup, StoragePool, desired_pool, storage_pool,
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
            ..DesiredDocument::default()
        };
        for resource in self.resources_on(node) {
            match entry(self, node, resource) {
                Some(ReplicaEntry::Wanted(replica)) => document.replicas.push(*replica),
                Some(ReplicaEntry::Removed(replica)) => document.removed.push(replica),
                None => {}
            }
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
    match replica.lifecycle() {
        ReplicaLifecycle::Unspecified | ReplicaLifecycle::Removed => None,
        ReplicaLifecycle::Removing => Some(ReplicaEntry::Removed(removed(resource, replica))),
        ReplicaLifecycle::Creating | ReplicaLifecycle::Ready => {
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
    let mut peers: Vec<DesiredPeer> = resource
        .replicas
        .iter()
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
            }
        })
        .collect();
    peers.sort_by_key(|peer| peer.node_id);
    DesiredReplica {
        resource: resource.name.clone(),
        resource_incarnation: resource.incarnation,
        replica_incarnation: replica.incarnation,
        drbd_name: resource.drbd_name.clone(),
        layers: resource.layers.clone(),
        drbd_generation: resource.drbd_generation,
        maximum_peers: resource.maximum_peers,
        shared_secret: resource.shared_secret.clone(),
        options: Some(effective_options(state.group(&resource.group), resource)),
        volumes: volumes(resource, replica),
        peers,
        day0_generation_id: if resource.data_may_exist { 0 } else { resource.day0_generation_id },
        outdated_number: outdated_number(&replica.node),
        owner: arbitration.owner,
        generation: arbitration.generation,
        attachment: attachment(state.attachment(&resource.name, &replica.node)).into(),
        pool: replica.pool.clone(),
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

/// The resource's own options over its group's.
fn effective_options(group: Option<&ResourceGroup>, resource: &Resource) -> DrbdOptions {
    let mut options = group.and_then(|group| group.options.clone()).unwrap_or_default();
    let own = resource.options.clone().unwrap_or_default();
    options.resource.extend(own.resource);
    options.net.extend(own.net);
    options.disk.extend(own.disk);
    options
}
