//! Operations as objects of their own: their phase, what they wait for, and the end that people ask for.
//!
//! It must never end one as succeeded: the noun's own file does, when the facts say so.

use hawser_proto::v1::{
    AdvanceOperation, CancelOperation, Operation, OperationKind, OperationState, RecordOperationReason,
};

use super::{attachment, resource};
use crate::{
    transaction::Transaction,
    verdict::{Denial, Success, Verdict},
};

/// Longest phase, node, command line and message that are kept, in bytes.
const LONGEST_TEXT: usize = 4096;

pub(super) fn advance(transaction: &mut Transaction<'_>, command: &AdvanceOperation) -> Verdict {
    let operation = running(transaction, command.id)?;
    let phase_is_valid = (1..=64).contains(&command.phase.len())
        && command.phase.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    if !phase_is_valid {
        return Err(Denial::invalid("phase", "a phase has 1 to 64 lowercase letters, digits and hyphens"));
    }
    put_if_other(
        transaction,
        &operation,
        Operation { phase: command.phase.clone(), waits_for: None, ..operation.clone() },
    );
    Ok(Success::operation(operation.id))
}

pub(super) fn record_reason(transaction: &mut Transaction<'_>, command: &RecordOperationReason) -> Verdict {
    let operation = running(transaction, command.id)?;
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
    Ok(Success::operation(operation.id))
}

pub(super) fn cancel(transaction: &mut Transaction<'_>, command: &CancelOperation) -> Verdict {
    let operation = running(transaction, command.id)?;
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
        OperationKind::Unspecified | OperationKind::DeleteResource | OperationKind::Detach => Err(gone()),
    }
}

fn running(transaction: &Transaction<'_>, id: u64) -> Verdict<Operation> {
    let Some(operation) = transaction.state().operation(id) else {
        return Err(Denial::not_found("id", format!("operation {id} does not exist, or ended too long ago")));
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
