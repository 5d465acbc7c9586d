//! Request keys, drawn from one seeded generator.
//!
//! A key names one question for ever; it must never be drawn twice for one question, nor be used for two.

use std::sync::{Arc, Mutex, PoisonError};

use rand::{Rng, SeedableRng, rngs::StdRng};
use uuid::Builder;

/// Draws request keys. Cheap to share.
#[derive(Clone)]
pub struct Keys {
    random: Arc<Mutex<StdRng>>,
}

impl Keys {
    /// The keys that follow from `seed`.
    pub fn new(seed: u64) -> Self {
        Self { random: Arc::new(Mutex::new(StdRng::seed_from_u64(seed))) }
    }

    /// A new key.
    pub fn draw(&self) -> String {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        Builder::from_random_bytes(random.random()).into_uuid().to_string()
    }

    /// A new seed, for a generator of its own.
    pub fn seed(&self) -> u64 {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).random()
    }
}
