//! Placeholder.
use crate::{
    transaction::Transaction,
    verdict::{Denial, Verdict},
};
pub(super) fn outdate(_: &mut Transaction<'_>, _: &hawser_proto::v1::Outdate) -> Verdict {
    Err(Denial::precondition("not built"))
}
pub(super) fn take_over(_: &mut Transaction<'_>, _: &hawser_proto::v1::TakeOver) -> Verdict {
    Err(Denial::precondition("not built"))
}
pub(super) fn synced(_: &mut Transaction<'_>, _: &hawser_proto::v1::Synced) -> Verdict {
    Err(Denial::precondition("not built"))
}
