//! Collects a shard's completed tables, one marker after the other, until they make a batch.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use metrics::counter;
use tokio::time::sleep;
use tracing::{error, warn};

use super::batcher::{Batch, Batcher, Fetched, Position};
use super::fetch::{self, Found};
use super::shard::{Fault, Shard};
use crate::bus::{Entry, ReadError};
use crate::domain::Timestamp;
use crate::protocol::envelope::{Marker, Message};

/// The markers that come next, kept from one batch to the next.
#[derive(Default)]
pub(super) struct Markers {
    coming: Option<BoxStream<'static, Result<Entry, ReadError>>>,
    /// The marker that did not belong to the batch before.
    held: Option<Entry>,
}

/// What a marker means for the batch.
enum Meaning {
    Row(Box<Fetched>),
    /// It has no row, for this reason.
    DeadLetter(String),
    /// Another archiver is further: the store knows where.
    Overtaken,
}

impl Shard {
    /// Collects completed tables from a position on; nothing if another archiver turns out to be further.
    pub(super) async fn gather(
        &mut self,
        markers: &mut Markers,
        epoch: Timestamp,
        position: Position,
    ) -> Result<Option<Batch>, Fault> {
        let mut batcher = Batcher::new(self.config.limits(), position);
        loop {
            self.oldest = batcher.oldest();
            self.show_lag();
            let wait = batcher.due().map(|due| due.millis_since(self.clock.now()));
            let ready = sleep(Duration::from_millis(wait.unwrap_or_default()));
            let entry = tokio::select! {
                biased;
                () = ready, if wait.is_some() => break,
                entry = self.next_marker(markers, &batcher) => entry?,
            };
            if !batcher.admits(entry.stored_at) {
                markers.held = Some(entry);
                break;
            }
            let meaning = self.meaning(&entry, &batcher, epoch, position).await?;
            let now = self.clock.now();
            match meaning {
                Meaning::Row(fetched) => batcher.add(now, entry.seq, entry.stored_at, *fetched),
                Meaning::DeadLetter(reason) => {
                    fetch::set_aside(&*self.log, &entry, &reason).await?;
                    batcher.add_dead_letter(now, entry.seq, entry.stored_at);
                }
                Meaning::Overtaken => return Ok(None),
            }
            if batcher.is_full() {
                break;
            }
        }
        self.waits.reset();
        let batch = batcher.finish();
        Ok(Some(batch.expect("a batch ends after its first marker")))
    }

    /// The next marker, from a new reader if the one before broke: what is gathered stays, or a connection
    /// that comes and goes would starve the batch.
    async fn next_marker(
        &mut self,
        markers: &mut Markers,
        batcher: &Batcher,
    ) -> Result<Entry, Fault> {
        if let Some(held) = markers.held.take() {
            return Ok(held);
        }
        loop {
            let coming = match &mut markers.coming {
                Some(coming) => coming,
                none => none.insert(self.log.markers(self.shard, batcher.cursor()).await?),
            };
            match coming.next().await {
                Some(Ok(entry)) => return Ok(entry),
                Some(Err(error)) => {
                    warn!(shard = self.shard, %error, "the markers of shard {} stopped coming", self.shard);
                }
                None => {}
            }
            markers.coming = None;
            sleep(self.waits.next()).await;
        }
    }

    /// Reads a marker and its table.
    async fn meaning(
        &self,
        entry: &Entry,
        batcher: &Batcher,
        epoch: Timestamp,
        position: Position,
    ) -> Result<Meaning, Fault> {
        let table = entry.address.table;
        let dead_letter = |reason: &str| Ok(Meaning::DeadLetter(reason.to_owned()));
        let marker = match Marker::decode(&entry.payload, table) {
            Err(error) => return dead_letter(&error.to_string()),
            Ok(marker) if marker.kind != entry.address.kind => {
                return dead_letter("it names another kind than its subject");
            }
            Ok(_) if batcher.contains(table) => {
                return dead_letter("it is the second marker of its table");
            }
            Ok(marker) => marker,
        };
        let short = match fetch::fetch(&*self.log, &marker).await? {
            Found::Whole(fetched) => return Ok(Meaning::Row(Box::new(fetched))),
            Found::Short(short) => short,
        };
        if self.is_overtaken(epoch, position).await? {
            return Ok(Meaning::Overtaken);
        }
        // A late owner may complete a table again after all traces of the first time have expired.
        if let Some(key) = self.archive.locate(table).await? {
            return dead_letter(&format!("its table is archived already, in {key}"));
        }
        let status = short.row.status.as_str();
        let reason = short.row.reason.as_deref().unwrap_or_default();
        error!(table.id = %table, stream_seq = entry.seq.get(), "table {table} is archived as {status}: {reason}");
        counter!("tablecast_archiver_tables_damaged_total").increment(1);
        Ok(Meaning::Row(Box::new(short)))
    }
}
