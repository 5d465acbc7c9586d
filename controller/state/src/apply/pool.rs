//! Storage pools: registered where they are, forgotten when nothing lies in them.
//!
//! It must never touch what other files promise from them.

use hawser_proto::{
    names,
    v1::{
        CreatePool, DeletePool, RecordPoolCapacity, ReplicaLifecycle, StoragePool, create_pool,
        storage_pool::Provider,
    },
};

use crate::{
    transaction::Transaction,
    verdict::{Denial, Success, Verdict},
};

const MOST_OVERCOMMIT_PERCENT: u32 = 100_000;

pub(super) fn create(transaction: &mut Transaction<'_>, command: &CreatePool) -> Verdict {
    names::pool_name("name", &command.name)?;
    let state = transaction.state();
    let Some(node) = state.node(&command.node) else {
        return Err(Denial::not_found(
            "node",
            format!(
                "node {} does not exist; `hawser node list` shows what there is",
                names::shown(&command.node)
            ),
        ));
    };
    if node.is_lost() {
        return Err(Denial::precondition(format!("node {} was declared lost", node.name)));
    }
    if state.pool(&command.node, &command.name).is_some() {
        let message = format!("node {} has a pool {} already", command.node, command.name);
        return Err(Denial::already_exists("name", message));
    }
    let provider = checked_provider(command.provider.as_ref())?;
    if let Some(other) =
        state.pools_on(&command.node).find(|other| other.provider.as_ref() == Some(&provider))
    {
        let message = format!("pool {} on node {} is this storage already", other.name, other.node);
        return Err(Denial::already_exists("provider", message));
    }
    if command.overcommit_percent > MOST_OVERCOMMIT_PERCENT {
        let message = format!("at most {MOST_OVERCOMMIT_PERCENT} percent may be promised");
        return Err(Denial::invalid("overcommit_percent", message));
    }
    transaction.put_pool(StoragePool {
        node: command.node.clone(),
        name: command.name.clone(),
        incarnation: transaction.index,
        provider: Some(provider),
        overcommit_percent: command.overcommit_percent,
        ..StoragePool::default()
    });
    Ok(Success::DONE)
}

fn checked_provider(provider: Option<&create_pool::Provider>) -> Verdict<Provider> {
    Ok(match provider {
        Some(create_pool::Provider::LvmThin(provider)) => {
            names::volume_group("lvm_thin.volume_group", &provider.volume_group)?;
            names::logical_volume("lvm_thin.thin_pool", &provider.thin_pool)?;
            Provider::LvmThin(provider.clone())
        }
        Some(create_pool::Provider::Lvm(provider)) => {
            names::volume_group("lvm.volume_group", &provider.volume_group)?;
            Provider::Lvm(provider.clone())
        }
        Some(create_pool::Provider::Zfs(provider)) => {
            names::dataset("zfs.dataset", &provider.dataset)?;
            Provider::Zfs(provider.clone())
        }
        Some(create_pool::Provider::Directory(provider)) => {
            names::directory("directory.path", &provider.path)?;
            Provider::Directory(provider.clone())
        }
        None => {
            return Err(Denial::invalid(
                "provider",
                "a pool has one provider: lvm_thin, lvm, zfs or directory",
            ));
        }
    })
}

pub(super) fn delete(transaction: &mut Transaction<'_>, command: &DeletePool) -> Verdict {
    let state = transaction.state();
    if state.pool(&command.node, &command.name).is_none() {
        return Err(no_such_pool(&command.node, &command.name));
    }
    let user = state.resources_on(&command.node).find(|resource| {
        resource.replicas.iter().any(|replica| {
            replica.node == command.node
                && replica.pool == command.name
                && replica.lifecycle() != ReplicaLifecycle::Removed
        })
    });
    if let Some(resource) = user {
        return Err(Denial::in_use(format!(
            "resource {} lies in pool {} on node {}: delete the resource and wait until it is gone",
            resource.name, command.name, command.node
        )));
    }
    transaction.remove_pool(&command.node, &command.name);
    Ok(Success::DONE)
}

pub(super) fn record_capacity(transaction: &mut Transaction<'_>, command: &RecordPoolCapacity) -> Verdict {
    let known = transaction.state().pool(&command.node, &command.name);
    let Some(pool) = known.filter(|pool| pool.incarnation() == command.incarnation()).cloned() else {
        return Err(no_such_pool(&command.node, &command.name));
    };
    if pool.capacity_bytes != command.capacity_bytes {
        transaction.put_pool(StoragePool { capacity_bytes: command.capacity_bytes, ..pool });
    }
    Ok(Success::DONE)
}

fn no_such_pool(node: &str, name: &str) -> Denial {
    Denial::not_found("name", format!("node {} has no such pool {}", names::shown(node), names::shown(name)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use hawser_proto::v1::{
        DirectoryProvider, LvmProvider, LvmThinProvider, RejectionReason, ZfsProvider,
        command::Command as Kind,
    };

    use super::*;
    use crate::fixture::{Cluster, POOL, create_pool as create_thin};

    fn create(name: &str, provider: create_pool::Provider) -> CreatePool {
        CreatePool { node: "n1".into(), name: name.into(), provider: Some(provider), overcommit_percent: 0 }
    }

    #[test]
    fn bad_pools_are_refused_with_the_field() {
        use create_pool::Provider as P;
        let thin = |volume_group: &str, thin_pool: &str| {
            P::LvmThin(LvmThinProvider { volume_group: volume_group.into(), thin_pool: thin_pool.into() })
        };
        let cases = [
            (create("P", thin("vg", "p")), RejectionReason::Invalid, "name"),
            (create(POOL, thin("vg", "p")), RejectionReason::AlreadyExists, "name"),
            (create("p", thin("vg/x", "p")), RejectionReason::Invalid, "lvm_thin.volume_group"),
            (create("p", thin("vg", "p_tdata")), RejectionReason::Invalid, "lvm_thin.thin_pool"),
            (create("p", thin("vg0", POOL)), RejectionReason::AlreadyExists, "provider"),
            (
                create("p", P::Lvm(LvmProvider { volume_group: "-v".into() })),
                RejectionReason::Invalid,
                "lvm.volume_group",
            ),
            (
                create("p", P::Zfs(ZfsProvider { dataset: "/t".into() })),
                RejectionReason::Invalid,
                "zfs.dataset",
            ),
            (
                create("p", P::Directory(DirectoryProvider { path: "x".into() })),
                RejectionReason::Invalid,
                "directory.path",
            ),
            (
                CreatePool { provider: None, ..create("p", thin("v", "p")) },
                RejectionReason::Invalid,
                "provider",
            ),
            (
                CreatePool { node: "n9".into(), ..create("p", thin("v", "p")) },
                RejectionReason::NotFound,
                "node",
            ),
            (
                CreatePool { overcommit_percent: u32::MAX, ..create("p", thin("v", "p")) },
                RejectionReason::Invalid,
                "overcommit_percent",
            ),
        ];
        for (command, reason, field) in cases {
            let rejected = Cluster::with_nodes(1).rejected(Kind::CreatePool(command.clone()));
            assert_eq!((rejected.reason(), rejected.field.as_str()), (reason, field), "{command:?}");
        }
    }

    #[test]
    fn a_pool_is_forgotten_only_when_nothing_lies_in_it() {
        let delete = |name: &str| Kind::DeletePool(DeletePool { node: "n1".into(), name: name.into() });
        let mut cluster = Cluster::with_resource();
        assert_eq!(cluster.reason(delete("other")), RejectionReason::NotFound);
        assert_eq!(cluster.reason(delete(POOL)), RejectionReason::InUse);

        let mut cluster = Cluster::with_nodes(1);
        cluster.applied(create_thin("n1", "second"));
        assert_eq!(cluster.state.document("n1").unwrap().pools.len(), 2);
        cluster.applied(delete("second"));
        assert_eq!(cluster.state.document("n1").unwrap().pools.len(), 1);
    }

    #[test]
    fn a_capacity_belongs_to_one_incarnation_and_is_no_order() {
        let mut cluster = Cluster::with_nodes(1);
        let incarnation = cluster.state.pool("n1", POOL).unwrap().incarnation;
        let revision = cluster.state.document("n1").unwrap().revision;
        let record = |incarnation, capacity_bytes| {
            Kind::RecordPoolCapacity(RecordPoolCapacity {
                node: "n1".into(),
                name: POOL.into(),
                incarnation,
                capacity_bytes,
            })
        };
        assert_eq!(cluster.reason(record(incarnation + 1, 5)), RejectionReason::NotFound);
        cluster.applied(record(incarnation, 5));
        assert_eq!(cluster.state.pool("n1", POOL).unwrap().capacity_bytes, 5);
        assert_eq!(cluster.state.document("n1").unwrap().revision, revision);
    }
}
