//! What the nodes' last documents say about a resource that the backup has: who owned it, whose copy was behind, who
//! had it open, and whether it is there at all.
//!
//! A resource's entry is rewritten in the documents of all its nodes by the same log entry, so the one of the highest
//! version is the newest of all. It must never call a copy complete that the newest entry does not name.

use hawser_proto::{
    ids::{DocumentVersion, OutdateNumber},
    v1::{
        Arbitration, Attachment, AttachmentLifecycle, AttachmentMode, DesiredAttachment, HeldReplica, Node,
        OperationKind, OperationReason, OperationState, Resource, ResourceLifecycle,
    },
};

use super::super::arbitration::with_outdated;
use crate::{operations, restored::is_wanted, transaction::Transaction, verdict::Verdict};

/// Learns what became of a resource since the backup. One whose removal was ordered before it goes on being removed.
pub(super) fn learn(transaction: &mut Transaction<'_>, name: &str) -> Verdict<()> {
    let state = transaction.state();
    let Some(resource) = state.resource(name).cloned() else { return Ok(()) };
    if resource.lifecycle() == ResourceLifecycle::Deleting {
        return Ok(());
    }
    let held: Vec<HeldReplica> = state
        .held_of(name)
        .filter(|held| held.resource_incarnation == resource.incarnation)
        .cloned()
        .collect();
    let newest = held.iter().filter(|held| !held.removing).max_by_key(|held| held.version()).cloned();
    let newest = newest.filter(|newest| newest.version() >= changed(transaction, &resource));
    let missing = missing(transaction, &resource, &held);

    let learnt = learnt(transaction, resource.clone(), newest.as_ref(), &held, &missing);
    let owner = learnt.arbitration.as_ref().map(|known| known.owner.clone()).unwrap_or_default();
    if learnt != resource {
        transaction.put_resource(learnt.clone())?;
    }
    for replica in &learnt.replicas {
        let own = held
            .iter()
            .find(|held| held.node == replica.node && held.replica_incarnation == replica.incarnation);
        match own {
            Some(own) if newest.is_some() => attach_as_held(transaction, &learnt, own, &owner),
            // Of a node that was declared lost, too: nobody has it open there.
            None if missing.contains(&replica.node) || newest.is_some() => {
                detach(transaction, name, &replica.node);
            }
            _ => {}
        }
    }
    Ok(())
}

/// Under which document the state's own knowledge of a resource would have been sent.
fn changed(transaction: &Transaction<'_>, resource: &Resource) -> DocumentVersion {
    let state = transaction.state();
    let attachments = state.attachments_of(&resource.name).map(|attachment| attachment.revision);
    let revision = attachments.fold(resource.revision, u64::max);
    let lineage = state.restored().map_or(0, |restored| restored.from_lineage);
    DocumentVersion::new(lineage, revision)
}

/// The nodes that should hold a replica and hold nothing of it. One that was declared lost has not been asked.
fn missing(transaction: &Transaction<'_>, resource: &Resource, held: &[HeldReplica]) -> Vec<String> {
    let is_held = |node: &str, incarnation: u64| {
        held.iter().any(|held| held.node == node && held.replica_incarnation == incarnation)
    };
    let wanted = resource.replicas.iter().filter(|replica| is_wanted(replica));
    wanted
        .filter(|replica| !transaction.state().node(&replica.node).is_none_or(Node::is_lost))
        .filter(|replica| !is_held(&replica.node, replica.incarnation))
        .map(|replica| replica.node.clone())
        .collect()
}

/// The resource as it is after all that happened to it since.
fn learnt(
    transaction: &Transaction<'_>,
    mut resource: Resource,
    newest: Option<&HeldReplica>,
    held: &[HeldReplica],
    missing: &[String],
) -> Resource {
    let index = transaction.index;
    for replica in &mut resource.replicas {
        if missing.contains(&replica.node) {
            replica.missing_since = index;
        }
    }
    let mut arbitration = resource.arbitration.clone().unwrap_or_default();
    let mut behind: Vec<String> = missing.to_vec();
    if let Some(newest) = newest {
        resource.data_may_exist |= newest.data_may_exist;
        let has_it = |node: &String| resource.replicas.iter().any(|replica| replica.node == *node);
        let may_own = |node: &String| {
            let is_own = |held: &HeldReplica| {
                held.node == *node
                    && !held.removing
                    && resource.replicas.iter().any(|replica| {
                        replica.node == *node && replica.incarnation == held.replica_incarnation
                    })
            };
            held.iter().any(is_own)
        };
        arbitration.owner = Some(newest.owner.clone()).filter(may_own).unwrap_or_default();
        arbitration.generation = arbitration.generation.max(newest.generation);
        arbitration.outdated.retain(|outdated| newest.outdated.contains(&outdated.node));
        // Whom the others had let go of lacks what was written since.
        let let_go = resource.replicas.iter().map(|replica| &replica.node);
        behind.extend(let_go.filter(|node| !newest.peers.contains(node)).cloned());
        behind.extend(newest.outdated.iter().filter(|node| has_it(node)).cloned());
    } else if missing.contains(&arbitration.owner) {
        arbitration.owner.clear();
    }
    behind.sort();
    behind.dedup();
    for node in &behind {
        arbitration = outdate(arbitration, &resource, node, index);
    }
    Resource { arbitration: Some(arbitration), ..resource }
}

/// Marks a copy as behind, but for the last one: where nothing is left that is complete, the missing replicas say so.
fn outdate(arbitration: Arbitration, resource: &Resource, node: &str, index: u64) -> Arbitration {
    let is_marked = |node: &str| arbitration.outdated.iter().any(|outdated| outdated.node == node);
    let others_are_marked = resource
        .replicas
        .iter()
        .filter(|replica| replica.node != node)
        .all(|replica| is_marked(&replica.node));
    if others_are_marked { arbitration } else { with_outdated(arbitration, node, OutdateNumber::new(index)) }
}

/// Gives a node the attachment that its last document gave it.
fn attach_as_held(transaction: &mut Transaction<'_>, resource: &Resource, held: &HeldReplica, owner: &str) {
    let (name, node) = (resource.name.as_str(), held.node.as_str());
    let generation = resource.arbitration.as_ref().map_or(0, |known| known.generation);
    let existing = transaction.state().attachment(name, node).cloned();
    let lifecycle = match (node == owner, held.attachment()) {
        // That it is open is confirmed when the node says so.
        (true, DesiredAttachment::Attached) => AttachmentLifecycle::Attaching,
        (true, DesiredAttachment::Detached | DesiredAttachment::Revoked | DesiredAttachment::Unspecified) => {
            AttachmentLifecycle::Detaching
        }
        (false, DesiredAttachment::Attached | DesiredAttachment::Revoked) => AttachmentLifecycle::Revoked,
        (false, DesiredAttachment::Detached | DesiredAttachment::Unspecified) => {
            detach(transaction, name, node);
            return;
        }
    };
    let goes_on = existing.as_ref().is_some_and(|attachment| {
        let is_open = attachment.lifecycle() == AttachmentLifecycle::Attached
            && lifecycle == AttachmentLifecycle::Attaching;
        attachment.generation == generation && (is_open || attachment.lifecycle() == lifecycle)
    });
    if goes_on {
        return;
    }
    end_operations(transaction, name, node);
    let made = Attachment {
        resource: name.to_owned(),
        node: node.to_owned(),
        incarnation: transaction.index,
        mode: AttachmentMode::ReadWrite.into(),
        ..Attachment::default()
    };
    let generation = if node == owner { generation } else { held.generation };
    let attachment = Attachment { generation, lifecycle: lifecycle.into(), ..existing.unwrap_or(made) };
    transaction.put_attachment(attachment);
}

fn detach(transaction: &mut Transaction<'_>, name: &str, node: &str) {
    if transaction.state().attachment(name, node).is_some() {
        transaction.remove_attachment(name, node);
    }
    end_operations(transaction, name, node);
}

fn end_operations(transaction: &mut Transaction<'_>, name: &str, node: &str) {
    let reason = || {
        Some(OperationReason {
            node: node.to_owned(),
            message: "the cluster was restored from a backup, and the node has moved on since".to_owned(),
            ..OperationReason::default()
        })
    };
    operations::end(transaction, OperationKind::Attach, (name, node), OperationState::Cancelled, reason());
    operations::end(transaction, OperationKind::Detach, (name, node), OperationState::Succeeded, None);
}
