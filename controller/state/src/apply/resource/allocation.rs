//! What a new resource or replica gets: minors, ports, names and room.
//!
//! Everything comes from ordered free lists, so that every controller gives the same. What the proposer says is
//! held by something else on a node is passed over, and so is what nodes hold that a restored state does not know. It must
//! never give what another resource has.

use hawser_proto::{
    names,
    v1::{
        BackingVolume, DrbdGeneration, Layer, NumberRange, Replica, ReplicaKind, ReplicaLifecycle,
        StoragePool, Volume, storage_pool::Provider,
    },
};

use super::Place;
use crate::{
    apply::node::{DEFAULT_ADDRESS, REPLICATION_ADDRESS},
    capacity,
    drbd_sizes::backing_size,
    placement::maximum_peers,
    transaction::Transaction,
    verdict::{Denial, Verdict},
};

/// What all replicas of a resource have in common.
#[derive(Clone, Copy)]
pub(in crate::apply) struct Made<'a> {
    pub(in crate::apply) resource: &'a str,
    pub(in crate::apply) layers: &'a [Layer],
    pub(in crate::apply) generation: DrbdGeneration,
    pub(in crate::apply) volumes: &'a [Volume],
}

/// The volumes, with minors outside of `avoided_minors`; without minors where that is `None`.
pub(super) fn volumes(
    transaction: &Transaction<'_>,
    sizes: &[u64],
    avoided_minors: Option<&[NumberRange]>,
) -> Verdict<Vec<Volume>> {
    let mut minors = transaction.state().index.minors.clone();
    let avoided_minors = avoided_minors.map(|held| [held, &transaction.state().unknown_minors()].concat());
    let mut volume = |(number, size_bytes): (u32, &u64)| {
        let minor = match &avoided_minors {
            Some(avoided) => minors.take_smallest(avoided).ok_or_else(no_minor)?,
            None => 0,
        };
        Ok(Volume { number, size_bytes: *size_bytes, minor })
    };
    (0..).zip(sizes).map(&mut volume).collect()
}

fn no_minor() -> Denial {
    Denial::no_capacity(
        "every DRBD minor of the cluster is taken, or held by something else on a node: delete resources, or wait \
         for deletions",
    )
}

/// The replica at this place, with the room that it takes reserved.
pub(in crate::apply) fn replica(
    transaction: &mut Transaction<'_>,
    made: Made<'_>,
    Place { node, pool, avoided_ports }: Place,
    node_id: u32,
) -> Verdict<Replica> {
    let Made { resource, layers, generation, volumes } = made;
    let incarnation = transaction.index;
    let backing = |volume: &Volume| {
        let name = format!("{resource}.{incarnation}-{}", volume.number);
        check_backing_name(&pool, &name)?;
        let size_bytes = backing_size(volume.size_bytes, layers, generation, maximum_peers(generation));
        Ok(BackingVolume { volume: volume.number, name, size_bytes })
    };
    let backing_volumes = volumes.iter().map(backing).collect::<Verdict<Vec<_>>>()?;
    let port = if layers.contains(&Layer::Drbd) {
        let avoided_ports = [avoided_ports, transaction.state().unknown_ports(&node.name)].concat();
        transaction.smallest_free_port(&node.name, &avoided_ports).ok_or_else(|| {
            Denial::no_capacity(format!(
                "every DRBD port of node {} is taken, or held by something else there: delete resources, or wait for \
                 deletions",
                node.name
            ))
        })?
    } else {
        0
    };
    let has_replication = node.addresses.iter().any(|address| address.name == REPLICATION_ADDRESS);
    let replica = Replica {
        incarnation,
        kind: ReplicaKind::Diskful.into(),
        lifecycle: ReplicaLifecycle::Creating.into(),
        pool: pool.name.clone(),
        node_id,
        port,
        backing_volumes,
        address: if has_replication { REPLICATION_ADDRESS } else { DEFAULT_ADDRESS }.to_owned(),
        node: node.name,
        ..Replica::default()
    };
    let reserved = capacity::reserve(&pool, capacity::promised_to(&replica)).map_err(Denial::no_capacity)?;
    transaction.put_pool(reserved);
    Ok(replica)
}

fn check_backing_name(pool: &StoragePool, name: &str) -> Verdict<()> {
    let volume_group = match &pool.provider {
        Some(Provider::LvmThin(provider)) => &provider.volume_group,
        Some(Provider::Lvm(provider)) => &provider.volume_group,
        Some(Provider::Zfs(_) | Provider::Directory(_)) | None => return Ok(()),
    };
    if names::fits_device_mapper(volume_group, name) {
        return Ok(());
    }
    Err(Denial::invalid(
        "name",
        format!(
            "the device of {name} in volume group {volume_group} would have too long a name: use a shorter one"
        ),
    ))
}
