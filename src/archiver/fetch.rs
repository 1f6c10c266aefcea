//! Reads a completed table from the log, whatever its game, and makes it a row.

use std::time::Duration;

use metrics::counter;
use tracing::error;

use super::batcher::Fetched;
use super::relay;
use super::shard::Fault;
use crate::bus::{AppendError, Entry, EventLog, Stored};
use crate::domain::{StreamSeq, TableSeq};
use crate::protocol::archive::{ArchivedEvent, ArchivedTable, FooterTable, OpaqueEnvelope, Status};
use crate::protocol::envelope::{Marker, Message, Tombstone};
use crate::protocol::relay::{Numbered, Progress};

/// A replica that lags has caught up after so many waits, or the commits are not there.
const TRIES: u32 = 5;
const WAIT: Duration = Duration::from_millis(200);

/// What a shard's log holds of a completed table.
#[derive(Debug)]
pub(super) enum Found {
    /// All commits that the marker promises.
    Whole(Fetched),
    /// Less: archived and buried by somebody, or damaged. A row of what there is.
    Short(Fetched),
}

/// Sets a message aside that cannot be read, for the operator.
pub(super) async fn set_aside(
    log: &dyn EventLog,
    entry: &Entry,
    reason: &str,
) -> Result<(), Fault> {
    counter!("tablecast_archiver_poison_total").increment(1);
    let (table, stream_seq) = (entry.address.table, entry.seq.get());
    error!(table.id = %table, stream_seq, reason, "message {stream_seq} of table {table} cannot be archived: {reason}");
    match log.set_aside(entry.address.shard, entry, reason).await {
        Ok(()) => Ok(()),
        // One message that cannot be copied must not hold up all games behind it.
        Err(refused @ AppendError::Refused { .. }) => {
            error!(table.id = %table, stream_seq, %refused, "message {stream_seq} could not be set aside");
            Ok(())
        }
        Err(error) => Err(Fault::Append(error)),
    }
}

/// Reads the table of a marker.
pub(super) async fn fetch(log: &dyn EventLog, marker: &Marker) -> Result<Found, Fault> {
    let mut tries = TRIES;
    let collected = loop {
        let collected = collect(log, marker).await?;
        tries -= 1;
        if collected.is_whole(marker) || collected.tombstone.is_some() || tries == 0 {
            break collected;
        }
        tokio::time::sleep(WAIT).await;
    };
    for (entry, reason) in &collected.poison {
        set_aside(log, entry, reason).await?;
    }
    if collected.is_whole(marker) {
        return Ok(Found::Whole(collected.into_fetched(marker, Status::Archived, None)));
    }
    let (read, promised) = (collected.commits, marker.last_seq.get());
    let (status, reason) = match &collected.tombstone {
        _ if read > 0 => (Status::Incomplete, format!("{read} of {promised} commits are readable")),
        Some(object) => (
            Status::Lost,
            format!("its commits gave way to {object}, which this store does not have"),
        ),
        None => (Status::Lost, "its commits are gone from the event log".to_owned()),
    };
    let short = collected.into_fetched(marker, status, Some(reason));
    Ok(Found::Short(short))
}

/// What was read of a table.
#[derive(Debug, Default)]
struct Collected {
    events: Vec<ArchivedEvent>,
    commits: u64,
    last_seq: TableSeq,
    bytes: u64,
    tombstone: Option<String>,
    poison: Vec<(Entry, String)>,
    /// Of a relayed table.
    progress: Progress,
}

async fn collect(log: &dyn EventLog, marker: &Marker) -> Result<Collected, Fault> {
    let mut collected = Collected::default();
    for entry in log.read(marker.table, StreamSeq::ZERO).await? {
        match entry.what {
            Stored::Tombstone => {
                let tombstone = Tombstone::decode(&entry.payload, marker.table);
                let object = tombstone.map_or_else(|e| format!("(unreadable: {e})"), |t| t.object);
                collected.tombstone = Some(object);
            }
            // After the end: a late owner's. Whoever buries the table deals with it.
            Stored::Commit if entry.seq > marker.last => {}
            Stored::Commit => collected.take(entry, marker),
            Stored::Marker => {}
        }
    }
    Ok(collected)
}

impl Collected {
    fn take(&mut self, entry: Entry, marker: &Marker) {
        if marker.relayed {
            return self.take_relayed(entry);
        }
        let poison = match OpaqueEnvelope::decode(&entry.payload, marker.table) {
            Err(error) => error.to_string(),
            Ok(envelope) if envelope.commit.seq <= self.last_seq => {
                format!("commit {} is out of order", envelope.commit.seq.get())
            }
            Ok(envelope) => {
                let seq = envelope.commit.seq;
                if let Some(events) = envelope.commit.into_events() {
                    self.add(&entry, seq, events);
                    return;
                }
                "its events have no type".to_owned()
            }
        };
        self.poison.push((entry, poison));
    }

    fn take_relayed(&mut self, entry: Entry) {
        let poison = match self.progress.take(&entry.payload, entry.stored_at) {
            Err(refused) => refused.to_string(),
            Ok(Numbered { what: Err(unreadable), .. }) => unreadable.to_string(),
            Ok(numbered) => {
                let seq = numbered.seq;
                self.add(&entry, seq, relay::rows(numbered, &self.progress));
                return;
            }
        };
        self.poison.push((entry, poison));
    }

    fn add(&mut self, entry: &Entry, seq: TableSeq, events: Vec<ArchivedEvent>) {
        self.events.extend(events);
        self.last_seq = seq;
        self.commits += 1;
        self.bytes += u64::try_from(entry.payload.len()).expect("a length fits");
    }

    fn is_whole(&self, marker: &Marker) -> bool {
        self.commits == marker.last_seq.get() && self.last_seq == marker.last_seq
    }

    fn into_fetched(self, marker: &Marker, status: Status, reason: Option<String>) -> Fetched {
        let summary = &marker.summary;
        let first = self.events.first().filter(|event| event.seq.get() == 1);
        let opened_at = first.map_or_else(|| marker.table.opened_at(), |event| event.ts);
        let duration = summary.started_at.map(|at| summary.ended_at.millis_since(at));
        Fetched {
            row: ArchivedTable {
                table_id: marker.table,
                kind: marker.kind.clone(),
                rules_version: marker.rules,
                status,
                reason,
                closing: summary.closing,
                opened_at,
                started_at: summary.started_at,
                ended_at: summary.ended_at,
                duration_ms: duration,
                commits: self.commits,
                players: summary.players.clone(),
                winners: summary.winners.clone(),
                scores: summary.scores.clone(),
                dead_letters: self.poison.iter().map(|(entry, _)| entry.seq).collect(),
                events: self.events,
            },
            listed: FooterTable {
                id: marker.table,
                kind: marker.kind.clone(),
                status,
                last_seq: marker.last_seq,
                last: marker.last,
            },
            bytes: self.bytes,
        }
    }
}
