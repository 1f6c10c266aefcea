//! Which tables this worker owns, and what every one of them needs.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use metrics::gauge;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::WorkerConfig;
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
    pub(super) actors: TaskTracker,
    pub(super) stop: CancellationToken,
    owned: Arc<Mutex<HashSet<TableId>>>,
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
            actors: TaskTracker::new(),
            stop,
            owned: Arc::default(),
        }
    }

    /// The outside facts of a decision made at this moment.
    pub(super) fn turn(&self) -> TurnContext {
        self.entropy.turn(self.clock.now())
    }

    pub(super) fn owns(&self, table: TableId) -> bool {
        self.owned
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(&table)
    }

    pub(super) fn tables(&self) -> usize {
        self.owned
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// Room for one more table, until the returned place is dropped. Nothing if there is none, or if the
    /// table has one already.
    pub(super) fn take_place(&self, table: TableId) -> Option<Place> {
        let mut owned = self.owned.lock().unwrap_or_else(PoisonError::into_inner);
        if owned.len() >= self.config.tables_max || !owned.insert(table) {
            return None;
        }
        #[expect(
            clippy::cast_precision_loss,
            reason = "a gauge of at most some thousands"
        )]
        gauge!("tablecast_worker_tables").set(owned.len() as f64);
        drop(owned);
        Some(Place {
            worker: self.clone(),
            table,
        })
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
        let mut owned = self
            .worker
            .owned
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        owned.remove(&self.table);
        #[expect(
            clippy::cast_precision_loss,
            reason = "a gauge of at most some thousands"
        )]
        gauge!("tablecast_worker_tables").set(owned.len() as f64);
    }
}
