//! Who else is alive: gateways, whose players are gone when they are, and other workers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tracing::{info, warn};

use super::agenda::Now;
use super::tables::Worker;
use crate::domain::{Timestamp, WorkerId};
use crate::protocol::request::{Beat, GatewayBeat, PresenceNotice, decode};
use crate::protocol::subject;
use crate::runtime::watched::{Watched, Watcher};

/// Gateways beat four times a second: this is no accident.
const SILENCE: Duration = Duration::from_secs(2);
/// A gateway that has been silent for this long may be gone: no clock runs out on its players before that is
/// known.
const QUIET: Duration = Duration::from_millis(750);
/// A worker that does not hear itself any more cannot tell who is silent.
const DEAF: Duration = Duration::from_millis(1_500);
/// How long it is remembered when a peer was last heard.
const MEMORY: Duration = Duration::from_secs(600);
const TICK: Duration = Duration::from_millis(250);
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

/// Who has been heard of lately. Tables are told when a gateway is lost.
#[derive(Clone, Debug, Default)]
pub(super) struct Peers {
    heard: Arc<Mutex<Heard>>,
    lost: Watched<()>,
    listening: Watched<bool>,
}

impl Peers {
    /// Changes whenever a gateway is lost.
    pub(super) fn losses(&self) -> Watcher<()> {
        self.lost.watch()
    }

    /// Returns once this worker hears of players and peers. Before that it should own no table.
    pub(super) async fn are_heard(&self) {
        self.listening.watch().until(|listening| listening).await;
    }

    /// Something came from this gateway.
    pub(super) fn note_gateway(&self, gateway: &str, now: Now) {
        self.heard().note_gateway(gateway, now);
    }

    /// When a gateway that is lost was last heard. Nothing while it is alive.
    pub(super) fn gateway_lost_at(&self, gateway: &str) -> Option<Timestamp> {
        let heard = self.heard();
        if heard.gateways.contains_key(gateway) {
            return None;
        }
        // One that was never heard of says so with its first notice, so this one is long forgotten.
        Some(heard.lost.get(gateway).map_or(Timestamp::default(), |lost| lost.clock))
    }

    /// Whether a gateway may be gone. A worker that hears nobody cannot tell.
    pub(super) fn is_quiet(&self, gateway: &str, now: Instant) -> bool {
        let heard = self.heard();
        heard.is_deaf
            || heard
                .gateways
                .get(gateway)
                .is_none_or(|known| now.duration_since(known.heard.timer) > QUIET)
    }

    /// When another worker last said that it was alive.
    pub(super) fn worker_heard_at(&self, worker: &WorkerId) -> Option<Timestamp> {
        self.heard().workers.get(worker).map(|heard| heard.clock)
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Listens to beats and to news of players, until stopped.
pub(super) async fn watch(worker: &Worker) {
    while !worker.gone.is_cancelled() {
        tokio::select! {
            biased;
            () = worker.gone.cancelled() => return,
            () = listen(worker) => {}
        }
        // A subscription that ends at once must not become a busy loop.
        sleep(LISTEN_AGAIN).await;
    }
}

async fn listen(worker: &Worker) {
    let (mail, peers) = (&worker.bus.mail, &worker.peers);
    let gates = mail.listen(subject::GATES.to_owned()).await;
    let beats = mail.listen(subject::BEATS.to_owned()).await;
    let seats = mail.listen(subject::SEATS.to_owned()).await;
    let (Ok(mut gates), Ok(mut beats), Ok(mut seats)) = (gates, beats, seats) else {
        return;
    };
    peers.listening.set(true);
    let mut own_heard = Instant::now();
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            beat = gates.next() => match beat {
                Some(beat) => peers.on_gateway(&beat, worker.now()),
                None => return,
            },
            beat = beats.next() => match beat {
                Some(beat) => if peers.on_worker(&beat, worker.now()).as_ref() == Some(&worker.id) {
                    own_heard = Instant::now();
                },
                None => return,
            },
            notice = seats.next() => match notice {
                Some(notice) => on_notice(worker, &notice),
                None => return,
            },
            _ = tick.tick() => peers.on_tick(own_heard, worker.now()),
        }
    }
}

/// Every worker hears of every player; most are at tables of others.
fn on_notice(worker: &Worker, payload: &Bytes) {
    match decode::<PresenceNotice>(payload) {
        Ok(notice) => worker.tell(notice),
        Err(_) => metrics::counter!("tablecast_worker_malformed_total").increment(1),
    }
}

impl Peers {
    fn on_gateway(&self, payload: &[u8], now: Now) {
        let Ok(GatewayBeat { gateway, goodbye }) = decode(payload) else {
            return;
        };
        if goodbye {
            info!(gateway, "gateway {gateway} says goodbye");
            self.heard().lose(&gateway, now);
            self.lost.set(());
        } else {
            self.note_gateway(&gateway, now);
        }
    }

    fn on_worker(&self, payload: &[u8], now: Now) -> Option<WorkerId> {
        let beat: Beat = decode(payload).ok()?;
        // A beat may have waited here for long: while this process was stopped, its sender may have died.
        let is_told = beat.at != Timestamp::default();
        let clock = if is_told { now.clock.min(beat.at) } else { now.clock };
        self.heard().workers.insert(beat.worker.clone(), Now { clock, ..now });
        Some(beat.worker)
    }

    fn on_tick(&self, own_heard: Instant, now: Now) {
        let silent = self.heard().take_silent(own_heard, now);
        for gateway in &silent {
            warn!(gateway, "gateway {gateway} has fallen silent: its players count as gone");
        }
        if !silent.is_empty() {
            self.lost.set(());
        }
    }
}

/// A gateway that is taken to be alive.
#[derive(Clone, Copy, Debug)]
struct Known {
    heard: Now,
    /// From when its silence counts: not while this worker could not have heard it.
    counts_from: Instant,
}

/// When each peer was last heard. Reads no clock.
#[derive(Debug, Default)]
struct Heard {
    gateways: BTreeMap<String, Known>,
    lost: BTreeMap<String, Now>,
    workers: BTreeMap<WorkerId, Now>,
    is_deaf: bool,
}

impl Heard {
    fn note_gateway(&mut self, gateway: &str, now: Now) {
        let known = Known { heard: now, counts_from: now.timer };
        match self.gateways.get_mut(gateway) {
            Some(before) => *before = known,
            None => {
                self.lost.remove(gateway);
                self.gateways.insert(gateway.to_owned(), known);
            }
        }
    }

    fn lose(&mut self, gateway: &str, heard: Now) {
        self.gateways.remove(gateway);
        self.lost.insert(gateway.to_owned(), heard);
    }

    /// Gateways that have fallen silent, each once. While this worker is deaf, nobody is.
    fn take_silent(&mut self, own_heard: Instant, now: Now) -> Vec<String> {
        self.is_deaf = now.timer.duration_since(own_heard) > DEAF;
        if self.is_deaf {
            self.gateways.values_mut().for_each(|known| known.counts_from = now.timer);
            return Vec::new();
        }
        let is_remembered = |heard: &Now| now.timer.duration_since(heard.timer) < MEMORY;
        self.lost.retain(|_, heard| is_remembered(heard));
        self.workers.retain(|_, heard| is_remembered(heard));
        let is_silent = |known: &Known| now.timer.duration_since(known.counts_from) > SILENCE;
        let silent: Vec<(String, Known)> =
            self.gateways.extract_if(.., |_, known| is_silent(known)).collect();
        self.lost.extend(silent.iter().map(|(gateway, known)| (gateway.clone(), known.heard)));
        silent.into_iter().map(|(gateway, _)| gateway).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, wait: Duration) -> Now {
        let millis = u64::try_from(wait.as_millis()).expect("a short wait");
        Now { clock: Timestamp::from_millis(1_000 + millis), timer: start + wait }
    }

    #[test]
    fn a_gateway_is_lost_after_its_silence_and_once() {
        let start = Instant::now();
        let mut heard = Heard::default();
        heard.note_gateway("a", after(start, Duration::ZERO));
        heard.note_gateway("b", after(start, SILENCE));
        let later = after(start, SILENCE + Duration::from_millis(1));
        assert_eq!(heard.take_silent(later.timer, later), ["a"]);
        assert!(heard.take_silent(later.timer, later).is_empty());
        assert_eq!(heard.lost["a"].clock, Timestamp::from_millis(1_000));
    }

    #[test]
    fn a_worker_that_does_not_hear_itself_loses_nobody() {
        let start = Instant::now();
        let mut heard = Heard::default();
        heard.note_gateway("a", after(start, Duration::ZERO));
        let later = SILENCE * 3;
        assert!(heard.take_silent(start, after(start, later)).is_empty());
        // And gives everyone time once it hears again.
        let soon = after(start, later + SILENCE);
        assert!(heard.take_silent(soon.timer, soon).is_empty());
        let too_late = after(start, later + SILENCE + Duration::from_millis(1));
        assert_eq!(heard.take_silent(too_late.timer, too_late), ["a"]);
    }
}
