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
    if state.node(&command.node).is_none() {
        return Err(Denial::not_found(
            "node",
            format!("node {} does not exist", names::shown(&command.node)),
        ));
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
    let Some(pool) = known.filter(|pool| pool.incarnation == command.incarnation).cloned() else {
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
