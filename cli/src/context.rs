//! What a verb works with: the client, the screen, and how long it may take.

use std::time::Duration;

use hawser_client::{Client, ClientError, Controller};
use hawser_proto::v1;
use serde::Serialize;
use tonic::{Response, Status};

use crate::{failure::Failure, output::Screen, progress::Progress, view::operation::Operation};

/// A request that has found nobody by then finds nobody: elections take a second or two, on machines that are
/// far too busy more.
const LONGEST_REQUEST: Duration = Duration::from_secs(30);

/// One run of a verb that talks to the cluster.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) screen: Screen,
    /// Whether changes wait for their operation.
    pub(crate) wait: bool,
    /// For waiting; requests take part of it.
    pub(crate) timeout: Duration,
    /// Whether reads may be old.
    pub(crate) stale: bool,
}

/// The answer to a change, for programs.
#[derive(Serialize)]
struct Written<E: Serialize> {
    revision: u64,
    operation: Option<u64>,
    /// `done` where there was nothing to wait for, `running`, or the operation's end.
    state: String,
    #[serde(flatten)]
    extra: E,
}

impl Context {
    /// Makes one call; `what` says it as a verb and its object.
    pub(crate) async fn call<T, F, Fut>(&self, what: &str, attempt: F) -> Result<T, ClientError>
    where
        F: FnMut(Controller) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        self.client.call(what, self.request_limit(), attempt).await
    }

    /// As [`Context::call`], for what changes nothing.
    pub(crate) async fn read<T, F, Fut>(&self, what: &str, attempt: F) -> Result<T, ClientError>
    where
        F: FnMut(Controller) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        self.client.read(what, self.request_limit(), attempt).await
    }

    /// How long a single request may take.
    pub(crate) fn request_limit(&self) -> Duration {
        self.timeout.min(LONGEST_REQUEST)
    }

    /// How fresh reads have to be.
    pub(crate) fn consistency(&self) -> i32 {
        let consistency = if self.stale { v1::Consistency::Stale } else { v1::Consistency::Unspecified };
        consistency.into()
    }

    /// Ends a change: waits for its operation unless told not to, then says `done`.
    ///
    /// `extra` joins the JSON form of the answer.
    pub(crate) async fn finish<E: Serialize>(
        &self,
        result: Option<v1::WriteResult>,
        done: &str,
        extra: E,
    ) -> Result<(), Failure> {
        let result = result.ok_or(Failure::Incomplete("the result of the write"))?;
        let revision = result.revision;
        if result.operation == 0 {
            let written = Written { revision, operation: None, state: "done".to_owned(), extra };
            return self.screen.answer(done, &written);
        }
        let operation = Some(result.operation);
        if !self.wait {
            let written = Written { revision, operation, state: "running".to_owned(), extra };
            return self.screen.answer(&result.operation.to_string(), &written);
        }
        let ended = self.wait_for(result.operation).await?;
        let written = Written { revision, operation, state: ended.state.clone(), extra };
        self.screen.answer(done, &written)
    }

    /// Waits until the operation has ended well, showing on a terminal what it waits for.
    pub(crate) async fn wait_for(&self, id: u64) -> Result<Operation, Failure> {
        let progress = Progress::on_terminal();
        let view = self
            .client
            .wait_operation(id, self.timeout, |view| progress.show(&Operation::from(view)))
            .await
            .map_err(Failure::of_wait)?;
        drop(progress);
        let operation = Operation::from(&view);
        if operation.has_succeeded() { Ok(operation) } else { Err(Failure::Ended(Box::new(operation))) }
    }
}

/// Collects all pages of a list into `(items, revision)`. `$answer` is the field with the items.
macro_rules! every_page {
    ($context:expr, $what:expr, $noun:ident . $verb:ident, $request:expr, $answer:ident) => {{
        let mut request = $request;
        request.consistency = $context.consistency();
        let mut items = Vec::new();
        loop {
            let page = $context
                .read($what, async |controller| controller.$noun().$verb(request.clone()).await)
                .await?;
            items.extend(page.$answer);
            if page.next_page_token.is_empty() {
                break (items, page.revision);
            }
            request.page = Some(hawser_proto::v1::PageRequest { size: 0, token: page.next_page_token });
        }
    }};
}
pub(crate) use every_page;
