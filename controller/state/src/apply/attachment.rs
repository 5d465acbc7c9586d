//! Attachments: who may open a resource where, from the grant to the closed gate.
//!
//! Granting one makes its node the owner. It must never grant a second one beside the owner's, and
//! never take the owner's right away: [`take_over`](super::take_over) does.

use hawser_proto::{
    ids::{Incarnation, OwnerGeneration},
    names,
    v1::{
        Attachment, AttachmentLifecycle, AttachmentMode, ConfirmAttached, ConfirmDetached, CreateAttachment,
        DeleteAttachment, OperationKind, OperationReason, OperationState, Resource, ResourceLifecycle,
    },
};

use super::{arbitration, restore};
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
        return Err(Denial::not_found(
            "resource",
            format!(
                "resource {} does not exist; `hawser resource list` shows what there is",
                names::shown(name)
            ),
        ));
    };
    match resource.lifecycle() {
        ResourceLifecycle::Ready => {
            restore::check_not_contested(transaction.state(), resource)?;
            Ok(resource.clone())
        }
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
            Ok(Some(Success::granted(attachment.generation(), operation)))
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
    arbitration.claim = None;
    let (name, resource_incarnation) = (resource.name.clone(), resource.incarnation());
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
    let operation = operations::start(transaction, target);
    Ok(Success::granted(OwnerGeneration::new(generation), Some(operation)))
}

pub(super) fn confirm_attached(transaction: &mut Transaction<'_>, command: &ConfirmAttached) -> Verdict {
    let attachment = named(transaction, &command.resource, &command.node, command.attachment_incarnation())?;
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
    let resource_incarnation =
        transaction.state().resource(&name).map(Resource::incarnation).unwrap_or_default();
    transaction.put_attachment(Attachment { lifecycle: AttachmentLifecycle::Detaching.into(), ..attachment });
    let cancelled = OperationReason {
        node: node.clone(),
        message: "the resource is being detached".to_owned(),
        ..OperationReason::default()
    };
    let attach = OperationKind::Attach;
    operations::end(transaction, attach, (&name, &node), OperationState::Cancelled, Some(cancelled));
    let target = Target { kind: OperationKind::Detach, resource: &name, resource_incarnation, node: &node };
    Ok(Success::operation(Some(operations::start(transaction, target))))
}

pub(super) fn confirm_detached(transaction: &mut Transaction<'_>, command: &ConfirmDetached) -> Verdict {
    let attachment = named(transaction, &command.resource, &command.node, command.attachment_incarnation())?;
    match attachment.lifecycle() {
        AttachmentLifecycle::Detaching | AttachmentLifecycle::Revoked => {}
        AttachmentLifecycle::Attaching | AttachmentLifecycle::Attached | AttachmentLifecycle::Unspecified => {
            return Err(Denial::precondition(format!(
                "resource {} was not asked to leave node {}",
                attachment.resource, attachment.node
            )));
        }
    }
    if command.revision() < attachment.revision() {
        return Err(Denial::stale(
            "the node was seen Secondary before it was told to detach, and may have promoted since",
        ));
    }
    let resource = transaction.state().resource(&attachment.resource).cloned();
    if let Some(resource) = resource {
        let arbitration = resource.arbitration.clone().unwrap_or_default();
        if arbitration.owner == attachment.node && arbitration.generation() == attachment.generation() {
            let arbitration = Some(arbitration::without_owner(arbitration));
            transaction.put_resource(Resource { arbitration, ..resource })?;
        }
    }
    transaction.remove_attachment(&attachment.resource, &attachment.node);
    let target = (attachment.resource.as_str(), attachment.node.as_str());
    operations::end(transaction, OperationKind::Detach, target, OperationState::Succeeded, None);
    Ok(Success::DONE)
}

fn named(
    transaction: &Transaction<'_>,
    resource: &str,
    node: &str,
    incarnation: Incarnation,
) -> Verdict<Attachment> {
    let found = transaction.state().attachment(resource, node);
    found
        .filter(|attachment| attachment.incarnation() == incarnation)
        .cloned()
        .ok_or_else(|| no_such_attachment(resource, node))
}

fn no_such_attachment(resource: &str, node: &str) -> Denial {
    let message = format!(
        "resource {} is not attached on node {}; `hawser attachment list` shows what is attached where",
        names::shown(resource),
        names::shown(node)
    );
    Denial::not_found("node", message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use hawser_proto::{
        ids::OperationId,
        v1::{DesiredAttachment, Outdate, RejectionReason, command::Command as Kind},
    };

    use super::*;
    use crate::fixture::{Cluster, RESOURCE, create_attachment};

    fn delete(node: &str) -> Kind {
        Kind::DeleteAttachment(DeleteAttachment { resource: RESOURCE.into(), node: node.into() })
    }

    fn detached(cluster: &Cluster, node: &str, revision: u64) -> Kind {
        Kind::ConfirmDetached(ConfirmDetached {
            resource: RESOURCE.into(),
            node: node.into(),
            attachment_incarnation: cluster
                .state
                .attachment(RESOURCE, node)
                .map_or(0, |held| held.incarnation),
            revision,
        })
    }

    fn rendered(cluster: &Cluster, node: &str) -> DesiredAttachment {
        cluster.state.document(node).unwrap().replicas[0].attachment()
    }

    #[test]
    fn attaching_makes_the_node_the_owner() {
        let mut cluster = Cluster::with_resource();
        let applied = cluster.applied(create_attachment("n1"));
        let arbitration = cluster.state.resource(RESOURCE).unwrap().arbitration.clone().unwrap();
        assert_eq!((arbitration.owner.as_str(), arbitration.generation, applied.number), ("n1", 1, 1));
        assert_eq!(rendered(&cluster, "n1"), DesiredAttachment::Attached);
        assert_eq!(rendered(&cluster, "n2"), DesiredAttachment::Detached);
        // Asked again, it is the same attachment and the same operation.
        let again = cluster.applied(create_attachment("n1"));
        assert_eq!((again.operation, again.number), (applied.operation, 1));
    }

    #[test]
    fn what_cannot_be_attached_is_refused() {
        let attach = |resource: &str, node: &str, mode| {
            Kind::CreateAttachment(CreateAttachment { resource: resource.into(), node: node.into(), mode })
        };
        let cases = [
            (attach("none", "n1", 0), RejectionReason::NotFound, "resource"),
            (attach(RESOURCE, "n9", 0), RejectionReason::NotFound, "node"),
            (attach(RESOURCE, "n3", 0), RejectionReason::Precondition, "node"),
            (attach(RESOURCE, "n1", 99), RejectionReason::Invalid, "mode"),
            (attach(RESOURCE, "n2", 0), RejectionReason::Precondition, ""),
        ];
        for (command, reason, field) in cases {
            let mut cluster = Cluster::with_nodes(3);
            cluster.add_resource(RESOURCE, &["n1", "n2"]);
            cluster.applied(create_attachment("n1"));
            let rejected = cluster.rejected(command.clone());
            assert_eq!((rejected.reason(), rejected.field.as_str()), (reason, field), "{command:?}");
        }
    }

    #[test]
    fn a_resource_that_is_attached_elsewhere_says_where() {
        let rejected = Cluster::attached().rejected(create_attachment("n2"));
        assert!(rejected.message.contains("attached on node n1"), "{}", rejected.message);
        assert!(rejected.message.contains("hawser attachment delete web n1"), "{}", rejected.message);
    }

    #[test]
    fn a_copy_that_is_behind_is_not_attached() {
        let mut cluster = Cluster::with_resource();
        let resource_incarnation = cluster.state.resource(RESOURCE).unwrap().incarnation;
        cluster.applied(Kind::Outdate(Outdate {
            resource: RESOURCE.into(),
            resource_incarnation,
            node: "n1".into(),
            ..Outdate::default()
        }));
        let rejected = cluster.rejected(create_attachment("n1"));
        assert_eq!(rejected.reason(), RejectionReason::Outdated);
        assert!(rejected.message.contains("attach it on n2"), "{}", rejected.message);
        cluster.applied(create_attachment("n2"));
    }

    #[test]
    fn an_attachment_is_confirmed_once_it_is_open() {
        let mut cluster = Cluster::with_resource();
        let operation = cluster.applied(create_attachment("n1")).operation;
        let attachment_incarnation = cluster.index;
        let confirm = |attachment_incarnation| {
            Kind::ConfirmAttached(ConfirmAttached {
                resource: RESOURCE.into(),
                node: "n1".into(),
                attachment_incarnation,
            })
        };
        assert_eq!(cluster.reason(confirm(attachment_incarnation + 1)), RejectionReason::NotFound);
        let revision = cluster.state.document("n1").unwrap().revision;
        cluster.applied(confirm(attachment_incarnation));
        assert_eq!(
            cluster.state.operation(OperationId::new(operation)).unwrap().state(),
            OperationState::Succeeded
        );
        assert_eq!(cluster.state.document("n1").unwrap().revision, revision, "the node is told nothing new");
        cluster.applied(confirm(attachment_incarnation));
        cluster.applied(delete("n1"));
        assert_eq!(cluster.reason(confirm(attachment_incarnation)), RejectionReason::Precondition);
    }

    #[test]
    fn detaching_ends_when_the_node_was_seen_secondary_after_the_order() {
        let mut cluster = Cluster::attached();
        let too_early = detached(&cluster, "n1", cluster.index);
        assert_eq!(cluster.reason(too_early), RejectionReason::Precondition);

        let operation = cluster.applied(delete("n1")).operation;
        let ordered = cluster.index;
        assert_eq!(rendered(&cluster, "n1"), DesiredAttachment::Detached);
        assert_eq!(cluster.applied(delete("n1")).operation, operation);
        assert_eq!(cluster.reason(create_attachment("n1")), RejectionReason::Precondition);
        let seen_before = detached(&cluster, "n1", ordered - 1);
        assert!(cluster.is_stale(seen_before));
        let seen_after = detached(&cluster, "n1", ordered);
        cluster.applied(seen_after.clone());

        let arbitration = cluster.state.resource(RESOURCE).unwrap().arbitration.clone().unwrap();
        assert_eq!((arbitration.owner.as_str(), arbitration.generation), ("", 1));
        assert_eq!(cluster.state.attachment(RESOURCE, "n1"), None);
        assert_eq!(
            cluster.state.operation(OperationId::new(operation)).unwrap().state(),
            OperationState::Succeeded
        );
        assert_eq!(cluster.reason(seen_after), RejectionReason::NotFound);
        assert_eq!(cluster.applied(create_attachment("n2")).number, 2);
    }

    #[test]
    fn detaching_cancels_an_attachment_under_way() {
        let mut cluster = Cluster::with_resource();
        let attach = cluster.applied(create_attachment("n1")).operation;
        cluster.applied(delete("n1"));
        assert_eq!(
            cluster.state.operation(OperationId::new(attach)).unwrap().state(),
            OperationState::Cancelled
        );
        assert_eq!(cluster.reason(delete("n2")), RejectionReason::NotFound);
    }
}
