//! The event log in memory: fenced appends, copies for followers, markers, tombstones that expire.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU16;
use std::sync::MutexGuard;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use super::super::{Append, AppendError, Entry, EventLog, ReadError, Stored};
use super::{Connection, Faults, SUBSCRIPTION_CAPACITY, arrivals};
use crate::domain::{StreamSeq, TableId, Timestamp};
use crate::protocol::subject::{self, Address};
use crate::runtime::clock::Clock;

/// The largest payload that is stored, as in `nats/streams/events.json`.
const PAYLOAD_MAX: usize = 256 * 1024;

/// As on NATS: how long an unknown result is looked into, and the time from one try to the next.
const APPEND_PATIENCE: Duration = Duration::from_secs(10);
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// All streams.
#[derive(Debug)]
pub(super) struct Streams {
    clock: Clock,
    created_at: Timestamp,
    shards: Vec<Shard>,
    /// Copies of what cannot be read, by stream and position, with the reason.
    dead: BTreeMap<(u16, StreamSeq), (Entry, String)>,
}

#[derive(Debug, Default)]
struct Shard {
    last: StreamSeq,
    subjects: HashMap<(On, TableId), Vec<Message>>,
    /// All markers, in order.
    markers: BTreeMap<StreamSeq, Entry>,
    followers: HashMap<TableId, Vec<Follower>>,
}

/// The two subjects of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum On {
    Evt,
    Done,
}

#[derive(Clone, Debug)]
struct Message {
    entry: Entry,
    expires_at: Option<Instant>,
}

#[derive(Debug)]
struct Follower {
    copies: mpsc::Sender<(Instant, Entry)>,
    faults: Faults,
}

/// One message to be stored.
#[derive(Clone, Debug)]
struct Publication {
    address: Address,
    on: On,
    what: Stored,
    id: String,
    after: Option<StreamSeq>,
    /// Replaces all on its subject, and expires after this.
    roll_up: Option<Duration>,
    payload: Bytes,
}

impl Streams {
    pub(super) fn new(shards: NonZeroU16, clock: Clock) -> Self {
        Self {
            clock,
            created_at: clock.now(),
            shards: (0..shards.get()).map(|_| Shard::default()).collect(),
            dead: BTreeMap::new(),
        }
    }

    pub(super) fn dead_letters(&self) -> Vec<(Entry, String)> {
        self.dead.values().cloned().collect()
    }

    fn shard(&mut self, shard: u16) -> Result<&mut Shard, ReadError> {
        let found = self.shards.get_mut(usize::from(shard));
        found.ok_or_else(|| ReadError::NoStream {
            stream: subject::events_stream(shard),
        })
    }

    fn store(&mut self, publication: &Publication) -> Result<StreamSeq, AppendError> {
        let table = publication.address.table;
        let refused = |reason: &str| AppendError::Refused {
            table,
            reason: reason.to_owned(),
        };
        if publication.payload.len() > PAYLOAD_MAX {
            return Err(refused("message size exceeds maximum allowed"));
        }
        let stored_at = self.clock.now();
        self.shard(publication.address.shard)
            .map_err(|error| refused(&error.to_string()))?
            .store(publication, stored_at)
    }
}

impl Shard {
    /// What stands on a subject at this moment.
    fn on(&mut self, on: On, table: TableId) -> &mut Vec<Message> {
        let messages = self.subjects.entry((on, table)).or_default();
        let now = Instant::now();
        messages.retain(|message| message.expires_at.is_none_or(|at| at > now));
        messages
    }

    fn store(
        &mut self,
        publication: &Publication,
        stored_at: Timestamp,
    ) -> Result<StreamSeq, AppendError> {
        let table = publication.address.table;
        let seq = self.last.next();
        let messages = self.on(publication.on, table);
        let last = messages
            .last()
            .map_or(StreamSeq::ZERO, |last| last.entry.seq);
        if let Some(after) = publication.after
            && after != last
        {
            // Our own message may be what is in the way.
            let next = messages.iter().find(|message| message.entry.seq > after);
            return match next {
                Some(next) if next.entry.id.as_ref() == Some(&publication.id) => Ok(next.entry.seq),
                _ => Err(AppendError::Fenced { table }),
            };
        }
        let entry = Entry {
            address: publication.address.clone(),
            seq,
            previous: last,
            id: Some(publication.id.clone()),
            what: publication.what,
            stored_at,
            payload: publication.payload.clone(),
        };
        let replaced: Vec<StreamSeq> = match publication.roll_up {
            Some(_) => messages
                .drain(..)
                .map(|message| message.entry.seq)
                .collect(),
            None => Vec::new(),
        };
        messages.push(Message {
            entry: entry.clone(),
            expires_at: publication.roll_up.map(|ttl| Instant::now() + ttl),
        });
        self.last = seq;
        match publication.on {
            On::Evt => self.copy_to_followers(&entry),
            On::Done => {
                for seq in replaced {
                    self.markers.remove(&seq);
                }
                if publication.what == Stored::Marker {
                    self.markers.insert(seq, entry);
                }
            }
        }
        Ok(seq)
    }

    fn copy_to_followers(&mut self, entry: &Entry) {
        let Some(followers) = self.followers.get_mut(&entry.address.table) else {
            return;
        };
        followers.retain(|follower| !follower.copies.is_closed());
        for follower in followers {
            if let Some(arrival) = follower.faults.live_arrival() {
                // A full one misses it, and sees the gap.
                follower.copies.try_send((arrival, entry.clone())).ok();
            }
        }
    }
}

/// The event log, as one process sees it.
#[derive(Debug)]
pub(super) struct MemoryLog {
    connection: Connection,
}

impl MemoryLog {
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection }
    }

    fn streams(&self) -> MutexGuard<'_, Streams> {
        let streams = self.connection.network.log.lock();
        streams.expect("nothing panics with the streams")
    }

    /// Tries until the result is known, as on NATS.
    async fn publish(&self, publication: Publication) -> Result<StreamSeq, AppendError> {
        let table = publication.address.table;
        let faults = &self.connection.faults;
        let deadline = Instant::now() + APPEND_PATIENCE;
        loop {
            faults.travel().await;
            if !faults.is_outage() {
                if faults.is_full() {
                    return Err(AppendError::Refused {
                        table,
                        reason: "maximum bytes exceeded".to_owned(),
                    });
                }
                let stored = self.streams().store(&publication);
                self.connection.network.changed.send_replace(());
                if !faults.loses_ack() {
                    return stored;
                }
            }
            if Instant::now() + RETRY_PAUSE >= deadline {
                return Err(AppendError::Unavailable { table });
            }
            sleep(RETRY_PAUSE).await;
        }
    }

    async fn reach(&self) -> Result<(), ReadError> {
        self.connection.faults.travel().await;
        if self.connection.faults.is_outage() {
            return Err(outage());
        }
        Ok(())
    }
}

fn outage() -> ReadError {
    ReadError::Unavailable {
        reason: "there is an outage".to_owned(),
    }
}

#[async_trait]
impl EventLog for MemoryLog {
    fn shards(&self) -> NonZeroU16 {
        self.connection.network.shards
    }

    async fn append(&self, append: Append) -> Result<StreamSeq, AppendError> {
        self.publish(Publication {
            address: append.address,
            on: On::Evt,
            what: Stored::Commit,
            id: append.id,
            after: Some(append.after),
            roll_up: None,
            payload: append.payload,
        })
        .await
    }

    async fn read(&self, table: TableId, from: StreamSeq) -> Result<Vec<Entry>, ReadError> {
        self.reach().await?;
        let mut streams = self.streams();
        let messages = streams
            .shard(table.shard(self.shards()))?
            .on(On::Evt, table);
        let mut previous = StreamSeq::ZERO;
        Ok(messages
            .iter()
            .filter(|message| message.entry.seq >= from)
            .map(|message| {
                let mut entry = message.entry.clone();
                entry.previous = std::mem::replace(&mut previous, entry.seq);
                entry
            })
            .collect())
    }

    async fn follow(&self, table: TableId) -> Result<BoxStream<'static, Entry>, ReadError> {
        self.reach().await?;
        let (copies, received) = mpsc::channel(SUBSCRIPTION_CAPACITY);
        let mut streams = self.streams();
        let shard = streams.shard(table.shard(self.shards()))?;
        shard.followers.entry(table).or_default().push(Follower {
            copies,
            faults: self.connection.faults.clone(),
        });
        let entries = arrivals(received).then(|(arrival, entry)| async move {
            sleep_until(arrival).await;
            entry
        });
        Ok(entries.boxed())
    }

    async fn complete(&self, address: &Address, marker: Bytes) -> Result<(), AppendError> {
        let stored = self
            .publish(Publication {
                address: address.clone(),
                on: On::Done,
                what: Stored::Marker,
                id: format!("{}:done", address.table),
                after: Some(StreamSeq::ZERO),
                roll_up: None,
                payload: marker,
            })
            .await;
        match stored {
            Ok(_) | Err(AppendError::Fenced { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn markers(
        &self,
        shard: u16,
        from: StreamSeq,
    ) -> Result<BoxStream<'static, Result<Entry, ReadError>>, ReadError> {
        self.reach().await?;
        self.streams().shard(shard)?;
        Ok(markers(self.connection.clone(), shard, from))
    }

    async fn bury(
        &self,
        address: &Address,
        after: StreamSeq,
        tombstone: Bytes,
        ttl: Duration,
    ) -> Result<StreamSeq, AppendError> {
        let tombstone = Publication {
            address: address.clone(),
            on: On::Evt,
            what: Stored::Tombstone,
            id: format!("{}:archived", address.table),
            after: Some(after),
            roll_up: Some(ttl),
            payload: tombstone,
        };
        let marker = Publication {
            on: On::Done,
            id: format!("{}:done-archived", address.table),
            after: None,
            payload: Bytes::new(),
            ..tombstone.clone()
        };
        let stored = self.publish(tombstone).await?;
        self.publish(marker).await?;
        Ok(stored)
    }

    async fn set_aside(&self, shard: u16, entry: &Entry, reason: &str) -> Result<(), AppendError> {
        self.connection.faults.travel().await;
        if self.connection.faults.is_outage() {
            return Err(AppendError::Unavailable {
                table: entry.address.table,
            });
        }
        let mut streams = self.streams();
        let copy = streams.dead.entry((shard, entry.seq));
        copy.or_insert_with(|| (entry.clone(), reason.to_owned()));
        Ok(())
    }

    async fn created_at(&self, shard: u16) -> Result<Timestamp, ReadError> {
        self.reach().await?;
        let mut streams = self.streams();
        streams.shard(shard)?;
        Ok(streams.created_at)
    }
}

/// What is there at or after `next`, one by one, then what comes; until there is an outage.
fn markers(
    connection: Connection,
    shard: u16,
    next: StreamSeq,
) -> BoxStream<'static, Result<Entry, ReadError>> {
    let changed = connection.network.changed.subscribe();
    stream::unfold(Some((connection, changed, next)), move |state| async move {
        let (connection, mut changed, next) = state?;
        loop {
            changed.mark_unchanged();
            if connection.faults.is_outage() {
                return Some((Err(outage()), None));
            }
            let found = {
                let mut streams = connection
                    .network
                    .log
                    .lock()
                    .expect("nothing panics with the streams");
                let shard = streams
                    .shard(shard)
                    .expect("checked when the reading began");
                shard
                    .markers
                    .range(next..)
                    .next()
                    .map(|(_, entry)| entry.clone())
            };
            if let Some(entry) = found {
                let next = entry.seq.next();
                return Some((Ok(entry), Some((connection, changed, next))));
            }
            changed.changed().await.ok()?;
        }
    })
    .boxed()
}
