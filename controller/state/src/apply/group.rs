//! Placeholder.
use crate::{
    transaction::Transaction,
    verdict::{Denial, Verdict},
};
pub(super) fn create(_: &mut Transaction<'_>, _: &hawser_proto::v1::CreateResourceGroup) -> Verdict {
    Err(Denial::precondition("not built"))
}
pub(super) fn delete(_: &mut Transaction<'_>, _: &hawser_proto::v1::DeleteResourceGroup) -> Verdict {
    Err(Denial::precondition("not built"))
}
