//! Token buckets. Pure: they read no clock, the caller says what time it is.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{InsufficientCapacity, Quota, RateLimiter};
use tokio::time::Instant;

/// The time that the buckets of one connection go by: whatever it was last set to.
#[derive(Clone, Debug)]
pub(super) struct BucketTime {
    start: Instant,
    nanos: Arc<AtomicU64>,
}

impl BucketTime {
    /// Starts now.
    pub(super) fn starting_at(now: Instant) -> Self {
        Self { start: now, nanos: Arc::new(AtomicU64::new(0)) }
    }

    /// It is now so late.
    pub(super) fn set(&self, now: Instant) {
        let nanos = now.saturating_duration_since(self.start).as_nanos();
        let nanos = u64::try_from(nanos).expect("no connection lives for 584 years");
        self.nanos.store(nanos, Ordering::Relaxed);
    }
}

impl Clock for BucketTime {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.nanos.load(Ordering::Relaxed).into()
    }
}

/// How much a bucket holds and how fast it refills.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate(Quota);

impl Rate {
    /// This many at once, and this many more each second.
    pub(super) fn per_second(burst: NonZeroU32, per_second: NonZeroU32) -> Self {
        Self(Quota::per_second(per_second).allow_burst(burst))
    }

    /// This many at once, and this many more each minute.
    pub(super) fn per_minute(burst: NonZeroU32, per_minute: NonZeroU32) -> Self {
        Self(Quota::per_minute(per_minute).allow_burst(burst))
    }

    /// How long an empty bucket takes to be full.
    pub(super) fn refill(self) -> Duration {
        self.0.burst_size_replenished_in()
    }
}

/// A bucket of tokens. Starts full, so that whoever is new is served at once.
#[derive(Debug)]
pub(super) struct Bucket {
    limiter: RateLimiter<NotKeyed, InMemoryState, BucketTime, NoOpMiddleware<Nanos>>,
}

impl Bucket {
    /// A full bucket.
    pub(super) fn full(rate: Rate, time: &BucketTime) -> Self {
        Self { limiter: RateLimiter::direct_with_clock(rate.0, time.clone()) }
    }

    /// Takes one token, or says how long until there is one.
    pub(super) fn try_take(&mut self, now: Instant) -> Result<(), Duration> {
        let time = self.limiter.clock();
        time.set(now);
        self.limiter.check().map_err(|until| until.wait_time_from(time.now()))
    }

    /// Takes this many tokens, or as many as a full bucket holds if those are fewer: says how many. Else how long
    /// until there are as many.
    pub(super) fn try_take_most(
        &mut self,
        wanted: NonZeroU32,
        now: Instant,
    ) -> Result<NonZeroU32, Duration> {
        let time = self.limiter.clock();
        time.set(now);
        let (wanted, taken) = match self.limiter.check_n(wanted) {
            Ok(taken) => (wanted, taken),
            Err(InsufficientCapacity(holds)) => {
                let holds = NonZeroU32::new(holds).unwrap_or(NonZeroU32::MIN);
                let taken = self.limiter.check_n(holds);
                (holds, taken.unwrap_or(Ok(())))
            }
        };
        taken.map(|()| wanted).map_err(|until| until.wait_time_from(time.now()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(burst: u32, per_second: u32) -> Rate {
        Rate::per_second(NonZeroU32::new(burst).unwrap(), NonZeroU32::new(per_second).unwrap())
    }

    #[test]
    fn an_empty_bucket_says_when_to_come_again() {
        let start = Instant::now();
        let mut bucket = Bucket::full(rate(2, 10), &BucketTime::starting_at(start));
        assert_eq!(bucket.try_take(start), Ok(()));
        assert_eq!(bucket.try_take(start), Ok(()));
        let wait = bucket.try_take(start).unwrap_err();
        assert_eq!(wait, Duration::from_millis(100));
        assert_eq!(bucket.try_take(start + wait), Ok(()));
    }

    #[test]
    fn whoever_wants_more_than_a_bucket_holds_gets_all_that_a_full_one_has() {
        let start = Instant::now();
        let number = |number| NonZeroU32::new(number).unwrap();
        let mut bucket = Bucket::full(rate(100, 100), &BucketTime::starting_at(start));
        assert_eq!(bucket.try_take_most(number(40), start), Ok(number(40)));
        let wait = bucket.try_take_most(number(1000), start).unwrap_err();
        assert_eq!(wait, Duration::from_millis(400));
        assert_eq!(bucket.try_take_most(number(60), start), Ok(number(60)));
        let full = start + Duration::from_secs(1);
        assert_eq!(bucket.try_take_most(number(1000), full), Ok(number(100)));
        assert!(bucket.try_take(full).is_err());
    }

    proptest! {
        /// A bucket never admits more than burst + rate × time.
        #[test]
        fn a_bucket_never_admits_more_than_it_says(
            burst in 1u32..50,
            per_second in 1u32..200,
            steps in proptest::collection::vec(0u64..200, 1..200),
        ) {
            let start = Instant::now();
            let mut now = start;
            let mut bucket = Bucket::full(rate(burst, per_second), &BucketTime::starting_at(start));
            let mut admitted = 0u64;
            for step in steps {
                now += Duration::from_millis(step);
                if bucket.try_take(now).is_ok() {
                    admitted += 1;
                }
                let elapsed = (now - start).as_secs_f64();
                let most = f64::from(burst) + f64::from(per_second) * elapsed;
                prop_assert!(admitted as f64 <= most + 1e-6, "{admitted} > {most}");
            }
        }
    }
}
