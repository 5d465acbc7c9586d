//! How far a running operation has come: the earliest step that some node concerned is not yet seen to have done.
//!
//! Derived at each look and never stored, so that it is never older than what it is derived from. It must never say
//! that a step is done which the loops would not believe.

use hawser_proto::{
    ids::{DocumentVersion, Revision},
    v1,
};
use hawser_state::State;

use crate::leader::{
    loops::{
        attach, create, detach,
        evidence::{can_write, connected, disk, is_in_sync_with, is_replicated, seen_under, stated_under},
        release::{self, staying},
        remove,
    },
    observed::Observed,
};

/// A step of an operation, in the order in which steps are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// A node has no session, or has not yet reported what it has.
    ReachNodes,
    /// A node has not yet stored the orders that belong to the operation.
    StoreOrders,
    /// Storage, metadata and DRBD device of a replica are not all there.
    CreateReplicas,
    /// Two replicas are not connected.
    Connect,
    /// The copies are not equal.
    Sync,
    /// The node is not Primary.
    Promote,
    /// The gate does not lead to the device.
    OpenGate,
    /// A gate is there, or may be.
    CloseGate,
    /// The node is Primary, or may be.
    Demote,
    /// A connection to a replica that leaves is there, or may be.
    Disconnect,
    /// Something of a replica is left.
    RemoveReplicas,
    /// Everything was seen; only Raft has not yet noted it.
    Confirm,
}

impl Phase {
    /// The word that the API shows.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::ReachNodes => "reach-nodes",
            Self::StoreOrders => "store-orders",
            Self::CreateReplicas => "create-replicas",
            Self::Connect => "connect",
            Self::Sync => "sync",
            Self::Promote => "promote",
            Self::OpenGate => "open-gate",
            Self::CloseGate => "close-gate",
            Self::Demote => "demote",
            Self::Disconnect => "disconnect",
            Self::RemoveReplicas => "remove-replicas",
            Self::Confirm => "confirm",
        }
    }
}

/// Of a running operation; none of one that has ended, or whose target is gone.
#[must_use]
pub fn phase_of(state: &State, observed: &Observed, operation: &v1::Operation) -> Option<Phase> {
    if operation.state() != v1::OperationState::Running {
        return None;
    }
    let resource = state.resource(&operation.resource)?;
    let look = Look { state, observed, resource };
    match operation.kind() {
        v1::OperationKind::CreateResource => {
            resource.replicas.iter().map(|replica| look.creating(replica)).min()
        }
        v1::OperationKind::DeleteResource => {
            resource.replicas.iter().map(|replica| look.removing(replica)).min()
        }
        v1::OperationKind::Attach | v1::OperationKind::Detach => {
            let attachment = state.attachment(&operation.resource, &operation.node)?;
            let replica = resource.replicas.iter().find(|replica| replica.node == operation.node)?;
            Some(if operation.kind() == v1::OperationKind::Attach {
                look.attaching(attachment, replica)
            } else {
                look.detaching(attachment, replica)
            })
        }
        v1::OperationKind::CreateReplica | v1::OperationKind::DeleteReplica => {
            let replica = resource.replicas.iter().find(|replica| replica.node == operation.node)?;
            Some(if operation.kind() == v1::OperationKind::CreateReplica {
                look.joining(replica)
            } else {
                look.leaving(replica)
            })
        }
        v1::OperationKind::Unspecified => None,
    }
}

/// One resource, looked at.
struct Look<'a> {
    state: &'a State,
    observed: &'a Observed,
    resource: &'a v1::Resource,
}

impl Look<'_> {
    /// What keeps the node from beginning with what `revision` ordered.
    fn orders(&self, node: &str, revision: Revision) -> Option<Phase> {
        match self.observed.node(node).filter(|seen| seen.online && seen.complete) {
            None => Some(Phase::ReachNodes),
            Some(seen) => {
                let ordered = DocumentVersion { lineage: self.state.cluster().lineage(), revision };
                (seen.document.accepted < ordered).then_some(Phase::StoreOrders)
            }
        }
    }

    fn creating(&self, replica: &v1::Replica) -> Phase {
        let (resource, revision) = (self.resource, self.resource.revision());
        if create::is_ready(self.observed, resource, replica) {
            return Phase::Confirm;
        }
        if let Some(phase) = self.orders(&replica.node, revision) {
            return phase;
        }
        let Some(report) = seen_under(self.observed, &resource.name, replica, revision) else {
            return Phase::CreateReplicas;
        };
        if !is_replicated(resource) || resource.volumes.iter().any(|volume| !has_disk(report, volume.number))
        {
            return Phase::CreateReplicas;
        }
        let mut peers = resource.replicas.iter().filter(|peer| peer.node != replica.node);
        if peers.all(|peer| connected(report, &peer.node).is_some()) { Phase::Sync } else { Phase::Connect }
    }

    fn removing(&self, replica: &v1::Replica) -> Phase {
        let removed = replica.lifecycle() == v1::ReplicaLifecycle::Removed;
        if removed || remove::removed_under(self.observed, self.resource, replica).is_some() {
            return Phase::Confirm;
        }
        self.orders(&replica.node, replica.removing_since()).unwrap_or(Phase::RemoveReplicas)
    }

    /// Of a replica that joins and its peers.
    fn joining(&self, replica: &v1::Replica) -> Phase {
        let (resource, ordered) = (self.resource, replica.incarnation().revision());
        let peers = || staying(resource, &replica.node);
        let all = || std::iter::once(replica).chain(peers());
        if let Some(phase) = all().filter_map(|one| self.orders(&one.node, ordered)).min() {
            return phase;
        }
        let report = |one: &v1::Replica| seen_under(self.observed, &resource.name, one, ordered);
        if report(replica).is_none_or(|report| report.in_kernel() != v1::Presence::Present) {
            return Phase::CreateReplicas;
        }
        let both = |holds: fn(&v1::Resource, &v1::ReplicaObserved, &str) -> bool| {
            peers().all(|peer| {
                [(replica, peer), (peer, replica)].into_iter().all(|(own, other)| {
                    report(own).is_some_and(|report| holds(resource, report, &other.node))
                })
            })
        };
        if !both(|_, report, peer| connected(report, peer).is_some()) {
            return Phase::Connect;
        }
        if both(is_in_sync_with) { Phase::Confirm } else { Phase::Sync }
    }

    fn leaving(&self, replica: &v1::Replica) -> Phase {
        if replica.lifecycle() != v1::ReplicaLifecycle::Leaving {
            return self.removing(replica);
        }
        let of_peer = |peer: &v1::Replica| {
            if release::has_let_go(self.observed, self.resource, peer, replica).is_some() {
                return Phase::Confirm;
            }
            self.orders(&peer.node, replica.removing_since()).unwrap_or(Phase::Disconnect)
        };
        staying(self.resource, &replica.node).map(of_peer).min().unwrap_or(Phase::Confirm)
    }

    fn attaching(&self, attachment: &v1::Attachment, replica: &v1::Replica) -> Phase {
        if attach::is_attached(self.state, self.observed, attachment) {
            return Phase::Confirm;
        }
        if let Some(phase) = self.orders(&replica.node, attachment.revision()) {
            return phase;
        }
        let report = seen_under(self.observed, &self.resource.name, replica, attachment.revision());
        match report {
            Some(report) if can_write(self.resource, report) => Phase::OpenGate,
            _ => Phase::Promote,
        }
    }

    fn detaching(&self, attachment: &v1::Attachment, replica: &v1::Replica) -> Phase {
        if detach::let_go_under(self.state, self.observed, attachment).is_some() {
            return Phase::Confirm;
        }
        if let Some(phase) = self.orders(&replica.node, attachment.revision()) {
            return phase;
        }
        let report = stated_under(self.observed, &self.resource.name, replica, attachment.revision());
        match report.map(v1::ReplicaObserved::gates) {
            Some(v1::Presence::Absent) => Phase::Demote,
            _ => Phase::CloseGate,
        }
    }
}

fn has_disk(report: &v1::ReplicaObserved, volume: u32) -> bool {
    !matches!(disk(report, volume), v1::DiskState::Unspecified | v1::DiskState::Diskless)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leader::loops::table::World;

    type Change = fn(&mut World);

    fn phases(kind: v1::OperationKind, node: &str, begin: fn() -> World, table: &[(&str, Change, Phase)]) {
        let operation = v1::Operation {
            id: 20,
            kind: kind.into(),
            resource: "data".into(),
            node: node.into(),
            state: v1::OperationState::Running.into(),
            ..Default::default()
        };
        for (what, change, expected) in table {
            let mut world = begin();
            change(&mut world);
            assert_eq!(phase_of(&world.state(), &world.observed(), &operation), Some(*expected), "{what}");
        }
        let ended = v1::Operation { state: v1::OperationState::Succeeded.into(), ..operation };
        let world = begin();
        assert_eq!(phase_of(&world.state(), &world.observed(), &ended), None);
    }

    #[test]
    fn a_creation_passes_from_orders_to_equal_copies() {
        let table: [(&str, Change, Phase); 10] = [
            ("all is there", |_| {}, Phase::Confirm),
            ("n2 is away", |world| world.go_offline("n2"), Phase::ReachNodes),
            ("n2 has not reported", |world| world.seen("n2").complete = false, Phase::ReachNodes),
            (
                "n2 has older orders",
                |world| {
                    world.seen("n2").document.accepted = DocumentVersion::new(1, 19);
                    world.report("n2").revision = 19;
                },
                Phase::StoreOrders,
            ),
            (
                "n2 was last seen under older orders",
                |world| world.report("n2").revision = 19,
                Phase::CreateReplicas,
            ),
            ("n2 has nothing", |world| world.forget("n2"), Phase::CreateReplicas),
            (
                "n2 has no disk",
                |world| world.report("n2").volumes[0].disk = v1::DiskState::Diskless.into(),
                Phase::CreateReplicas,
            ),
            (
                "n1 does not see n2",
                |world| world.report("n1").peers[0].connection = "Connecting".into(),
                Phase::Connect,
            ),
            (
                "n2 is behind",
                |world| world.report("n2").volumes[0].disk = v1::DiskState::Inconsistent.into(),
                Phase::Sync,
            ),
            (
                "the earliest of two counts",
                |world| {
                    world.report("n1").peers[0].connection = "Connecting".into();
                    world.go_offline("n2");
                },
                Phase::ReachNodes,
            ),
        ];
        phases(v1::OperationKind::CreateResource, "", World::creating, &table);
    }

    #[test]
    fn a_deletion_waits_for_every_replica() {
        fn deleting() -> World {
            let mut world = World::creating();
            for replica in &mut world.resource.replicas {
                replica.lifecycle = v1::ReplicaLifecycle::Removing.into();
                replica.removing_since = 30;
            }
            for node in ["n1", "n2"] {
                world.seen(node).document.accepted = DocumentVersion::new(1, 30);
            }
            world.remove("n1", 20, 30);
            world
        }
        let table: [(&str, Change, Phase); 5] = [
            ("n2 still has it", |_| {}, Phase::RemoveReplicas),
            (
                "n2 does not know",
                |world| world.seen("n2").document.accepted = DocumentVersion::new(1, 29),
                Phase::StoreOrders,
            ),
            ("n2 is away", |world| world.go_offline("n2"), Phase::ReachNodes),
            ("both have confirmed", |world| world.remove("n2", 20, 31), Phase::Confirm),
            (
                "n2's is noted",
                |world| world.resource.replicas[1].lifecycle = v1::ReplicaLifecycle::Removed.into(),
                Phase::Confirm,
            ),
        ];
        phases(v1::OperationKind::DeleteResource, "", deleting, &table);
    }

    #[test]
    fn a_joining_replica_is_made_connected_and_synced() {
        fn joining() -> World {
            let mut world = World::attaching();
            for replica in &mut world.resource.replicas {
                replica.lifecycle = v1::ReplicaLifecycle::Ready.into();
            }
            world.resource.replicas[1].lifecycle = v1::ReplicaLifecycle::Creating.into();
            world
        }
        fn forget_orders(world: &mut World, node: &str) {
            world.seen(node).document.accepted = DocumentVersion::new(1, 19);
            world.report(node).revision = 19;
        }
        let table: [(&str, Change, Phase); 9] = [
            ("both are equal", |_| {}, Phase::Confirm),
            ("n2 is away", |world| world.go_offline("n2"), Phase::ReachNodes),
            ("n1 is away", |world| world.go_offline("n1"), Phase::ReachNodes),
            ("n2 has older orders", |world| forget_orders(world, "n2"), Phase::StoreOrders),
            ("n1 has older orders", |world| forget_orders(world, "n1"), Phase::StoreOrders),
            ("n2 has nothing", |world| world.forget("n2"), Phase::CreateReplicas),
            (
                "DRBD of n2 does not know it yet",
                |world| world.report("n2").in_kernel = v1::Presence::Absent.into(),
                Phase::CreateReplicas,
            ),
            (
                "n1 does not see n2, whose disk waits for that",
                |world| {
                    world.report("n1").peers[0].connection = "Connecting".into();
                    world.report("n2").volumes[0].disk = v1::DiskState::Diskless.into();
                },
                Phase::Connect,
            ),
            (
                "n2 is behind",
                |world| world.report("n2").volumes[0].disk = v1::DiskState::Inconsistent.into(),
                Phase::Sync,
            ),
        ];
        phases(v1::OperationKind::CreateReplica, "n2", joining, &table);
    }

    #[test]
    fn a_leaving_replica_is_let_go_of_and_removed_then() {
        fn leaving() -> World {
            let mut world = World::attaching();
            world.resource.replicas[0].lifecycle = v1::ReplicaLifecycle::Ready.into();
            let leaving = &mut world.resource.replicas[1];
            leaving.lifecycle = v1::ReplicaLifecycle::Leaving.into();
            leaving.removing_since = 40;
            world.report("n1").follows_document = false;
            world
        }
        let table: [(&str, Change, Phase); 7] = [
            ("n1 still knows it", |_| {}, Phase::Disconnect),
            ("n1 is away", |world| world.go_offline("n1"), Phase::ReachNodes),
            ("n2 is away, which matters to nobody yet", |world| world.go_offline("n2"), Phase::Disconnect),
            (
                "n1 has not heard of it",
                |world| world.seen("n1").document.accepted = DocumentVersion::new(1, 39),
                Phase::StoreOrders,
            ),
            ("n1 has let go", |world| world.report("n1").follows_document = true, Phase::Confirm),
            (
                "n2 has to remove it",
                |world| world.resource.replicas[1].lifecycle = v1::ReplicaLifecycle::Removing.into(),
                Phase::RemoveReplicas,
            ),
            (
                "n2 has removed it",
                |world| {
                    world.resource.replicas[1].lifecycle = v1::ReplicaLifecycle::Removing.into();
                    world.remove("n2", 20, 41);
                },
                Phase::Confirm,
            ),
        ];
        phases(v1::OperationKind::DeleteReplica, "n2", leaving, &table);
    }

    #[test]
    fn an_attachment_is_promoted_then_opened() {
        let table: [(&str, Change, Phase); 5] = [
            ("Primary with an open gate", |_| {}, Phase::Confirm),
            ("no gate", |world| world.report("n1").gate_open = false, Phase::OpenGate),
            ("Secondary", |world| world.report("n1").role = v1::DrbdRole::Secondary.into(), Phase::Promote),
            (
                "older orders",
                |world| {
                    world.seen("n1").document.accepted = DocumentVersion::new(1, 39);
                    world.report("n1").revision = 39;
                },
                Phase::StoreOrders,
            ),
            ("only the other node is away", |world| world.go_offline("n2"), Phase::Confirm),
        ];
        phases(v1::OperationKind::Attach, "n1", World::attaching, &table);
    }

    #[test]
    fn a_detachment_closes_the_gate_then_demotes() {
        fn detaching() -> World {
            let mut world = World::attaching();
            world.attachments[0].lifecycle = v1::AttachmentLifecycle::Detaching.into();
            world.report("n1").gates = v1::Presence::Present.into();
            world
        }
        let table: [(&str, Change, Phase); 4] = [
            ("the gate is there", |_| {}, Phase::CloseGate),
            ("still Primary", |world| world.report("n1").gates = v1::Presence::Absent.into(), Phase::Demote),
            (
                "Secondary without a gate",
                |world| {
                    let report = world.report("n1");
                    report.gates = v1::Presence::Absent.into();
                    report.role = v1::DrbdRole::Secondary.into();
                },
                Phase::Confirm,
            ),
            ("away", |world| world.go_offline("n1"), Phase::ReachNodes),
        ];
        phases(v1::OperationKind::Detach, "n1", detaching, &table);
    }
}
