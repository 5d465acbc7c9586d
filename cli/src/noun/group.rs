//! `hawser group`: placement and DRBD policy that resources are made from.

use clap::{Subcommand, ValueEnum};
use hawser_client::request_key;
use hawser_proto::v1;

use super::{NothingMore, key_and_value};
use crate::{
    context::{Context, every_page},
    failure::Failure,
    listing::Listing,
    view::group::Group,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Make a group
    #[command(after_help = "\
Examples:
  hawser group create fast --replicas 2 --pool ssd
  hawser group create local --replicas 1 --layers storage
  hawser group create tuned --replicas 2 --net max-buffers=8000 --disk c-max-rate=200M")]
    Create {
        /// Name of the group
        name: String,
        /// Diskful replicas of each resource
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..), value_name = "NUMBER")]
        replicas: u32,
        /// Place in the pools of this name; else in any
        #[arg(long)]
        pool: Option<String>,
        /// Layers of each resource, top first
        #[arg(long, value_delimiter = ',', default_values = ["drbd", "storage"], value_name = "LAYERS")]
        layers: Vec<Layer>,
        /// Option of DRBD's net section; may be repeated
        #[arg(long, value_parser = key_and_value, value_name = "OPTION=VALUE")]
        net: Vec<(String, String)>,
        /// Option of DRBD's disk section; may be repeated
        #[arg(long, value_parser = key_and_value, value_name = "OPTION=VALUE")]
        disk: Vec<(String, String)>,
        /// Option of DRBD's options section; may be repeated
        #[arg(long, value_parser = key_and_value, value_name = "OPTION=VALUE")]
        resource: Vec<(String, String)>,
    },
    /// List the groups
    #[command(after_help = "Example:\n  hawser group list")]
    List {
        #[command(flatten)]
        listing: Listing,
    },
    /// Delete a group that no resource is made from
    #[command(after_help = "Example:\n  hawser group delete fast")]
    Delete {
        /// Name of the group
        name: String,
    },
}

/// A layer that a resource can have.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Layer {
    /// Replication
    Drbd,
    /// A volume of a storage pool; always the last
    Storage,
}

impl From<Layer> for v1::Layer {
    fn from(layer: Layer) -> Self {
        match layer {
            Layer::Drbd => Self::Drbd,
            Layer::Storage => Self::Storage,
        }
    }
}

impl Verb {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Create { name, replicas, pool, layers, net, disk, resource } => {
                let options = v1::DrbdOptions {
                    resource: resource.into_iter().collect(),
                    net: net.into_iter().collect(),
                    disk: disk.into_iter().collect(),
                };
                let request = v1::CreateResourceGroupRequest {
                    request_key: request_key(),
                    name,
                    replicas,
                    pool: pool.unwrap_or_default(),
                    layers: layers.into_iter().map(|layer| v1::Layer::from(layer).into()).collect(),
                    options: Some(options),
                };
                create(context, request).await
            }
            Self::List { listing } => list(context, &listing).await,
            Self::Delete { name } => delete(context, name).await,
        }
    }
}

async fn create(context: &Context, request: v1::CreateResourceGroupRequest) -> Result<(), Failure> {
    let name = &request.name;
    let answer = context
        .call(&format!("create group {name}"), async |controller| {
            controller.resource_groups().create_resource_group(request.clone()).await
        })
        .await?;
    context.finish(answer.result, &format!("group {name} is made"), NothingMore {}).await
}

async fn list(context: &Context, listing: &Listing) -> Result<(), Failure> {
    let read = async || -> Result<(Vec<Group>, u64), Failure> {
        let request = v1::ListResourceGroupsRequest::default();
        let (groups, revision) =
            every_page!(context, "list groups", resource_groups.list_resource_groups, request, groups);
        Ok((groups.iter().map(Group::from).collect(), revision))
    };
    listing.show(context, "there are no groups; make one with `hawser group create`", read).await
}

async fn delete(context: &Context, name: String) -> Result<(), Failure> {
    let request = v1::DeleteResourceGroupRequest { request_key: request_key(), name: name.clone() };
    let answer = context
        .call(&format!("delete group {name}"), async |controller| {
            controller.resource_groups().delete_resource_group(request.clone()).await
        })
        .await?;
    context.finish(answer.result, &format!("group {name} is deleted"), NothingMore {}).await
}
