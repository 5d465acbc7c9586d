//! The ledger of promised capacity: what a pool may promise and what it has promised.
//!
//! The command that places a replica reserves its room, so two creates never promise the same
//! gibibyte. Whatever is free on the node right now is no business of this file.

use hawser_proto::{
    sizes,
    v1::{Replica, ReplicaLifecycle, StoragePool, storage_pool::Provider},
};

/// How much of a pool may be promised, in percent of its capacity: as it was set, else thin pools 2000
/// and others 100.
pub fn overcommit_percent(pool: &StoragePool) -> u32 {
    match (pool.overcommit_percent, &pool.provider) {
        (0, Some(Provider::LvmThin(_))) => 2000,
        (0, _) => 100,
        (percent, _) => percent,
    }
}

/// Bytes that a pool may promise in all.
pub fn promisable_bytes(pool: &StoragePool) -> u64 {
    let bytes = u128::from(pool.capacity_bytes) * u128::from(overcommit_percent(pool)) / 100;
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Bytes that the pool has to provide for a replica until its removal is confirmed.
pub(crate) fn promised_to(replica: &Replica) -> u64 {
    if replica.lifecycle() == ReplicaLifecycle::Removed {
        return 0;
    }
    replica.backing_volumes.iter().map(|volume| volume.size_bytes).sum()
}

/// The pool with `bytes` more promised.
///
/// # Errors
/// In words, if it may not promise that much.
pub(crate) fn reserve(pool: &StoragePool, bytes: u64) -> Result<StoragePool, String> {
    let promised =
        pool.promised_bytes.checked_add(bytes).filter(|promised| *promised <= promisable_bytes(pool));
    match promised {
        Some(promised_bytes) => Ok(StoragePool { promised_bytes, ..pool.clone() }),
        None => Err(format!(
            "pool {} on node {} may promise {} in all, has promised {} and cannot promise {} more",
            pool.name,
            pool.node,
            sizes::format(promisable_bytes(pool)),
            sizes::format(pool.promised_bytes),
            sizes::format(bytes),
        )),
    }
}

/// The pool with `bytes` fewer promised.
pub(crate) fn release(pool: &StoragePool, bytes: u64) -> StoragePool {
    StoragePool { promised_bytes: pool.promised_bytes.saturating_sub(bytes), ..pool.clone() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use hawser_proto::v1::{LvmProvider, LvmThinProvider};

    use super::*;

    fn pool(provider: Provider, overcommit_percent: u32) -> StoragePool {
        StoragePool {
            capacity_bytes: 1000,
            overcommit_percent,
            provider: Some(provider),
            ..StoragePool::default()
        }
    }

    #[test]
    fn the_provider_says_how_much_may_be_promised_unless_it_was_set() {
        let thin = || Provider::LvmThin(LvmThinProvider::default());
        let thick = || Provider::Lvm(LvmProvider::default());
        for (pool, promisable) in [
            (pool(thin(), 0), 20_000),
            (pool(thick(), 0), 1000),
            (pool(thin(), 150), 1500),
            (pool(thick(), 50), 500),
        ] {
            assert_eq!(promisable_bytes(&pool), promisable);
        }
    }

    #[test]
    fn nothing_is_promised_beyond_the_limit() {
        let pool = pool(Provider::Lvm(LvmProvider::default()), 0);
        let full = reserve(&pool, 1000).unwrap();
        assert_eq!(full.promised_bytes, 1000);
        assert!(reserve(&full, 1).unwrap_err().contains("cannot promise 1 B more"));
        assert!(reserve(&full, u64::MAX).is_err());
        assert_eq!(reserve(&release(&full, 400), 400).unwrap().promised_bytes, 1000);
    }

    #[test]
    fn a_capacity_beyond_counting_is_no_panic() {
        let pool =
            StoragePool { capacity_bytes: u64::MAX, overcommit_percent: u32::MAX, ..StoragePool::default() };
        assert_eq!(promisable_bytes(&pool), u64::MAX);
    }
}
