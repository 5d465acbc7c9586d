//! What has to be chosen by chance: secrets, DRBD's first generation, a new store's incarnation. One seeded
//! generator, so that a simulation replays exactly.

use std::sync::{Arc, Mutex, PoisonError};

use rand::{Rng, SeedableRng, distr::Alphanumeric, rngs::StdRng};

/// Characters of a shared secret; DRBD takes at most 64.
const SECRET_LENGTH: usize = 32;
/// Bit 0 of a DRBD generation identifier says "Primary"; the smallest numbers have meanings of their own.
const GENERATION_MASK: u64 = !1;
const SMALLEST_GENERATION: u64 = 1 << 16;

/// The generator. Clones share it.
#[derive(Clone)]
pub struct Random(Arc<Mutex<StdRng>>);

impl Random {
    /// Seeded by the system. For programs.
    #[must_use]
    pub fn from_system() -> Self {
        Self(Arc::new(Mutex::new(StdRng::from_os_rng())))
    }

    /// Seeded by a number. For simulations and tests: its secrets are none.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    /// A number other than 0 that a new store is known by.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).random_range(1..=u64::MAX)
    }

    /// A seed for another generator.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).random()
    }

    /// A shared secret and a first generation for a new resource.
    #[must_use]
    pub fn secrets(&self) -> (String, u64) {
        let mut generator = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let secret =
            (&mut *generator).sample_iter(Alphanumeric).take(SECRET_LENGTH).map(char::from).collect();
        let generation = loop {
            let drawn = generator.random::<u64>() & GENERATION_MASK;
            if drawn >= SMALLEST_GENERATION {
                break drawn;
            }
        };
        (secret, generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_replays_and_secrets_are_well_formed() {
        let (first, again, other) = (Random::seeded(7), Random::seeded(7), Random::seeded(8));
        let (secret, generation) = first.secrets();
        assert_eq!((secret.clone(), generation), again.secrets());
        assert_ne!(secret, other.secrets().0);
        assert_ne!((secret.clone(), generation), first.secrets());
        assert!(hawser_proto::names::shared_secret("shared_secret", &secret).is_ok());
        assert!(generation >= SMALLEST_GENERATION && generation % 2 == 0);
    }
}
