//! Counts the faults that came about, so that a run in which one never did is not taken for a proof.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::faults::FaultKind;

/// How often each fault came about. Cheap to share.
#[derive(Clone, Default)]
pub struct Fired(Arc<Mutex<BTreeMap<FaultKind, u64>>>);

impl Fired {
    /// Counts one.
    pub fn note(&self, fault: FaultKind) {
        *self.counts().entry(fault).or_default() += 1;
    }

    /// The counts so far.
    #[must_use]
    pub fn counted(&self) -> BTreeMap<FaultKind, u64> {
        self.counts().clone()
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<FaultKind, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
