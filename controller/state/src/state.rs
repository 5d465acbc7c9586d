//! The state of a cluster: every desired object, under its key, in the keys' order.
//!
//! A clone costs a few pointers. Nothing in here decides: [`apply`](crate::apply()) does. It must never hold an
//! object that its records do not hold.

use std::sync::Arc;

use hawser_proto::{
    ids::OperationId,
    v1::{
        Attachment, ClusterRecord, HeldReplica, IdempotencyRecord, Member, Node, Operation, Resource,
        ResourceGroup, SnapshotRecord, StoragePool, snapshot_record::Record,
    },
};
use imbl::{OrdMap, OrdSet};
use prost::Message;
use sha2::{Digest, Sha256};

use crate::index::{Index, RequestName};

/// Everything that the Raft log says the cluster should be.
#[derive(Clone, Debug)]
pub struct State {
    pub(crate) cluster: Arc<ClusterRecord>,
    pub(crate) members: OrdMap<u64, Arc<Member>>,
    pub(crate) nodes: OrdMap<String, Arc<Node>>,
    /// By (node, name).
    pub(crate) pools: OrdMap<(String, String), Arc<StoragePool>>,
    pub(crate) groups: OrdMap<String, Arc<ResourceGroup>>,
    pub(crate) resources: OrdMap<String, Arc<Resource>>,
    /// By (resource, node).
    pub(crate) attachments: OrdMap<(String, String), Arc<Attachment>>,
    pub(crate) operations: OrdMap<OperationId, Arc<Operation>>,
    pub(crate) idempotency: OrdMap<RequestName, Arc<IdempotencyRecord>>,
    /// By (resource, node, replica incarnation): what nodes held when they reported after a restore. All of it while
    /// the cluster settles; afterwards what the state does not know.
    pub(crate) held: OrdMap<(String, String, u64), Arc<HeldReplica>>,
    pub(crate) index: Index,
    /// The state as it was when the log last passed a multiple of the checksum interval.
    pub(crate) checkpoint: Option<Arc<State>>,
}

/// Records that make no state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRecords {
    /// A record of a kind that this release does not know.
    #[error(
        "record {position} of the snapshot is of a kind that this release does not know: install a newer release"
    )]
    UnknownRecord {
        /// Counted from 0.
        position: usize,
    },
    /// The same key twice, or the same minor or port for two resources.
    #[error(
        "record {position} of the snapshot repeats the key or a number of an earlier one: the snapshot is damaged"
    )]
    Repeated {
        /// Counted from 0.
        position: usize,
    },
}

impl Default for State {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    /// The state before the first command. Only `InitializeCluster` can be applied to it.
    pub fn new() -> Self {
        Self::of(ClusterRecord::default())
    }

    pub(crate) fn of(cluster: ClusterRecord) -> Self {
        let index = Index::new(&cluster);
        Self {
            cluster: Arc::new(cluster),
            members: OrdMap::new(),
            nodes: OrdMap::new(),
            pools: OrdMap::new(),
            groups: OrdMap::new(),
            resources: OrdMap::new(),
            attachments: OrdMap::new(),
            operations: OrdMap::new(),
            idempotency: OrdMap::new(),
            held: OrdMap::new(),
            index,
            checkpoint: None,
        }
    }

    /// Whether `InitializeCluster` was applied.
    pub fn is_initialized(&self) -> bool {
        !self.cluster.cluster_id.is_empty()
    }

    /// The cluster's own settings and counters.
    pub fn cluster(&self) -> &ClusterRecord {
        &self.cluster
    }

    /// The log index of the last command that was applied; 0 before the first.
    pub fn revision(&self) -> u64 {
        self.cluster.revision
    }

    /// Notes the command applied last.
    pub(crate) fn set_revision(&mut self, revision: u64) {
        Arc::make_mut(&mut self.cluster).revision = revision;
    }

    /// The controllers, in the order in which they were announced.
    pub fn members(&self) -> impl DoubleEndedIterator<Item = &Member> {
        self.members.values().map(AsRef::as_ref)
    }

    /// A controller by its Raft id.
    pub fn member(&self, raft_id: u64) -> Option<&Member> {
        self.members.get(&raft_id).map(AsRef::as_ref)
    }

    /// A controller that was removed, by its Raft id; the last ones are remembered.
    pub fn removed_member(&self, raft_id: u64) -> Option<&Member> {
        self.cluster.removed_members.iter().find(|member| member.raft_id == raft_id)
    }

    /// The nodes, by name.
    pub fn nodes(&self) -> impl DoubleEndedIterator<Item = &Node> {
        self.nodes.values().map(AsRef::as_ref)
    }

    /// A node.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name).map(AsRef::as_ref)
    }

    /// The storage pools, by node and name.
    pub fn pools(&self) -> impl DoubleEndedIterator<Item = &StoragePool> {
        self.pools.values().map(AsRef::as_ref)
    }

    /// A node's storage pools, by name.
    pub fn pools_on<'a>(&'a self, node: &'a str) -> impl Iterator<Item = &'a StoragePool> {
        self.pools
            .range((node.to_owned(), String::new())..)
            .take_while(move |((of, _), _)| of == node)
            .map(|(_, pool)| pool.as_ref())
    }

    /// A storage pool.
    pub fn pool(&self, node: &str, name: &str) -> Option<&StoragePool> {
        self.pools.get(&(node.to_owned(), name.to_owned())).map(AsRef::as_ref)
    }

    /// The resource groups, by name.
    pub fn groups(&self) -> impl DoubleEndedIterator<Item = &ResourceGroup> {
        self.groups.values().map(AsRef::as_ref)
    }

    /// A resource group.
    pub fn group(&self, name: &str) -> Option<&ResourceGroup> {
        self.groups.get(name).map(AsRef::as_ref)
    }

    /// The resources, by name. They carry their shared secrets, which nobody may be shown.
    pub fn resources(&self) -> impl DoubleEndedIterator<Item = &Resource> {
        self.resources.values().map(AsRef::as_ref)
    }

    /// A resource.
    pub fn resource(&self, name: &str) -> Option<&Resource> {
        self.resources.get(name).map(AsRef::as_ref)
    }

    /// The resources with a replica on a node, by name; also those whose removal goes on.
    pub fn resources_on<'a>(&'a self, node: &'a str) -> impl Iterator<Item = &'a Resource> {
        self.index.replicas.get(node).into_iter().flatten().filter_map(|resource| self.resource(resource))
    }

    /// How many resources have a replica on a node, without a look at each.
    pub fn count_resources_on(&self, node: &str) -> usize {
        self.index.replicas.get(node).map_or(0, OrdSet::len)
    }

    /// The attachments, by resource and node.
    pub fn attachments(&self) -> impl DoubleEndedIterator<Item = &Attachment> {
        self.attachments.values().map(AsRef::as_ref)
    }

    /// A resource's attachments, by node. After a take-over there may be two: the new one, and the
    /// revoked one until its node has let go.
    pub fn attachments_of<'a>(&'a self, resource: &'a str) -> impl Iterator<Item = &'a Attachment> {
        self.attachments
            .range((resource.to_owned(), String::new())..)
            .take_while(move |((of, _), _)| of == resource)
            .map(|(_, attachment)| attachment.as_ref())
    }

    /// An attachment.
    pub fn attachment(&self, resource: &str, node: &str) -> Option<&Attachment> {
        self.attachments.get(&(resource.to_owned(), node.to_owned())).map(AsRef::as_ref)
    }

    /// The operations that run and the last that ended, by id.
    pub fn operations(&self) -> impl DoubleEndedIterator<Item = &Operation> {
        self.operations.values().map(AsRef::as_ref)
    }

    /// An operation.
    pub fn operation(&self, id: OperationId) -> Option<&Operation> {
        self.operations.get(&id).map(AsRef::as_ref)
    }

    /// The operations that run, by resource and id.
    pub fn running_operations(&self) -> impl Iterator<Item = &Operation> {
        self.index.running.iter().filter_map(|(_, id)| self.operation(*id))
    }

    /// A resource's operations that run, by id.
    pub fn running_operations_of<'a>(&'a self, resource: &'a str) -> impl Iterator<Item = &'a Operation> {
        self.index
            .running
            .range((resource.to_owned(), OperationId::default())..)
            .take_while(move |(of, _)| of == resource)
            .filter_map(|(_, id)| self.operation(*id))
    }

    /// The state as it was when the log last passed a multiple of [`CHECKSUM_INTERVAL`](crate::CHECKSUM_INTERVAL): what the
    /// leader commits the checksum of. `None` since the start of this process until then.
    pub fn checkpoint(&self) -> Option<&State> {
        self.checkpoint.as_deref()
    }

    /// All that is stored of the state, in an order that depends on nothing but the state.
    pub fn records(&self) -> impl Iterator<Item = SnapshotRecord> {
        let cluster = std::iter::once(Record::Cluster((*self.cluster).clone()));
        cluster
            .chain(self.members.values().map(|object| Record::Member((**object).clone())))
            .chain(self.nodes.values().map(|object| Record::Node((**object).clone())))
            .chain(self.pools.values().map(|object| Record::Pool((**object).clone())))
            .chain(self.groups.values().map(|object| Record::Group((**object).clone())))
            .chain(self.resources.values().map(|object| Record::Resource((**object).clone())))
            .chain(self.attachments.values().map(|object| Record::Attachment((**object).clone())))
            .chain(self.operations.values().map(|object| Record::Operation((**object).clone())))
            .chain(self.idempotency.values().map(|object| Record::Idempotency((**object).clone())))
            .chain(self.held.values().map(|object| Record::Held((**object).clone())))
            .map(|record| SnapshotRecord { record: Some(record) })
    }

    /// The state that [`records`](Self::records) were taken of.
    ///
    /// # Errors
    /// A record of an unknown kind, or one that contradicts an earlier one.
    pub fn from_records(records: impl IntoIterator<Item = SnapshotRecord>) -> Result<Self, InvalidRecords> {
        let mut state = Self::new();
        for (position, record) in records.into_iter().enumerate() {
            let record = record.record.ok_or(InvalidRecords::UnknownRecord { position })?;
            if !state.add_record(record, position == 0) {
                return Err(InvalidRecords::Repeated { position });
            }
        }
        Ok(state)
    }

    /// False if the record contradicts an earlier one.
    fn add_record(&mut self, record: Record, is_first: bool) -> bool {
        match record {
            Record::Cluster(cluster) => {
                *self = Self::of(cluster);
                is_first
            }
            Record::Member(object) => self.members.insert(object.raft_id, Arc::new(object)).is_none(),
            Record::Node(object) => self.nodes.insert(object.name.clone(), Arc::new(object)).is_none(),
            Record::Pool(object) => {
                self.pools.insert((object.node.clone(), object.name.clone()), Arc::new(object)).is_none()
            }
            Record::Group(object) => self.groups.insert(object.name.clone(), Arc::new(object)).is_none(),
            Record::Resource(object) => {
                self.index.add_resource(&object)
                    && self.resources.insert(object.name.clone(), Arc::new(object)).is_none()
            }
            Record::Attachment(object) => {
                let key = (object.resource.clone(), object.node.clone());
                self.attachments.insert(key, Arc::new(object)).is_none()
            }
            Record::Operation(object) => {
                self.index.add_operation(&object);
                self.operations.insert(object.id(), Arc::new(object)).is_none()
            }
            Record::Idempotency(object) => self.keep_answer(object),
            Record::Held(object) => self.held.insert(held_key(&object), Arc::new(object)).is_none(),
        }
    }

    /// Keeps the outcome of a request. False if there was one under its caller and key.
    pub(crate) fn keep_answer(&mut self, record: IdempotencyRecord) -> bool {
        let name = RequestName::new((record.caller.clone(), record.key.clone()));
        self.index.expiry.insert((record.expires_at_elapsed_ms, RequestName::clone(&name)));
        self.idempotency.insert(name, Arc::new(record)).is_none()
    }

    /// SHA-256 over all records in their order, each preceded by its length. Equal states, and only
    /// those, have equal checksums.
    pub fn checksum(&self) -> [u8; 32] {
        let mut hasher = Sha256::new();
        for record in self.records() {
            hasher.update(record.encode_length_delimited_to_vec());
        }
        hasher.finalize().into()
    }
}

/// Under which [`State::held`] has it.
pub(crate) fn held_key(held: &HeldReplica) -> (String, String, u64) {
    (held.resource.clone(), held.node.clone(), held.replica_incarnation)
}
