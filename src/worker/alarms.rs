//! The dead man's switches of this worker's tables, and the answering of those that ring.
//!
//! A table that nobody holds must still see its deadline. So each has an alarm in the log's server, somewhat
//! behind the deadline; whoever owns the table moves it on, and if nobody does, it rings at some worker.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use metrics::counter;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::adoption;
use super::tables::Worker;
use crate::bus::{Timers, Wake};
use crate::domain::{TableId, Timestamp};
use crate::protocol::request::{AdoptRequest, Refusal};
use crate::protocol::subject::Address;

/// Alarms that are set at the same time.
const WRITES_AT_ONCE: usize = 32;
/// Alarms that are answered at the same time: each may fold a table.
const WAKES_AT_ONCE: usize = 16;
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// When somebody else may have room, or the rules, for a table that rang here.
const NOT_HERE: Duration = Duration::from_secs(1);

/// What an alarm is to become: set to a time, or taken away.
type Setting = (Address, Option<Timestamp>);

/// Settings waiting to be written, at most one for each table. Holds no table up.
#[derive(Clone, Debug, Default)]
pub(super) struct Alarms {
    waiting: Arc<Mutex<BTreeMap<TableId, Setting>>>,
    bell: Arc<Notify>,
}

impl Alarms {
    /// Moves a table's alarm.
    pub(super) fn set(&self, address: &Address, at: Timestamp) {
        self.put(address, Some(at));
    }

    /// Takes a table's alarm away: nothing is left to be done.
    pub(super) fn clear(&self, address: &Address) {
        self.put(address, None);
    }

    fn put(&self, address: &Address, at: Option<Timestamp>) {
        self.waiting().insert(address.table, (address.clone(), at));
        self.bell.notify_one();
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<TableId, Setting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes settings until stopped, then those that still wait.
    pub(super) async fn write_to(self, timers: Arc<dyn Timers>, stop: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = self.bell.notified() => {}
            }
            if !self.write_waiting(&*timers).await {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => break,
                    () = tokio::time::sleep(RETRY_PAUSE) => self.bell.notify_one(),
                }
            }
        }
        self.write_waiting(&*timers).await;
    }

    /// Whether all could be written. Those that could not wait on, unless something newer does.
    async fn write_waiting(&self, timers: &dyn Timers) -> bool {
        let settings = std::mem::take(&mut *self.waiting());
        let writes = settings.into_values().map(|(address, at)| async move {
            let written = match at {
                Some(at) => timers.arm(&address, at).await,
                None => timers.disarm(&address).await,
            };
            (written, address, at)
        });
        let mut all_written = true;
        let mut written = stream::iter(writes).buffer_unordered(WRITES_AT_ONCE);
        while let Some((result, address, at)) = written.next().await {
            let table = address.table;
            match result {
                Ok(()) => counter!("tablecast_worker_alarms_set_total").increment(1),
                Err(error) => {
                    debug!(table.id = %table, %error, "the alarm of table {table} is not set yet");
                    counter!("tablecast_worker_alarm_failures_total").increment(1);
                    self.waiting().entry(table).or_insert((address, at));
                    all_written = false;
                }
            }
        }
        all_written
    }
}

/// Answers the alarms of one shard until the worker stops: whoever owns the table is asked, and if nobody does,
/// this worker takes it.
pub(super) async fn answer(worker: &Worker, shard: u16) {
    while !worker.stop.is_cancelled() {
        match worker.bus.timers.wakes(shard).await {
            Ok(wakes) => {
                let wakes = wakes.take_until(worker.stop.clone().cancelled_owned());
                wakes.for_each_concurrent(WAKES_AT_ONCE, |wake| on_wake(worker, wake)).await;
            }
            Err(error) => warn!(shard, %error, "alarms of shard {shard} cannot be heard"),
        }
        tokio::select! {
            biased;
            () = worker.stop.cancelled() => return,
            () = tokio::time::sleep(RETRY_PAUSE) => {}
        }
    }
}

async fn on_wake(worker: &Worker, Wake { address, settle }: Wake) {
    counter!("tablecast_worker_alarms_rung_total").increment(1);
    let table = address.table;
    if worker.catalog.get(&address.kind).is_none() || worker.room().get().is_full() {
        return settle.later(NOT_HERE).await;
    }
    let request = AdoptRequest::new(table);
    match adoption::try_adopt(worker, &address.kind, request, None).await {
        Ok(owner) => {
            if owner == worker.id {
                info!(table.id = %table, "the alarm of table {table} rang");
            }
            settle.done().await;
        }
        Err(Refusal { retry_after_ms: Some(_), code, .. }) => {
            debug!(table.id = %table, rejection = code, "table {table} rings again later");
            settle.later(NOT_HERE).await;
        }
        // Over, or unknown.
        Err(_) => settle.done().await,
    }
}
