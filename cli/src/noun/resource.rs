//! `hawser resource`: the replicated volumes.

use clap::Subcommand;
use hawser_client::request_key;
use hawser_proto::v1;
use serde::Serialize;

use super::{NothingMore, size};
use crate::{
    context::{Context, every_page},
    failure::Failure,
    listing::Listing,
    view::resource::Resource,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Create a resource and wait until it is ready to be attached
    #[command(after_help = "\
Examples:
  hawser resource create data --size 10GiB --replicas 2
  hawser resource create data --size 10GiB --node n1 --node n3
  hawser resource create base --size 20GiB --size 1GiB --group fast")]
    Create {
        /// Name of the resource
        name: String,
        /// Size with its unit (KiB, MiB, GiB, TiB); repeated, each makes a volume
        #[arg(long = "size", required = true, value_parser = size, value_name = "SIZE")]
        sizes: Vec<u64>,
        /// Diskful replicas; else as the group says
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..), value_name = "NUMBER")]
        replicas: Option<u32>,
        /// Place a replica on this node; may be repeated; else Hawser chooses
        #[arg(long = "node", value_name = "NODE")]
        nodes: Vec<String>,
        /// Group to make it from; else `default`
        #[arg(long)]
        group: Option<String>,
        /// Place in the pools of this name; else as the group says
        #[arg(long)]
        pool: Option<String>,
    },
    /// List the resources
    #[command(after_help = "\
Examples:
  hawser resource list
  hawser resource list --differing --watch
  hawser resource list --sort -size
  hawser resource list --group fast --node n1 -o json")]
    List {
        /// Only those of this group
        #[arg(long)]
        group: Option<String>,
        /// Only those with a replica on this node
        #[arg(long)]
        node: Option<String>,
        /// Only those whose desired and observed state differ
        #[arg(long)]
        differing: bool,
        #[command(flatten)]
        listing: Listing,
    },
    /// Show what was asked for, what is there, and why they differ
    #[command(after_help = "Example:\n  hawser resource show data")]
    Show {
        /// Name of the resource
        name: String,
    },
    /// Delete a resource with its data, and wait until nothing of it is left
    #[command(after_help = "Example:\n  hawser resource delete data")]
    Delete {
        /// Name of the resource
        name: String,
    },
}

/// What the JSON form says beyond the write itself.
#[derive(Serialize)]
struct Placed<'a> {
    nodes: &'a [String],
}

impl Verb {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Create { name, sizes, replicas, nodes, group, pool } => {
                let request = v1::CreateResourceRequest {
                    request_key: request_key(),
                    name,
                    group: group.unwrap_or_default(),
                    volume_sizes: sizes,
                    replicas: replicas.unwrap_or_default(),
                    nodes,
                    pool: pool.unwrap_or_default(),
                };
                create(context, request).await
            }
            Self::List { group, node, differing, listing } => {
                let all = group.is_none() && node.is_none() && !differing;
                let request = v1::ListResourcesRequest {
                    group: group.unwrap_or_default(),
                    node: node.unwrap_or_default(),
                    differing_only: differing,
                    ..Default::default()
                };
                let hint = if all {
                    "there are no resources; create one with `hawser resource create`"
                } else {
                    "there are no such resources"
                };
                let read = async || resources(context, request.clone()).await;
                listing.show(context, hint, read).await
            }
            Self::Show { name } => {
                let request = v1::ListResourcesRequest { name: name.clone(), ..Default::default() };
                let (resources, revision) = resources(context, request).await?;
                let resource = resources.into_iter().next().ok_or_else(|| Failure::NotFound {
                    what: format!("resource {name}"),
                    list: "hawser resource list",
                })?;
                context.screen.single(&resource, revision, Resource::describe)
            }
            Self::Delete { name } => delete(context, name).await,
        }
    }
}

async fn create(context: &Context, request: v1::CreateResourceRequest) -> Result<(), Failure> {
    let name = &request.name;
    let answer = context
        .call(&format!("create resource {name}"), async |controller| {
            controller.resources().create_resource(request.clone()).await
        })
        .await?;
    let done = format!("resource {name} is ready on {}", answer.nodes.join(", "));
    context.finish(answer.result, &done, Placed { nodes: &answer.nodes }).await
}

async fn delete(context: &Context, name: String) -> Result<(), Failure> {
    let request = v1::DeleteResourceRequest { request_key: request_key(), name: name.clone() };
    let answer = context
        .call(&format!("delete resource {name}"), async |controller| {
            controller.resources().delete_resource(request.clone()).await
        })
        .await?;
    context.finish(answer.result, &format!("resource {name} is deleted"), NothingMore {}).await
}

async fn resources(
    context: &Context,
    request: v1::ListResourcesRequest,
) -> Result<(Vec<Resource>, u64), Failure> {
    let (resources, revision) =
        every_page!(context, "list resources", resources.list_resources, request, resources);
    Ok((resources.iter().map(Resource::from).collect(), revision))
}
