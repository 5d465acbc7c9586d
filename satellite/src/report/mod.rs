//! What goes up: the board that workers write on, and what of it a session has not been told yet.
//!
//! A report is a fact about the past, never a promise. It must never be held back for a slow reader: later
//! facts replace earlier ones that were not sent.

mod changes;
pub mod replica;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hawser_proto::{ids::DocumentVersion, v1};
use tokio::sync::watch;

pub use changes::Changes;

use crate::ledger::ReplicaKey;

/// Everything that there is to report now.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// Replicas and removals, by key.
    pub replicas: BTreeMap<ReplicaKey, v1::ReplicaObserved>,
    /// Removals that are done, with the document under which that was seen.
    pub removed: BTreeMap<ReplicaKey, DocumentVersion>,
    /// Pools, by name.
    pub pools: BTreeMap<String, v1::PoolObserved>,
    /// One-shot orders, by id.
    pub orders: BTreeMap<u64, v1::OrderObserved>,
    /// Minors and ports that something else holds.
    pub numbers: v1::NumbersObserved,
    /// What is there of replicas that only documents from before a restore name, by key.
    pub unknown: BTreeMap<ReplicaKey, v1::UnknownObserved>,
}

/// The board. Cheap to share.
#[derive(Clone, Default)]
pub struct Board {
    facts: Arc<Mutex<Facts>>,
    version: watch::Sender<u64>,
}

impl Board {
    /// Rises with each change.
    pub fn version(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Everything, now.
    pub fn facts(&self) -> Facts {
        self.lock().clone()
    }

    /// Puts a replica's report in the place of its last one.
    pub fn put_replica(&self, key: &ReplicaKey, observed: v1::ReplicaObserved) {
        self.change(|facts| facts.replicas.insert(key.clone(), observed.clone()) != Some(observed));
    }

    /// Notes that nothing of a removed replica is left, as seen under the document `version`.
    pub fn put_removed(&self, key: &ReplicaKey, version: DocumentVersion) {
        self.change(|facts| facts.removed.insert(key.clone(), version).is_none());
    }

    /// Whether the removal of `key` is done.
    pub fn is_removed(&self, key: &ReplicaKey) -> bool {
        self.lock().removed.contains_key(key)
    }

    /// Takes replicas off that the document does not have any more.
    pub fn keep_replicas(&self, wanted: &BTreeSet<ReplicaKey>) {
        self.change(|facts| {
            let before = facts.replicas.len() + facts.removed.len();
            facts.replicas.retain(|key, _| wanted.contains(key));
            facts.removed.retain(|key, _| wanted.contains(key));
            facts.replicas.len() + facts.removed.len() != before
        });
    }

    /// Replaces what is known of all pools.
    pub fn put_pools(&self, pools: BTreeMap<String, v1::PoolObserved>) {
        self.change(|facts| {
            let changed = facts.pools != pools;
            facts.pools = pools;
            changed
        });
    }

    /// Replaces what is known of all orders.
    pub fn put_orders(&self, orders: BTreeMap<u64, v1::OrderObserved>) {
        self.change(|facts| {
            let changed = facts.orders != orders;
            facts.orders = orders;
            changed
        });
    }

    /// Replaces what is known of minors and ports that something else holds.
    pub fn put_numbers(&self, numbers: v1::NumbersObserved) {
        self.change(|facts| {
            let changed = facts.numbers != numbers;
            facts.numbers = numbers;
            changed
        });
    }

    /// Replaces what is known of replicas that only documents from before a restore name.
    pub fn put_unknown(&self, unknown: BTreeMap<ReplicaKey, v1::UnknownObserved>) {
        self.change(|facts| {
            let changed = facts.unknown != unknown;
            facts.unknown = unknown;
            changed
        });
    }

    fn change(&self, change: impl FnOnce(&mut Facts) -> bool) {
        let changed = change(&mut self.lock());
        if changed {
            self.version.send_modify(|version| *version += 1);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
