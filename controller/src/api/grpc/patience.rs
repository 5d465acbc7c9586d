//! Placing right after a change of leader: a new one has not heard of every node.
//!
//! For a moment what a lack of reports leads to is no reason to refuse. It must never turn any other refusal into a wait.

use hawser_proto::v1;
use tokio::time::{Instant, sleep_until};

use crate::{
    api::{context::Context, error::ApiError},
    leader::take_over::GRACE,
};

/// Tries until it is not refused for `lack`, every node was heard of, or the reign is no longer new.
///
/// # Errors
/// The refusal, or that this member does not lead.
pub(super) async fn with_patience<T>(
    context: &Context,
    lack: v1::RejectionReason,
    attempt: impl Fn() -> Result<T, ApiError>,
) -> Result<T, ApiError> {
    let reign = context.reign()?;
    let mut observations = reign.observed.changes();
    loop {
        observations.mark_unchanged();
        let refused = match attempt() {
            Err(ApiError::Rejected(refused)) if refused.reason() == lack => refused,
            other => return other,
        };
        let all_heard = context.consensus.view().state().nodes().all(|node| {
            let picture = reign.observed.picture();
            picture.node(&node.name).is_some_and(|seen| seen.complete)
        });
        let grace_ends = reign.began + GRACE;
        if all_heard || Instant::now() >= grace_ends {
            return Err(ApiError::Rejected(refused));
        }
        tokio::select! {
            _ = observations.changed() => {}
            () = sleep_until(grace_ends) => {}
            () = reign.ended.cancelled() => {}
        }
    }
}
