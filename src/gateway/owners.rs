//! Watches over the owners of followed tables: when a worker falls silent, its tables get another one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::beats::{Beats, Room};
use super::breaker::Breaker;
use super::hedge::{self, Rhythm};
use super::hub::Hub;
use super::metrics;
use super::throttle::{Bucket, BucketTime, Rate};
use crate::bus::{Bus, MailError};
use crate::domain::{Kind, TableId, WorkerId};
use crate::protocol::request::{self, AdoptRequest, Adoption, Beat};
use crate::protocol::subject;
use crate::runtime::entropy::Entropy;

/// Gateways that see the same worker fall silent do not all ask at once: the first claim settles it for all.
const JITTER: Duration = Duration::from_millis(300);
/// A worker that says goodbye has handed over what it could: the rest is nobody's by now.
const GOODBYE_JITTER: Duration = Duration::from_millis(50);
/// How many tables are asked for at a time.
const CONCURRENCY: usize = 128;
const TICK: Duration = Duration::from_millis(25);
/// An adopter looks for the owner first, which takes its time if there is one that hangs.
const ASK_TIMEOUT: Duration = Duration::from_secs(3);
/// Whoever is asked may be the one that dies.
const ASK_RHYTHM: Rhythm =
    Rhythm { first: Duration::from_millis(300), longest: Duration::from_millis(1200) };
const AGAIN_MIN: Duration = Duration::from_millis(100);
const AGAIN_MAX: Duration = Duration::from_secs(10);
const LISTEN_AGAIN: Duration = Duration::from_millis(500);

/// When and how fast tables get another owner.
#[derive(Clone, Copy, Debug)]
pub(super) struct CareLimits {
    /// How long a worker may be silent.
    pub silence: Duration,
    /// How fast tables are asked for.
    pub rate: Rate,
}

/// Who wants a table to have an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    /// Those who follow it, as long as they do.
    Followers,
    /// A command that waits. It goes on by itself, so one ask is enough.
    Command,
}

/// Tables that may have no owner. Asking for one that has is harmless: its owner answers.
#[derive(Debug)]
pub(super) struct Owners {
    state: Mutex<State>,
    entropy: Entropy,
}

#[derive(Debug)]
struct State {
    beats: Beats,
    cares: BTreeMap<TableId, Care>,
    /// When to ask for which. A table whose answer is awaited is not here.
    queue: BTreeSet<(Instant, TableId)>,
    bucket: Bucket,
}

#[derive(Clone, Debug)]
struct Care {
    kind: Kind,
    whose: For,
    /// When to ask; nothing while an answer is awaited.
    ask_at: Option<Instant>,
    wait: Duration,
}

impl Owners {
    pub(super) fn new(limits: CareLimits, entropy: Entropy) -> Arc<Self> {
        let bucket = Bucket::full(limits.rate, &BucketTime::starting_at(Instant::now()));
        let state = State {
            beats: Beats::new(limits.silence),
            cares: BTreeMap::new(),
            queue: BTreeSet::new(),
            bucket,
        };
        Arc::new(Self { state: Mutex::new(state), entropy })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A followed table is this worker's.
    pub(super) fn expect(&self, worker: &WorkerId) {
        self.lock().beats.expect(worker, Instant::now());
    }

    /// Whether the workers that are heard have room for another table.
    pub(super) fn room(&self) -> Room {
        self.lock().beats.room()
    }

    /// Asks for this table's adoption soon, and again until it has an owner.
    pub(super) fn look_after(&self, table: TableId, kind: Kind, whose: For) {
        self.look_after_within(JITTER, table, kind, whose);
    }

    fn look_after_within(&self, jitter: Duration, table: TableId, kind: Kind, whose: For) {
        let ask_at = Instant::now() + self.entropy.between(Duration::ZERO, jitter);
        let mut state = self.lock();
        if let Some(care) = state.cares.get_mut(&table) {
            if whose == For::Followers {
                care.whose = whose;
            }
            return;
        }
        let care = Care { kind, whose, ask_at: Some(ask_at), wait: AGAIN_MIN };
        state.cares.insert(table, care);
        state.queue.insert((ask_at, table));
        metrics::orphans(state.cares.len());
    }

    /// The table has an owner: what was going to be asked is not.
    pub(super) fn settled(&self, table: TableId) {
        let mut state = self.lock();
        if let Some(care) = state.cares.remove(&table) {
            if let Some(at) = care.ask_at {
                state.queue.remove(&(at, table));
            }
            metrics::orphans(state.cares.len());
        }
    }

    #[cfg(test)]
    pub(super) fn orphans(&self) -> usize {
        self.lock().cares.len()
    }

    /// Tables whose time has come, at most `room` of them; they count as asked for.
    fn due(&self, now: Instant, room: usize) -> Vec<(TableId, Care)> {
        let mut state = self.lock();
        let State { cares, queue, bucket, .. } = &mut *state;
        let mut due = Vec::new();
        while due.len() < room
            && queue.first().is_some_and(|(at, _)| *at <= now)
            && bucket.try_take(now).is_ok()
            && let Some((_, table)) = queue.pop_first()
        {
            if let Some(care) = cares.get_mut(&table) {
                care.ask_at = None;
                due.push((table, care.clone()));
            }
        }
        due
    }

    fn on_answer(&self, table: TableId, is_settled: bool) {
        if is_settled {
            return self.settled(table);
        }
        let mut state = self.lock();
        let State { cares, queue, .. } = &mut *state;
        // Gone if a claim has settled it meanwhile.
        let Some(care) = cares.get_mut(&table) else { return };
        let at = Instant::now() + self.entropy.between(care.wait / 2, care.wait);
        if let Some(before) = care.ask_at.replace(at) {
            queue.remove(&(before, table));
        }
        queue.insert((at, table));
        care.wait = (care.wait * 2).min(AGAIN_MAX);
    }

    /// Takes in a beat; the worker that says goodbye with it.
    fn on_beat(&self, payload: &[u8]) -> Option<WorkerId> {
        let beat: Beat = request::decode(payload).ok()?;
        self.lock().beats.on_beat(&beat, Instant::now());
        beat.goodbye.then_some(beat.worker)
    }

    fn take_silent(&self, breaker: &Breaker) -> Vec<WorkerId> {
        let now = Instant::now();
        let beats = &mut self.lock().beats;
        if breaker.is_open() {
            beats.give_time(now);
        }
        beats.take_silent(now)
    }
}

type Asked = FuturesUnordered<BoxFuture<'static, (TableId, bool)>>;

/// Listens to the workers' beats, and asks for the tables of those that are not heard, until told to stop.
///
/// Nobody here knows for sure which worker owns which table: a table is asked for at any worker, and the one
/// that owns it, or can reach its owner, says so.
pub(super) async fn run(
    owners: Arc<Owners>,
    hub: Arc<Hub>,
    bus: Bus,
    breaker: Arc<Breaker>,
    shutdown: CancellationToken,
) {
    let mut asked = Asked::new();
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !shutdown.is_cancelled() {
        let mut heard = match bus.mail.listen(subject::BEATS.to_owned()).await {
            Ok(heard) => heard,
            Err(MailError { reason }) => {
                warn!(reason, "workers cannot be heard");
                sleep(LISTEN_AGAIN).await;
                continue;
            }
        };
        loop {
            tokio::select! {
                // Beats before the tick: what has been heard counts before anybody is called silent.
                biased;
                () = shutdown.cancelled() => return,
                payload = heard.next() => {
                    let Some(payload) = payload else { break };
                    if let Some(worker) = owners.on_beat(&payload) {
                        on_goodbye(&owners, &hub, &worker);
                    }
                }
                Some((table, is_settled)) = asked.next(), if !asked.is_empty() => {
                    owners.on_answer(table, is_settled);
                }
                _ = tick.tick() => {
                    for worker in owners.take_silent(&breaker) {
                        on_silent(&owners, &hub, &worker);
                    }
                }
            }
            ask_for_due(&owners, &hub, &bus, &asked);
        }
        // A subscription that ends at once must not become a busy loop.
        sleep(LISTEN_AGAIN).await;
    }
}

fn on_goodbye(owners: &Owners, hub: &Hub, worker: &WorkerId) {
    let left = hub.running_of(worker);
    let tables = left.len();
    info!(worker.id = %worker, tables, "worker {worker} says goodbye and leaves {tables} tables");
    metrics::worker_lost("goodbye");
    for (table, kind) in left {
        owners.look_after_within(GOODBYE_JITTER, table, kind, For::Followers);
    }
}

fn on_silent(owners: &Owners, hub: &Hub, worker: &WorkerId) {
    let left = hub.running_of(worker);
    let tables = left.len();
    warn!(worker.id = %worker, tables, "worker {worker} has fallen silent: its {tables} tables need another");
    metrics::worker_lost("silent");
    for (table, kind) in left {
        owners.look_after(table, kind, For::Followers);
    }
}

fn ask_for_due(owners: &Owners, hub: &Arc<Hub>, bus: &Bus, asked: &Asked) {
    let room = CONCURRENCY.saturating_sub(asked.len());
    for (table, care) in owners.due(Instant::now(), room) {
        asked.push(Box::pin(ask(bus.clone(), Arc::clone(hub), table, care)));
    }
}

/// Whether the table is settled: it has an owner, or nobody here wants it any more.
async fn ask(bus: Bus, hub: Arc<Hub>, table: TableId, care: Care) -> (TableId, bool) {
    let once = match care.whose {
        For::Command => true,
        For::Followers if hub.needs_owner(table) => false,
        For::Followers => return (table, true),
    };
    metrics::adoption_asked();
    let payload = request::encode(&AdoptRequest::new(table));
    let subject = subject::adopt(&care.kind);
    let asked = hedge::ask(&*bus.mail, &subject, &payload, ASK_RHYTHM, ASK_TIMEOUT);
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
    (table, is_settled || once)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::domain::Timestamp;

    fn owners(burst: u32, per_second: u32) -> Arc<Owners> {
        let many = |number| NonZeroU32::new(number).unwrap();
        let rate = Rate::per_second(many(burst), many(per_second));
        let limits = CareLimits { silence: Duration::from_millis(700), rate };
        Owners::new(limits, Entropy::from_seed([1; 32]))
    }

    fn table(number: u8) -> TableId {
        TableId::new(Timestamp::from_millis(1), [number; 10])
    }

    fn kind() -> Kind {
        "chess".parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_table_nobody_took_is_asked_for_again_later() {
        let owners = owners(100, 100);
        owners.look_after(table(1), kind(), For::Followers);
        sleep(JITTER).await;
        assert_eq!(owners.due(Instant::now(), 10).len(), 1);
        assert_eq!(owners.due(Instant::now(), 10).len(), 0, "an answer is awaited");
        owners.on_answer(table(1), false);
        sleep(AGAIN_MIN).await;
        assert_eq!(owners.due(Instant::now(), 10).len(), 1);
        owners.on_answer(table(1), true);
        sleep(AGAIN_MAX).await;
        assert_eq!(owners.due(Instant::now(), 10).len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_claim_that_is_seen_cancels_what_was_going_to_be_asked() {
        let owners = owners(100, 100);
        for number in 1..=3 {
            owners.look_after(table(number), kind(), For::Followers);
        }
        owners.settled(table(2));
        sleep(JITTER).await;
        let due = owners.due(Instant::now(), 10);
        let mut tables: Vec<TableId> = due.into_iter().map(|(table, _)| table).collect();
        tables.sort_unstable();
        assert_eq!(tables, [table(1), table(3)]);
        // Seen while the answer is awaited, which then says nothing new.
        owners.settled(table(1));
        owners.on_answer(table(1), false);
        sleep(AGAIN_MAX).await;
        assert_eq!(owners.due(Instant::now(), 10).len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_storm_of_orphans_is_spread_over_time() {
        let owners = owners(20, 100);
        for number in 0..200 {
            owners.look_after(table(number), kind(), For::Followers);
        }
        sleep(JITTER).await;
        assert_eq!(owners.due(Instant::now(), 5).len(), 5, "no more than there is room for");
        assert_eq!(owners.due(Instant::now(), 1000).len(), 15, "no more than the burst");
        let mut asked = 20;
        let start = Instant::now();
        while asked < 200 {
            sleep(TICK).await;
            asked += owners.due(Instant::now(), 1000).len();
        }
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(1_775), "{took:?}");
        assert!(took <= Duration::from_millis(1_850), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_asked_first_does_not_depend_on_when_it_was_orphaned() {
        // Two gateways with other seeds ask in another order: most tables are claimed before both ask.
        let order = |seed: u8| {
            let rate = Rate::per_second(NonZeroU32::MAX, NonZeroU32::MAX);
            let limits = CareLimits { silence: Duration::from_millis(700), rate };
            let owners = Owners::new(limits, Entropy::from_seed([seed; 32]));
            for number in 0..100 {
                owners.look_after(table(number), kind(), For::Followers);
            }
            let due = owners.due(Instant::now() + JITTER, 100);
            due.into_iter().map(|(table, _)| table).collect::<Vec<_>>()
        };
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
    }
}
