//! What is wanted of this node for one replica, read out of the document once and checked.
//!
//! A document that cannot be read in one place stops that replica alone, with the field's name; nothing
//! is guessed.

use hawser_proto::{
    ids::{ClaimNumber, Incarnation, Lineage, OutdateNumber, OwnerGeneration},
    v1,
};

use crate::{
    observed::{ReplicaFound, Subject, SubjectVolume},
    step::{
        BackingVolume, Configuration, DrbdPeer, DrbdVolume, Gate, GateTarget, Generation, Mark, Provider,
        SharedSecret,
    },
    storage,
};

/// A field of the document that cannot be acted on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the desired document's {field} of resource {resource} is {problem}; update the satellite or report it"
)]
pub struct Unreadable {
    /// Resource.
    pub resource: String,
    /// Field of the replica's entry.
    pub field: &'static str,
    /// What is wrong.
    pub problem: String,
}

/// What this node has to offer to a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attachment {
    /// Neither gate nor Primary.
    Detached,
    /// Primary with an open gate.
    Attached,
    /// Another node owns it: let go, without completing writes of a living consumer.
    Revoked,
}

/// One volume of a wanted replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Number in the resource.
    pub number: u32,
    /// DRBD minor.
    pub minor: u32,
    /// Bytes that the DRBD device offers.
    pub size_bytes: u64,
    /// What it lies on; `None` on a replica without storage.
    pub backing: Option<BackingVolume>,
    /// The map that a consumer opens.
    pub gate: Gate,
}

/// Another replica of the resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its node.
    pub node: String,
    /// Whether it has storage.
    pub diskful: bool,
    /// Of the `Outdate` that stands for it.
    pub outdated_number: Option<OutdateNumber>,
    /// Of the claim of this node, which is about to take the resource over from it.
    pub kept_away: Option<ClaimNumber>,
}

/// A replica that this node should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// Lineage that all numbers of the document belong to.
    pub lineage: Lineage,
    /// Hawser's name of the resource.
    pub resource: String,
    /// Incarnation of the resource.
    pub resource_incarnation: Incarnation,
    /// Incarnation of this replica.
    pub incarnation: Incarnation,
    /// What DRBD has to know; `None` where the resource has no DRBD layer.
    pub drbd: Option<Configuration>,
    /// Peers that the metadata has room for.
    pub maximum_peers: u32,
    /// Generation identifier to start from without a sync.
    pub day0: Option<u64>,
    /// After a restore, the node held nothing of it: it had data once, and is not made anew.
    pub not_made_anew: bool,
    /// Who may be Primary; empty: nobody.
    pub owner: String,
    /// Of the owner.
    pub generation: OwnerGeneration,
    /// What to offer to a consumer.
    pub attachment: Attachment,
    /// Of the `Outdate` that stands for this replica.
    pub outdated_number: Option<OutdateNumber>,
    /// Volumes, by number.
    pub volumes: Vec<Volume>,
    /// The other replicas, by node-id.
    pub peers: Vec<Peer>,
}

/// A replica of which nothing may be left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// Hawser's name of the resource.
    pub resource: String,
    /// Incarnation of the replica.
    pub incarnation: Incarnation,
    /// Name of the DRBD resource; `None` where there is no DRBD layer.
    pub drbd_name: Option<String>,
    /// Volumes, by number.
    pub volumes: Vec<Volume>,
}

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Desired {
    /// The replica should be there.
    Replica(Box<Replica>),
    /// Nothing of it should be there.
    Removal(Removal),
}

impl Desired {
    /// Name of the resource.
    pub fn resource(&self) -> &str {
        match self {
            Desired::Replica(replica) => &replica.resource,
            Desired::Removal(removal) => &removal.resource,
        }
    }

    /// The replica, if it should be there.
    pub fn replica(&self) -> Option<&Replica> {
        match self {
            Desired::Replica(replica) => Some(replica),
            Desired::Removal(_) => None,
        }
    }

    /// Incarnation of the replica on this node.
    pub fn incarnation(&self) -> Incarnation {
        match self {
            Desired::Replica(replica) => replica.incarnation,
            Desired::Removal(removal) => removal.incarnation,
        }
    }

    /// Name of the DRBD resource, where there is one.
    pub fn drbd_name(&self) -> Option<&str> {
        match self {
            Desired::Replica(replica) => replica.drbd.as_ref().map(|drbd| drbd.drbd_name.as_str()),
            Desired::Removal(removal) => removal.drbd_name.as_deref(),
        }
    }

    /// Volumes, by number.
    pub fn volumes(&self) -> &[Volume] {
        match self {
            Desired::Replica(replica) => &replica.volumes,
            Desired::Removal(removal) => &removal.volumes,
        }
    }

    /// Whether the plan needs to know of the backing volumes after `found`. Looking for them takes a command;
    /// under disks that the kernel has attached it would tell nothing new.
    pub fn needs_storage_looked_at(&self, found: &ReplicaFound) -> bool {
        match self {
            Desired::Replica(replica) => !storage::runs_on_its_disk(replica, found),
            Desired::Removal(_) => true,
        }
    }

    /// What to look at to find out what is there of it. `openers`: walk through `/proc` too.
    pub fn subject(&self, openers: bool) -> Subject {
        let peers = match self {
            Desired::Replica(replica) => replica
                .drbd
                .iter()
                .flat_map(|drbd| drbd.peers.iter().filter(|peer| peer.node != drbd.node))
                .cloned()
                .collect(),
            Desired::Removal(_) => Vec::new(),
        };
        Subject {
            resource: self.resource().to_owned(),
            replica_incarnation: self.incarnation(),
            drbd_name: self.drbd_name().map(str::to_owned),
            provider: self
                .volumes()
                .iter()
                .find_map(|volume| volume.backing.as_ref().map(|backing| backing.provider.clone())),
            volumes: self
                .volumes()
                .iter()
                .map(|volume| SubjectVolume {
                    number: volume.number,
                    minor: volume.minor,
                    backing_name: volume
                        .backing
                        .as_ref()
                        .map(|backing| backing.name.clone())
                        .unwrap_or_default(),
                    gate_name: volume.gate.name.clone(),
                })
                .collect(),
            peers,
            openers,
        }
    }

    /// Reads one wanted replica of `document`.
    ///
    /// # Errors
    /// Names the field that cannot be acted on.
    pub fn of_replica(
        document: &v1::DesiredDocument,
        wanted: &v1::DesiredReplica,
    ) -> Result<Desired, Unreadable> {
        Reader { document, resource: &wanted.resource, incarnation: wanted.replica_incarnation() }
            .replica(wanted)
            .map(|replica| Desired::Replica(Box::new(replica)))
    }

    /// Reads one removal of `document`.
    ///
    /// # Errors
    /// Names the field that cannot be acted on.
    pub fn of_removal(
        document: &v1::DesiredDocument,
        removed: &v1::RemovedReplica,
    ) -> Result<Desired, Unreadable> {
        Reader { document, resource: &removed.resource, incarnation: removed.replica_incarnation() }
            .removal(removed)
            .map(Desired::Removal)
    }
}

/// Reads the provider of a pool's entry.
pub fn provider(pool: &v1::DesiredPool) -> Option<Provider> {
    use v1::desired_pool::Provider as Sent;
    Some(match pool.provider.as_ref()? {
        Sent::LvmThin(thin) => {
            Provider::LvmThin { volume_group: thin.volume_group.clone(), thin_pool: thin.thin_pool.clone() }
        }
        Sent::Lvm(lvm) => Provider::Lvm { volume_group: lvm.volume_group.clone() },
        Sent::Zfs(zfs) => Provider::Zfs { dataset: zfs.dataset.clone() },
        Sent::Directory(directory) => Provider::Directory { path: directory.path.clone() },
    })
}

struct Reader<'a> {
    document: &'a v1::DesiredDocument,
    resource: &'a str,
    incarnation: Incarnation,
}

impl Reader<'_> {
    fn replica(&self, wanted: &v1::DesiredReplica) -> Result<Replica, Unreadable> {
        let with_drbd = self.has_drbd(wanted.layers())?;
        let own = wanted
            .peers
            .iter()
            .find(|peer| peer.node == self.document.node)
            .ok_or_else(|| self.unreadable("peers", "without this node".to_owned()))?;
        let provider = match own.kind() {
            v1::ReplicaKind::Diskful => Some(self.provider(&wanted.pool)?),
            v1::ReplicaKind::Diskless | v1::ReplicaKind::Tiebreaker => None,
            v1::ReplicaKind::Unspecified => {
                return Err(self.unreadable("peers.kind", format!("unknown ({})", own.kind)));
            }
        };
        let volumes = self.volumes(&wanted.volumes, provider.as_ref(), with_drbd)?;
        let drbd = if with_drbd { Some(self.configuration(wanted, &volumes)?) } else { None };
        Ok(Replica {
            lineage: self.document.version().lineage,
            resource: wanted.resource.clone(),
            resource_incarnation: wanted.resource_incarnation(),
            incarnation: wanted.replica_incarnation(),
            drbd,
            maximum_peers: wanted.maximum_peers,
            day0: (wanted.day0_generation_id != 0).then_some(wanted.day0_generation_id),
            not_made_anew: wanted.not_made_anew,
            owner: wanted.owner.clone(),
            generation: wanted.generation(),
            attachment: match wanted.attachment() {
                v1::DesiredAttachment::Detached => Attachment::Detached,
                v1::DesiredAttachment::Attached => Attachment::Attached,
                v1::DesiredAttachment::Revoked => Attachment::Revoked,
                v1::DesiredAttachment::Unspecified => {
                    return Err(self.unreadable("attachment", format!("unknown ({})", wanted.attachment)));
                }
            },
            outdated_number: wanted.outdated_number(),
            volumes,
            peers: wanted
                .peers
                .iter()
                .filter(|peer| peer.node != self.document.node)
                .map(|peer| Peer {
                    node: peer.node.clone(),
                    diskful: peer.kind() == v1::ReplicaKind::Diskful,
                    outdated_number: peer.outdated_number(),
                    kept_away: peer.claim_number(),
                })
                .collect(),
        })
    }

    fn removal(&self, removed: &v1::RemovedReplica) -> Result<Removal, Unreadable> {
        let with_drbd = self.has_drbd(removed.layers())?;
        let provider = if removed.pool.is_empty() { None } else { Some(self.provider(&removed.pool)?) };
        Ok(Removal {
            resource: removed.resource.clone(),
            incarnation: removed.replica_incarnation(),
            drbd_name: with_drbd.then(|| removed.drbd_name.clone()),
            volumes: self.volumes(&removed.volumes, provider.as_ref(), with_drbd)?,
        })
    }

    fn has_drbd(&self, layers: impl Iterator<Item = v1::Layer>) -> Result<bool, Unreadable> {
        let layers: Vec<_> = layers.collect();
        match layers.as_slice() {
            [v1::Layer::Drbd, v1::Layer::Storage] => Ok(true),
            [v1::Layer::Storage] => Ok(false),
            other => Err(self.unreadable("layers", format!("{other:?}, which this satellite cannot stack"))),
        }
    }

    fn provider(&self, pool: &str) -> Result<Provider, Unreadable> {
        self.document
            .pools
            .iter()
            .find(|candidate| candidate.name == pool)
            .and_then(provider)
            .ok_or_else(|| self.unreadable("pool", format!("{pool:?}, which the document does not describe")))
    }

    fn volumes(
        &self,
        wanted: &[v1::DesiredVolume],
        provider: Option<&Provider>,
        with_drbd: bool,
    ) -> Result<Vec<Volume>, Unreadable> {
        if wanted.is_empty() {
            return Err(self.unreadable("volumes", "empty".to_owned()));
        }
        let mut volumes = wanted
            .iter()
            .map(|volume| {
                let backing = provider.map(|provider| BackingVolume {
                    provider: provider.clone(),
                    name: volume.backing_name.clone(),
                    size_bytes: volume.backing_size_bytes,
                    mark: Mark {
                        cluster_id: self.document.cluster_id.clone(),
                        resource: self.resource.to_owned(),
                        replica_incarnation: self.incarnation,
                        volume: volume.number,
                    },
                });
                let target = match &backing {
                    Some(backing) if !with_drbd => GateTarget::Backing(backing.clone()),
                    None if !with_drbd => {
                        return Err(self.unreadable("pool", "empty, but there is no DRBD layer".to_owned()));
                    }
                    _ => GateTarget::Drbd { minor: volume.minor },
                };
                Ok(Volume {
                    number: volume.number,
                    minor: volume.minor,
                    size_bytes: volume.size_bytes,
                    backing,
                    gate: Gate { name: volume.gate_name.clone(), target },
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        // Results are collected with room for four, and a node keeps hundreds of these.
        volumes.shrink_to_fit();
        Ok(volumes)
    }

    fn configuration(
        &self,
        wanted: &v1::DesiredReplica,
        volumes: &[Volume],
    ) -> Result<Configuration, Unreadable> {
        let generation = match wanted.drbd_generation() {
            v1::DrbdGeneration::DrbdGeneration84 => Generation::V8_4,
            v1::DrbdGeneration::DrbdGeneration9 => Generation::V9,
            v1::DrbdGeneration::Unspecified => {
                return Err(
                    self.unreadable("drbd_generation", format!("unknown ({})", wanted.drbd_generation))
                );
            }
        };
        let peers = wanted.peers.iter().map(|peer| self.peer(peer)).collect::<Result<Vec<_>, _>>()?;
        let options = wanted.options.clone().unwrap_or_default();
        Ok(Configuration {
            drbd_name: wanted.drbd_name.clone(),
            node: self.document.node.clone(),
            generation,
            shared_secret: SharedSecret(wanted.shared_secret.clone()),
            resource_options: options.resource,
            net_options: options.net,
            disk_options: options.disk,
            ask_arbiter: peers.len() == 2 && peers.iter().all(|peer| peer.diskful),
            volumes: volumes
                .iter()
                .map(|volume| DrbdVolume {
                    number: volume.number,
                    minor: volume.minor,
                    size_bytes: volume.size_bytes,
                    backing: volume.backing.clone(),
                })
                .collect(),
            peers,
        })
    }

    fn peer(&self, peer: &v1::DesiredPeer) -> Result<DrbdPeer, Unreadable> {
        Ok(DrbdPeer {
            node: peer.node.clone(),
            uname: peer.uname.clone(),
            node_id: peer.node_id,
            ip: peer
                .ip
                .parse()
                .map_err(|_| self.unreadable("peers.ip", format!("{:?}, which is no IP address", peer.ip)))?,
            port: u16::try_from(peer.port)
                .ok()
                .filter(|port| *port != 0)
                .ok_or_else(|| self.unreadable("peers.port", format!("{}, which is no port", peer.port)))?,
            diskful: peer.kind() == v1::ReplicaKind::Diskful,
        })
    }

    fn unreadable(&self, field: &'static str, problem: String) -> Unreadable {
        Unreadable { resource: self.resource.to_owned(), field, problem }
    }
}
