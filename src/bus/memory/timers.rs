//! Alarms in memory: due on tokio's clock to the millisecond, each ring for one listener at a time.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::sync::MutexGuard;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::time::{Instant, sleep_until};

use super::super::{AppendError, ReadError, Settle, SettleBy, Timers, Wake};
use super::{Connection, outage};
use crate::domain::{TableId, Timestamp};
use crate::protocol::subject::{self, Address};
use crate::runtime::clock::Clock;

/// How long a listener has for a ring before another hears it, as in `nats/consumers/wakers.json`.
const ACK_WAIT: Duration = Duration::from_secs(10);

/// The alarms of all shards.
#[derive(Debug)]
pub(super) struct Alarms {
    clock: Clock,
    shards: Vec<Shard>,
    rings: u64,
}

#[derive(Debug, Default)]
struct Shard {
    armed: BTreeMap<TableId, (Address, Instant)>,
    rung: BTreeMap<TableId, Rung>,
}

/// An alarm that rang and is not settled.
#[derive(Debug)]
struct Rung {
    address: Address,
    /// Tells it from the next one of the same table, which replaces it.
    number: u64,
    /// When somebody may hear it.
    heard_from: Instant,
}

impl Alarms {
    pub(super) fn new(shards: NonZeroU16, clock: Clock) -> Self {
        Self { clock, shards: (0..shards.get()).map(|_| Shard::default()).collect(), rings: 0 }
    }

    fn shard(&mut self, shard: u16) -> Option<&mut Shard> {
        self.shards.get_mut(usize::from(shard))
    }

    /// An alarm that rings at this moment, from now on its listener's for a while; else when to look again.
    fn next(&mut self, shard: u16, now: Instant) -> Result<(Address, u64), Option<Instant>> {
        let Some(Shard { armed, rung }) = self.shards.get_mut(usize::from(shard)) else {
            return Err(None);
        };
        let due = |(_, at): &mut (Address, Instant)| *at <= now;
        for (table, (address, heard_from)) in armed.extract_if(.., |_, alarm| due(alarm)) {
            self.rings += 1;
            rung.insert(table, Rung { address, number: self.rings, heard_from });
        }
        let first = rung.values_mut().min_by_key(|rung| (rung.heard_from, rung.number));
        if let Some(first) = first.filter(|first| first.heard_from <= now) {
            first.heard_from = now + ACK_WAIT;
            return Ok((first.address.clone(), first.number));
        }
        let armed = armed.values().map(|(_, at)| *at);
        Err(armed.chain(rung.values().map(|rung| rung.heard_from)).min())
    }
}

/// One ring, as its listener holds it.
#[derive(Debug)]
pub(crate) struct Ring {
    connection: Connection,
    address: Address,
    number: u64,
}

impl Ring {
    pub(crate) fn done(self) {
        self.settle(|rung, table| drop(rung.remove(&table)));
    }

    pub(crate) fn later(self, wait: Duration) {
        self.settle(|rung, table| {
            if let Some(rung) = rung.get_mut(&table) {
                rung.heard_from = Instant::now() + wait;
            }
        });
    }

    /// Lost in an outage, as an acknowledgement is; without effect once another ring has followed.
    fn settle(&self, settle: impl FnOnce(&mut BTreeMap<TableId, Rung>, TableId)) {
        if self.connection.faults.is_outage() {
            return;
        }
        let table = self.address.table;
        if let Some(Shard { rung, .. }) = self.connection.alarms().shard(self.address.shard)
            && rung.get(&table).is_some_and(|rung| rung.number == self.number)
        {
            settle(rung, table);
        }
        self.connection.network.changed.set(());
    }
}

/// Alarms, as one process sets and hears them.
#[derive(Debug)]
pub(super) struct MemoryTimers {
    connection: Connection,
}

impl MemoryTimers {
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection }
    }
}

impl Connection {
    fn alarms(&self) -> MutexGuard<'_, Alarms> {
        let alarms = self.network.alarms.lock();
        alarms.expect("nothing panics with the alarms")
    }
}

#[async_trait]
impl Timers for MemoryTimers {
    async fn arm(&self, address: &Address, at: Timestamp) -> Result<(), AppendError> {
        let table = address.table;
        self.connection.arrive(table).await?;
        let mut alarms = self.connection.alarms();
        let wait = at.millis_since(alarms.clock.now());
        let alarm = (address.clone(), Instant::now() + Duration::from_millis(wait));
        let Some(shard) = alarms.shard(address.shard) else {
            let stream = subject::timers_stream(address.shard);
            let reason = ReadError::NoStream { stream }.to_string();
            return Err(AppendError::Refused { table, reason });
        };
        shard.armed.insert(table, alarm);
        self.connection.network.changed.set(());
        Ok(())
    }

    async fn disarm(&self, address: &Address) -> Result<(), AppendError> {
        self.connection.arrive(address.table).await?;
        if let Some(shard) = self.connection.alarms().shard(address.shard) {
            shard.armed.remove(&address.table);
        }
        Ok(())
    }

    async fn wakes(&self, shard: u16) -> Result<BoxStream<'static, Wake>, ReadError> {
        let connection = self.connection.clone();
        connection.faults.travel().await;
        if connection.faults.is_outage() {
            return Err(outage());
        }
        if connection.alarms().shard(shard).is_none() {
            return Err(ReadError::NoStream { stream: subject::timers_stream(shard) });
        }
        let changed = connection.network.changed.watch();
        let wakes =
            stream::unfold((connection, changed), move |(connection, mut changed)| async move {
                loop {
                    changed.skip();
                    if connection.faults.is_outage() {
                        return None;
                    }
                    let next = connection.alarms().next(shard, Instant::now());
                    let look_again = match next {
                        Ok((address, number)) => {
                            let wake = wake(&connection, address, number);
                            return Some((wake, (connection, changed)));
                        }
                        Err(look_again) => look_again,
                    };
                    let due = async {
                        match look_again {
                            Some(at) => sleep_until(at).await,
                            None => std::future::pending().await,
                        }
                    };
                    tokio::select! {
                        biased;
                        () = due => {}
                        () = changed.changed() => {}
                    }
                }
            });
        Ok(wakes.boxed())
    }
}

fn wake(connection: &Connection, address: Address, number: u64) -> Wake {
    let ring = Ring { connection: connection.clone(), address: address.clone(), number };
    Wake { address, settle: Settle(SettleBy::Memory(ring)) }
}
