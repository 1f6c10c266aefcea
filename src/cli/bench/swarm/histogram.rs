//! Latencies by the million: counted in buckets, each at most a 32nd wide of what it holds.

use std::time::Duration;

/// Buckets of each power of two.
const SUB_BITS: u32 = 5;
const SUB: u64 = 1 << SUB_BITS;
/// Up to 2^40 ns, which is 18 minutes; what is longer counts as that.
const BUCKETS: usize = 37 << SUB_BITS;

#[derive(Clone, Debug)]
pub(in super::super) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    longest: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, longest: 0 }
    }
}

impl Histogram {
    pub(in super::super) fn record(&mut self, nanos: u64) {
        let bucket = index(nanos).min(BUCKETS - 1);
        self.counts[bucket] += 1;
        self.total += 1;
        self.longest = self.longest.max(nanos);
    }

    pub(in super::super) fn longest(&self) -> Duration {
        Duration::from_nanos(self.longest)
    }

    /// The upper end of the bucket that holds this share of what was recorded; nothing if nothing was.
    pub(in super::super) fn percentile(&self, percent: f64) -> Duration {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count between 0 and the total"
        )]
        let rank = (self.total as f64 * percent / 100.0).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank && seen > 0 {
                return Duration::from_nanos(upper(bucket).min(self.longest));
            }
        }
        Duration::ZERO
    }
}

fn index(nanos: u64) -> usize {
    let bits = u64::BITS - nanos.leading_zeros();
    let shift = bits.saturating_sub(SUB_BITS + 1);
    let bucket = u64::from(shift) * SUB + (nanos >> shift);
    usize::try_from(bucket).unwrap_or(usize::MAX)
}

/// The largest value of a bucket.
fn upper(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let shift = (bucket / SUB).saturating_sub(1);
    let steps = bucket - shift * SUB;
    ((steps + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_what_it_says() {
        for nanos in (0..200).chain([999, 1_000_000, 123_456_789, 1 << 39]) {
            let upper = upper(index(nanos));
            assert!(upper >= nanos, "{nanos} is above its bucket, which ends at {upper}");
            assert!(upper - nanos <= nanos / 32, "{nanos} is in a bucket that ends at {upper}");
            assert_eq!(index(upper), index(nanos));
            assert_eq!(index(upper + 1), index(nanos) + 1);
        }
    }

    #[test]
    fn percentiles_are_near_what_was_recorded() {
        let mut histogram = Histogram::default();
        (1..=1000).rev().for_each(|micros| histogram.record(micros * 1000));
        let p50 = histogram.percentile(50.0).as_nanos();
        assert!((500_000..516_000).contains(&p50), "{p50}");
        let p99 = histogram.percentile(99.0).as_nanos();
        assert!((990_000..=1_000_000).contains(&p99), "{p99}");
        assert_eq!(histogram.longest(), Duration::from_millis(1));
    }

    #[test]
    fn nothing_recorded_is_no_latency() {
        assert_eq!(Histogram::default().percentile(99.0), Duration::ZERO);
    }
}
