//! Watches over the owners of followed tables: when a worker falls silent, its tables get another one.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::hub::Hub;
use super::metrics;
use crate::bus::{Bus, MailError};
use crate::domain::{Kind, TableId, WorkerId};
use crate::protocol::request::{self, AdoptRequest, Adoption, Beat};
use crate::protocol::subject;

/// Workers beat once a second: three missing beats are no accident.
const SILENCE: Duration = Duration::from_secs(3);
/// Gateways that see the same worker die must not all ask at once.
const JITTER_MS: u64 = 500;
/// How many tables are asked for at a time.
const CONCURRENCY: usize = 64;
const TICK: Duration = Duration::from_millis(100);
const ASK_TIMEOUT: Duration = Duration::from_secs(3);
const AGAIN_MIN: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(10);

/// Tables that may have no owner. Asking for one that has is harmless: its owner answers.
#[derive(Debug, Default)]
pub(super) struct Owners {
    tables: Mutex<BTreeMap<TableId, Care>>,
}

#[derive(Debug)]
struct Care {
    kind: Kind,
    /// When to ask; nothing while an answer is awaited.
    ask_at: Option<Instant>,
    wait: Duration,
}

impl Owners {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<TableId, Care>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for this table's adoption soon, and again until it has an owner.
    pub(super) fn look_after(&self, table: TableId, kind: Kind) {
        let jitter = Duration::from_millis(rand::random_range(0..JITTER_MS));
        self.lock().entry(table).or_insert_with(|| Care {
            kind,
            ask_at: Some(Instant::now() + jitter),
            wait: AGAIN_MIN,
        });
    }

    /// Tables whose time has come, at most `room` of them; they count as asked for.
    fn due(&self, now: Instant, room: usize) -> Vec<(TableId, Kind)> {
        self.lock()
            .iter_mut()
            .filter(|(_, care)| care.ask_at.is_some_and(|at| at <= now))
            .take(room)
            .map(|(table, care)| {
                care.ask_at = None;
                (*table, care.kind.clone())
            })
            .collect()
    }

    fn on_answer(&self, table: TableId, is_settled: bool) {
        let mut tables = self.lock();
        if is_settled {
            tables.remove(&table);
        } else if let Some(care) = tables.get_mut(&table) {
            care.ask_at = Some(Instant::now() + care.wait);
            care.wait = (care.wait * 2).min(AGAIN_MAX);
        }
    }
}

/// When each worker was last heard.
#[derive(Debug, Default)]
struct Beats(HashMap<WorkerId, Instant>);

impl Beats {
    /// Whether the worker says goodbye.
    fn on_beat(&mut self, beat: &Beat, now: Instant) -> bool {
        if beat.goodbye {
            return self.0.remove(&beat.worker).is_some();
        }
        self.0.insert(beat.worker.clone(), now);
        false
    }

    /// Workers that have fallen silent, each once.
    fn take_silent(&mut self, now: Instant) -> Vec<WorkerId> {
        self.0
            .extract_if(|_, heard| now.duration_since(*heard) > SILENCE)
            .map(|(worker, _)| worker)
            .collect()
    }
}

/// Listens to the workers' beats until told to stop.
///
/// Nobody here knows which worker owns which table: a table is asked for at any worker, and the one that
/// owns it, or can reach its owner, says so.
pub(super) async fn run(owners: Arc<Owners>, hub: Arc<Hub>, bus: Bus, shutdown: CancellationToken) {
    let mut beats = Beats::default();
    let mut asked: FuturesUnordered<BoxFuture<'static, (TableId, bool)>> = FuturesUnordered::new();
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !shutdown.is_cancelled() {
        let mut heard = match bus.mail.listen(subject::BEATS.to_owned()).await {
            Ok(heard) => heard,
            Err(MailError { reason }) => {
                warn!(reason, "workers cannot be heard");
                sleep(AGAIN_MIN).await;
                continue;
            }
        };
        loop {
            tokio::select! {
                payload = heard.next() => {
                    let Some(payload) = payload else { break };
                    let Ok(beat) = request::decode::<Beat>(&payload) else { continue };
                    if beats.on_beat(&beat, Instant::now()) {
                        info!(worker.id = %beat.worker, "worker {} says goodbye", beat.worker);
                        look_after_all(&owners, &hub);
                    }
                }
                _ = tick.tick() => {
                    for worker in beats.take_silent(Instant::now()) {
                        warn!(worker.id = %worker, "worker {worker} has fallen silent");
                        look_after_all(&owners, &hub);
                    }
                    for (table, kind) in owners.due(Instant::now(), CONCURRENCY - asked.len()) {
                        asked.push(Box::pin(ask(bus.clone(), Arc::clone(&hub), table, kind)));
                    }
                }
                Some((table, is_settled)) = asked.next(), if !asked.is_empty() => {
                    owners.on_answer(table, is_settled);
                }
                () = shutdown.cancelled() => return,
            }
        }
        // A subscription that ends at once must not become a busy loop.
        sleep(AGAIN_MIN).await;
    }
}

fn look_after_all(owners: &Owners, hub: &Hub) {
    for (table, kind) in hub.running() {
        owners.look_after(table, kind);
    }
}

/// Whether the table is settled: it has an owner, or nobody here follows it any more.
async fn ask(bus: Bus, hub: Arc<Hub>, table: TableId, kind: Kind) -> (TableId, bool) {
    if !hub.is_running(table) {
        return (table, true);
    }
    metrics::adoption_asked();
    let payload = request::encode(&AdoptRequest::new(table));
    let asked = bus.mail.request(subject::adopt(&kind), payload, ASK_TIMEOUT);
    let is_settled = match asked.await {
        Ok(answer) => match request::decode::<Adoption>(&answer) {
            Ok(Adoption::Owned { worker }) => {
                debug!(table.id = %table, worker.id = %worker, "table {table} has an owner");
                true
            }
            Ok(Adoption::Declined(refusal)) => refusal.retry_after_ms.is_none(),
            Err(error) => {
                warn!(table.id = %table, %error, "the answer to an adoption does not decode");
                false
            }
        },
        Err(error) => {
            debug!(table.id = %table, %error, "nobody took table {table} yet");
            false
        }
    };
    (table, is_settled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(worker: &str, goodbye: bool) -> Beat {
        Beat { worker: worker.parse().unwrap(), tables: 0, full: false, goodbye }
    }

    #[test]
    fn a_worker_is_silent_after_three_seconds_and_once() {
        let start = Instant::now();
        let mut beats = Beats::default();
        assert!(!beats.on_beat(&beat("a", false), start));
        assert!(!beats.on_beat(&beat("b", false), start + SILENCE));
        let later = start + SILENCE + Duration::from_millis(1);
        assert_eq!(beats.take_silent(later), ["a".parse().unwrap()]);
        assert_eq!(beats.take_silent(later), []);
    }

    #[test]
    fn a_goodbye_counts_once_and_only_of_a_worker_that_was_heard() {
        let now = Instant::now();
        let mut beats = Beats::default();
        assert!(!beats.on_beat(&beat("a", true), now));
        beats.on_beat(&beat("a", false), now);
        assert!(beats.on_beat(&beat("a", true), now));
        assert_eq!(beats.take_silent(now + SILENCE * 2), []);
    }

    #[test]
    fn a_table_nobody_took_is_asked_for_again_later() {
        let owners = Owners::default();
        let table = TableId::new(crate::domain::Timestamp::from_millis(1), [1; 10]);
        owners.look_after(table, "chess".parse().unwrap());
        let soon = Instant::now() + Duration::from_millis(JITTER_MS);
        assert_eq!(owners.due(soon, CONCURRENCY).len(), 1);
        assert_eq!(owners.due(soon, CONCURRENCY).len(), 0, "an answer is awaited");
        owners.on_answer(table, false);
        assert_eq!(owners.due(soon + AGAIN_MIN, CONCURRENCY).len(), 1);
        owners.on_answer(table, true);
        assert_eq!(owners.due(soon + AGAIN_MAX, CONCURRENCY).len(), 0);
    }
}
