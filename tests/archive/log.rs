//! An event log in memory that checks what the archiver does to it.

use std::collections::HashMap;
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, stream};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tablecast::bus::{Append, AppendError, Entry, EventLog, ReadError, Stored};
use tablecast::domain::{Kind, StreamSeq, TableId, Timestamp};
use tablecast::protocol::envelope::{Message, Tombstone};
use tablecast::protocol::subject::Address;
use tablecast::runtime::clock::Clock;
use tokio::sync::Notify;

use crate::objects;

/// The log that all archivers of a history share.
#[derive(Debug)]
pub(crate) struct TestLog {
    clock: Clock,
    shards: NonZeroU16,
    /// Where the objects really are, to see whether a burial is allowed.
    store: Arc<dyn ObjectStore>,
    /// Which tables an object holds. Objects never change.
    seen: Mutex<HashMap<String, Vec<TableId>>>,
    streams: Vec<Mutex<Stream>>,
    appended: Notify,
}

#[derive(Debug)]
struct Stream {
    created_at: Timestamp,
    last: u64,
    entries: Vec<Held>,
    markers: Vec<StreamSeq>,
    set_aside: Vec<(StreamSeq, String)>,
    /// Whether no reader sees the commits of a table.
    hidden: Vec<TableId>,
}

#[derive(Debug)]
struct Held {
    entry: Entry,
    expires_at: Option<Timestamp>,
}

impl TestLog {
    pub(crate) fn new(shards: u16, clock: Clock, store: Arc<dyn ObjectStore>) -> Arc<Self> {
        let stream = || Stream {
            created_at: clock.now(),
            last: 0,
            entries: Vec::new(),
            markers: Vec::new(),
            set_aside: Vec::new(),
            hidden: Vec::new(),
        };
        Arc::new(Self {
            clock,
            shards: NonZeroU16::new(shards).expect("at least one"),
            store,
            seen: Mutex::default(),
            streams: (0..shards).map(|_| Mutex::new(stream())).collect(),
            appended: Notify::new(),
        })
    }

    fn with<T>(&self, shard: u16, work: impl FnOnce(&mut Stream) -> T) -> T {
        let mut stream = self.streams[usize::from(shard)].lock().expect("no test panics with it");
        let now = self.clock.now();
        stream.entries.retain(|held| held.expires_at.is_none_or(|at| now < at));
        work(&mut stream)
    }

    /// The tables of an object that must be in the store.
    async fn tables_of(&self, object: &str) -> Vec<TableId> {
        if let Some(tables) = self.seen.lock().expect("no test panics with it").get(object) {
            return tables.clone();
        }
        let found = self.store.get(&Path::from(object)).await;
        let found = found.expect("buried before its object was in the store");
        let tables = objects::tables(&found.bytes().await.expect("readable"));
        let mut seen = self.seen.lock().expect("no test panics with it");
        seen.insert(object.to_owned(), tables.clone());
        tables
    }

    /// Stores anything, as whoever may publish on the subject could.
    pub(crate) fn store(&self, address: &Address, what: Stored, payload: Bytes) -> StreamSeq {
        let seq = self.with(address.shard, |stream| {
            stream.push(address, what, payload, self.clock.now(), None)
        });
        self.appended.notify_waiters();
        seq
    }

    /// Removes a table's commits, as a failing disk or an operator could.
    pub(crate) fn lose(&self, address: &Address) {
        self.with(address.shard, |stream| {
            stream
                .entries
                .retain(|held| held.entry.address != *address || held.entry.what == Stored::Marker);
        });
    }

    /// Makes the table's commits invisible to readers, as on a replica that lags.
    pub(crate) fn hide(&self, address: &Address, hidden: bool) {
        self.with(address.shard, |stream| {
            stream.hidden.retain(|table| *table != address.table);
            if hidden {
                stream.hidden.push(address.table);
            }
        });
    }

    /// Positions of all markers that a shard has ever had.
    pub(crate) fn marker_seqs(&self, shard: u16) -> Vec<StreamSeq> {
        self.with(shard, |stream| stream.markers.clone())
    }

    /// How many commits wait to be buried.
    pub(crate) fn commits(&self, shard: u16) -> usize {
        self.with(shard, |stream| {
            let entries = stream.entries.iter();
            entries.filter(|held| held.entry.what == Stored::Commit).count()
        })
    }

    pub(crate) fn set_aside_of(&self, shard: u16) -> Vec<(StreamSeq, String)> {
        self.with(shard, |stream| stream.set_aside.clone())
    }
}

impl Stream {
    fn push(
        &mut self,
        address: &Address,
        what: Stored,
        payload: Bytes,
        now: Timestamp,
        expires_at: Option<Timestamp>,
    ) -> StreamSeq {
        let is_marker = what == Stored::Marker;
        let previous = self.last_of(address, is_marker);
        self.last += 1;
        let seq = StreamSeq::new(self.last);
        if is_marker {
            self.markers.push(seq);
        }
        self.entries.push(Held {
            entry: Entry {
                address: address.clone(),
                seq,
                previous,
                id: None,
                worker: None,
                what,
                stored_at: now,
                payload,
            },
            expires_at,
        });
        seq
    }

    fn last_of(&self, address: &Address, is_marker: bool) -> StreamSeq {
        let entries = self.entries.iter().map(|held| &held.entry);
        entries
            .filter(|entry| entry.address == *address)
            .filter(|entry| (entry.what == Stored::Marker) == is_marker)
            .map(|entry| entry.seq)
            .max()
            .unwrap_or_default()
    }
}

#[async_trait]
impl EventLog for TestLog {
    fn shards(&self) -> NonZeroU16 {
        self.shards
    }

    async fn append(&self, append: Append) -> Result<StreamSeq, AppendError> {
        Ok(self.store(&append.address, Stored::Commit, append.payload))
    }

    async fn read(&self, table: TableId, from: StreamSeq) -> Result<Vec<Entry>, ReadError> {
        Ok(self.with(table.shard(self.shards), |stream| {
            if stream.hidden.contains(&table) {
                return Vec::new();
            }
            let entries = stream.entries.iter().map(|held| &held.entry);
            entries
                .filter(|entry| entry.address.table == table && entry.what != Stored::Marker)
                .filter(|entry| entry.seq >= from)
                .cloned()
                .collect()
        }))
    }

    async fn last(&self, address: &Address) -> Result<StreamSeq, ReadError> {
        let entries = self.read(address.table, StreamSeq::ZERO).await?;
        Ok(entries.last().map_or(StreamSeq::ZERO, |entry| entry.seq))
    }

    async fn follow(&self, _table: TableId) -> Result<BoxStream<'static, Entry>, ReadError> {
        Ok(stream::pending().boxed())
    }

    async fn complete(&self, address: &Address, marker: Bytes) -> Result<(), AppendError> {
        self.store(address, Stored::Marker, marker);
        Ok(())
    }

    async fn markers(
        &self,
        _shard: u16,
        _from: StreamSeq,
    ) -> Result<BoxStream<'static, Result<Entry, ReadError>>, ReadError> {
        let reason = "the test's handle has this".to_owned();
        Err(ReadError::Unavailable { reason })
    }

    async fn commits(
        &self,
        _shard: u16,
        _kind: &Kind,
        _from: StreamSeq,
    ) -> Result<BoxStream<'static, Result<Entry, ReadError>>, ReadError> {
        let reason = "nothing is relayed in these histories".to_owned();
        Err(ReadError::Unavailable { reason })
    }

    async fn bury(
        &self,
        address: &Address,
        after: StreamSeq,
        tombstone: Bytes,
        ttl: Duration,
    ) -> Result<StreamSeq, AppendError> {
        let named = Tombstone::decode(&tombstone, address.table).expect("a tombstone");
        let tables = self.tables_of(&named.object).await;
        assert!(
            tables.contains(&address.table),
            "{} does not hold {}",
            named.object,
            address.table
        );
        self.with(address.shard, |stream| {
            if stream.last_of(address, false) != after {
                let table = address.table;
                return Err(AppendError::Fenced { table });
            }
            // The marker goes as well, and leaves a position that nobody sees.
            stream.entries.retain(|held| held.entry.address != *address);
            stream.last += 1;
            let now = self.clock.now();
            let ttl = u64::try_from(ttl.as_millis()).expect("short");
            let expires_at = Some(now.plus_millis(ttl));
            Ok(stream.push(address, Stored::Tombstone, tombstone, now, expires_at))
        })
    }

    async fn set_aside(&self, shard: u16, entry: &Entry, reason: &str) -> Result<(), AppendError> {
        self.with(shard, |stream| {
            if !stream.set_aside.iter().any(|(seq, _)| *seq == entry.seq) {
                stream.set_aside.push((entry.seq, reason.to_owned()));
            }
        });
        Ok(())
    }

    async fn created_at(&self, shard: u16) -> Result<Timestamp, ReadError> {
        Ok(self.with(shard, |stream| stream.created_at))
    }
}

/// The markers of a shard from a position on, then those to come.
pub(crate) fn markers(
    log: Arc<TestLog>,
    shard: u16,
    from: StreamSeq,
) -> BoxStream<'static, Result<Entry, ReadError>> {
    stream::unfold((log, from), move |(log, from)| async move {
        loop {
            let next = {
                let appended = log.appended.notified();
                let next = log.with(shard, |stream| {
                    let entries = stream.entries.iter().map(|held| &held.entry);
                    entries
                        .filter(|entry| entry.what == Stored::Marker)
                        .find(|entry| entry.seq >= from)
                        .cloned()
                });
                if next.is_none() {
                    appended.await;
                }
                next
            };
            if let Some(entry) = next {
                let from = entry.seq.next();
                return Some((Ok(entry), (log, from)));
            }
        }
    })
    .boxed()
}
