//! `hawser replica`: a resource's presence on one node.

use clap::Subcommand;
use hawser_client::request_key;
use hawser_proto::v1;
use serde::Serialize;

use super::NothingMore;
use crate::{
    context::{Context, every_page},
    failure::Failure,
    listing::Listing,
    view::replica::NamedReplica,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Add a replica of a resource, and wait until it has synced
    #[command(after_help = "\
Examples:
  hawser replica create data n2
  hawser replica create data n2 --pool fast --timeout 1h

The resource stays in use meanwhile. How long it takes depends on its size; after
--timeout it goes on by itself, and `hawser operation list` shows how far it is.")]
    Create {
        /// Name of the resource
        resource: String,
        /// Node that gets the replica
        node: String,
        /// Place in the pool of this name; else as the resource's group says
        #[arg(long)]
        pool: Option<String>,
    },
    /// List the replicas, with what their nodes report
    #[command(
        after_help = "Examples:\n  hawser replica list\n  hawser replica list --differing\n  hawser replica list --resource data --watch\n  hawser replica list --node n1"
    )]
    List {
        /// Only those of this resource
        #[arg(long)]
        resource: Option<String>,
        /// Only those on this node
        #[arg(long)]
        node: Option<String>,
        /// Only those whose desired and observed state differ
        #[arg(long)]
        differing: bool,
        #[command(flatten)]
        listing: Listing,
    },
    /// Remove a replica with its data, and wait until nothing of it is left
    #[command(after_help = "\
Example:
  hawser replica delete data n2

The resource stays in use on its other node. The last complete replica stays, and so
does one that is attached: detach it there first.")]
    Delete {
        /// Name of the resource
        resource: String,
        /// Node that loses its replica
        node: String,
    },
}

/// What the JSON form says beyond the write itself.
#[derive(Serialize)]
struct Placed<'a> {
    pool: &'a str,
}

impl Verb {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Create { resource, node, pool } => create(context, resource, node, pool).await,
            Self::List { resource, node, differing, listing } => {
                let request = v1::ListReplicasRequest {
                    resource: resource.unwrap_or_default(),
                    node: node.unwrap_or_default(),
                    differing_only: differing,
                    ..Default::default()
                };
                list(context, &listing, request).await
            }
            Self::Delete { resource, node } => delete(context, resource, node).await,
        }
    }
}

async fn create(
    context: &Context,
    resource: String,
    node: String,
    pool: Option<String>,
) -> Result<(), Failure> {
    let request = v1::CreateReplicaRequest {
        request_key: request_key(),
        resource,
        node,
        pool: pool.unwrap_or_default(),
    };
    let (resource, node) = (&request.resource, &request.node);
    let answer = context
        .call(&format!("add a replica of resource {resource} on node {node}"), async |controller| {
            controller.replicas().create_replica(request.clone()).await
        })
        .await?;
    let done = format!("resource {resource} has a replica on {node}, which is in sync");
    context.finish(answer.result, &done, Placed { pool: &answer.pool }).await
}

async fn delete(context: &Context, resource: String, node: String) -> Result<(), Failure> {
    let request = v1::DeleteReplicaRequest { request_key: request_key(), resource, node };
    let (resource, node) = (&request.resource, &request.node);
    let answer = context
        .call(&format!("remove the replica of resource {resource} from node {node}"), async |controller| {
            controller.replicas().delete_replica(request.clone()).await
        })
        .await?;
    let done = format!("the replica of resource {resource} on {node} is removed");
    context.finish(answer.result, &done, NothingMore {}).await
}

async fn list(context: &Context, listing: &Listing, request: v1::ListReplicasRequest) -> Result<(), Failure> {
    let read = async || -> Result<(Vec<NamedReplica>, u64), Failure> {
        let (replicas, revision) =
            every_page!(context, "list replicas", replicas.list_replicas, request.clone(), replicas);
        Ok((replicas.iter().map(NamedReplica::from).collect(), revision))
    };
    listing.show(context, "there are no replicas", read).await
}
