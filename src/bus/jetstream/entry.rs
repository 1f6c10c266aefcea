//! From messages, as the server hands them out in three ways, to entries of the log.

use async_nats::datetime::parse_rfc3339;
use async_nats::{HeaderMap, Message, header};
use tracing::warn;

use super::super::{Entry, Stored};
use crate::domain::{StreamSeq, TableId, Timestamp, WorkerId};
use crate::protocol::envelope::{TYPE_ARCHIVED, header as tc};
use crate::protocol::subject::Address;

/// Where a message stands in its stream, by the headers of republished and directly read messages.
pub(super) struct Position {
    pub(super) address: Address,
    pub(super) seq: StreamSeq,
    /// Of a republished message, and of one that was read alone: the entry before it on its subject. Of one of
    /// many: before it in the answer.
    pub(super) previous: StreamSeq,
    pub(super) stored_at: Timestamp,
}

impl Position {
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let text = |name| headers.get_last(name).map(header::HeaderValue::as_str);
        let stored_at = parse_rfc3339(text(header::NATS_TIME_STAMP)?).ok()?;
        Some(Self {
            address: Address::parse(text(header::NATS_SUBJECT)?)?,
            seq: StreamSeq::new(text(header::NATS_SEQUENCE)?.parse().ok()?),
            // A message that was read alone tells only what its writer expected, which was so.
            previous: text(header::NATS_LAST_SEQUENCE)
                .or_else(|| text(header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE))
                .and_then(|previous| previous.parse().ok())
                .map_or(StreamSeq::ZERO, StreamSeq::new),
            stored_at: timestamp(stored_at.unix_timestamp_nanos()),
        })
    }
}

/// From the clock of the server.
pub(super) fn timestamp(nanos: i128) -> Timestamp {
    Timestamp::from_millis(u64::try_from(nanos / 1_000_000).unwrap_or_default())
}

/// A commit or a tombstone on `tc.evt`, or its copy on `tc.live`.
///
/// Nothing for a message that cannot come from this log's stream: somebody else uses our subjects.
pub(super) fn of_table(message: Message, table: TableId) -> Option<Entry> {
    let headers = message.headers.unwrap_or_default();
    let position = Position::of(&headers).filter(|position| position.address.table == table);
    let Some(position) = position else {
        metrics::counter!("tablecast_bus_foreign_messages_total").increment(1);
        warn!(table.id = %table, subject = %message.subject, "dropped a message that is not of the log");
        return None;
    };
    let is_tombstone =
        headers.get_last(tc::TYPE).is_some_and(|value| value.as_str() == TYPE_ARCHIVED);
    Some(Entry {
        address: position.address,
        seq: position.seq,
        previous: position.previous,
        id: message_id(&headers),
        worker: worker(&headers),
        what: if is_tombstone { Stored::Tombstone } else { Stored::Commit },
        stored_at: position.stored_at,
        payload: message.payload,
    })
}

pub(super) fn worker(headers: &HeaderMap) -> Option<WorkerId> {
    headers.get_last(tc::WORKER)?.as_str().parse().ok()
}

pub(super) fn message_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get_last(header::NATS_MESSAGE_ID)?;
    Some(id.as_str().to_owned())
}

/// A table's messages as read, chained.
///
/// A tombstone has replaced whatever was read before it was written.
pub(super) fn chain(messages: Vec<Message>, table: TableId) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::with_capacity(messages.len());
    for message in messages {
        let Some(mut entry) = of_table(message, table) else {
            continue;
        };
        // The server's own chain begins anew with each page of an answer.
        entry.previous = entries.last().map_or(StreamSeq::ZERO, |last| last.seq);
        if entry.what == Stored::Tombstone {
            entry.previous = StreamSeq::ZERO;
            entries.clear();
        }
        entries.push(entry);
    }
    entries
}
