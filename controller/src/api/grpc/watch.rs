//! Changes of desired objects, in log order, from any member.

use std::time::Duration;

use futures::stream::BoxStream;
use hawser_proto::v1::{self, watch_service_server::WatchService};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::{
    api::{context::Context, error::ApiError},
    view::{Event, Subscription},
};

/// A watcher that nothing happens to hears this often up to where nothing did.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(5);

/// `WatchService`.
pub struct Watch(pub Context);

#[tonic::async_trait]
impl WatchService for Watch {
    type WatchStream = BoxStream<'static, Result<v1::WatchResponse, Status>>;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let view = self.0.consensus.view();
        let after = match request.into_inner().after_revision {
            0 => view.revision(),
            revision => revision,
        };
        let subscription = view.subscribe(after).map_err(|gone| ApiError::Compacted(gone.to_string()))?;
        let (sender, receiver) = mpsc::channel(16);
        tokio::spawn(pump(subscription, sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

async fn pump(mut subscription: Subscription, sender: mpsc::Sender<Result<v1::WatchResponse, Status>>) {
    loop {
        let event = tokio::select! {
            event = subscription.next(BOOKMARK_INTERVAL) => event,
            () = sender.closed() => return,
        };
        let (response, end) = match event {
            Ok(Event::Changes(set)) => {
                (Ok(v1::WatchResponse { revision: set.revision, changes: set.changes.clone() }), false)
            }
            Ok(Event::Bookmark(revision)) => (Ok(v1::WatchResponse { revision, changes: vec![] }), false),
            Err(gone) => (Err(ApiError::Compacted(gone.to_string()).into()), true),
        };
        if sender.send(response).await.is_err() || end {
            return;
        }
    }
}
