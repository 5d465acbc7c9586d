//! Placeholder.
use crate::{
    transaction::Transaction,
    verdict::{Denial, Verdict},
};
pub(super) fn advance(_: &mut Transaction<'_>, _: &hawser_proto::v1::AdvanceOperation) -> Verdict {
    Err(Denial::precondition("not built"))
}
pub(super) fn record_reason(_: &mut Transaction<'_>, _: &hawser_proto::v1::RecordOperationReason) -> Verdict {
    Err(Denial::precondition("not built"))
}
pub(super) fn cancel(_: &mut Transaction<'_>, _: &hawser_proto::v1::CancelOperation) -> Verdict {
    Err(Denial::precondition("not built"))
}
