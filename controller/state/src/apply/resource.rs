//! Placeholder.
use crate::{
    transaction::Transaction,
    verdict::{Denial, Verdict},
};
pub(super) fn create(_: &mut Transaction<'_>, _: &hawser_proto::v1::CreateResource) -> Verdict {
    Err(Denial::precondition("not built"))
}
pub(super) fn confirm_ready(_: &mut Transaction<'_>, _: &hawser_proto::v1::ConfirmResourceReady) -> Verdict {
    Err(Denial::precondition("not built"))
}
pub(super) fn delete(_: &mut Transaction<'_>, _: &hawser_proto::v1::DeleteResource) -> Verdict {
    Err(Denial::precondition("not built"))
}
pub(super) fn confirm_replica_removed(
    _: &mut Transaction<'_>,
    _: &hawser_proto::v1::ConfirmReplicaRemoved,
) -> Verdict {
    Err(Denial::precondition("not built"))
}
