//! The life of operations: started by a command, ended by another, kept for a while.
//!
//! Progress and attempts are observed, never logged. This file must never decide whether an object may
//! change: the noun's own file does.

use hawser_proto::{
    ids::{Incarnation, OperationId},
    v1::{Operation, OperationKind, OperationReason, OperationState},
};

use crate::{state::State, transaction::Transaction};

/// Ended operations that are kept.
pub(crate) const KEPT_FINISHED: usize = 1000;

/// How long an ended operation is kept, on the cluster's committed clock: a week.
pub(crate) const KEPT_FINISHED_MS: u64 = 7 * 24 * 60 * 60 * 1000;

/// What an operation is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    pub(crate) kind: OperationKind,
    pub(crate) resource: &'a str,
    pub(crate) resource_incarnation: Incarnation,
    /// Empty for a whole resource.
    pub(crate) node: &'a str,
}

/// Starts an operation; its id is the command's log index.
pub(crate) fn start(transaction: &mut Transaction<'_>, target: Target<'_>) -> OperationId {
    let can_be_cancelled = matches!(
        target.kind,
        OperationKind::CreateResource | OperationKind::CreateReplica | OperationKind::Attach
    );
    let operation = Operation {
        id: transaction.index,
        kind: target.kind.into(),
        resource: target.resource.to_owned(),
        resource_incarnation: target.resource_incarnation.get(),
        node: target.node.to_owned(),
        state: OperationState::Running.into(),
        can_be_cancelled,
        started_at_unix_ms: transaction.at_unix_ms,
        ..Operation::default()
    };
    let id = operation.id();
    transaction.put_operation(operation);
    id
}

/// The operation of this kind that runs.
pub(crate) fn running(state: &State, kind: OperationKind, resource: &str, node: &str) -> Option<OperationId> {
    state
        .running_operations_of(resource)
        .find(|operation| operation.kind() == kind && operation.node == node)
        .map(Operation::id)
}

/// Ends the operation of this kind that runs, if one does.
pub(crate) fn end(
    transaction: &mut Transaction<'_>,
    kind: OperationKind,
    (resource, node): (&str, &str),
    ended_as: OperationState,
    reason: Option<OperationReason>,
) {
    let id = running(transaction.state(), kind, resource, node);
    let Some(operation) = id.and_then(|id| transaction.state().operation(id)) else { return };
    let operation = Operation {
        state: ended_as.into(),
        can_be_cancelled: false,
        waits_for: reason,
        ended_at_unix_ms: transaction.at_unix_ms,
        ended_at_elapsed_ms: transaction.state().cluster().elapsed_ms,
        ..operation.clone()
    };
    transaction.put_operation(operation);
    forget_beyond(transaction, KEPT_FINISHED);
}

/// Forgets the operations that ended too long ago.
pub(crate) fn forget_old(transaction: &mut Transaction<'_>) {
    let now = transaction.state().cluster().elapsed_ms;
    while let Some((ended, id)) = transaction.state().index.finished.get_min().copied() {
        if now.saturating_sub(ended) < KEPT_FINISHED_MS {
            break;
        }
        transaction.remove_operation(id);
    }
}

fn forget_beyond(transaction: &mut Transaction<'_>, kept: usize) {
    while transaction.state().index.finished.len() > kept {
        let Some((_, id)) = transaction.state().index.finished.get_min().copied() else { break };
        transaction.remove_operation(id);
    }
}
