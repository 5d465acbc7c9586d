//! `hawser pool`: the storage pools.

use clap::{Args, Subcommand};
use hawser_client::request_key;
use hawser_proto::v1;

use super::NothingMore;
use crate::{
    context::{Context, every_page},
    failure::Failure,
    listing::Listing,
    view::pool::Pool,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Register a pool that is there already; Hawser makes none
    #[command(after_help = "\
Examples:
  hawser pool create n1 ssd --lvm-thin vg0/thin
  hawser pool create n1 ssd --lvm-thin vg0/thin --overcommit 300
  hawser pool create n1 raw --lvm vg1
  hawser pool create n1 files --directory /srv/hawser

Pools of one name on several nodes are one pool to the placement.
Replicas in thin pools and directories are equal from the start. Volumes that are cut from a volume group take their whole size at once
and hold what the disks held before: the first replica is ready at once, the others sync from it.")]
    Create {
        /// Node that it is on
        node: String,
        /// Name of the pool
        name: String,
        #[command(flatten)]
        storage: Storage,
        /// How much of it may be promised, in percent of its capacity; else as usual for its kind
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..), value_name = "PERCENT")]
        overcommit: Option<u32>,
    },
    /// List the pools
    #[command(
        after_help = "Examples:\n  hawser pool list\n  hawser pool list --node n1\n  hawser pool list --sort free"
    )]
    List {
        /// Only those of this node
        #[arg(long)]
        node: Option<String>,
        #[command(flatten)]
        listing: Listing,
    },
    /// Forget a pool without replicas; the storage itself stays
    #[command(after_help = "Example:\n  hawser pool delete n1 ssd")]
    Delete {
        /// Node that it is on
        node: String,
        /// Name of the pool
        name: String,
    },
}

/// What a pool is: one of these.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Storage {
    /// LVM thin pool, as volume group and logical volume
    #[arg(long, value_name = "VG/THINPOOL", value_parser = thin_pool)]
    lvm_thin: Option<v1::LvmThinProvider>,
    /// LVM volume group that volumes are cut from
    #[arg(long, value_name = "VG")]
    lvm: Option<String>,
    /// Directory that volumes are files in; of a file system that is mounted before hawser-satellite starts
    #[arg(long, value_name = "PATH")]
    directory: Option<String>,
}

impl Storage {
    fn provider(self) -> Option<v1::create_pool_request::Provider> {
        use v1::create_pool_request::Provider;
        let lvm = self.lvm.map(|volume_group| Provider::Lvm(v1::LvmProvider { volume_group }));
        let directory = self.directory.map(|path| Provider::Directory(v1::DirectoryProvider { path }));
        self.lvm_thin.map(Provider::LvmThin).or(lvm).or(directory)
    }
}

impl Verb {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Create { node, name, storage, overcommit } => {
                let request = v1::CreatePoolRequest {
                    request_key: request_key(),
                    node: node.clone(),
                    name: name.clone(),
                    overcommit_percent: overcommit.unwrap_or_default(),
                    provider: storage.provider(),
                };
                let answer = context
                    .call(&format!("create pool {name} on node {node}"), async |controller| {
                        controller.pools().create_pool(request.clone()).await
                    })
                    .await?;
                let done = format!("pool {name} on node {node} is registered");
                context.finish(answer.result, &done, NothingMore {}).await
            }
            Self::List { node, listing } => list(context, &listing, node.unwrap_or_default()).await,
            Self::Delete { node, name } => {
                let request = v1::DeletePoolRequest {
                    request_key: request_key(),
                    node: node.clone(),
                    name: name.clone(),
                };
                let answer = context
                    .call(&format!("delete pool {name} on node {node}"), async |controller| {
                        controller.pools().delete_pool(request.clone()).await
                    })
                    .await?;
                let done = format!("pool {name} on node {node} is forgotten; its storage stays");
                context.finish(answer.result, &done, NothingMore {}).await
            }
        }
    }
}

async fn list(context: &Context, listing: &Listing, node: String) -> Result<(), Failure> {
    let request = v1::ListPoolsRequest { node, ..Default::default() };
    let read = async || -> Result<(Vec<Pool>, u64), Failure> {
        let (pools, revision) = every_page!(context, "list pools", pools.list_pools, request.clone(), pools);
        Ok((pools.iter().map(Pool::from).collect(), revision))
    };
    listing.show(context, "there are no pools; register one with `hawser pool create`", read).await
}

fn thin_pool(text: &str) -> Result<v1::LvmThinProvider, String> {
    match text.split('/').collect::<Vec<_>>().as_slice() {
        [group, pool] if !group.is_empty() && !pool.is_empty() => {
            Ok(v1::LvmThinProvider { volume_group: (*group).to_owned(), thin_pool: (*pool).to_owned() })
        }
        _ => Err("write volume group and thin pool with a slash between, like vg0/thin".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use hawser_hostile::{check, texts};

    use super::*;

    #[test]
    fn a_thin_pool_is_a_volume_group_and_a_volume() {
        let expected = v1::LvmThinProvider { volume_group: "vg0".into(), thin_pool: "thin".into() };
        assert_eq!(thin_pool("vg0/thin"), Ok(expected));
        for text in ["", "vg0", "vg0/", "/thin", "/dev/vg0/thin"] {
            assert!(thin_pool(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn hostile_thin_pools() {
        check(&texts(&["vg0/thin"], &["/", "//"]), |text| {
            if let Ok(pool) = thin_pool(&text) {
                assert_eq!(format!("{}/{}", pool.volume_group, pool.thin_pool), text);
            }
        });
    }
}
