//! Which tables this worker owns, and what every one of them needs.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::gauge;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::WorkerConfig;
use super::agenda::Now;
use super::gateways::Gateways;
use super::lobby::LobbyLines;
use crate::bus::Bus;
use crate::catalog::Catalog;
use crate::domain::{TableId, TurnContext, WorkerId};
use crate::runtime::clock::Clock;
use crate::runtime::entropy::Entropy;

/// Shared by the whole role.
#[derive(Clone, Debug)]
pub(super) struct Worker {
    pub(super) id: WorkerId,
    pub(super) config: Arc<WorkerConfig>,
    pub(super) bus: Bus,
    pub(super) catalog: Catalog,
    pub(super) clock: Clock,
    pub(super) entropy: Entropy,
    pub(super) lobby: LobbyLines,
    pub(super) gateways: Gateways,
    pub(super) actors: TaskTracker,
    pub(super) stop: CancellationToken,
    places: Arc<Mutex<HashSet<TableId>>>,
}

/// Why there is no place for a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// The worker is at its limit.
    Full,
    /// The table has a place already.
    Held,
}

impl Worker {
    pub(super) fn new(
        config: WorkerConfig,
        bus: Bus,
        catalog: Catalog,
        (clock, entropy): (Clock, Entropy),
        stop: CancellationToken,
    ) -> Self {
        let made_up = || {
            let name = format!("w-{:016x}", u64::from_le_bytes(entropy.bytes()));
            name.parse().expect("hexadecimal digits are a worker id")
        };
        Self {
            id: config.worker_id.clone().unwrap_or_else(made_up),
            config: Arc::new(config),
            bus,
            catalog,
            clock,
            entropy,
            lobby: LobbyLines::default(),
            gateways: Gateways::default(),
            actors: TaskTracker::new(),
            stop,
            places: Arc::default(),
        }
    }

    /// The outside facts of a decision made at this moment.
    pub(super) fn turn(&self) -> TurnContext {
        self.entropy.turn(self.clock.now())
    }

    pub(super) fn now(&self) -> Now {
        Now { clock: self.clock.now(), timer: Instant::now() }
    }

    pub(super) fn tables(&self) -> usize {
        self.places().len()
    }

    /// Room for one more table, until the returned place is dropped.
    pub(super) fn take_place(&self, table: TableId) -> Result<Place, NoPlace> {
        let mut places = self.places();
        let room = places.len() < self.config.tables_max;
        if places.contains(&table) {
            return Err(NoPlace::Held);
        }
        if !room {
            return Err(NoPlace::Full);
        }
        places.insert(table);
        show(places.len());
        drop(places);
        Ok(Place { worker: self.clone(), table })
    }

    fn places(&self) -> MutexGuard<'_, HashSet<TableId>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One table's place in this worker. Dropping it forgets the table.
#[derive(Debug)]
pub(super) struct Place {
    worker: Worker,
    table: TableId,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.worker.places();
        places.remove(&self.table);
        show(places.len());
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge of at most some thousands")]
fn show(tables: usize) {
    gauge!("tablecast_worker_tables").set(tables as f64);
}
