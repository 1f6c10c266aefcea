//! The event log in memory, as one process sees it.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::time::{Instant, sleep, sleep_until};

use super::super::{Append, AppendError, Entry, EventLog, ReadError, Stored};
use super::streams::{On, Publication, Shard};
use super::{APPEND_PATIENCE, Connection, RETRY_PAUSE, arrivals, outage};
use crate::domain::{Kind, StreamSeq, TableId, Timestamp};
use crate::protocol::subject::Address;

/// The event log, as one process sees it.
#[derive(Debug)]
pub(super) struct MemoryLog {
    connection: Connection,
}

impl MemoryLog {
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection }
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
                    // What is there already needs no room.
                    if let Some(stored) = self.connection.streams().find(&publication) {
                        return Ok(stored);
                    }
                    return Err(AppendError::Refused {
                        table,
                        reason: "maximum bytes exceeded".to_owned(),
                    });
                }
                let stored = self.connection.streams().store(&publication);
                self.connection.network.changed.set(());
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
            worker: Some(append.worker),
            after: Some(append.after),
            roll_up: None,
            payload: append.payload,
        })
        .await
    }

    async fn read(&self, table: TableId, from: StreamSeq) -> Result<Vec<Entry>, ReadError> {
        self.reach().await?;
        self.connection.faults.count_read();
        let mut streams = self.connection.streams();
        let shard = streams.shard(table.shard(self.shards()))?;
        Ok(shard.entries(table, from))
    }

    async fn last(&self, address: &Address) -> Result<StreamSeq, ReadError> {
        let mut entries = self.read(address.table, StreamSeq::ZERO).await?;
        entries.retain(|entry| entry.address == *address);
        Ok(entries.last().map_or(StreamSeq::ZERO, |entry| entry.seq))
    }

    async fn follow(&self, table: TableId) -> Result<BoxStream<'static, Entry>, ReadError> {
        self.reach().await?;
        let mut streams = self.connection.streams();
        let shard = streams.shard(table.shard(self.shards()))?;
        let received = shard.follow(table, self.connection.faults.clone());
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
                worker: None,
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
        self.connection.streams().shard(shard)?;
        Ok(entries(self.connection.clone(), shard, from, |shard, from| shard.marker(from)))
    }

    async fn commits(
        &self,
        shard: u16,
        kind: &Kind,
        from: StreamSeq,
    ) -> Result<BoxStream<'static, Result<Entry, ReadError>>, ReadError> {
        self.reach().await?;
        self.connection.streams().shard(shard)?;
        let kind = kind.clone();
        let next = move |shard: &Shard, from| shard.commit_of(&kind, from);
        Ok(entries(self.connection.clone(), shard, from, next))
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
            worker: None,
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
            return Err(AppendError::Unavailable { table: entry.address.table });
        }
        self.connection.streams().set_aside(shard, entry, reason);
        Ok(())
    }

    async fn created_at(&self, shard: u16) -> Result<Timestamp, ReadError> {
        self.reach().await?;
        let mut streams = self.connection.streams();
        streams.shard(shard)?;
        Ok(streams.created_at)
    }
}

/// What `next` finds at or after a position, one by one, then what comes; until there is an outage.
fn entries(
    connection: Connection,
    shard: u16,
    from: StreamSeq,
    next: impl Fn(&Shard, StreamSeq) -> Option<Entry> + Send + Sync + 'static,
) -> BoxStream<'static, Result<Entry, ReadError>> {
    let changed = connection.network.changed.watch();
    let next = Arc::new(next);
    stream::unfold(Some((connection, changed, from)), move |state| {
        let next = Arc::clone(&next);
        async move {
            let (connection, mut changed, from) = state?;
            loop {
                changed.skip();
                if connection.faults.is_outage() {
                    return Some((Err(outage()), None));
                }
                let found = {
                    let mut streams = connection.streams();
                    let shard = streams.shard(shard).ok()?;
                    next(shard, from)
                };
                if let Some(entry) = found {
                    let from = entry.seq.next();
                    return Some((Ok(entry), Some((connection, changed, from))));
                }
                changed.changed().await;
            }
        }
    })
    .boxed()
}
