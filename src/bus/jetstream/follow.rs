//! Following: the republished copies of a table's commits, and the completion markers of a shard.

use std::num::NonZeroU16;
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::context::Context;
use async_nats::jetstream::stream::ConsumerErrorKind;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt, future, stream};

use super::super::mail::barrier;
use super::super::{Entry, ReadError, Stored};
use super::entry;
use crate::domain::{Kind, StreamSeq, TableId};
use crate::protocol::envelope::{TYPE_ARCHIVED, header as tc};
use crate::protocol::subject::{self, Address};

/// The server says this often that it has nothing; two silences end the reading.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// One request for markers waits at the server for at most this long.
const PULL_EXPIRES: Duration = Duration::from_secs(30);

/// The server forgets the consumer of a reader that is gone after this long.
const CONSUMER_FORGOTTEN: Duration = Duration::from_secs(60);

/// Markers on their way to a reader.
const MARKERS_AHEAD: usize = 256;

/// The republished copies of a table's messages, from when this returns.
pub(super) async fn live(
    client: &Client,
    table: TableId,
    shards: NonZeroU16,
) -> Result<BoxStream<'static, Entry>, ReadError> {
    let subject = subject::live_of_any_kind(table, shards);
    let copies = client.subscribe(subject).await.map_err(|error| unavailable(&error))?;
    // Without it, a message stored right after our return, by way of another connection, could be missed.
    barrier(client).await.map_err(|error| unavailable(&error))?;
    let entries = copies.filter_map(move |message| future::ready(entry::of_table(message, table)));
    Ok(entries.boxed())
}

fn unavailable(error: &dyn std::error::Error) -> ReadError {
    ReadError::Unavailable { reason: error.to_string() }
}

/// The completion markers of a shard.
pub(super) async fn markers(
    context: &Context,
    shard: u16,
    from: StreamSeq,
) -> Result<BoxStream<'static, Result<Entry, ReadError>>, ReadError> {
    let wanted = Wanted {
        what: Stored::Marker,
        subjects: subject::done_of_shard(shard),
        description: "completion markers",
    };
    consume(context, shard, wanted, from).await
}

/// The commits of a shard's tables of one kind.
pub(super) async fn commits(
    context: &Context,
    shard: u16,
    kind: &Kind,
    from: StreamSeq,
) -> Result<BoxStream<'static, Result<Entry, ReadError>>, ReadError> {
    let wanted = Wanted {
        what: Stored::Commit,
        subjects: subject::evt_of_kind(shard, kind),
        description: "commits of a relayed kind",
    };
    consume(context, shard, wanted, from).await
}

/// What of a shard is to be read.
struct Wanted {
    what: Stored,
    subjects: String,
    description: &'static str,
}

/// By a consumer of our own that acknowledges nothing.
async fn consume(
    context: &Context,
    shard: u16,
    wanted: Wanted,
    from: StreamSeq,
) -> Result<BoxStream<'static, Result<Entry, ReadError>>, ReadError> {
    let stream = subject::events_stream(shard);
    let config = pull::Config {
        description: Some(wanted.description.to_owned()),
        filter_subject: wanted.subjects,
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: from.get().max(1) },
        ack_policy: AckPolicy::None,
        memory_storage: true,
        num_replicas: 1,
        inactive_threshold: CONSUMER_FORGOTTEN,
        ..Default::default()
    };
    let consumer = context.create_consumer_on_stream(config, &stream).await.map_err(|error| {
        match error.kind() {
            ConsumerErrorKind::JetStream(reason) if reason.code() == 404 => {
                ReadError::NoStream { stream: stream.clone() }
            }
            ConsumerErrorKind::JetStream(_)
            | ConsumerErrorKind::TimedOut
            | ConsumerErrorKind::Request
            | ConsumerErrorKind::InvalidConsumerType
            | ConsumerErrorKind::InvalidName
            | ConsumerErrorKind::Other => unavailable(&error),
        }
    })?;
    let messages = consumer
        .stream()
        .max_messages_per_batch(MARKERS_AHEAD)
        .heartbeat(HEARTBEAT)
        .expires(PULL_EXPIRES)
        .messages()
        .await
        .map_err(|error| unavailable(&error))?;
    let mut delivered = 0;
    let entries = messages
        .map_err(|error| unavailable(&error))
        .and_then(move |message| future::ready(entry(&message, wanted.what, &mut delivered)))
        .try_filter_map(|entry| future::ready(Ok(entry)));
    Ok(until_error(entries.boxed()))
}

/// A marker or a commit, or nothing for what has replaced it.
///
/// A consumer that acknowledges nothing is not sent again what is lost on the way, so the loss must show.
fn entry(
    message: &async_nats::jetstream::Message,
    what: Stored,
    delivered: &mut u64,
) -> Result<Option<Entry>, ReadError> {
    let info =
        message.info().map_err(|error| ReadError::Unavailable { reason: error.to_string() })?;
    *delivered += 1;
    if info.consumer_sequence != *delivered {
        return Err(ReadError::Unavailable {
            reason: "a part of what is read was lost on the way".to_owned(),
        });
    }
    let headers = message.headers.as_ref();
    let replaced = headers
        .and_then(|headers| headers.get_last(tc::TYPE))
        .is_some_and(|value| value.as_str() == TYPE_ARCHIVED);
    let Some(address) = Address::parse(&message.subject).filter(|_| !replaced) else {
        return Ok(None);
    };
    Ok(Some(Entry {
        address,
        seq: StreamSeq::new(info.stream_sequence),
        previous: StreamSeq::ZERO,
        id: headers.and_then(entry::message_id),
        worker: headers.and_then(entry::worker),
        what,
        stored_at: entry::timestamp(info.published.unix_timestamp_nanos()),
        payload: message.payload.clone(),
    }))
}

/// Ends after the first error: what follows it may not follow what was before it.
fn until_error(
    entries: BoxStream<'static, Result<Entry, ReadError>>,
) -> BoxStream<'static, Result<Entry, ReadError>> {
    stream::unfold(Some(entries), |entries| async move {
        let mut entries = entries?;
        let item = entries.next().await?;
        let rest = item.is_ok().then_some(entries);
        Some((item, rest))
    })
    .boxed()
}
