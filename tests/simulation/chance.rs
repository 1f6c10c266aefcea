//! Chance that depends on the seed and a name only, so that one part of a simulation does not shift another's.

use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

/// 32 bytes for a seed and what they are for.
pub(crate) fn seed_of(seed: u64, what: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    // FNV-1a: stable, and names differ enough.
    let hash = what.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    bytes[8..16].copy_from_slice(&hash.to_le_bytes());
    bytes
}

/// Dice for one part.
pub(crate) fn dice(seed: u64, what: &str) -> ChaCha20Rng {
    ChaCha20Rng::from_seed(seed_of(seed, what))
}

/// So many milliseconds.
pub(crate) fn millis(dice: &mut ChaCha20Rng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(dice.random_range(range))
}
