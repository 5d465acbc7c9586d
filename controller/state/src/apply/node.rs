//! Placeholder.
use crate::{
    transaction::Transaction,
    verdict::{Denial, Verdict},
};
pub(super) fn create(_: &mut Transaction<'_>, _: &hawser_proto::v1::CreateNode) -> Verdict {
    Err(Denial::precondition("not built"))
}
pub(super) fn delete(_: &mut Transaction<'_>, _: &hawser_proto::v1::DeleteNode) -> Verdict {
    Err(Denial::precondition("not built"))
}
pub(super) fn record_facts(_: &mut Transaction<'_>, _: &hawser_proto::v1::RecordNodeFacts) -> Verdict {
    Err(Denial::precondition("not built"))
}
