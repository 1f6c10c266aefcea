//! Whether the bus can be reached: asked all the time, so that no player has to wait to find out.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::metrics;
use crate::bus::{Bus, RequestError};
use crate::domain::Timestamp;
use crate::protocol::frame::{BusStatus, ServerFrame};
use crate::protocol::subject;
use crate::runtime::clock::Clock;
use crate::runtime::health::Readiness;

/// The time from an answer to the next question.
const PROBE_PAUSE: Duration = Duration::from_millis(250);
/// How long an open breaker waits for an answer before it asks anew. Also the least it calls healthy: a bus
/// that answers only just in time stays out of use.
const PROBE_AGAIN: Duration = Duration::from_millis(500);
/// A process that wakes this much too late may have missed as much as one that was cut off.
const OVERSLEPT: Duration = Duration::from_secs(2);

/// A circuit breaker in front of the bus.
///
/// It is closed and opened by a probe of its own, a request that nobody serves, and never by players'
/// commands: these wait for workers, who may be slow for reasons of theirs. While it is open the probe goes
/// on, which is what others call half open.
#[derive(Debug)]
pub(super) struct Breaker {
    state: watch::Sender<BusState>,
    interruptions: watch::Sender<u64>,
}

/// What is known of the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BusState {
    /// Whether it can be reached.
    pub bus: BusStatus,
    /// Since when that is so.
    pub since: Timestamp,
}

impl BusState {
    /// As clients are told.
    pub(super) fn frame(self) -> ServerFrame {
        ServerFrame::Status { bus: self.bus, since: self.since }
    }
}

impl Breaker {
    /// Closed: whoever starts a gateway has just connected to the bus.
    pub(super) fn new(now: Timestamp) -> Arc<Self> {
        let state = BusState { bus: BusStatus::Ok, since: now };
        metrics::breaker(false);
        Arc::new(Self { state: watch::Sender::new(state), interruptions: watch::Sender::new(0) })
    }

    /// Whether there is no use in asking the bus for anything.
    pub(super) fn is_open(&self) -> bool {
        self.state.borrow().bus == BusStatus::Unavailable
    }

    /// The state, and when it changes.
    pub(super) fn states(&self) -> watch::Receiver<BusState> {
        self.state.subscribe()
    }

    /// Changes when the bus is back after anything on it may have been missed, for however short a time.
    pub(super) fn interruptions(&self) -> watch::Receiver<u64> {
        self.interruptions.subscribe()
    }

    /// Returns once the breaker is open.
    pub(super) async fn opened(&self) {
        let mut states = self.states();
        let is_open = |state: &BusState| state.bus == BusStatus::Unavailable;
        let outlived = states.wait_for(is_open).await.is_ok();
        debug_assert!(outlived, "the sender is this breaker's own");
    }

    fn on_probe(&self, is_reached: bool, now: Timestamp) {
        let bus = if is_reached { BusStatus::Ok } else { BusStatus::Unavailable };
        self.state.send_if_modified(|state| {
            if state.bus == bus {
                return false;
            }
            let lasted_ms = now.millis_since(state.since);
            *state = BusState { bus, since: now };
            metrics::breaker(!is_reached);
            match bus {
                BusStatus::Ok => info!(lasted_ms, "the bus can be reached again"),
                BusStatus::Unavailable => {
                    warn!("the bus cannot be reached: commands are refused until it can");
                }
            }
            true
        });
    }

    fn interrupted(&self) {
        metrics::interrupted();
        self.interruptions.send_modify(|count| *count += 1);
    }

    /// Asks until told to stop.
    pub(super) async fn run(
        self: Arc<Self>,
        bus: Bus,
        clock: Clock,
        patience: Duration,
        readiness: Readiness,
        shutdown: CancellationToken,
    ) {
        let mut connects = bus.mail.connects();
        let mut woke_late = false;
        loop {
            let patience = if self.is_open() { patience.min(PROBE_AGAIN) } else { patience };
            let probe = bus.mail.request(subject::PROBE.to_owned(), Bytes::new(), patience);
            let answer = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                answer = probe => answer,
            };
            let is_reached = matches!(answer, Ok(_) | Err(RequestError::NoResponders));
            self.on_probe(is_reached, clock.now());
            if is_reached {
                readiness.set_ready();
                let before = std::mem::replace(&mut connects, bus.mail.connects());
                if woke_late || connects != before {
                    self.interrupted();
                }
            } else {
                readiness.set_unready("the bus cannot be reached");
            }
            let asleep_at = Instant::now();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = sleep(PROBE_PAUSE) => {}
            }
            let overslept = asleep_at.elapsed() > PROBE_PAUSE + OVERSLEPT;
            woke_late = overslept || (woke_late && !is_reached);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use super::*;
    use crate::bus::memory::{self, Faults};
    use tokio_util::task::TaskTracker;

    const PATIENCE: Duration = Duration::from_millis(800);

    struct Scene {
        breaker: Arc<Breaker>,
        faults: Faults,
        readiness: Readiness,
        _tasks: TaskTracker,
    }

    fn scene() -> Scene {
        let (bus, faults) = memory::bus(NonZeroU16::MIN);
        let clock = Clock::simulated(Timestamp::from_millis(1_000));
        let breaker = Breaker::new(clock.now());
        let readiness = Readiness::new();
        let tasks = TaskTracker::new();
        let token = CancellationToken::new();
        let run = Arc::clone(&breaker).run(bus, clock, PATIENCE, readiness.clone(), token);
        tasks.spawn(run);
        Scene { breaker, faults, readiness, _tasks: tasks }
    }

    #[tokio::test(start_paused = true)]
    async fn it_opens_when_nothing_answers_and_closes_by_itself() {
        let Scene { breaker, faults, readiness, _tasks } = scene();
        sleep(Duration::from_secs(5)).await;
        assert!(!breaker.is_open());
        assert_eq!(readiness.reason(), None);
        let cut = Instant::now();
        faults.set_outage(true);
        breaker.opened().await;
        assert!(cut.elapsed() <= PROBE_PAUSE + PATIENCE, "{:?}", cut.elapsed());
        assert_eq!(readiness.reason(), Some("the bus cannot be reached"));
        sleep(Duration::from_secs(30)).await;
        assert!(breaker.is_open());
        faults.set_outage(false);
        let mut states = breaker.states();
        let mended = Instant::now();
        states.wait_for(|state| state.bus == BusStatus::Ok).await.unwrap();
        assert!(mended.elapsed() <= PROBE_PAUSE + PROBE_AGAIN, "{:?}", mended.elapsed());
        assert_eq!(readiness.reason(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_too_short_to_open_it_is_an_interruption_all_the_same() {
        let Scene { breaker, faults, _tasks, .. } = scene();
        sleep(Duration::from_secs(5)).await;
        let mut interruptions = breaker.interruptions();
        interruptions.mark_unchanged();
        faults.set_outage(true);
        sleep(Duration::from_millis(10)).await;
        faults.set_outage(false);
        interruptions.changed().await.unwrap();
        assert!(!breaker.is_open());
        sleep(Duration::from_secs(5)).await;
        assert!(!interruptions.has_changed().unwrap(), "told once");
    }
}
