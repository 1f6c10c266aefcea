//! Event logs that break a promise each, on top of the real one.

use std::collections::HashMap;
use std::fmt::Debug;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use tablecast::bus::{Append, AppendError, Entry, EventLog, ReadError};
use tablecast::domain::{Kind, StreamSeq, TableId, Timestamp};
use tablecast::protocol::subject::Address;
use tablecast::runtime::process::of_this;
use tokio::sync::Mutex;
use tokio_util::task::TaskTracker;

/// What a log does wrong.
#[async_trait]
pub(super) trait Defect: Debug + Send + Sync {
    async fn append(
        &self,
        real: &Arc<dyn EventLog>,
        append: Append,
    ) -> Result<StreamSeq, AppendError>;

    /// The position that a writer takes for the last one.
    async fn last(
        &self,
        real: &Arc<dyn EventLog>,
        address: &Address,
    ) -> Result<StreamSeq, ReadError> {
        real.last(address).await
    }
}

/// The real log, but for the defect.
#[derive(Debug)]
pub(super) struct Defective<D> {
    pub(super) real: Arc<dyn EventLog>,
    pub(super) defect: D,
}

#[async_trait]
impl<D: Defect> EventLog for Defective<D> {
    fn shards(&self) -> NonZeroU16 {
        self.real.shards()
    }

    async fn append(&self, append: Append) -> Result<StreamSeq, AppendError> {
        self.defect.append(&self.real, append).await
    }

    async fn read(&self, table: TableId, from: StreamSeq) -> Result<Vec<Entry>, ReadError> {
        self.real.read(table, from).await
    }

    async fn last(&self, address: &Address) -> Result<StreamSeq, ReadError> {
        self.defect.last(&self.real, address).await
    }

    async fn follow(&self, table: TableId) -> Result<BoxStream<'static, Entry>, ReadError> {
        self.real.follow(table).await
    }

    async fn complete(&self, address: &Address, marker: Bytes) -> Result<(), AppendError> {
        self.real.complete(address, marker).await
    }

    async fn markers(
        &self,
        shard: u16,
        from: StreamSeq,
    ) -> Result<BoxStream<'static, Result<Entry, ReadError>>, ReadError> {
        self.real.markers(shard, from).await
    }

    async fn commits(
        &self,
        shard: u16,
        kind: &Kind,
        from: StreamSeq,
    ) -> Result<BoxStream<'static, Result<Entry, ReadError>>, ReadError> {
        self.real.commits(shard, kind, from).await
    }

    async fn bury(
        &self,
        address: &Address,
        after: StreamSeq,
        tombstone: Bytes,
        ttl: Duration,
    ) -> Result<StreamSeq, AppendError> {
        self.real.bury(address, after, tombstone, ttl).await
    }

    async fn set_aside(&self, shard: u16, entry: &Entry, reason: &str) -> Result<(), AppendError> {
        self.real.set_aside(shard, entry, reason).await
    }

    async fn created_at(&self, shard: u16) -> Result<Timestamp, ReadError> {
        self.real.created_at(shard).await
    }
}

/// Acknowledges some appends of commands without storing them.
#[derive(Debug, Default)]
pub(super) struct Dropping(AtomicU64);

/// One command in so many is dropped.
const DROPPED: u64 = 10;

#[async_trait]
impl Defect for Dropping {
    async fn append(
        &self,
        real: &Arc<dyn EventLog>,
        append: Append,
    ) -> Result<StreamSeq, AppendError> {
        // Not an opening: nobody would ever hear of the table.
        if append.command.is_some() && append.after != StreamSeq::ZERO {
            let number = self.0.fetch_add(1, Ordering::Relaxed);
            if number % DROPPED == DROPPED - 1 {
                return Ok(append.after);
            }
        }
        real.append(append).await
    }
}

/// Follows whatever is last.
#[derive(Debug)]
pub(super) struct Fenceless;

#[async_trait]
impl Defect for Fenceless {
    async fn append(
        &self,
        real: &Arc<dyn EventLog>,
        mut append: Append,
    ) -> Result<StreamSeq, AppendError> {
        loop {
            match real.append(append.clone()).await {
                Err(AppendError::Fenced { table }) => {
                    let last = real.last(&append.address).await;
                    append.after = last.map_err(|_unread| AppendError::Unavailable { table })?;
                }
                done => return done,
            }
        }
    }
}

/// Acknowledges an append at once, and makes it later.
#[derive(Debug)]
pub(super) struct Hasty {
    tables: Mutex<HashMap<TableId, Late>>,
    /// Positions that are made up, far from all real ones.
    made_up: AtomicU64,
    appends: TaskTracker,
}

/// How much later.
const LATE: Duration = Duration::from_millis(400);

/// A table with appends that are still to come, one after the other.
#[derive(Clone, Debug, Default)]
struct Late {
    /// The position of the last one that was made; nothing once one failed.
    last: Arc<Mutex<Option<StreamSeq>>>,
    /// The position that its writer was told.
    told: StreamSeq,
}

impl Default for Hasty {
    fn default() -> Self {
        let made_up = AtomicU64::new(1 << 40);
        Self { tables: Mutex::default(), made_up, appends: TaskTracker::new() }
    }
}

#[async_trait]
impl Defect for Hasty {
    async fn append(
        &self,
        real: &Arc<dyn EventLog>,
        mut append: Append,
    ) -> Result<StreamSeq, AppendError> {
        let table = append.address.table;
        // Openings and claims are made as they should be: they say whose the table is.
        if append.after == StreamSeq::ZERO || append.types.contains("table.claimed") {
            let told = real.append(append).await?;
            let late = Late { last: Arc::new(Mutex::new(Some(told))), told };
            self.tables.lock().await.insert(table, late);
            return Ok(told);
        }
        let told = StreamSeq::new(self.made_up.fetch_add(1, Ordering::Relaxed));
        let last = {
            let mut tables = self.tables.lock().await;
            let late = tables.entry(table).or_default();
            late.told = told;
            Arc::clone(&late.last)
        };
        // Locked before this returns, so that appends stay in order.
        let mut last = last.lock_owned().await;
        let real = Arc::clone(real);
        // Of this process: what is late when it is killed is lost.
        self.appends.spawn(of_this(async move {
            tokio::time::sleep(LATE).await;
            if let Some(after) = *last {
                append.after = after;
                *last = real.append(append).await.ok();
            }
        }));
        Ok(told)
    }

    async fn last(
        &self,
        real: &Arc<dyn EventLog>,
        address: &Address,
    ) -> Result<StreamSeq, ReadError> {
        let late = self.tables.lock().await.get(&address.table).cloned();
        let found = real.last(address).await?;
        let Some(Late { last, told }) = late else { return Ok(found) };
        let is_ours = *last.lock().await == Some(found);
        Ok(if is_ours { told } else { found })
    }
}
