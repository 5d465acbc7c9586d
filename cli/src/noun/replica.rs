//! `hawser replica`: a resource's presence on one node.

use clap::Subcommand;
use hawser_proto::v1;

use crate::{
    context::{Context, every_page},
    failure::Failure,
    view::replica::NamedReplica,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List the replicas, with what their nodes report
    #[command(
        after_help = "Examples:\n  hawser replica list\n  hawser replica list --resource data\n  hawser replica list --node n1"
    )]
    List {
        /// Only those of this resource
        #[arg(long)]
        resource: Option<String>,
        /// Only those on this node
        #[arg(long)]
        node: Option<String>,
    },
}

impl Verb {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let Self::List { resource, node } = self;
        let request = v1::ListReplicasRequest {
            resource: resource.unwrap_or_default(),
            node: node.unwrap_or_default(),
            ..Default::default()
        };
        let (replicas, revision) =
            every_page!(context, "list replicas", replicas.list_replicas, request, replicas);
        let replicas: Vec<NamedReplica> = replicas.iter().map(NamedReplica::from).collect();
        context.screen.list(&replicas, revision, "there are no replicas")
    }
}
