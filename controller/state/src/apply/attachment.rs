//! Placeholder.
use crate::{
    transaction::Transaction,
    verdict::{Denial, Verdict},
};
pub(super) fn create(_: &mut Transaction<'_>, _: &hawser_proto::v1::CreateAttachment) -> Verdict {
    Err(Denial::precondition("not built"))
}
pub(super) fn confirm_attached(_: &mut Transaction<'_>, _: &hawser_proto::v1::ConfirmAttached) -> Verdict {
    Err(Denial::precondition("not built"))
}
pub(super) fn delete(_: &mut Transaction<'_>, _: &hawser_proto::v1::DeleteAttachment) -> Verdict {
    Err(Denial::precondition("not built"))
}
pub(super) fn confirm_detached(_: &mut Transaction<'_>, _: &hawser_proto::v1::ConfirmDetached) -> Verdict {
    Err(Denial::precondition("not built"))
}
