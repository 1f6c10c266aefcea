//! The event log, snapshots and alarms on JetStream.

pub(super) mod append;
mod entry;
mod follow;
pub(super) mod read;
mod snapshots;
mod timers;

use std::num::NonZeroU16;
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::context::{Context, GetStreamErrorKind};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

use super::{Append, AppendError, Entry, EventLog, ReadError};
use crate::domain::{Kind, StreamSeq, TableId, Timestamp};
use crate::protocol::subject::{self, Address};

/// How long an append whose result is unknown is tried again. The crash of a stream's leader, of three, has
/// cost appends up to 8.3 s.
const APPEND_PATIENCE: Duration = Duration::from_secs(15);

/// The event log, snapshots and alarms on one connection.
#[derive(Debug)]
pub struct JetStream {
    client: Client,
    context: Context,
    shards: NonZeroU16,
    append_patience: Duration,
}

impl JetStream {
    /// On streams that [`super::provision`] has made or checked.
    pub fn new(client: Client, shards: NonZeroU16) -> Self {
        Self {
            context: super::provision::context(&client),
            client,
            shards,
            append_patience: APPEND_PATIENCE,
        }
    }

    /// Gives an append less or more time to be acknowledged.
    #[must_use]
    pub fn with_append_patience(self, append_patience: Duration) -> Self {
        Self { append_patience, ..self }
    }
}

#[async_trait]
impl EventLog for JetStream {
    fn shards(&self) -> NonZeroU16 {
        self.shards
    }

    async fn append(&self, append: Append) -> Result<StreamSeq, AppendError> {
        self.append_commit(append).await
    }

    async fn read(&self, table: TableId, from: StreamSeq) -> Result<Vec<Entry>, ReadError> {
        let stream = subject::events_stream(table.shard(self.shards));
        let filter = subject::evt_of_any_kind(table, self.shards);
        let messages = read::one_subject(&self.client, &stream, &filter, from.get()).await?;
        Ok(entry::chain(messages, table))
    }

    async fn newest(&self, address: &Address) -> Result<Option<Entry>, ReadError> {
        let stream = subject::events_stream(address.shard);
        let message = read::newest(&self.client, &stream, &address.evt()).await?;
        Ok(message.and_then(|message| entry::of_table(message, address.table)))
    }

    async fn newest_of(&self, table: TableId) -> Result<Option<Entry>, ReadError> {
        let stream = subject::events_stream(table.shard(self.shards));
        let filter = subject::evt_of_any_kind(table, self.shards);
        let message = read::newest(&self.client, &stream, &filter).await?;
        Ok(message.and_then(|message| entry::of_table(message, table)))
    }

    async fn entry(&self, address: &Address, at: StreamSeq) -> Result<Option<Entry>, ReadError> {
        let stream = subject::events_stream(address.shard);
        let message = read::at(&self.client, &stream, at.get()).await?;
        Ok(message.and_then(|message| entry::of_table(message, address.table)))
    }

    async fn last(&self, address: &Address) -> Result<StreamSeq, ReadError> {
        read::last(&self.context, address).await
    }

    async fn follow(&self, table: TableId) -> Result<BoxStream<'static, Entry>, ReadError> {
        follow::live(&self.client, table, self.shards).await
    }

    async fn complete(&self, address: &Address, marker: Bytes) -> Result<(), AppendError> {
        self.append_marker(address, marker).await
    }

    async fn markers(
        &self,
        shard: u16,
        from: StreamSeq,
    ) -> Result<BoxStream<'static, Result<Entry, ReadError>>, ReadError> {
        follow::markers(&self.context, shard, from).await
    }

    async fn commits(
        &self,
        shard: u16,
        kind: &Kind,
        from: StreamSeq,
    ) -> Result<BoxStream<'static, Result<Entry, ReadError>>, ReadError> {
        follow::commits(&self.context, shard, kind, from).await
    }

    async fn bury(
        &self,
        address: &Address,
        after: StreamSeq,
        tombstone: Bytes,
        ttl: Duration,
    ) -> Result<StreamSeq, AppendError> {
        self.roll_up(address, after, tombstone, ttl).await
    }

    async fn set_aside(&self, shard: u16, entry: &Entry, reason: &str) -> Result<(), AppendError> {
        self.copy_to_dead(shard, entry, reason).await
    }

    async fn created_at(&self, shard: u16) -> Result<Timestamp, ReadError> {
        let stream = subject::events_stream(shard);
        match self.context.get_stream(&stream).await {
            Ok(found) => Ok(entry::timestamp(found.cached_info().created.unix_timestamp_nanos())),
            Err(error) => Err(match error.kind() {
                GetStreamErrorKind::JetStream(error) if error.code() == 404 => {
                    ReadError::NoStream { stream }
                }
                GetStreamErrorKind::JetStream(_)
                | GetStreamErrorKind::EmptyName
                | GetStreamErrorKind::Request
                | GetStreamErrorKind::InvalidStreamName => {
                    ReadError::Unavailable { reason: error.to_string() }
                }
            }),
        }
    }
}
