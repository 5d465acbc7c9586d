//! Operations: durable multi-step jobs.

use std::time::Duration;

use futures::{Stream, stream::BoxStream};
use hawser_proto::{
    ids::OperationId,
    v1::{self, command::Command, operation_service_server::OperationService},
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::{
    api::{
        context::{Context, Reading, result},
        error::ApiError,
        pages::number_key,
        read_mask::ReadMask,
    },
    leader::conditions,
};

/// Reports come many at a time; who waits is told at most this often.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);

/// Fields of an operation's view.
const FIELDS: [&str; 3] = ["operation", "progress", "phase"];

/// `OperationService`.
pub struct Operations(pub Context);

#[tonic::async_trait]
impl OperationService for Operations {
    type WaitOperationStream = BoxStream<'static, Result<v1::OperationView, Status>>;

    async fn list_operations(
        &self,
        request: Request<v1::ListOperationsRequest>,
    ) -> Result<Response<v1::ListOperationsResponse>, Status> {
        let request = request.into_inner();
        let mask = ReadMask::new(request.read_mask.as_ref(), &FIELDS)?;
        let page = self.0.page(request.consistency(), request.page.clone()).await?;
        let all = page.reading.state.operations().filter(|operation| {
            (request.id == 0 || operation.id == request.id)
                && (!request.running_only || operation.state() == v1::OperationState::Running)
                && (request.resource.is_empty() || operation.resource == request.resource)
                && (request.node.is_empty() || operation.node == request.node)
        });
        let (operations, next_page_token) =
            self.0.take(&page, all.map(|operation| (number_key(operation.id), operation)));
        let operations =
            operations.into_iter().map(|operation| view(&page.reading, operation, &mask)).collect();
        Ok(Response::new(v1::ListOperationsResponse {
            operations,
            revision: page.reading.revision,
            next_page_token,
        }))
    }

    async fn wait_operation(
        &self,
        request: Request<v1::WaitOperationRequest>,
    ) -> Result<Response<Self::WaitOperationStream>, Status> {
        let id = request.into_inner().id;
        let reading = self.0.read(v1::Consistency::Unspecified).await?;
        let operation = reading.state.operation(OperationId::new(id)).ok_or_else(|| not_found(id))?;
        let first = view(&reading, operation, &ReadMask::EVERYTHING);
        Ok(Response::new(Box::pin(follow(self.0.clone(), id, first))))
    }

    async fn cancel_operation(
        &self,
        request: Request<v1::CancelOperationRequest>,
    ) -> Result<Response<v1::CancelOperationResponse>, Status> {
        let write = self.0.write(&request, &request.get_ref().request_key)?;
        let id = request.into_inner().id;
        if id == 0 {
            return Err(ApiError::invalid("id", "0 is no operation").into());
        }
        let applied = write.propose(Command::CancelOperation(v1::CancelOperation { id })).await?;
        Ok(Response::new(v1::CancelOperationResponse { result: result(&applied) }))
    }
}

fn not_found(id: u64) -> ApiError {
    ApiError::Rejected(v1::Rejected {
        reason: v1::RejectionReason::NotFound.into(),
        field: "id".into(),
        message: format!(
            "there is no operation {id}; ended ones are forgotten after a while: `hawser operation list` shows what there is"
        ),
    })
}

fn view(reading: &Reading, operation: &v1::Operation, mask: &ReadMask) -> v1::OperationView {
    let observed = reading.observed.as_ref();
    let phase = || observed.and_then(|observed| conditions::phase_of(&reading.state, observed, operation));
    v1::OperationView {
        operation: mask.take("operation", || Some(operation.clone())),
        progress: mask.take("progress", || conditions::of_operation(&reading.state, observed, operation)),
        phase: mask.take("phase", || phase().map(conditions::Phase::word).unwrap_or_default().to_owned()),
    }
}

fn has_ended(view: &v1::OperationView) -> bool {
    view.operation.as_ref().is_none_or(|operation| operation.state() != v1::OperationState::Running)
}

fn follow(
    context: Context,
    id: u64,
    first: v1::OperationView,
) -> impl Stream<Item = Result<v1::OperationView, Status>> + Send {
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        let mut last = first;
        if sender.send(Ok(last.clone())).await.is_err() {
            return;
        }
        while !has_ended(&last) {
            let next = tokio::select! {
                next = next_view(&context, id, &last) => next,
                () = sender.closed() => return,
            };
            match next {
                Ok(next) => {
                    last = next;
                    if sender.send(Ok(last.clone())).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    // Nobody may be listening any more.
                    let _ = sender.send(Err(error.into())).await;
                    return;
                }
            }
        }
    });
    ReceiverStream::new(receiver)
}

/// The operation as soon as it looks different.
async fn next_view(
    context: &Context,
    id: u64,
    last: &v1::OperationView,
) -> Result<v1::OperationView, ApiError> {
    let reign = context.reign()?;
    let mut revisions = context.consensus.view().revisions();
    let mut observations = reign.observed.changes();
    loop {
        revisions.mark_unchanged();
        observations.mark_unchanged();
        let published = context.consensus.view().published();
        let reading = Reading {
            state: published.state,
            revision: published.revision,
            observed: Some(reign.observed.picture()),
        };
        let operation = reading.state.operation(OperationId::new(id)).ok_or_else(|| not_found(id))?;
        let now = view(&reading, operation, &ReadMask::EVERYTHING);
        if now != *last {
            return Ok(now);
        }
        let not_before = Instant::now() + SHORTEST_PAUSE;
        tokio::select! {
            () = reign.ended.cancelled() => {
                return Err(ApiError::Unavailable(format!("the leader changed; wait for operation {id} again")));
            }
            _ = revisions.changed() => {}
            _ = observations.changed() => {}
        }
        sleep_until(not_before).await;
    }
}
