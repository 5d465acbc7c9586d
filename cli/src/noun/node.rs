//! `hawser node`: the machines with a satellite.

use clap::Subcommand;
use hawser_client::request_key;
use hawser_proto::v1;

use super::NothingMore;
use crate::{
    confirmation,
    context::{Context, every_page},
    failure::Failure,
    listing::Listing,
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
    #[command(
        after_help = "Examples:\n  hawser node list\n  hawser node list --differing\n  hawser node list -o json"
    )]
    List {
        /// Only those that something is wrong with
        #[arg(long)]
        differing: bool,
        #[command(flatten)]
        listing: Listing,
    },
    /// Show what is known of one node
    #[command(after_help = "Example:\n  hawser node show n1")]
    Show {
        /// Name of the node
        name: String,
    },
    /// Declare a node lost: it is off for good, and the others go on without what it has
    #[command(after_help = "\
Examples:
  hawser node lost n2
  hawser node lost n2 --yes --accept-data-loss scratch

Only for a machine that is off and stays off: if it still ran, two nodes could write the same volume. Where the last
complete copy of a resource is there, it has to be named, and what was written is given up.
A lost node that comes back is refused. To use the machine again, wipe it, then:
  hawser node delete n2
  hawser node create n2 --address 10.77.0.2")]
    Lost {
        /// Name of the node
        name: String,
        /// A resource whose last complete copy is there and may be given up; may be repeated
        #[arg(long = "accept-data-loss", value_name = "RESOURCE")]
        accept_data_loss: Vec<String>,
        /// Do not ask whether the node is off for good
        #[arg(long)]
        yes: bool,
    },
    /// Forget a node that has neither pools nor replicas, or one that is lost
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
            Self::List { differing, listing } => {
                let request = v1::ListNodesRequest { differing_only: differing, ..Default::default() };
                let hint = if differing {
                    "nothing is wrong with any node"
                } else {
                    "there are no nodes; register one with `hawser node create`"
                };
                let read = async || nodes(context, request.clone()).await;
                listing.show(context, hint, read).await
            }
            Self::Show { name } => {
                let request = v1::ListNodesRequest { name: name.clone(), ..Default::default() };
                let (nodes, revision) = nodes(context, request).await?;
                let node = nodes.into_iter().next().ok_or_else(|| Failure::NotFound {
                    what: format!("node {name}"),
                    list: "hawser node list",
                })?;
                context.screen.single(&node, revision, Node::describe)
            }
            Self::Lost { name, accept_data_loss, yes } => {
                let asserted = format!(
                    "Node {name} is off for good and never comes back with what it has. If it still ran, two nodes could \
                     write the same volume."
                );
                confirmation::of(&asserted, &name, yes)?;
                lost(context, name, accept_data_loss).await
            }
            Self::Delete { name } => delete(context, name).await,
        }
    }
}

async fn create(context: &Context, name: String, addresses: &[String]) -> Result<(), Failure> {
    let addresses = addresses.iter().map(|text| address(text)).collect();
    let request = v1::CreateNodeRequest {
        request_key: request_key(),
        name: name.clone(),
        addresses,
        ..Default::default()
    };
    let answer = context
        .call(&format!("create node {name}"), async |controller| {
            controller.nodes().create_node(request.clone()).await
        })
        .await?;
    context.finish(answer.result, &format!("node {name} is registered"), NothingMore {}).await
}

async fn lost(context: &Context, name: String, accept_data_loss: Vec<String>) -> Result<(), Failure> {
    let request = v1::LoseNodeRequest { request_key: request_key(), name: name.clone(), accept_data_loss };
    let answer = context
        .call(&format!("declare node {name} lost"), async |controller| {
            controller.nodes().lose_node(request.clone()).await
        })
        .await?;
    let done = format!(
        "node {name} is declared lost; `hawser operation list --running` shows which resources are still letting go of it"
    );
    context.finish(answer.result, &done, NothingMore {}).await
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

async fn nodes(context: &Context, request: v1::ListNodesRequest) -> Result<(Vec<Node>, u64), Failure> {
    let (nodes, revision) = every_page!(context, "list nodes", nodes.list_nodes, request, nodes);
    Ok((nodes.iter().map(Node::from).collect(), revision))
}

fn address(text: &str) -> v1::Address {
    let (name, ip) = text.split_once('=').unwrap_or((DEFAULT_ADDRESS, text));
    v1::Address { name: name.to_owned(), ip: ip.to_owned() }
}

#[cfg(test)]
mod tests {
    use hawser_hostile::{check, texts};

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

    #[test]
    fn hostile_addresses() {
        check(&texts(&["10.77.0.1", "storage=fd00::1"], &["="]), |text| {
            let v1::Address { name, ip } = address(&text);
            assert!(text == format!("{name}={ip}") || text == ip, "{text:?}");
        });
    }
}
