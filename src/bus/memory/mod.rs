//! The bus within one process: the same promises, no server, tokio's clock, and faults on demand.

mod lobby;
mod log;
mod mail;
mod snapshots;
mod streams;
mod timers;

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::{AppendError, Bus, Entry, ReadError};
use crate::domain::TableId;
use crate::runtime::clock::Clock;
use crate::runtime::watched::Watched;

pub(crate) use timers::Ring;

/// What waits in one subscription. A full one drops, as a NATS client does.
const SUBSCRIPTION_CAPACITY: usize = 1024;

/// As on NATS: how long an unknown result is looked into, and the time from one try to the next.
const APPEND_PATIENCE: Duration = Duration::from_secs(15);
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// What all processes of a simulation share: the part of NATS.
#[derive(Debug)]
pub struct Network {
    shards: NonZeroU16,
    log: Mutex<streams::Streams>,
    mail: Mutex<mail::Subscriptions>,
    lobby: Mutex<lobby::Lines>,
    snapshots: Mutex<BTreeMap<TableId, Bytes>>,
    alarms: Mutex<timers::Alarms>,
    /// Something happened that readers of markers or listeners to alarms wait for.
    changed: Watched<()>,
}

/// One process's connection to the network.
#[derive(Clone, Debug)]
struct Connection {
    network: Arc<Network>,
    faults: Faults,
}

impl Connection {
    fn streams(&self) -> MutexGuard<'_, streams::Streams> {
        let streams = self.network.log.lock();
        streams.expect("nothing panics with the streams")
    }

    /// Sends what is to be stored, again and again while there is an outage, as on NATS.
    async fn arrive(&self, table: TableId) -> Result<(), AppendError> {
        let deadline = Instant::now() + APPEND_PATIENCE;
        loop {
            self.faults.travel().await;
            if !self.faults.is_outage() {
                return Ok(());
            }
            if Instant::now() + RETRY_PAUSE >= deadline {
                return Err(AppendError::Unavailable { table });
            }
            sleep(RETRY_PAUSE).await;
        }
    }
}

fn outage() -> ReadError {
    ReadError::Unavailable { reason: "there is an outage".to_owned() }
}

/// What goes wrong on one connection. Nothing, at first.
#[derive(Clone, Debug)]
pub struct Faults {
    switches: Arc<Mutex<Switches>>,
    changed: Watched<()>,
}

#[derive(Debug, Default)]
struct Switches {
    outage: bool,
    /// Outages that are over.
    mended: u64,
    full: bool,
    delay: Duration,
    live_delay: Duration,
    acks_to_lose: u32,
    copies_to_drop: u32,
    reads: u64,
}

/// A network with one connection, on the system's clock.
pub fn bus(shards: NonZeroU16) -> (Bus, Faults) {
    Network::new(shards, Clock::System).connect()
}

impl Network {
    /// Nothing stored, nobody there.
    pub fn new(shards: NonZeroU16, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            shards,
            log: Mutex::new(streams::Streams::new(shards, clock)),
            mail: Mutex::default(),
            lobby: Mutex::default(),
            snapshots: Mutex::default(),
            alarms: Mutex::new(timers::Alarms::new(shards, clock)),
            changed: Watched::default(),
        })
    }

    /// What has been set aside, with the reasons.
    ///
    /// # Panics
    /// If another thread has panicked with the streams.
    pub fn dead_letters(&self) -> Vec<(Entry, String)> {
        let log = self.log.lock().expect("nothing panics with the streams");
        log.dead_letters()
    }

    /// A process joins.
    pub fn connect(self: &Arc<Self>) -> (Bus, Faults) {
        let faults = Faults { switches: Arc::default(), changed: self.changed.clone() };
        let connection = Connection { network: Arc::clone(self), faults: faults.clone() };
        let bus = Bus {
            log: Arc::new(log::MemoryLog::new(connection.clone())),
            mail: Arc::new(mail::MemoryMail::new(connection.clone())),
            lobby: Arc::new(lobby::MemoryLobby::new(connection.clone())),
            snapshots: Arc::new(snapshots::MemorySnapshots::new(connection.clone())),
            timers: Arc::new(timers::MemoryTimers::new(connection)),
        };
        (bus, faults)
    }
}

impl Faults {
    /// Cuts the connection, or mends it: nothing gets through in either direction.
    pub fn set_outage(&self, outage: bool) {
        let mut switches = self.switches();
        let is_mended = std::mem::replace(&mut switches.outage, outage) && !outage;
        switches.mended += u64::from(is_mended);
        drop(switches);
        self.changed.set(());
    }

    /// Makes the log refuse whatever is to be stored, as a full stream does.
    pub fn set_full(&self, full: bool) {
        self.switches().full = full;
    }

    /// How often the log was read by this connection.
    pub fn reads(&self) -> u64 {
        self.switches().reads
    }

    pub(super) fn count_read(&self) {
        self.switches().reads += 1;
    }

    /// Makes everything that is sent take this long to arrive.
    pub fn set_delay(&self, delay: Duration) {
        self.switches().delay = delay;
    }

    /// Makes followed messages come this long after they were stored.
    pub fn set_live_delay(&self, delay: Duration) {
        self.switches().live_delay = delay;
    }

    /// Stores what comes next so many times without saying so; the log's own retry finds out.
    pub fn lose_acks(&self, count: u32) {
        self.switches().acks_to_lose += count;
    }

    /// Loses this many of the next followed messages: a gap for who follows.
    pub fn drop_live(&self, count: u32) {
        self.switches().copies_to_drop += count;
    }

    fn switches(&self) -> MutexGuard<'_, Switches> {
        self.switches.lock().expect("nothing panics with the switches")
    }

    fn is_outage(&self) -> bool {
        self.switches().outage
    }

    fn connects(&self) -> u64 {
        1 + self.switches().mended
    }

    fn is_full(&self) -> bool {
        self.switches().full
    }

    /// Takes as long as sending does at this moment.
    async fn travel(&self) {
        let delay = self.switches().delay;
        if !delay.is_zero() {
            sleep(delay).await;
        }
    }

    fn loses_ack(&self) -> bool {
        take_one(&mut self.switches().acks_to_lose)
    }

    /// When a copy sent now arrives; never, if it is to be dropped.
    fn live_arrival(&self) -> Option<Instant> {
        let mut switches = self.switches();
        if switches.outage || take_one(&mut switches.copies_to_drop) {
            return None;
        }
        Some(Instant::now() + switches.live_delay)
    }
}

fn take_one(count: &mut u32) -> bool {
    let any = *count > 0;
    *count = count.saturating_sub(1);
    any
}

/// What arrives on a subscription, until both ends let go of it.
fn arrivals<T: Send + 'static>(receiver: mpsc::Receiver<T>) -> BoxStream<'static, T> {
    stream::unfold(receiver, |mut receiver| async move {
        let item = receiver.recv().await?;
        Some((item, receiver))
    })
    .boxed()
}
