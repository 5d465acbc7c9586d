//! What was found that must never be.

use std::sync::{Arc, Mutex, PoisonError};

/// Violations of invariants, in the order in which they were found. Cheap to share.
#[derive(Clone, Default)]
pub struct Violations(Arc<Mutex<Vec<String>>>);

impl Violations {
    /// Notes one: which invariant, what it is about, what was found. The same one is noted once.
    ///
    /// Whether it is new.
    pub fn note(&self, violation: String) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = !all.contains(&violation);
        if new {
            all.push(violation);
        }
        new
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
