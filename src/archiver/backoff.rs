//! How long to wait before the next try. Pure: the caller does the waiting.

use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// Waits that double from one failure to the next, each shortened by up to half at random, so that
/// archivers that failed together do not come back together.
#[derive(Debug)]
pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
    jitter: ChaCha8Rng,
}

impl Backoff {
    pub(super) fn new(min: Duration, max: Duration, seed: u64) -> Self {
        Self { min, max, failures: 0, jitter: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// How long to wait after one more failure.
    pub(super) fn next(&mut self) -> Duration {
        // 2^20 times the least wait is beyond any limit somebody would set.
        let doubled = self.min.saturating_mul(1 << self.failures.min(20));
        self.failures = self.failures.saturating_add(1);
        doubled.min(self.max).mul_f64(self.jitter.random_range(0.5..=1.0))
    }

    /// Something succeeded.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit_and_start_over() {
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(2));
        let mut waits = Backoff::new(min, max, 7);
        for expected in [100, 200, 400, 800, 1600, 2000, 2000] {
            let wait = waits.next();
            let expected = Duration::from_millis(expected);
            assert!(expected / 2 <= wait && wait <= expected, "{wait:?}");
        }
        waits.reset();
        assert!(waits.next() <= min);
    }
}
