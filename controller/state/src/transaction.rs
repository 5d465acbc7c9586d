//! One command at work: a copy of the state that becomes the state, or is dropped.
//!
//! All writes to objects go through here, so that indexes, watchers' changes and document revisions
//! follow by themselves. It must never leave a trace of a command that was denied.

use std::{collections::BTreeSet, sync::Arc};

use hawser_proto::{
    ids::OperationId,
    v1::{
        Attachment, Change, ClusterRecord, HeldReplica, Member, Node, NumberRange, Operation, Resource,
        ResourceGroup, StoragePool,
    },
};

use crate::{
    change::Watched,
    desired,
    state::{State, held_key},
    verdict::{Denial, Verdict},
};

/// A command being applied.
pub(crate) struct Transaction<'a> {
    before: &'a State,
    state: State,
    /// The command's log index: the revision of all that it changes.
    pub(crate) index: u64,
    /// Wall time of the proposer, for display only.
    pub(crate) at_unix_ms: u64,
    changes: Vec<Change>,
    /// (node, resource) whose entry in the node's document may have changed.
    touched_replicas: BTreeSet<(String, String)>,
    /// Nodes whose pools may have changed.
    touched_pools: BTreeSet<String>,
}

impl<'a> Transaction<'a> {
    pub(crate) fn begin(before: &'a State, index: u64, at_unix_ms: u64) -> Self {
        Self {
            before,
            state: before.clone(),
            index,
            at_unix_ms,
            changes: Vec::new(),
            touched_replicas: BTreeSet::new(),
            touched_pools: BTreeSet::new(),
        }
    }

    /// The state as the command has made it so far.
    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// The new state and what watchers are told.
    pub(crate) fn commit(mut self) -> (State, Vec<Change>) {
        let mut rewritten: BTreeSet<&str> = BTreeSet::new();
        for (node, resource) in &self.touched_replicas {
            if !rewritten.contains(node.as_str())
                && desired::replica_entry(self.before, node, resource)
                    != desired::replica_entry(&self.state, node, resource)
            {
                rewritten.insert(node);
            }
        }
        for node in &self.touched_pools {
            if desired::pools(self.before, node) != desired::pools(&self.state, node) {
                rewritten.insert(node);
            }
        }
        for name in rewritten {
            if let Some(node) = self.state.nodes.get(name)
                && node.document_revision != self.index
            {
                let node = Node { document_revision: self.index, ..(**node).clone() };
                self.changes.push(node.changed());
                self.state.nodes.insert(name.to_owned(), Arc::new(node));
            }
        }
        (self.state, self.changes)
    }

    pub(crate) fn put_cluster(&mut self, cluster: ClusterRecord) {
        self.state.cluster = Arc::new(cluster);
    }

    /// The first command sets the ranges that numbers are given from.
    pub(crate) fn initialize(&mut self, cluster: ClusterRecord) {
        self.state = State::of(cluster);
    }

    pub(crate) fn put_member(&mut self, member: Member) {
        self.changes.push(member.changed());
        self.state.members.insert(member.raft_id, Arc::new(member));
    }

    pub(crate) fn remove_member(&mut self, raft_id: u64) {
        if let Some(member) = self.state.members.remove(&raft_id) {
            self.changes.push(member.removed());
        }
    }

    pub(crate) fn put_node(&mut self, node: Node) {
        // A node's name and addresses stand in the documents of its peers.
        let resources: Vec<String> =
            self.state.resources_on(&node.name).map(|resource| resource.name.clone()).collect();
        for resource in resources {
            self.touch(&resource);
        }
        self.changes.push(node.changed());
        self.state.nodes.insert(node.name.clone(), Arc::new(node));
    }

    pub(crate) fn remove_node(&mut self, name: &str) {
        if let Some(node) = self.state.nodes.remove(name) {
            self.state.index.ports.remove(name);
            self.changes.push(node.removed());
        }
    }

    pub(crate) fn put_pool(&mut self, pool: StoragePool) {
        self.touched_pools.insert(pool.node.clone());
        self.changes.push(pool.changed());
        self.state.pools.insert((pool.node.clone(), pool.name.clone()), Arc::new(pool));
    }

    pub(crate) fn remove_pool(&mut self, node: &str, name: &str) {
        if let Some(pool) = self.state.pools.remove(&(node.to_owned(), name.to_owned())) {
            self.touched_pools.insert(node.to_owned());
            self.changes.push(pool.removed());
        }
    }

    pub(crate) fn put_group(&mut self, group: ResourceGroup) {
        self.changes.push(group.changed());
        self.state.groups.insert(group.name.clone(), Arc::new(group));
    }

    pub(crate) fn remove_group(&mut self, name: &str) {
        if let Some(group) = self.state.groups.remove(name) {
            self.changes.push(group.removed());
        }
    }

    /// Stores a resource at this command's revision.
    ///
    /// # Errors
    /// One of its numbers is taken. Numbers come from this transaction's own pools, so it cannot be.
    pub(crate) fn put_resource(&mut self, resource: Resource) -> Verdict<()> {
        let resource = Resource { revision: self.index, ..resource };
        self.touch(&resource.name);
        if let Some(before) = self.state.resources.remove(&resource.name) {
            self.state.index.remove_resource(&before);
        }
        if !self.state.index.add_resource(&resource) {
            return Err(Denial::precondition(format!(
                "resource {} would share a minor or a port with another: report this as a defect",
                resource.name
            )));
        }
        self.changes.push(resource.changed());
        let name = resource.name.clone();
        self.state.resources.insert(name.clone(), Arc::new(resource));
        self.touch(&name);
        Ok(())
    }

    pub(crate) fn remove_resource(&mut self, name: &str) {
        self.touch(name);
        if let Some(resource) = self.state.resources.remove(name) {
            self.state.index.remove_resource(&resource);
            self.changes.push(resource.removed());
        }
    }

    /// Stores an attachment at this command's revision.
    pub(crate) fn put_attachment(&mut self, attachment: Attachment) {
        let attachment = Attachment { revision: self.index, ..attachment };
        self.touched_replicas.insert((attachment.node.clone(), attachment.resource.clone()));
        self.changes.push(attachment.changed());
        self.state
            .attachments
            .insert((attachment.resource.clone(), attachment.node.clone()), Arc::new(attachment));
    }

    pub(crate) fn remove_attachment(&mut self, resource: &str, node: &str) {
        if let Some(attachment) = self.state.attachments.remove(&(resource.to_owned(), node.to_owned())) {
            self.touched_replicas.insert((node.to_owned(), resource.to_owned()));
            self.changes.push(attachment.removed());
        }
    }

    pub(crate) fn put_operation(&mut self, operation: Operation) {
        if let Some(before) = self.state.operations.remove(&operation.id()) {
            self.state.index.remove_operation(&before);
        }
        self.changes.push(operation.changed());
        self.state.index.add_operation(&operation);
        self.state.operations.insert(operation.id(), Arc::new(operation));
    }

    /// Forgets an operation that has ended.
    pub(crate) fn remove_operation(&mut self, id: OperationId) {
        if let Some(operation) = self.state.operations.remove(&id) {
            self.state.index.remove_operation(&operation);
            self.changes.push(operation.removed());
        }
    }

    /// Forgets the outcomes of requests whose time is over.
    pub(crate) fn expire_requests(&mut self) {
        let now = self.state.cluster().elapsed_ms;
        while let Some((expires, name)) = self.state.index.expiry.get_min().cloned()
            && expires <= now
        {
            self.state.idempotency.remove(&name);
            self.state.index.expiry.remove(&(expires, name));
        }
    }

    /// Notes what a node holds. A resource whose replica it is may have to be left alone for it.
    pub(crate) fn put_held(&mut self, held: HeldReplica) {
        self.touch(&held.resource);
        self.state.held.insert(held_key(&held), Arc::new(held));
    }

    pub(crate) fn remove_held(&mut self, held: &HeldReplica) {
        self.touch(&held.resource);
        self.state.held.remove(&held_key(held));
    }

    /// The smallest free port of a node that is in none of the ranges.
    pub(crate) fn smallest_free_port(&mut self, node: &str, avoided: &[NumberRange]) -> Option<u32> {
        self.state.index.ports_of(node).clone().take_smallest(avoided)
    }

    fn touch(&mut self, resource: &str) {
        if let Some(resource) = self.state.resources.get(resource) {
            for replica in &resource.replicas {
                self.touched_replicas.insert((replica.node.clone(), resource.name.clone()));
            }
        }
    }
}
