//! Placeholder.
use crate::{
    transaction::Transaction,
    verdict::{Denial, Verdict},
};
pub(super) fn create(_: &mut Transaction<'_>, _: &hawser_proto::v1::CreatePool) -> Verdict {
    Err(Denial::precondition("not built"))
}
pub(super) fn delete(_: &mut Transaction<'_>, _: &hawser_proto::v1::DeletePool) -> Verdict {
    Err(Denial::precondition("not built"))
}
pub(super) fn record_capacity(_: &mut Transaction<'_>, _: &hawser_proto::v1::RecordPoolCapacity) -> Verdict {
    Err(Denial::precondition("not built"))
}
