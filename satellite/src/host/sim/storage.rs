//! Volumes of a simulated node, and what they are cut from.
//!
//! It must never make two new volumes of a volume group alike on two nodes: nothing promises that.

use std::collections::BTreeMap;

use hawser_plan::{
    observed::{DiskState, PoolFound},
    step::{BackingVolume, Provider},
};

use super::state::{Node, Volume, VolumeKey, key_of};
use crate::host::{
    CommandError, HostError,
    lvm::{there_is_no_group, thin::there_is_no_thin_pool},
    storage::not_to_be_removed,
};

/// LVM rounds sizes up to this.
const EXTENT: u64 = 4 << 20;

/// How a pool of a node stands.
pub(super) fn pool(node: Option<&Node>, provider: &Provider) -> Result<PoolFound, HostError> {
    let full = node.is_some_and(|node| node.full);
    let found = |capacity_bytes, free_bytes| PoolFound {
        capacity_bytes,
        free_bytes: if full { 0 } else { free_bytes },
        metadata_used_permyriad: 0,
    };
    match provider {
        Provider::LvmThin { volume_group, thin_pool } => {
            let key = (volume_group.clone(), thin_pool.clone());
            let capacity = node.and_then(|node| node.pools.get(&key)).copied();
            capacity
                .map(|capacity| found(capacity, capacity))
                .ok_or_else(|| there_is_no_thin_pool(volume_group, thin_pool))
        }
        Provider::Lvm { .. } | Provider::Directory { .. } => {
            let group = provider.contention_domain();
            let there = node.and_then(|node| Some((node, node.groups.get(group)?.capacity_bytes)));
            let (node, bytes) = there.ok_or_else(|| there_is_no_group(group))?;
            // What others have taken is not the pool's.
            let others = taken(node, group, |volume| volume.mark.is_none());
            Ok(found(bytes - others, bytes - taken(node, group, |_| true)))
        }
        Provider::Zfs { .. } => Err(unsupported()),
    }
}

/// Makes sure that a volume is there, active, and carries its mark.
pub(super) fn ensure(node: &mut Node, volume: &BackingVolume) -> Result<(), HostError> {
    let key = key(volume);
    let object = || format!("logical volume {}/{}", key.0, key.1);
    match node.volumes.get_mut(&key) {
        Some(found) if found.mark.as_ref() != Some(&volume.mark) => {
            return Err(HostError::refused(object(), "the name is taken"));
        }
        Some(found) if found.size_bytes < volume.size_bytes => {
            return Err(HostError::refused(object(), format!("has {} bytes", found.size_bytes)));
        }
        Some(found) => {
            found.active = true;
            return Ok(());
        }
        None => {}
    }
    let size_bytes = volume.size_bytes.next_multiple_of(EXTENT);
    let blocks = check_room(node, &volume.provider, size_bytes)?;
    let mark = Some(volume.mark.clone());
    node.volumes.insert(key, Volume { size_bytes, mark, active: true, blocks, metadata: None });
    Ok(())
}

/// What a new volume holds, if there is room for one.
fn check_room(node: &Node, provider: &Provider, size_bytes: u64) -> Result<BTreeMap<u64, u64>, HostError> {
    match provider {
        Provider::LvmThin { volume_group, thin_pool } => {
            let command = format!("lvcreate --thinpool {volume_group}/{thin_pool}");
            if !node.pools.contains_key(&(volume_group.clone(), thin_pool.clone())) {
                let message = format!("Pool {thin_pool} not found in Volume group {volume_group}.");
                return Err(failed(command, message));
            }
            if node.full {
                let pool = format!("{volume_group}/{thin_pool}");
                return Err(failed(
                    command,
                    format!(
                        "Cannot create new thin volume, free space in thin pool {pool} reached threshold."
                    ),
                ));
            }
            Ok(BTreeMap::new())
        }
        Provider::Lvm { .. } | Provider::Directory { .. } => {
            let name = provider.contention_domain();
            let Some(group) = node.groups.get(name) else { return Err(there_is_no_group(name)) };
            let free = group.capacity_bytes - taken(node, name, |_| true);
            if !node.full && free >= size_bytes {
                return Ok(group.remnants.clone());
            }
            Err(match provider {
                Provider::Directory { path } => HostError::File {
                    path: path.clone(),
                    reason: "No space left on device (os error 28)".to_owned(),
                },
                _ => {
                    let (free, needed) = (if node.full { 0 } else { free / EXTENT }, size_bytes / EXTENT);
                    failed(
                        format!("lvcreate --type linear {name}"),
                        format!(
                            "Volume group \"{name}\" has insufficient free space ({free} extents): {needed} required."
                        ),
                    )
                }
            })
        }
        Provider::Zfs { .. } => Err(unsupported()),
    }
}

/// Makes sure that a volume is gone. What was on it stays on the disks of its volume group.
pub(super) fn remove(node: &mut Node, volume: &BackingVolume) -> Result<(), HostError> {
    let key = key(volume);
    let Some(found) = node.volumes.get(&key) else { return Ok(()) };
    if found.mark.as_ref() != Some(&volume.mark) {
        return Err(not_to_be_removed(format!("logical volume {}/{}", key.0, key.1)));
    }
    let in_use = node.resources.values().any(|resource| {
        resource.disk > DiskState::Failed && key_of(&resource.configuration).as_ref() == Some(&key)
    });
    if in_use {
        return Err(failed(
            format!("lvremove {}/{}", key.0, key.1),
            format!("Logical volume {}/{} is used by another device.", key.0, key.1),
        ));
    }
    let removed = node.volumes.remove(&key);
    if let (Provider::Lvm { volume_group }, Some(removed)) = (&volume.provider, removed)
        && let Some(group) = node.groups.get_mut(volume_group)
    {
        group.remnants.extend(removed.blocks.into_iter().map(|(block, left)| (block, left | super::REMNANT)));
    }
    Ok(())
}

/// Refuses where replicas that are made together would not be equal.
pub(super) fn check_new_volumes_read_zero(provider: &Provider) -> Result<(), HostError> {
    match provider {
        Provider::Lvm { volume_group } => Err(HostError::refused(
            format!("volume group {volume_group}"),
            "new volumes hold what the disks held before",
        )),
        Provider::LvmThin { .. } | Provider::Zfs { .. } | Provider::Directory { .. } => Ok(()),
    }
}

/// Bytes of a group that its volumes of one sort have taken.
fn taken(node: &Node, volume_group: &str, of_the_sort: impl Fn(&Volume) -> bool) -> u64 {
    let of_group = node.volumes.iter().filter(|((group, _), _)| group == volume_group);
    of_group
        .map(|(_, volume)| volume)
        .filter(|volume| of_the_sort(volume))
        .map(|volume| volume.size_bytes)
        .sum()
}

fn key(volume: &BackingVolume) -> VolumeKey {
    (volume.provider.contention_domain().to_owned(), volume.name.clone())
}

fn failed(command: String, message: String) -> HostError {
    CommandError::Failed { command, code: Some(5), message }.into()
}

pub(super) fn unsupported() -> HostError {
    HostError::Unsupported { what: "this storage".to_owned(), reason: "it is not simulated".to_owned() }
}
