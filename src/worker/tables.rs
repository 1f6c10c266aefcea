//! Which tables this worker owns, and what every one of them needs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::gauge;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::WorkerConfig;
use super::agenda::Now;
use super::alarms::Alarms;
use super::lobby::LobbyLines;
use super::peers::Peers;
use super::presence::News;
use crate::bus::Bus;
use crate::catalog::Catalog;
use crate::domain::{TableId, TurnContext, WorkerId};
use crate::protocol::request::PresenceNotice;
use crate::runtime::clock::Clock;
use crate::runtime::entropy::Entropy;
use crate::runtime::process::of_this;
use crate::runtime::watched::{Watched, Watcher};

/// How many snapshots are on their way at a time, and how many tables change hands when the worker stops.
const SNAPSHOTS_AT_ONCE: usize = 8;
const HANDOVERS_AT_ONCE: usize = 32;

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
    pub(super) alarms: Alarms,
    pub(super) peers: Peers,
    pub(super) actors: TaskTracker,
    /// Tables are to be handed over or let go.
    pub(super) stop: CancellationToken,
    /// The time for handing over is up.
    pub(super) overdue: CancellationToken,
    /// No table is left.
    pub(super) gone: CancellationToken,
    pub(super) snapshots_at_once: Arc<Semaphore>,
    pub(super) handovers_at_once: Arc<Semaphore>,
    places: Arc<Mutex<Places>>,
    /// How much room there is. Whoever waits for room, or for the want of it, watches this.
    room: Watched<Room>,
}

/// How much room a worker has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Room {
    /// No further table has a place.
    pub(super) tables_full: bool,
    /// The process holds more memory than it may: idle tables are to sleep.
    pub(super) memory_full: bool,
}

impl Room {
    pub(super) fn is_full(self) -> bool {
        self.tables_full || self.memory_full
    }
}

#[derive(Debug, Default)]
struct Places {
    tables: BTreeMap<TableId, Arc<News>>,
    asleep: usize,
}

/// Why there is no place for a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// The worker is at its limit of tables or of memory.
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
            alarms: Alarms::default(),
            peers: Peers::default(),
            actors: TaskTracker::new(),
            stop,
            overdue: CancellationToken::new(),
            gone: CancellationToken::new(),
            snapshots_at_once: Arc::new(Semaphore::new(SNAPSHOTS_AT_ONCE)),
            handovers_at_once: Arc::new(Semaphore::new(HANDOVERS_AT_ONCE)),
            places: Arc::default(),
            room: Watched::default(),
        }
    }

    /// The outside facts of a decision made at this moment.
    pub(super) fn turn(&self) -> TurnContext {
        self.entropy.turn(self.clock.now())
    }

    pub(super) fn now(&self) -> Now {
        Now { clock: self.clock.now(), timer: Instant::now() }
    }

    /// Lets a part of this worker run by itself.
    pub(super) fn spawn(&self, part: impl Future<Output = ()> + Send + 'static) {
        self.actors.spawn(of_this(part));
    }

    pub(super) fn tables(&self) -> usize {
        self.places().tables.len()
    }

    /// News of a player, for the table if it is here.
    pub(super) fn tell(&self, notice: PresenceNotice) {
        self.peers.note_gateway(&notice.gateway, self.now());
        if let Some(news) = self.places().tables.get(&notice.table) {
            news.push(notice);
        }
    }

    pub(super) fn room(&self) -> Watcher<Room> {
        self.room.watch()
    }

    /// Says whether the process holds more memory than it may.
    pub(super) fn set_memory_full(&self, memory_full: bool) {
        self.room
            .change(|room| std::mem::replace(&mut room.memory_full, memory_full) != memory_full);
    }

    /// Room for one more table, until the returned place is dropped.
    pub(super) fn take_place(&self, table: TableId) -> Result<Place, NoPlace> {
        let memory_full = self.room.get().memory_full;
        let mut places = self.places();
        if places.tables.contains_key(&table) {
            return Err(NoPlace::Held);
        }
        if memory_full || places.tables.len() >= self.config.tables_max {
            return Err(NoPlace::Full);
        }
        let news = Arc::<News>::default();
        places.tables.insert(table, Arc::clone(&news));
        self.show(&places);
        drop(places);
        Ok(Place { worker: self.clone(), table, news })
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[expect(clippy::cast_precision_loss, reason = "gauges of at most some thousands")]
    fn show(&self, places: &Places) {
        let (tables, asleep) = (places.tables.len(), places.asleep);
        gauge!("tablecast_worker_tables").set(tables as f64);
        gauge!("tablecast_worker_tables_asleep").set(asleep as f64);
        // Room for a few, before work is taken again: else it would be taken and left table by table.
        let (limit, spare) = (self.config.tables_max, self.config.tables_max / 100);
        self.room.change(|room| {
            let tables_full = tables >= limit || (room.tables_full && tables + spare >= limit);
            std::mem::replace(&mut room.tables_full, tables_full) != tables_full
        });
    }
}

/// One table's place in this worker. Dropping it forgets the table.
#[derive(Debug)]
pub(super) struct Place {
    worker: Worker,
    table: TableId,
    pub(super) news: Arc<News>,
}

impl Place {
    /// Counts the table as asleep until the returned guard is dropped.
    pub(super) fn sleep(&self) -> Asleep {
        let mut places = self.worker.places();
        places.asleep += 1;
        self.worker.show(&places);
        Asleep(self.worker.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.worker.places();
        places.tables.remove(&self.table);
        self.worker.show(&places);
    }
}

/// A table that is asleep.
#[derive(Debug)]
pub(super) struct Asleep(Worker);

impl Drop for Asleep {
    fn drop(&mut self) {
        let mut places = self.0.places();
        places.asleep -= 1;
        self.0.show(&places);
    }
}
