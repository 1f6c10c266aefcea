//! One shard's archive: recover, gather, commit, bury, and on.
//!
//! Why a crash anywhere is harmless, and two archivers at once too:
//!
//! - The store alone says what is archived. The objects of a shard form a chain, each beginning after the
//!   last marker of the one before, so its newest object tells where to go on; there is no cursor that
//!   could say something else.
//! - The name of the next object follows from that position and the stream. However often, by whomever and
//!   however differently cut a batch is written, one of the writings is the object and the others are
//!   refused. Whoever is not told "written" looks at what is there and goes on from that.
//! - Commits are buried only if an object *seen* in the store lists their table as archived.
//! - An object is only ever asked for by someone who has buried everything of the object before it. So only
//!   the newest object can have commits that are still in the log: a start buries that object again, which
//!   changes nothing where it has been done, and walks on to older ones only as long as it finds something
//!   to do. Killed before or amid burying: the next start does it. Killed after: it finds nothing.
//! - A table whose commits are gone was archived by another archiver, whose object was in the store before
//!   it buried them; so if the newest object does not account for the table, it is lost indeed.
//!
//! The chain needs its newest object: whatever deletes old objects leaves the newest of each shard.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use metrics::{counter, gauge};
use object_store::{ObjectStore, PutMode};
use tokio::time::sleep;
use tracing::{debug, error, info, warn};

use super::backoff::Backoff;
use super::batcher::{Batch, Batcher, Position};
use super::bury::{Burial, Buried};
use super::columns;
use super::config::ArchiverConfig;
use super::fetch::{self, Found};
use super::objects::{self, ObjectError};
use crate::bus::{AppendError, Entry, EventLog, ReadError};
use crate::domain::{StreamSeq, Timestamp};
use crate::protocol::archive::{Date, Footer, ObjectKey, Status};
use crate::protocol::envelope::{Marker, Message};
use crate::runtime::clock::Clock;

/// What may pass: the shard waits and starts again from the store.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("the event log cannot be read")]
    Read(#[from] ReadError),
    #[error("the event log does not take a message of the archiver")]
    Append(#[from] AppendError),
    #[error("an object of the archive cannot be read")]
    Object(#[from] ObjectError),
    #[error("the archive's objects cannot be listed")]
    List(#[from] object_store::Error),
}

/// The archiver of one shard.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) shard: u16,
    pub(super) config: ArchiverConfig,
    pub(super) log: Arc<dyn EventLog>,
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) clock: Clock,
    pub(super) waits: Backoff,
    /// When the log stored the oldest marker that is known and not archived.
    pub(super) oldest: Option<Timestamp>,
}

/// How gathering ended.
enum Gathered {
    Batch(Batch),
    /// Another archiver is further: the store knows where.
    Overtaken,
}

impl Shard {
    /// Archives until it is dropped, which is safe at any moment.
    pub(super) async fn run(mut self) {
        loop {
            match self.follow_chain().await {
                Ok(()) => debug!(shard = self.shard, "overtaken on shard {}", self.shard),
                Err(fault) => {
                    if matches!(fault, Fault::Object(_) | Fault::List(_)) {
                        store_available(false);
                    }
                    let wait = self.waits.next();
                    let (shard, wait_ms) = (self.shard, wait.as_millis());
                    let fault = anyhow::Error::from(fault);
                    warn!(
                        shard,
                        wait_ms, "archiving of shard {shard} waits: {fault:#}"
                    );
                    sleep(wait).await;
                }
            }
        }
    }

    /// Goes on from the newest object until something unexpected happens.
    async fn follow_chain(&mut self) -> Result<(), Fault> {
        let epoch = self.log.created_at(self.shard).await?;
        let mut position = self.recover(epoch).await?;
        loop {
            let batch = match self.gather(epoch, position).await? {
                Gathered::Batch(batch) => batch,
                Gathered::Overtaken => return Ok(()),
            };
            let (key, footer) = self.commit(epoch, batch).await;
            self.bury(&key, &footer).await?;
            position = Position {
                next: footer.last.next(),
                date: Some(key.date),
            };
            self.oldest = None;
            self.show_lag();
        }
    }

    /// Finds the end of the chain and buries what its writer has not.
    async fn recover(&self, epoch: Timestamp) -> Result<Position, Fault> {
        let mut tail: Option<(ObjectKey, Footer)> = None;
        let mut newer: Option<Footer> = None;
        for date in self.dates(epoch).await? {
            for key in self.keys_newest_first(epoch, date).await? {
                let footer = objects::footer(&*self.store, &key).await?;
                if let Some(newer) = &newer
                    && footer.last.next() != newer.first
                {
                    error!(shard = self.shard, %key, "the archive's chain is broken after {key}: the next object begins at {}, not at {}", newer.first.get(), footer.last.next().get());
                }
                let buried = self.bury(&key, &footer).await?;
                tail.get_or_insert_with(|| (key, footer.clone()));
                if buried == 0 {
                    return Ok(position_after(tail.as_ref()));
                }
                newer = Some(footer);
            }
        }
        Ok(position_after(tail.as_ref()))
    }

    /// The days that may have objects of this chain, newest first.
    async fn dates(&self, epoch: Timestamp) -> Result<Vec<Date>, Fault> {
        // No marker is older than its stream; a day of grace covers clocks that disagree.
        let day_before = epoch.as_millis().saturating_sub(86_400_000);
        let oldest = Date::of(Timestamp::from_millis(day_before));
        let mut dates = objects::dates(&*self.store).await?;
        dates.retain(|date| *date >= oldest);
        store_available(true);
        Ok(dates)
    }

    async fn keys_newest_first(
        &self,
        epoch: Timestamp,
        date: Date,
    ) -> Result<Vec<ObjectKey>, Fault> {
        let mut keys = objects::keys(&*self.store, date).await?;
        keys.retain(|key| key.epoch == epoch && key.shard == self.shard);
        keys.sort_unstable_by_key(|key| std::cmp::Reverse(key.first));
        Ok(keys)
    }

    /// Position of the last marker that the chain accounts for.
    async fn chain_end(&self, epoch: Timestamp) -> Result<StreamSeq, Fault> {
        for date in self.dates(epoch).await? {
            if let Some(key) = self.keys_newest_first(epoch, date).await?.first() {
                return Ok(objects::footer(&*self.store, key).await?.last);
            }
        }
        Ok(StreamSeq::ZERO)
    }

    /// Collects completed tables from a position on.
    async fn gather(&mut self, epoch: Timestamp, position: Position) -> Result<Gathered, Fault> {
        let mut batcher = Batcher::new(self.config.limits(), position);
        let mut markers = self.log.markers(self.shard, batcher.cursor()).await?;
        loop {
            self.oldest = batcher.oldest();
            self.show_lag();
            let due = batcher.due();
            let wait = due.map(|due| due.millis_since(self.clock.now()));
            let marker = tokio::select! {
                biased;
                () = sleep(std::time::Duration::from_millis(wait.unwrap_or(0))), if wait.is_some() => break,
                marker = markers.next() => marker,
            };
            let Some(Ok(entry)) = marker else {
                if let Some(Err(error)) = marker {
                    warn!(shard = self.shard, %error, "the markers of shard {} stopped coming", self.shard);
                }
                // What is gathered stays: a connection that comes and goes must not starve the batch.
                sleep(self.waits.next()).await;
                markers = self.log.markers(self.shard, batcher.cursor()).await?;
                continue;
            };
            if !batcher.admits(entry.stored_at) {
                break;
            }
            if let Taken::Overtaken = self.take(epoch, &entry, &mut batcher).await? {
                return Ok(Gathered::Overtaken);
            }
            if batcher.is_full() {
                break;
            }
        }
        self.waits.reset();
        let batch = batcher
            .finish()
            .expect("a batch ends with a marker that came before");
        Ok(Gathered::Batch(batch))
    }

    /// Adds a marker's table to the batch.
    async fn take(
        &self,
        epoch: Timestamp,
        entry: &Entry,
        batcher: &mut Batcher,
    ) -> Result<Taken, Fault> {
        let table = entry.address.table;
        let marker = match Marker::decode(&entry.payload, table) {
            Ok(marker) if marker.kind == entry.address.kind => Ok(marker),
            Ok(_) => Err("the marker names another kind than its subject".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        let marker = match marker {
            Ok(_) if batcher.contains(table) => Err("a second marker of the table".to_owned()),
            other => other,
        };
        let fetched = match marker {
            Ok(marker) => match fetch::fetch(&*self.log, &marker).await? {
                Found::Whole(fetched) => Ok(fetched),
                Found::Short {
                    fetched,
                    archived_in,
                } => {
                    if self.chain_end(epoch).await? >= entry.seq {
                        return Ok(Taken::Overtaken);
                    }
                    if self
                        .lists(archived_in.as_deref(), &fetched.listed.id)
                        .await?
                    {
                        Err("a second marker of a table that is archived".to_owned())
                    } else {
                        let reason = fetched.row.reason.as_deref().unwrap_or_default();
                        error!(table.id = %table, stream_seq = entry.seq.get(), "table {table} is archived as {}: {reason}", fetched.row.status.as_str());
                        counter!("tablecast_archiver_tables_damaged_total").increment(1);
                        Ok(fetched)
                    }
                }
            },
            Err(reason) => Err(reason),
        };
        let now = self.clock.now();
        match fetched {
            Ok(fetched) => batcher.add(now, entry.seq, entry.stored_at, fetched),
            Err(reason) => {
                fetch::set_aside(&*self.log, entry, &reason).await?;
                batcher.add_dead_letter(now, entry.seq, entry.stored_at);
            }
        }
        Ok(Taken::InBatch)
    }

    /// Whether an object that a tombstone names holds a table indeed.
    async fn lists(
        &self,
        object: Option<&str>,
        table: &crate::domain::TableId,
    ) -> Result<bool, Fault> {
        let Some(key) = object.and_then(ObjectKey::parse) else {
            return Ok(false);
        };
        match objects::footer(&*self.store, &key).await {
            Ok(footer) => Ok(footer.tables.iter().any(|listed| listed.id == *table)),
            Err(error) if error.is_absent() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes a batch, or finds that another archiver has written from its position on. Waits for as long
    /// as the store does not say which; games stay in the log meanwhile.
    async fn commit(&mut self, epoch: Timestamp, batch: Batch) -> (ObjectKey, Footer) {
        let key = ObjectKey {
            date: batch.date,
            epoch,
            shard: self.shard,
            first: batch.first,
        };
        let (rows, tables): (Vec<_>, Vec<_>) = batch.tables.into_iter().unzip();
        let footer = Footer {
            epoch,
            shard: self.shard,
            first: batch.first,
            last: batch.last,
            dead_letters: batch.dead_letters,
            tables,
        };
        let object = blocking(|| columns::encode(&rows, &footer));
        drop(rows);
        loop {
            let refused = match self.create(&key, object.clone()).await {
                Ok(()) => {
                    store_available(true);
                    self.count_written(&key, &footer, object.len());
                    return (key, footer);
                }
                Err(refused) => refused,
            };
            // Whatever the answer was: what counts is what the store shows.
            let seen = objects::footer(&*self.store, &key).await;
            let fault = match seen {
                Ok(seen) => {
                    store_available(true);
                    counter!("tablecast_archiver_objects_adopted_total").increment(1);
                    info!(shard = self.shard, %key, "{key} was there already: adopted");
                    return (key, seen);
                }
                Err(error) if error.is_absent() => anyhow::Error::from(refused),
                Err(error) => anyhow::Error::from(error),
            };
            store_available(false);
            self.show_lag();
            let wait = self.waits.next();
            let (shard, wait_ms) = (self.shard, wait.as_millis());
            warn!(shard, wait_ms, "{key} is not written yet: {fault:#}");
            sleep(wait).await;
        }
    }

    async fn create(&self, key: &ObjectKey, object: Bytes) -> Result<(), object_store::Error> {
        let (path, create) = (objects::path(key), PutMode::Create.into());
        self.store.put_opts(&path, object.into(), create).await?;
        Ok(())
    }

    fn count_written(&mut self, key: &ObjectKey, footer: &Footer, bytes: usize) {
        self.waits.reset();
        let tables = footer.tables.len();
        counter!("tablecast_archiver_objects_written_total").increment(1);
        counter!("tablecast_archiver_tables_archived_total").increment(number(tables));
        counter!("tablecast_archiver_bytes_written_total").increment(number(bytes));
        info!(shard = self.shard, %key, tables, bytes, "archived {tables} tables in {key}");
    }

    /// Buries all tables that an object holds whole. The rest stays in the log, for the operator.
    async fn bury(&self, key: &ObjectKey, footer: &Footer) -> Result<usize, Fault> {
        let burial = Burial {
            log: &*self.log,
            key,
            ttl: self.config.tombstone_ttl,
            now: self.clock.now(),
        };
        let mut buried = 0;
        let whole = footer
            .tables
            .iter()
            .filter(|table| table.status == Status::Archived);
        for table in whole {
            if burial.bury(table).await? == Buried::Now {
                buried += 1;
            }
        }
        Ok(buried)
    }

    fn show_lag(&self) {
        let lag_ms = self
            .oldest
            .map_or(0, |oldest| self.clock.now().millis_since(oldest));
        let shard = self.shard.to_string();
        gauge!("tablecast_archiver_lag_seconds", "shard" => shard).set(seconds(lag_ms));
    }
}

/// Whether a marker's table is in the batch now.
enum Taken {
    InBatch,
    Overtaken,
}

fn position_after(tail: Option<&(ObjectKey, Footer)>) -> Position {
    Position {
        next: tail
            .map_or(StreamSeq::ZERO, |(_, footer)| footer.last)
            .next(),
        date: tail.map(|(key, _)| key.date),
    }
}

pub(super) fn store_available(available: bool) {
    gauge!("tablecast_archiver_store_available").set(if available { 1.0 } else { 0.0 });
}

fn number(count: usize) -> u64 {
    u64::try_from(count).expect("a length in memory fits")
}

fn seconds(millis: u64) -> f64 {
    std::time::Duration::from_millis(millis).as_secs_f64()
}

/// Runs what keeps a processor busy for some milliseconds without holding up the tasks of this thread.
fn blocking<T>(work: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::MultiThread => tokio::task::block_in_place(work),
        // One thread only, as in a simulation: there is nobody to hand the others to.
        _ => work(),
    }
}
