//! Of attachments, and of operations: what stands between what was asked for and its end.
//!
//! It must never name what keeps nobody from going on.

use hawser_proto::v1;
use hawser_state::State;

use super::{condition, of_replica, of_resource, replica::of_leaving};
use crate::leader::{
    loops::{evidence::is_replicated, release::staying},
    observed::{Observed, Sight},
};

/// Of an attachment: why its node does not offer, or still holds, the resource.
#[must_use]
pub fn of_attachment(
    state: &State,
    observed: Option<&Observed>,
    attachment: &v1::Attachment,
) -> Vec<v1::Condition> {
    use v1::AttachmentLifecycle::{Attached, Revoked};
    let (name, node) = (&attachment.resource, &attachment.node);
    let Some(resource) = state.resource(name) else { return Vec::new() };
    let Some(replica) = resource.replicas.iter().find(|replica| &replica.node == node) else {
        return Vec::new();
    };
    let mut found = of_replica(state, observed, resource, replica);
    if attachment.lifecycle() == Revoked {
        found.insert(
            0,
            condition(
                "Revoked",
                node,
                format!("another node took {name} over; node {node} lets go once every process that holds it has ended"),
            ),
        );
    }
    let sight = observed.map(|observed| observed.replica(node, name, replica.incarnation()));
    if let (Attached, Some(Sight::Known(report))) = (attachment.lifecycle(), sight) {
        if is_replicated(resource) && report.role() != v1::DrbdRole::Primary {
            found.push(condition("NotPrimary", node, format!("{name} is not Primary on node {node}")));
        }
        if !report.gate_open {
            found.push(condition("GateClosed", node, format!("the gate of {name} on node {node} is closed")));
        }
    }
    found
}

/// Of a running operation: what stands between its target and its end.
#[must_use]
pub fn of_operation(
    state: &State,
    observed: Option<&Observed>,
    operation: &v1::Operation,
) -> Vec<v1::Condition> {
    if operation.state() != v1::OperationState::Running {
        return Vec::new();
    }
    let Some(resource) = state.resource(&operation.resource) else { return Vec::new() };
    let all = match state.attachment(&operation.resource, &operation.node) {
        Some(attachment) => of_attachment(state, observed, attachment),
        None if operation.kind() == v1::OperationKind::DeleteReplica => {
            of_removal(state, observed, resource, &operation.node)
        }
        None => of_resource(state, observed, resource),
    };
    // A mark or a syncing peer keeps nobody from attaching, detaching or deleting. Whoever joins stands as outdated
    // in any case, until it has synced.
    let hidden: &[&str] = match operation.kind() {
        v1::OperationKind::CreateResource => &[],
        v1::OperationKind::CreateReplica => &["Outdated"],
        _ => &["Outdated", "Syncing"],
    };
    all.into_iter().filter(|condition| !hidden.contains(&condition.reason.as_str())).collect()
}

/// Of a replica that is to be removed: first the others have to do something, then its own node has.
fn of_removal(
    state: &State,
    observed: Option<&Observed>,
    resource: &v1::Resource,
    node: &str,
) -> Vec<v1::Condition> {
    let Some(going) = resource.replicas.iter().find(|replica| replica.node == node) else {
        return Vec::new();
    };
    if going.lifecycle() != v1::ReplicaLifecycle::Leaving {
        return of_replica(state, observed, resource, going);
    }
    let others = staying(resource, node).flat_map(|peer| of_replica(state, observed, resource, peer));
    let mut found: Vec<_> = others.collect();
    found.extend(of_leaving(observed, resource, going));
    found
}
