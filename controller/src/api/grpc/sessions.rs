//! The door of the satellites' sessions. What happens in one is the leader's business.

use futures::{StreamExt, stream::BoxStream};
use hawser_proto::v1::{self, session_service_server::SessionService};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    api::{caller::Caller, context::Context, error::ApiError},
    leader::session,
};

/// `SessionService`.
pub struct Sessions(pub Context);

#[tonic::async_trait]
impl SessionService for Sessions {
    type OpenStream = BoxStream<'static, Result<v1::ControllerMessage, Status>>;

    async fn open(
        &self,
        request: Request<Streaming<v1::SatelliteMessage>>,
    ) -> Result<Response<Self::OpenStream>, Status> {
        let caller = Caller::of(&request)?;
        let reign = self.0.reign()?;
        let view = self.0.consensus.view().clone();
        // The answer begins at once: a satellite may wait for it before it says hello.
        let opening = session::open(reign, view, caller.name, request.into_inner());
        let messages = futures::stream::once(opening).flat_map(|opened| match opened {
            Err(refused) => futures::stream::once(async { Err(ApiError::from(refused).into()) }).boxed(),
            Ok((outbound, running)) => {
                // The session runs on its own; its end is the last thing that the satellite reads.
                let running = tokio::spawn(running);
                let end = futures::stream::once(async move {
                    match running.await {
                        Ok(end) => Err(ApiError::from(end).into()),
                        Err(_) => Err(ApiError::Internal("the session failed".into()).into()),
                    }
                });
                ReceiverStream::new(outbound).map(Ok).chain(end).boxed()
            }
        });
        Ok(Response::new(messages.boxed()))
    }
}
