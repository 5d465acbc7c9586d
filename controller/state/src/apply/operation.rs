//! Operations as objects of their own: what they wait for, and the end that people ask for.
//!
//! It must never end one as succeeded: the noun's own file does, when the facts say so.

use hawser_proto::{
    ids::OperationId,
    v1::{CancelOperation, Operation, OperationKind, OperationState, RecordOperationReason},
};

use super::{attachment, replica, resource};
use crate::{
    transaction::Transaction,
    verdict::{Denial, Success, Verdict},
};

/// Longest node, command line and message that are kept, in bytes.
const LONGEST_TEXT: usize = 4096;

pub(super) fn record_reason(transaction: &mut Transaction<'_>, command: &RecordOperationReason) -> Verdict {
    let operation = running(transaction, command.id())?;
    if let Some(reason) = &command.reason {
        let texts = [
            ("reason.node", &reason.node),
            ("reason.command", &reason.command),
            ("reason.message", &reason.message),
        ];
        for (field, text) in texts {
            if text.len() > LONGEST_TEXT {
                return Err(Denial::invalid(field, format!("at most {LONGEST_TEXT} bytes are kept")));
            }
        }
    }
    put_if_other(
        transaction,
        &operation,
        Operation { waits_for: command.reason.clone(), ..operation.clone() },
    );
    Ok(Success::operation(Some(operation.id())))
}

pub(super) fn cancel(transaction: &mut Transaction<'_>, command: &CancelOperation) -> Verdict {
    let operation = running(transaction, command.id())?;
    let gone = || Denial::not_found("id", format!("what operation {} works on is gone", operation.id));
    if !operation.can_be_cancelled {
        return Err(Denial::precondition(format!(
            "operation {} cannot be cancelled: it ends by itself once what it waits for is there",
            operation.id
        )));
    }
    match operation.kind() {
        OperationKind::CreateResource => {
            let resource = transaction.state().resource(&operation.resource).cloned().ok_or_else(gone)?;
            resource::begin_deletion(transaction, resource)
        }
        OperationKind::Attach => {
            let attachment = transaction
                .state()
                .attachment(&operation.resource, &operation.node)
                .cloned()
                .ok_or_else(gone)?;
            attachment::begin_detaching(transaction, attachment)
        }
        OperationKind::CreateReplica => {
            let resource = transaction.state().resource(&operation.resource).cloned().ok_or_else(gone)?;
            replica::begin_leaving(transaction, resource, &operation.node)
        }
        OperationKind::Unspecified
        | OperationKind::DeleteResource
        | OperationKind::DeleteReplica
        | OperationKind::Detach => Err(gone()),
    }
}

fn running(transaction: &Transaction<'_>, id: OperationId) -> Verdict<Operation> {
    let Some(operation) = transaction.state().operation(id) else {
        return Err(Denial::not_found(
            "id",
            format!(
                "operation {id} does not exist, or ended too long ago; `hawser operation list` shows what there is"
            ),
        ));
    };
    if operation.state() != OperationState::Running {
        return Err(Denial::precondition(format!("operation {id} has ended")));
    }
    Ok(operation.clone())
}

fn put_if_other(transaction: &mut Transaction<'_>, before: &Operation, after: Operation) {
    if *before != after {
        transaction.put_operation(after);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use hawser_proto::v1::{OperationReason, RejectionReason, Tick, command::Command as Kind};

    use super::*;
    use crate::{
        fixture::{Cluster, RESOURCE, create_attachment},
        operations::{KEPT_FINISHED, KEPT_FINISHED_MS},
    };

    fn creating() -> (Cluster, u64) {
        let mut cluster = Cluster::with_nodes(2);
        let create = cluster.create_resource(RESOURCE, &["n1", "n2"]);
        let id = cluster.applied(Kind::CreateResource(create)).operation;
        (cluster, id)
    }

    fn cancel(id: u64) -> Kind {
        Kind::CancelOperation(CancelOperation { id })
    }

    #[test]
    fn a_running_operation_shows_what_it_waits_for() {
        let (mut cluster, id) = creating();
        let record_for = |id: u64, message: Option<&str>| {
            let reason = message
                .map(|message| OperationReason { message: message.into(), ..OperationReason::default() });
            Kind::RecordOperationReason(RecordOperationReason { id, reason })
        };
        let record = |message: Option<&str>| record_for(id, message);
        cluster.applied(record(Some("lvcreate: no space")));
        assert_eq!(
            cluster.commit(record(Some("lvcreate: no space"))).changes,
            Vec::new(),
            "a retry is no news"
        );
        assert_eq!(
            cluster.state.operation(OperationId::new(id)).unwrap().waits_for.as_ref().unwrap().message,
            "lvcreate: no space"
        );
        cluster.applied(record(None));
        assert_eq!(cluster.state.operation(OperationId::new(id)).unwrap().waits_for, None);

        assert_eq!(cluster.rejected(record(Some(&"x".repeat(LONGEST_TEXT + 1)))).field, "reason.message");
        assert_eq!(cluster.reason(record_for(9999, None)), RejectionReason::NotFound);
    }

    #[test]
    fn cancelling_a_creation_deletes() {
        let (mut cluster, id) = creating();
        let deletion = cluster.applied(cancel(id)).operation;
        assert_eq!(cluster.state.operation(OperationId::new(id)).unwrap().state(), OperationState::Cancelled);
        assert_eq!(
            cluster.state.operation(OperationId::new(deletion)).unwrap().kind(),
            OperationKind::DeleteResource
        );
        assert_eq!(cluster.reason(cancel(id)), RejectionReason::Precondition);
        assert_eq!(cluster.reason(cancel(deletion)), RejectionReason::Precondition);
        assert_eq!(cluster.reason(cancel(9999)), RejectionReason::NotFound);
    }

    #[test]
    fn cancelling_an_attachment_detaches() {
        let mut cluster = Cluster::with_resource();
        let attach = cluster.applied(create_attachment("n1")).operation;
        let detach = cluster.applied(cancel(attach)).operation;
        assert_eq!(
            cluster.state.operation(OperationId::new(attach)).unwrap().state(),
            OperationState::Cancelled
        );
        assert_eq!(cluster.state.operation(OperationId::new(detach)).unwrap().kind(), OperationKind::Detach);
    }

    #[test]
    fn an_ended_operation_is_kept_for_a_week_of_committed_time() {
        let mut cluster = Cluster::with_resource();
        let ended = cluster.state.operations().next().unwrap().id;
        let hour = 60 * 60 * 1000;
        for _ in 1..KEPT_FINISHED_MS / hour {
            cluster.applied(Kind::Tick(Tick { elapsed_ms: hour }));
        }
        assert!(cluster.state.operation(OperationId::new(ended)).is_some());
        cluster.applied(Kind::Tick(Tick { elapsed_ms: hour }));
        assert!(cluster.state.operation(OperationId::new(ended)).is_none());
    }

    #[test]
    fn only_so_many_ended_operations_are_kept() {
        let mut cluster = Cluster::with_resource();
        for _ in 0..=KEPT_FINISHED {
            // Attach, cancel, and let go: each round ends two.
            let attach = cluster.applied(create_attachment("n1")).operation;
            cluster.applied(cancel(attach));
            let revision = cluster.index;
            cluster.applied(Kind::ConfirmDetached(hawser_proto::v1::ConfirmDetached {
                resource: RESOURCE.into(),
                node: "n1".into(),
                attachment_incarnation: attach,
                revision,
            }));
        }
        assert_eq!(cluster.state.operations().count(), KEPT_FINISHED);
        assert_eq!(cluster.state.running_operations().count(), 0);
    }
}
