//! Follows changes across controllers: a watch that breaks goes on with the next controller, after the last
//! revision that it heard.
//!
//! It must never leave a change out, nor say one twice.

use std::time::Duration;

use hawser_proto::v1;
use tokio::time::{Instant, sleep, timeout};
use tonic::Streaming;

use crate::{Client, ClientError, Rejection, verdict::Verdict};

/// A bookmark comes every five seconds; a stream that is silent for longer than this is dead.
const LONGEST_SILENCE: Duration = Duration::from_secs(12);
/// Between two streams that broke.
const PAUSE: Duration = Duration::from_millis(200);
/// How long no controller may serve the watch before it gives up.
const PATIENCE: Duration = Duration::from_secs(30);
const WHAT: &str = "watch changes";

/// Changes after a revision, in log order. Made by [`Client::watch`].
pub struct Watch<'a> {
    client: &'a Client,
    request: v1::WatchRequest,
    stream: Option<Streaming<v1::WatchResponse>>,
}

impl Client {
    /// Follows the changes that the request asks for. Dials nothing yet.
    #[must_use]
    pub fn watch(&self, request: v1::WatchRequest) -> Watch<'_> {
        Watch { client: self, request, stream: None }
    }
}

impl Watch<'_> {
    /// The next entry's changes, or a bookmark, which has none.
    ///
    /// # Errors
    /// [`ClientError::Rejected`] with the reason `compacted` if changes in between are no longer kept: list again
    /// and watch after the revision of that list. [`ClientError::Unreachable`] if no controller could serve it
    /// for half a minute.
    pub async fn next(&mut self) -> Result<v1::WatchResponse, ClientError> {
        let gives_up = Instant::now() + PATIENCE;
        loop {
            let stream = match &mut self.stream {
                Some(stream) => stream,
                None => {
                    let opened = self.open(gives_up.saturating_duration_since(Instant::now())).await?;
                    self.stream.insert(opened)
                }
            };
            match timeout(LONGEST_SILENCE, stream.message()).await {
                Ok(Ok(Some(response))) => {
                    // The first one says where a watch "from now" has begun.
                    self.request.after_revision = self.request.after_revision.max(response.revision);
                    return Ok(response);
                }
                Ok(Err(status)) if Verdict::of(&status) == Verdict::Final => {
                    return Err(ClientError::Rejected(Rejection::from_status(WHAT, &status)));
                }
                Ok(Ok(None) | Err(_)) => {
                    self.stream = None;
                    self.client.forget_preferred();
                    sleep(PAUSE).await;
                }
                Err(_) => {
                    self.stream = None;
                    self.client.forget_preferred();
                }
            }
        }
    }

    async fn open(&self, within: Duration) -> Result<Streaming<v1::WatchResponse>, ClientError> {
        let request = self.request.clone();
        self.client
            .read(WHAT, within, async |controller| controller.watch().watch(request.clone()).await)
            .await
    }
}
