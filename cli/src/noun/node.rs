//! `hawser node`: the machines with a satellite.

use clap::Subcommand;
use hawser_client::request_key;
use hawser_proto::v1;

use super::NothingMore;
use crate::{
    context::{Context, every_page},
    failure::Failure,
    view::node::Node,
};

/// Purpose of the address that is used where no other is asked for.
const DEFAULT_ADDRESS: &str = "default";

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Register a node; its satellite may connect from then on
    #[command(after_help = "\
Examples:
  hawser node create n1 --address 10.77.0.1
  hawser node create n1 --address 10.77.0.1 --address replication=10.1.0.1")]
    Create {
        /// Name of the node, as in its satellite's certificate
        name: String,
        /// IP address, or purpose=IP for another purpose than `default`; may be repeated
        #[arg(long = "address", required = true, value_name = "[PURPOSE=]IP")]
        addresses: Vec<String>,
    },
    /// List the nodes
    #[command(after_help = "Examples:\n  hawser node list\n  hawser node list -o json")]
    List,
    /// Show what is known of one node
    #[command(after_help = "Example:\n  hawser node show n1")]
    Show {
        /// Name of the node
        name: String,
    },
    /// Forget a node that has neither pools nor replicas
    #[command(after_help = "Example:\n  hawser node delete n1")]
    Delete {
        /// Name of the node
        name: String,
    },
}

impl Verb {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Create { name, addresses } => create(context, name, &addresses).await,
            Self::List => {
                let (nodes, revision) = nodes(context, "").await?;
                let hint = "there are no nodes; register one with `hawser node create`";
                context.screen.list(&nodes, revision, hint)
            }
            Self::Show { name } => {
                let (nodes, revision) = nodes(context, &name).await?;
                let node = nodes.into_iter().next().ok_or_else(|| Failure::NotFound {
                    what: format!("node {name}"),
                    list: "hawser node list",
                })?;
                context.screen.single(&node, revision, Node::describe)
            }
            Self::Delete { name } => delete(context, name).await,
        }
    }
}

async fn create(context: &Context, name: String, addresses: &[String]) -> Result<(), Failure> {
    let addresses = addresses.iter().map(|text| address(text)).collect();
    let request = v1::CreateNodeRequest { request_key: request_key(), name: name.clone(), addresses };
    let answer = context
        .call(&format!("create node {name}"), async |controller| {
            controller.nodes().create_node(request.clone()).await
        })
        .await?;
    context.finish(answer.result, &format!("node {name} is registered"), NothingMore {}).await
}

async fn delete(context: &Context, name: String) -> Result<(), Failure> {
    let request = v1::DeleteNodeRequest { request_key: request_key(), name: name.clone() };
    let answer = context
        .call(&format!("delete node {name}"), async |controller| {
            controller.nodes().delete_node(request.clone()).await
        })
        .await?;
    context.finish(answer.result, &format!("node {name} is forgotten"), NothingMore {}).await
}

async fn nodes(context: &Context, name: &str) -> Result<(Vec<Node>, u64), Failure> {
    let request = v1::ListNodesRequest { name: name.to_owned(), ..Default::default() };
    let (nodes, revision) = every_page!(context, "list nodes", nodes.list_nodes, request, nodes);
    Ok((nodes.iter().map(Node::from).collect(), revision))
}

fn address(text: &str) -> v1::Address {
    let (name, ip) = text.split_once('=').unwrap_or((DEFAULT_ADDRESS, text));
    v1::Address { name: name.to_owned(), ip: ip.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_purpose_is_the_default_one() {
        for (text, name, ip) in [
            ("10.77.0.1", "default", "10.77.0.1"),
            ("fd00::1", "default", "fd00::1"),
            ("replication=10.1.0.1", "replication", "10.1.0.1"),
        ] {
            assert_eq!(address(text), v1::Address { name: name.into(), ip: ip.into() });
        }
    }
}
