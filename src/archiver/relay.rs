//! Relayed tables: their completion markers, which no worker writes, and their commits as rows.

use std::sync::Arc;

use futures_util::StreamExt;
use metrics::counter;
use serde_json::{Map, Value};
use tokio::time::sleep;
use tracing::{info, warn};

use super::backoff::Backoff;
use super::shard::Fault;
use crate::bus::{Entry, EventLog, ReadError, Stored};
use crate::domain::{Kind, Lifecycle, StreamSeq};
use crate::protocol::archive::ArchivedEvent;
use crate::protocol::envelope::{Marker, Message, VERSION};
use crate::protocol::relay::{Events, Numbered, Progress, Relayed};

/// Whose doing every event of a relayed table is, as far as we know.
const ACTOR: &str = "relay";
/// The field of a row that says which seat alone was shown the event.
const ONLY_SEAT: &str = "only_seat";

/// Writes the completion markers of one shard's tables of one kind.
///
/// It keeps nothing: started again, it reads the commits that the log still has from the first on. A marker
/// is written at most once, so any number of closers may do this at once.
#[derive(Debug)]
pub(super) struct Closer {
    pub(super) shard: u16,
    pub(super) kind: Kind,
    pub(super) log: Arc<dyn EventLog>,
    pub(super) waits: Backoff,
}

impl Closer {
    /// Works until it is dropped, which is safe at any moment.
    pub(super) async fn run(mut self) {
        let mut next = StreamSeq::ZERO.next();
        loop {
            let Err(fault) = self.follow(&mut next).await else {
                continue;
            };
            let wait = self.waits.next();
            let (shard, kind, wait_ms) = (self.shard, &self.kind, wait.as_millis());
            let fault = anyhow::Error::from(fault);
            warn!(shard, %kind, wait_ms, "completing tables of {kind} waits: {fault:#}");
            sleep(wait).await;
        }
    }

    async fn follow(&mut self, next: &mut StreamSeq) -> Result<(), Fault> {
        let mut commits = self.log.commits(self.shard, &self.kind, *next).await?;
        while let Some(entry) = commits.next().await {
            let entry = entry?;
            if is_ending(&entry) {
                self.complete(&entry).await?;
            }
            *next = entry.seq.next();
            self.waits.reset();
        }
        Ok(())
    }

    /// Completes the table of a commit, if it has ended.
    async fn complete(&self, seen: &Entry) -> Result<(), Fault> {
        let table = seen.address.table;
        let entries = self.log.read(table, StreamSeq::ZERO).await?;
        if entries.iter().any(|entry| entry.what == Stored::Tombstone) {
            return Ok(());
        }
        if entries.last().is_none_or(|last| last.seq < seen.seq) {
            let reason = format!("a replica has not got commit {} yet", seen.seq.get());
            return Err(Fault::Read(ReadError::Unavailable { reason }));
        }
        let mut progress = Progress::default();
        for entry in entries.iter().filter(|entry| entry.address == seen.address) {
            // What is refused has no number; the archiver sets it aside.
            if progress.take(&entry.payload, entry.stored_at).is_err() {
                continue;
            }
            if let Some(summary) = progress.summary() {
                let marker = Marker {
                    v: VERSION,
                    table,
                    kind: self.kind.clone(),
                    rules: 0,
                    last_seq: progress.last_seq(),
                    last: entry.seq,
                    summary: summary.clone(),
                    relayed: true,
                };
                self.log.complete(&seen.address, marker.encode()).await?;
                counter!("tablecast_archiver_relayed_completed_total").increment(1);
                info!(table.id = %table, "relayed table {table} has ended");
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Whether it says that its table has ended. Most do not even have the word.
fn is_ending(entry: &Entry) -> bool {
    entry.payload.windows(b"ended".len()).any(|window| window == b"ended")
        && Relayed::decode(&entry.payload).is_ok_and(|relayed| relayed.ended.is_some())
}

/// The events of a commit that can be read: what everybody saw, and what each seat saw beside it.
pub(super) fn rows(numbered: Numbered, progress: &Progress) -> Vec<ArchivedEvent> {
    let Ok(relayed) = numbered.what else {
        return Vec::new();
    };
    let seating = numbered.reseated.iter().map(|seat| match progress.sitters().get(seat) {
        Some(sitter) => {
            let (player, name) = (sitter.player.clone(), sitter.name.clone());
            Lifecycle::SeatTaken { seat: *seat, player, name }
        }
        None => Lifecycle::SeatFreed { seat: *seat },
    });
    let ending = progress.summary().cloned().map(Lifecycle::Completed);
    let mut events: Vec<Map<String, Value>> = seating.map(|event| object(&event)).collect();
    events.extend(relayed.public.values());
    for (seat, part) in &relayed.seats {
        events.extend(of_seat(seat.0, part));
    }
    events.extend(ending.as_ref().map(object));
    let row = |mut event: Map<String, Value>| {
        let Some(Value::String(kind)) = event.remove("type") else {
            return None;
        };
        let data = Value::Object(event).to_string();
        let (seq, ts, actor) = (numbered.seq, numbered.at, ACTOR.to_owned());
        Some(ArchivedEvent { seq, ts, kind, actor, data })
    };
    events.into_iter().filter_map(row).collect()
}

fn of_seat(seat: u8, part: &Events) -> impl Iterator<Item = Map<String, Value>> {
    part.values().into_iter().map(move |mut event| {
        event.insert(ONLY_SEAT.to_owned(), seat.into());
        event
    })
}

fn object(event: &Lifecycle) -> Map<String, Value> {
    match serde_json::to_value(event) {
        Ok(Value::Object(fields)) => fields,
        Ok(_) | Err(_) => Map::new(),
    }
}
