//! `hawser operation`: the durable jobs that carry changes out.

use clap::Subcommand;
use hawser_client::request_key;
use hawser_proto::v1;

use super::NothingMore;
use crate::{
    context::{Context, every_page},
    failure::Failure,
    listing::Listing,
    view::operation::Operation,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List the operations, the ended ones for a while too
    #[command(after_help = "\
Examples:
  hawser operation list
  hawser operation list --running --watch
  hawser operation list --resource data")]
    List {
        /// Only those that have not ended
        #[arg(long)]
        running: bool,
        /// Only those about this resource
        #[arg(long)]
        resource: Option<String>,
        /// Only those about this node
        #[arg(long)]
        node: Option<String>,
        #[command(flatten)]
        listing: Listing,
    },
    /// Show one operation and what it waits for
    #[command(after_help = "Example:\n  hawser operation show 42")]
    Show {
        /// Id of the operation
        id: u64,
    },
    /// Wait until an operation has ended
    #[command(after_help = "Example:\n  hawser operation wait 42 --timeout 10m")]
    Wait {
        /// Id of the operation
        id: u64,
    },
    /// Cancel an operation that says it can be cancelled
    #[command(after_help = "Example:\n  hawser operation cancel 42")]
    Cancel {
        /// Id of the operation
        id: u64,
    },
}

impl Verb {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::List { running, resource, node, listing } => {
                let request = v1::ListOperationsRequest {
                    running_only: running,
                    resource: resource.unwrap_or_default(),
                    node: node.unwrap_or_default(),
                    ..Default::default()
                };
                let read = async || operations(context, request.clone()).await;
                listing.show(context, "there are no operations", read).await
            }
            Self::Show { id } => {
                let (operation, revision) = find(context, id).await?;
                context.screen.single(&operation, revision, Operation::describe)
            }
            Self::Wait { id } => {
                let operation = context.wait_for(id).await?;
                let done = format!("operation {id} ({}) has succeeded", operation.title());
                context.screen.answer(&done, &operation)
            }
            Self::Cancel { id } => cancel(context, id).await,
        }
    }
}

async fn find(context: &Context, id: u64) -> Result<(Operation, u64), Failure> {
    let not_found = || Failure::NotFound { what: format!("operation {id}"), list: "hawser operation list" };
    // For the cluster, 0 stands for all.
    if id == 0 {
        return Err(not_found());
    }
    let request = v1::ListOperationsRequest { id, ..Default::default() };
    let (operations, revision) = operations(context, request).await?;
    Ok((operations.into_iter().next().ok_or_else(not_found)?, revision))
}

async fn cancel(context: &Context, id: u64) -> Result<(), Failure> {
    let request = v1::CancelOperationRequest { request_key: request_key(), id };
    let answer = context
        .call(&format!("cancel operation {id}"), async |controller| {
            controller.operations().cancel_operation(request.clone()).await
        })
        .await?;
    // What ends the cancelled job may be another job; waiting for it would say the wrong thing.
    let result = answer.result.map(|result| v1::WriteResult { operation: 0, ..result });
    context.finish(result, &format!("operation {id} is cancelled"), NothingMore {}).await
}

async fn operations(
    context: &Context,
    request: v1::ListOperationsRequest,
) -> Result<(Vec<Operation>, u64), Failure> {
    let (operations, revision) =
        every_page!(context, "list operations", operations.list_operations, request, operations);
    Ok((operations.iter().map(Operation::from).collect(), revision))
}
