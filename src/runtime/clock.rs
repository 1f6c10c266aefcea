//! The wall clock, and the only place where it is read.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::domain::Timestamp;

/// What time it is.
#[derive(Clone, Copy, Debug)]
pub enum Clock {
    /// The system's clock.
    System,
    /// Starts at a given time and goes with tokio's clock, which a simulation pauses and advances.
    Simulated {
        /// The time at `start`.
        epoch: Timestamp,
        /// When the simulation began.
        start: Instant,
    },
}

impl Clock {
    /// A clock for simulations.
    pub fn simulated(epoch: Timestamp) -> Self {
        Self::Simulated { epoch, start: Instant::now() }
    }

    /// Now.
    pub fn now(self) -> Timestamp {
        match self {
            Self::System => {
                #[expect(clippy::disallowed_methods, reason = "this is the one place")]
                let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let millis = u64::try_from(since_epoch.as_millis());
                Timestamp::from_millis(millis.expect("the year is below 584 million"))
            }
            Self::Simulated { epoch, start } => {
                let millis = u64::try_from(start.elapsed().as_millis());
                epoch.plus_millis(millis.expect("no simulation runs for 584 million years"))
            }
        }
    }
}
