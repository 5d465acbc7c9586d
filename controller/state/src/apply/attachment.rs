//! Attachments: who may open a resource where, from the grant to the closed gate.
//!
//! Granting one makes its node the owner. It must never grant a second one beside the owner's, and
//! never take the owner's right away: [`take_over`](super::arbitration) does.

use hawser_proto::{
    names,
    v1::{
        Arbitration, Attachment, AttachmentLifecycle, AttachmentMode, ConfirmAttached, ConfirmDetached,
        CreateAttachment, DeleteAttachment, OperationKind, OperationReason, OperationState, Resource,
        ResourceLifecycle,
    },
};

use super::arbitration;
use crate::{
    operations::{self, Target},
    transaction::Transaction,
    verdict::{Denial, Success, Verdict},
};

pub(super) fn create(transaction: &mut Transaction<'_>, command: &CreateAttachment) -> Verdict {
    let resource = attachable(transaction, &command.resource)?;
    let mode = checked_mode(command.mode)?;
    let arbitration = resource.arbitration.clone().unwrap_or_default();
    if let Some(existing) = existing(transaction, &resource.name, &command.node)? {
        return Ok(existing);
    }
    arbitration::check_may_own(transaction, &resource, &command.node)?;
    if !arbitration.owner.is_empty() && arbitration.owner != command.node {
        let (name, owner) = (&resource.name, &arbitration.owner);
        return Err(Denial::precondition(format!(
            "resource {name} is attached on node {owner}: detach it there first with `hawser attachment delete {name} {owner}`"
        )));
    }
    grant(transaction, resource, &command.node, mode)
}

/// A resource that can be attached at all.
pub(super) fn attachable(transaction: &Transaction<'_>, name: &str) -> Verdict<Resource> {
    let Some(resource) = transaction.state().resource(name) else {
        return Err(Denial::not_found("resource", format!("resource {} does not exist", names::shown(name))));
    };
    match resource.lifecycle() {
        ResourceLifecycle::Ready => Ok(resource.clone()),
        ResourceLifecycle::Creating | ResourceLifecycle::Unspecified => Err(Denial::precondition(format!(
            "resource {name} is still being created: wait until it is ready"
        ))),
        ResourceLifecycle::Deleting => Err(Denial::precondition(format!("resource {name} is being deleted"))),
    }
}

/// The mode that is asked for; none given means read and write.
pub(super) fn checked_mode(mode: i32) -> Verdict<AttachmentMode> {
    match AttachmentMode::try_from(mode) {
        Ok(AttachmentMode::Unspecified | AttachmentMode::ReadWrite) => Ok(AttachmentMode::ReadWrite),
        Err(_) => Err(Denial::invalid("mode", "the mode is read-write")),
    }
}

/// The answer where the node has an attachment of the resource already.
///
/// # Errors
/// That one is on its way out.
pub(super) fn existing(
    transaction: &Transaction<'_>,
    resource: &str,
    node: &str,
) -> Verdict<Option<Success>> {
    let Some(attachment) = transaction.state().attachment(resource, node) else { return Ok(None) };
    match attachment.lifecycle() {
        AttachmentLifecycle::Attaching | AttachmentLifecycle::Attached | AttachmentLifecycle::Unspecified => {
            let operation = operations::running(transaction.state(), OperationKind::Attach, resource, node);
            Ok(Some(Success { operation, number: attachment.generation }))
        }
        AttachmentLifecycle::Detaching => Err(Denial::precondition(format!(
            "resource {resource} is being detached from node {node}: wait until that has ended"
        ))),
        AttachmentLifecycle::Revoked => Err(Denial::precondition(format!(
            "resource {resource} was taken over from node {node}, which has not let go of it yet: end its consumers there"
        ))),
    }
}

/// Makes `node` the owner under the next generation, with an attachment of its own.
pub(super) fn grant(
    transaction: &mut Transaction<'_>,
    resource: Resource,
    node: &str,
    mode: AttachmentMode,
) -> Verdict {
    let mut arbitration = resource.arbitration.clone().unwrap_or_default();
    let Some(generation) = arbitration.generation.checked_add(1) else {
        return Err(Denial::precondition(format!("resource {} has used up its generations", resource.name)));
    };
    arbitration.owner = node.to_owned();
    arbitration.generation = generation;
    let (name, resource_incarnation) = (resource.name.clone(), resource.incarnation);
    transaction.put_resource(Resource { arbitration: Some(arbitration), ..resource })?;
    transaction.put_attachment(Attachment {
        resource: name.clone(),
        node: node.to_owned(),
        incarnation: transaction.index,
        mode: mode.into(),
        generation,
        lifecycle: AttachmentLifecycle::Attaching.into(),
        ..Attachment::default()
    });
    let target = Target { kind: OperationKind::Attach, resource: &name, resource_incarnation, node };
    let operation = operations::start(transaction, target, "promote");
    Ok(Success { operation, number: generation })
}

pub(super) fn confirm_attached(transaction: &mut Transaction<'_>, command: &ConfirmAttached) -> Verdict {
    let attachment = named(transaction, &command.resource, &command.node, command.attachment_incarnation)?;
    match attachment.lifecycle() {
        AttachmentLifecycle::Attached => return Ok(Success::DONE),
        AttachmentLifecycle::Attaching => {}
        AttachmentLifecycle::Detaching | AttachmentLifecycle::Revoked | AttachmentLifecycle::Unspecified => {
            return Err(Denial::precondition(format!(
                "the attachment of resource {} on node {} is on its way out",
                attachment.resource, attachment.node
            )));
        }
    }
    transaction.put_attachment(Attachment { lifecycle: AttachmentLifecycle::Attached.into(), ..attachment });
    let target = (command.resource.as_str(), command.node.as_str());
    operations::end(transaction, OperationKind::Attach, target, OperationState::Succeeded, None);
    Ok(Success::DONE)
}

pub(super) fn delete(transaction: &mut Transaction<'_>, command: &DeleteAttachment) -> Verdict {
    let Some(attachment) = transaction.state().attachment(&command.resource, &command.node).cloned() else {
        return Err(no_such_attachment(&command.resource, &command.node));
    };
    begin_detaching(transaction, attachment)
}

/// Orders the node to close its gate and to demote. Also what cancels an attachment under way.
pub(super) fn begin_detaching(transaction: &mut Transaction<'_>, attachment: Attachment) -> Verdict {
    let (name, node) = (attachment.resource.clone(), attachment.node.clone());
    match attachment.lifecycle() {
        AttachmentLifecycle::Detaching => {
            let running = operations::running(transaction.state(), OperationKind::Detach, &name, &node);
            return Ok(Success::operation(running));
        }
        AttachmentLifecycle::Revoked => {
            return Err(Denial::precondition(format!(
                "resource {name} was taken over from node {node}: the attachment ends by itself once its consumers there have ended"
            )));
        }
        AttachmentLifecycle::Attaching | AttachmentLifecycle::Attached | AttachmentLifecycle::Unspecified => {
        }
    }
    let resource_incarnation = transaction.state().resource(&name).map_or(0, |resource| resource.incarnation);
    transaction.put_attachment(Attachment { lifecycle: AttachmentLifecycle::Detaching.into(), ..attachment });
    let cancelled = OperationReason {
        node: node.clone(),
        message: "the resource is being detached".to_owned(),
        ..OperationReason::default()
    };
    let attach = OperationKind::Attach;
    operations::end(transaction, attach, (&name, &node), OperationState::Cancelled, Some(cancelled));
    let target = Target { kind: OperationKind::Detach, resource: &name, resource_incarnation, node: &node };
    Ok(Success::operation(operations::start(transaction, target, "close-gate")))
}

pub(super) fn confirm_detached(transaction: &mut Transaction<'_>, command: &ConfirmDetached) -> Verdict {
    let attachment = named(transaction, &command.resource, &command.node, command.attachment_incarnation)?;
    match attachment.lifecycle() {
        AttachmentLifecycle::Detaching | AttachmentLifecycle::Revoked => {}
        AttachmentLifecycle::Attaching | AttachmentLifecycle::Attached | AttachmentLifecycle::Unspecified => {
            return Err(Denial::precondition(format!(
                "resource {} was not asked to leave node {}",
                attachment.resource, attachment.node
            )));
        }
    }
    if command.revision < attachment.revision {
        return Err(Denial::stale(
            "the node was seen Secondary before it was told to detach, and may have promoted since",
        ));
    }
    let resource = transaction.state().resource(&attachment.resource).cloned();
    if let Some(resource) = resource {
        let arbitration = resource.arbitration.clone().unwrap_or_default();
        if arbitration.owner == attachment.node && arbitration.generation == attachment.generation {
            let arbitration = Some(Arbitration { owner: String::new(), ..arbitration });
            transaction.put_resource(Resource { arbitration, ..resource })?;
        }
    }
    transaction.remove_attachment(&attachment.resource, &attachment.node);
    let target = (attachment.resource.as_str(), attachment.node.as_str());
    operations::end(transaction, OperationKind::Detach, target, OperationState::Succeeded, None);
    Ok(Success::DONE)
}

fn named(transaction: &Transaction<'_>, resource: &str, node: &str, incarnation: u64) -> Verdict<Attachment> {
    let found = transaction.state().attachment(resource, node);
    found
        .filter(|attachment| attachment.incarnation == incarnation)
        .cloned()
        .ok_or_else(|| no_such_attachment(resource, node))
}

fn no_such_attachment(resource: &str, node: &str) -> Denial {
    let message =
        format!("resource {} is not attached on node {}", names::shown(resource), names::shown(node));
    Denial::not_found("node", message)
}
