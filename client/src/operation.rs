//! Waits for an operation to end, across changes of leader and lost connections.
//!
//! It must never end or cancel the operation: whoever stops waiting leaves it running.

use std::time::Duration;

use hawser_proto::v1;
use tokio::time::{Instant, timeout_at};

use crate::{Client, ClientError, Rejection, verdict::Verdict};

/// A stream that has said nothing for this long is opened anew, which brings the present state: the relay
/// in between may have lost the leader without a word.
const LONGEST_SILENCE: Duration = Duration::from_secs(5);
/// Between two streams that broke.
const PAUSE: Duration = Duration::from_millis(200);

/// Why waiting ended before the operation did.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WaitError {
    /// The controllers could not be asked, or do not know the operation.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The time is over; the operation goes on.
    #[error("operation {id} has not ended within {} s", .within.as_secs_f64())]
    TimedOut {
        /// The operation.
        id: u64,
        /// How long was waited.
        within: Duration,
        /// What was last seen of it.
        last: Option<Box<v1::OperationView>>,
    },
}

impl Client {
    /// Waits until the operation has ended and returns its last view. `seen` is called with every view on the
    /// way, the last one included.
    ///
    /// # Errors
    /// If the operation is not known, no controller answers, or `within` has passed.
    pub async fn wait_operation(
        &self,
        id: u64,
        within: Duration,
        mut seen: impl FnMut(&v1::OperationView),
    ) -> Result<v1::OperationView, WaitError> {
        let deadline = Instant::now() + within;
        let what = format!("wait for operation {id}");
        let mut last: Option<v1::OperationView> = None;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let opened = self
                .read(&what, left, async |controller| {
                    controller.operations().wait_operation(v1::WaitOperationRequest { id }).await
                })
                .await;
            let mut stream = match opened {
                Ok(stream) => stream,
                Err(ClientError::Unreachable { .. }) if last.is_some() => {
                    return Err(WaitError::TimedOut { id, within, last: last.map(Box::new) });
                }
                Err(error) => return Err(error.into()),
            };
            loop {
                let silence = (Instant::now() + LONGEST_SILENCE).min(deadline);
                match timeout_at(silence, stream.message()).await {
                    Ok(Ok(Some(view))) => {
                        seen(&view);
                        if has_ended(&view) {
                            return Ok(view);
                        }
                        last = Some(view);
                    }
                    Ok(Err(status)) if Verdict::of(&status) == Verdict::Final => {
                        return Err(ClientError::Rejected(Rejection::from_status(&what, &status)).into());
                    }
                    Ok(Ok(None) | Err(_)) => {
                        tokio::time::sleep_until((Instant::now() + PAUSE).min(deadline)).await;
                        break;
                    }
                    Err(_) => break,
                }
            }
            if Instant::now() >= deadline {
                return Err(WaitError::TimedOut { id, within, last: last.map(Box::new) });
            }
        }
    }
}

fn has_ended(view: &v1::OperationView) -> bool {
    use v1::OperationState as State;
    view.operation.as_ref().is_some_and(|operation| {
        matches!(operation.state(), State::Succeeded | State::Failed | State::Cancelled)
    })
}
