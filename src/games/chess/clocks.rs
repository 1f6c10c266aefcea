//! Two clocks, of which at most one runs. Reads no clock: the time is an argument.

use serde::{Deserialize, Serialize};

use crate::domain::{Seat, Timestamp};

/// What is left to each player.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Clocks {
    /// By seat. Of the running clock: when it was started.
    pub(super) left_ms: [u64; 2],
    pub(super) initial_ms: u64,
    pub(super) increment_ms: u64,
    pub(super) running: Option<Running>,
}

/// The clock that runs, and since when. Time that is given back moves the start later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Running {
    pub(super) seat: Seat,
    pub(super) since: Timestamp,
}

impl Clocks {
    pub(super) fn stopped(initial_ms: u64, increment_ms: u64) -> Self {
        Self { left_ms: [initial_ms; 2], initial_ms, increment_ms, running: None }
    }

    pub(super) fn run(&mut self, seat: Seat, since: Timestamp) {
        self.running = Some(Running { seat, since });
    }

    /// When the running flag falls: at this moment it has fallen.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        let Running { seat, since } = self.running?;
        Some(since.plus_millis(self.left_ms[seat.index()]))
    }

    pub(super) fn flag_has_fallen(&self, now: Timestamp) -> bool {
        self.deadline().is_some_and(|deadline| now >= deadline)
    }

    /// By seat. Never less than nothing.
    pub(super) fn left_at(&self, now: Timestamp) -> [u64; 2] {
        let mut left_ms = self.left_ms;
        if let Some(Running { seat, since }) = self.running {
            let left = &mut left_ms[seat.index()];
            *left = left.saturating_sub(now.millis_since(since));
        }
        left_ms
    }

    /// Time in which nobody could play.
    pub(super) fn credit(&mut self, millis: u64) {
        if let Some(running) = &mut self.running {
            running.since = running.since.plus_millis(millis);
        }
    }
}
