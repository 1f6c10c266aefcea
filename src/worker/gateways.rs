//! Which gateways are alive: the players of one that has fallen silent are gone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::bus::Mail;
use crate::domain::WorkerId;
use crate::protocol::request::{GatewayBeat, decode};
use crate::protocol::subject;

/// Gateways beat once a second: four missing beats are no accident.
const SILENCE: Duration = Duration::from_secs(4);
/// A worker that does not hear itself any more cannot tell who is silent.
const DEAF: Duration = Duration::from_secs(3);
const TICK: Duration = Duration::from_millis(250);
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

/// The gateways that have been heard of lately. Tables are told when one is lost.
#[derive(Clone, Debug)]
pub(super) struct Gateways {
    heard: Arc<Mutex<Heard>>,
    lost: watch::Sender<()>,
}

impl Default for Gateways {
    fn default() -> Self {
        Self { heard: Arc::default(), lost: watch::Sender::new(()) }
    }
}

impl Gateways {
    /// Changes whenever a gateway is lost.
    pub(super) fn losses(&self) -> watch::Receiver<()> {
        self.lost.subscribe()
    }

    /// Something came from this gateway.
    pub(super) fn note(&self, gateway: &str, now: Instant) {
        self.heard().note(gateway, now);
    }

    pub(super) fn is_alive(&self, gateway: &str) -> bool {
        self.heard().0.contains_key(gateway)
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listens to gateways' beats, and to this worker's own, until stopped.
    pub(super) async fn watch(self, mail: Arc<dyn Mail>, own: WorkerId, stop: CancellationToken) {
        while !stop.is_cancelled() {
            tokio::select! {
                () = self.listen(&*mail, &own) => {}
                () = stop.cancelled() => return,
            }
            // A subscription that ends at once must not become a busy loop.
            sleep(LISTEN_AGAIN).await;
        }
    }

    async fn listen(&self, mail: &dyn Mail, own: &WorkerId) {
        let beats = mail.listen(subject::GATES.to_owned()).await;
        let own_beats = mail.listen(subject::beat(own)).await;
        let (Ok(mut beats), Ok(mut own_beats)) = (beats, own_beats) else {
            return;
        };
        let mut own_heard = Instant::now();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                beat = beats.next() => match beat {
                    Some(beat) => self.on_beat(&beat),
                    None => return,
                },
                beat = own_beats.next() => match beat {
                    Some(_) => own_heard = Instant::now(),
                    None => return,
                },
                _ = tick.tick() => self.on_tick(own_heard, Instant::now()),
            }
        }
    }

    fn on_beat(&self, payload: &[u8]) {
        let Ok(GatewayBeat { gateway, goodbye }) = decode(payload) else {
            return;
        };
        if goodbye {
            info!(gateway, "gateway {gateway} says goodbye");
            self.heard().0.remove(&gateway);
            self.lost.send_replace(());
        } else {
            self.note(&gateway, Instant::now());
        }
    }

    fn on_tick(&self, own_heard: Instant, now: Instant) {
        let silent = self.heard().take_silent(own_heard, now);
        for gateway in &silent {
            warn!(gateway, "gateway {gateway} has fallen silent: its players count as gone");
        }
        if !silent.is_empty() {
            self.lost.send_replace(());
        }
    }
}

/// When each gateway was last heard. Reads no clock.
#[derive(Debug, Default)]
struct Heard(HashMap<String, Instant>);

impl Heard {
    fn note(&mut self, gateway: &str, now: Instant) {
        match self.0.get_mut(gateway) {
            Some(heard) => *heard = now,
            None => {
                self.0.insert(gateway.to_owned(), now);
            }
        }
    }

    /// Gateways that have fallen silent, each once. While this worker is deaf, nobody is.
    fn take_silent(&mut self, own_heard: Instant, now: Instant) -> Vec<String> {
        if now.duration_since(own_heard) > DEAF {
            self.0.values_mut().for_each(|heard| *heard = now);
            return Vec::new();
        }
        let silent = self.0.extract_if(|_, heard| now.duration_since(*heard) > SILENCE);
        silent.map(|(gateway, _)| gateway).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_is_lost_after_four_silent_seconds_and_once() {
        let start = Instant::now();
        let mut heard = Heard::default();
        heard.note("a", start);
        heard.note("b", start + SILENCE);
        let later = start + SILENCE + Duration::from_millis(1);
        assert_eq!(heard.take_silent(later, later), ["a"]);
        assert!(heard.take_silent(later, later).is_empty());
    }

    #[test]
    fn a_worker_that_does_not_hear_itself_loses_nobody() {
        let start = Instant::now();
        let mut heard = Heard::default();
        heard.note("a", start);
        let later = start + SILENCE * 3;
        assert!(heard.take_silent(start, later).is_empty());
        // And gives everyone time once it hears again.
        let soon = later + SILENCE;
        assert!(heard.take_silent(soon, soon).is_empty());
        let too_late = soon + Duration::from_millis(1);
        assert_eq!(heard.take_silent(too_late, too_late), ["a"]);
    }
}
