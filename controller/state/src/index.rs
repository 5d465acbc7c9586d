//! What follows from the objects and is looked up often: taken numbers, which replicas lie on a node,
//! which operations run.
//!
//! Nothing here is stored. It must never hold a fact that the objects do not hold.

use std::sync::Arc;

use hawser_planted::{Defect, is_planted};
use hawser_proto::{
    ids::OperationId,
    v1::{ClusterRecord, Operation, OperationState, Resource, ResourceLifecycle, Volume},
};
use imbl::{OrdMap, OrdSet};

use crate::alloc::NumberPool;

/// Caller and key of a request. Shared: with every request a few nodes of the trees that hold it are copied, and these
/// trees are the largest.
pub(crate) type RequestName = Arc<(String, String)>;

/// Everything that is derived from the objects of a [`State`](crate::State).
#[derive(Clone, Debug)]
pub(crate) struct Index {
    pub(crate) minors: NumberPool,
    /// Node → its ports. A node without an entry has given none yet.
    pub(crate) ports: OrdMap<String, NumberPool>,
    /// Node → the resources with a replica there that is not confirmed as removed or still holds numbers.
    pub(crate) replicas: OrdMap<String, OrdSet<String>>,
    /// Group → how many resources were made from it.
    pub(crate) resources_by_group: OrdMap<String, u64>,
    /// (resource, operation) of the operations that run.
    pub(crate) running: OrdSet<(String, OperationId)>,
    /// (end on the cluster's clock, operation) of the others.
    pub(crate) finished: OrdSet<(u64, OperationId)>,
    /// (end of its life on the cluster's clock, request) of the kept outcomes.
    pub(crate) expiry: OrdSet<(u64, RequestName)>,
    /// What a node has to give that has given nothing yet.
    all_ports: NumberPool,
}

impl Index {
    pub(crate) fn new(cluster: &ClusterRecord) -> Self {
        let ports = (cluster.first_port, cluster.last_port);
        Self {
            minors: NumberPool::new((cluster.first_minor, cluster.last_minor)),
            ports: OrdMap::new(),
            replicas: OrdMap::new(),
            resources_by_group: OrdMap::new(),
            running: OrdSet::new(),
            finished: OrdSet::new(),
            expiry: OrdSet::new(),
            all_ports: NumberPool::without(ports, &cluster.reserved_ports),
        }
    }

    /// The ports of a node.
    pub(crate) fn ports_of(&mut self, node: &str) -> &mut NumberPool {
        let all = &self.all_ports;
        self.ports.entry(node.to_owned()).or_insert_with(|| all.clone())
    }

    /// Takes the places and numbers of a resource. False if somebody else has one of the numbers.
    pub(crate) fn add_resource(&mut self, resource: &Resource) -> bool {
        let mut free = true;
        for volume in with_minors(resource) {
            free &= self.minors.take(volume.minor);
        }
        for replica in &resource.replicas {
            if replica.port != 0 {
                free &= self.ports_of(&replica.node).take(replica.port);
            }
            self.replicas.entry(replica.node.clone()).or_default().insert(resource.name.clone());
        }
        *self.resources_by_group.entry(resource.group.clone()).or_insert(0) += 1;
        free
    }

    /// Gives them back.
    pub(crate) fn remove_resource(&mut self, resource: &Resource) {
        for volume in with_minors(resource) {
            self.minors.release(volume.minor);
        }
        for replica in &resource.replicas {
            if replica.port != 0 {
                self.ports_of(&replica.node).release(replica.port);
            }
            if let Some(resources) = self.replicas.get_mut(&replica.node) {
                resources.remove(&resource.name);
                if resources.is_empty() {
                    self.replicas.remove(&replica.node);
                }
            }
        }
        match self.resources_by_group.get(&resource.group) {
            Some(count) if *count > 1 => {
                self.resources_by_group.insert(resource.group.clone(), count - 1);
            }
            _ => {
                self.resources_by_group.remove(&resource.group);
            }
        }
    }

    pub(crate) fn add_operation(&mut self, operation: &Operation) {
        if operation.state() == OperationState::Running {
            self.running.insert((operation.resource.clone(), operation.id()));
        } else {
            self.finished.insert((operation.ended_at_elapsed_ms, operation.id()));
        }
    }

    pub(crate) fn remove_operation(&mut self, operation: &Operation) {
        self.running.remove(&(operation.resource.clone(), operation.id()));
        self.finished.remove(&(operation.ended_at_elapsed_ms, operation.id()));
    }
}

/// The volumes that hold a minor, for as long as the resource is there: its last node may still use it.
fn with_minors(resource: &Resource) -> impl Iterator<Item = &Volume> {
    let freed = is_planted(Defect::MinorReusedEarly) && resource.lifecycle() == ResourceLifecycle::Deleting;
    resource.volumes.iter().filter(move |volume| volume.minor != 0 && !freed)
}
