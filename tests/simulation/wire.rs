//! The way from a process to the log: takes time in both directions, so that a process can die between the two.

use std::num::NonZeroU16;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use rand_chacha::ChaCha20Rng;
use tablecast::bus::{Append, AppendError, Entry, EventLog, ReadError};
use tablecast::domain::{Kind, StreamSeq, TableId, Timestamp};
use tablecast::protocol::subject::Address;
use tokio::time::sleep;

use crate::chance::millis;

/// The longest way back, in milliseconds.
const BACK_MS: u64 = 5;

/// The log behind a wire.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) dice: Mutex<ChaCha20Rng>,
}

impl Wire {
    async fn back(&self) {
        let wait: Duration = millis(&mut self.dice.lock().expect("unbroken"), 0..BACK_MS);
        if !wait.is_zero() {
            sleep(wait).await;
        }
    }
}

#[async_trait]
impl EventLog for Wire {
    fn shards(&self) -> NonZeroU16 {
        self.log.shards()
    }

    async fn append(&self, append: Append) -> Result<StreamSeq, AppendError> {
        let stored = self.log.append(append).await;
        self.back().await;
        stored
    }

    async fn read(&self, table: TableId, from: StreamSeq) -> Result<Vec<Entry>, ReadError> {
        let entries = self.log.read(table, from).await;
        self.back().await;
        entries
    }

    async fn last(&self, address: &Address) -> Result<StreamSeq, ReadError> {
        let last = self.log.last(address).await;
        self.back().await;
        last
    }

    async fn follow(&self, table: TableId) -> Result<BoxStream<'static, Entry>, ReadError> {
        self.log.follow(table).await
    }

    async fn complete(&self, address: &Address, marker: Bytes) -> Result<(), AppendError> {
        let stored = self.log.complete(address, marker).await;
        self.back().await;
        stored
    }

    async fn markers(
        &self,
        shard: u16,
        from: StreamSeq,
    ) -> Result<BoxStream<'static, Result<Entry, ReadError>>, ReadError> {
        self.log.markers(shard, from).await
    }

    async fn commits(
        &self,
        shard: u16,
        kind: &Kind,
        from: StreamSeq,
    ) -> Result<BoxStream<'static, Result<Entry, ReadError>>, ReadError> {
        self.log.commits(shard, kind, from).await
    }

    async fn bury(
        &self,
        address: &Address,
        after: StreamSeq,
        tombstone: Bytes,
        ttl: Duration,
    ) -> Result<StreamSeq, AppendError> {
        let stored = self.log.bury(address, after, tombstone, ttl).await;
        self.back().await;
        stored
    }

    async fn set_aside(&self, shard: u16, entry: &Entry, reason: &str) -> Result<(), AppendError> {
        self.log.set_aside(shard, entry, reason).await
    }

    async fn created_at(&self, shard: u16) -> Result<Timestamp, ReadError> {
        self.log.created_at(shard).await
    }
}
