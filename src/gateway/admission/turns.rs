//! Who may come when. Pure: the caller says what time it is, in nanoseconds since a moment of its choice.
//!
//! A bucket that goes into debt, unlike those of [`throttle`](super::super::throttle): whoever is refused is promised a
//! place, so that it is not refused again when it comes at the time it was told.

use std::collections::VecDeque;
use std::num::NonZeroU32;

/// How long a place is kept for whoever does not come.
const KEPT: u64 = 10_000_000_000;

/// How many may come at once, and how many more each second.
#[derive(Clone, Copy, Debug)]
pub(in crate::gateway) struct Pace {
    /// Between two.
    interval: u64,
    /// How far ahead of their time some may come.
    burst: u64,
}

impl Pace {
    /// This many at once, and this many more each second.
    pub(in crate::gateway) fn new(burst: NonZeroU32, per_second: NonZeroU32) -> Self {
        let interval = 1_000_000_000 / u64::from(per_second.get());
        Self { interval, burst: interval * u64::from(burst.get()) }
    }
}

/// A bucket. Starts full.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Turns {
    /// When it is full again.
    full_at: u64,
}

impl Turns {
    /// From when on the next may come; `now` or before if it may come at once.
    pub(super) fn next(&self, pace: Pace, now: u64) -> u64 {
        (self.full_at.max(now) + pace.interval).saturating_sub(pace.burst)
    }

    /// One comes, or is promised to.
    pub(super) fn take(&mut self, pace: Pace, now: u64) {
        self.full_at = self.full_at.max(now) + pace.interval;
    }

    /// Whether it is as good as new.
    pub(super) fn is_full(&self, now: u64) -> bool {
        self.full_at <= now
    }
}

/// Places that were promised: from when on each is good, soonest first.
#[derive(Debug, Default)]
pub(super) struct Places(VecDeque<u64>);

impl Places {
    /// Promises one from `at` on, which is not before those promised earlier.
    pub(super) fn promise(&mut self, at: u64) {
        self.0.push_back(at);
    }

    /// Takes one whose time has come.
    pub(super) fn claim(&mut self, now: u64) -> bool {
        self.forget_stale(now);
        self.0.pop_front_if(|at| *at <= now).is_some()
    }

    /// Whether none is promised.
    pub(super) fn is_empty(&mut self, now: u64) -> bool {
        self.forget_stale(now);
        self.0.is_empty()
    }

    fn forget_stale(&mut self, now: u64) {
        while self.0.pop_front_if(|at| *at + KEPT < now).is_some() {}
        if self.0.is_empty() {
            self.0 = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: u64 = 1_000_000;

    fn pace(burst: u32, per_second: u32) -> Pace {
        Pace::new(NonZeroU32::new(burst).unwrap(), NonZeroU32::new(per_second).unwrap())
    }

    #[test]
    fn those_who_are_too_many_are_promised_one_turn_after_the_other() {
        let (pace, mut turns) = (pace(2, 10), Turns::default());
        let waits: Vec<u64> = (0..5)
            .map(|_| {
                let at = turns.next(pace, 0);
                turns.take(pace, 0);
                at / MS
            })
            .collect();
        assert_eq!(waits, [0, 0, 100, 200, 300]);
        assert!(!turns.is_full(400 * MS));
        assert!(turns.is_full(500 * MS));
    }

    #[test]
    fn a_place_is_claimed_once_and_not_before_or_long_after_its_time() {
        let mut places = Places::default();
        places.promise(100);
        places.promise(200);
        assert!(!places.claim(99));
        assert!(places.claim(100));
        assert!(!places.claim(100));
        assert!(!places.is_empty(200 + KEPT));
        assert!(!places.claim(201 + KEPT));
        assert!(places.is_empty(201 + KEPT));
    }

    proptest! {
        #[test]
        fn no_more_come_than_the_pace_says(
            burst in 1u32..50,
            per_second in 1u32..200,
            steps in proptest::collection::vec(0u64..200, 1..200),
        ) {
            let (pace, mut turns, mut now, mut admitted) = (pace(burst, per_second), Turns::default(), 0, 0u64);
            for step in steps {
                now += step * MS;
                if turns.next(pace, now) <= now {
                    turns.take(pace, now);
                    admitted += 1;
                }
                let most = f64::from(burst) + f64::from(per_second) * now as f64 / 1e9;
                prop_assert!(admitted as f64 <= most * 1.000_001 + 1e-6, "{admitted} > {most}");
            }
        }
    }
}
