//! Where randomness comes from: the operating system, or a simulation's seed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::domain::{TableId, Timestamp, TurnContext};

/// A cryptographic generator that every part of a role shares.
#[derive(Clone, Debug)]
pub struct Entropy(Arc<Mutex<ChaCha20Rng>>);

impl Entropy {
    /// Seeded by the operating system.
    pub fn from_os() -> Self {
        let mut seed = [0; 32];
        rand::fill(&mut seed);
        Self::from_seed(seed)
    }

    /// For simulations.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(Arc::new(Mutex::new(ChaCha20Rng::from_seed(seed))))
    }

    /// Fresh random bytes.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        // A panic elsewhere leaves the generator usable: it has no half-written state.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(&mut bytes);
        bytes
    }

    /// A new table's id.
    pub fn table_id(&self, now: Timestamp) -> TableId {
        TableId::new(now, self.bytes())
    }

    /// The outside facts of one decision.
    pub fn turn(&self, now: Timestamp) -> TurnContext {
        TurnContext { now, seed: self.bytes() }
    }

    /// A wait somewhere between two, so that many waiters do not wake at once.
    pub fn between(&self, shortest: Duration, longest: Duration) -> Duration {
        let share = f64::from(u32::from_le_bytes(self.bytes())) / f64::from(u32::MAX);
        shortest + longest.saturating_sub(shortest).mul_f64(share)
    }
}
