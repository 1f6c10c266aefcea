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
//!   changes nothing where it has been done, and walks on to older ones only as long as it finds commits of
//!   theirs. Killed before or amid burying: the next start does it. Killed after: it changes nothing.
//! - A table whose commits or whose marker are gone was archived by another archiver, whose object was in
//!   the store before it buried them. So whoever looks at the store after it has looked at the log knows
//!   whether it has been overtaken; if not, and no object has the table, its commits are lost indeed.
//!
//! The chain needs its newest object: whatever deletes old objects leaves the newest of each shard.

use std::sync::Arc;

use bytes::Bytes;
use metrics::{counter, gauge, histogram};
use object_store::{ObjectStore, PutMode};
use tokio::time::{Instant, sleep};
use tracing::{debug, error, info, warn};

use super::backoff::Backoff;
use super::batcher::{Batch, Position};
use super::bury::Burial;
use super::config::ArchiverConfig;
use super::gather::Markers;
use crate::archive::{ObjectError, Reader, columns, objects};
use crate::bus::{AppendError, EventLog, ReadError, Stored};
use crate::domain::{StreamSeq, Timestamp};
use crate::protocol::archive::{Date, Footer, FooterTable, ObjectKey, Status};
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
    /// Of the same store: finds tables in objects of other chains.
    pub(super) archive: Arc<Reader>,
    pub(super) clock: Clock,
    pub(super) waits: Backoff,
    /// When the log stored the oldest marker that is known and not archived.
    pub(super) oldest: Option<Timestamp>,
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
                    warn!(shard, wait_ms, "archiving of shard {shard} waits: {fault:#}");
                    self.show_lag();
                    sleep(wait).await;
                }
            }
        }
    }

    /// Goes on from the newest object until something unexpected happens.
    async fn follow_chain(&mut self) -> Result<(), Fault> {
        let epoch = self.log.created_at(self.shard).await?;
        let mut position = self.recover(epoch).await?;
        let mut markers = Markers::default();
        loop {
            let Some(batch) = self.gather(&mut markers, epoch, position).await? else {
                return Ok(());
            };
            // Burying takes markers away, too. If one was gone before it could be gathered here, its object
            // was in the store before, and shows; if none shows, the batch begins with the first marker
            // there is, and has the date, hence the name, that it has for everybody.
            if self.is_overtaken(epoch, position).await? {
                return Ok(());
            }
            let gathered_until = batch.last;
            let (key, footer) = self.commit(epoch, batch).await;
            self.bury(&key, &footer).await?;
            position = Position { next: footer.last.next(), date: Some(key.date) };
            if footer.last != gathered_until {
                markers = Markers::default();
            }
            self.oldest = None;
            self.show_lag();
        }
    }

    /// Finds the end of the chain and buries what its writer has not.
    async fn recover(&self, epoch: Timestamp) -> Result<Position, Fault> {
        let mut position = Position { next: StreamSeq::ZERO.next(), date: None };
        let mut newer: Option<Footer> = None;
        for date in self.dates(epoch).await? {
            for key in self.keys_newest_first(epoch, date).await? {
                let footer = objects::footer(&*self.store, &key).await?;
                match &newer {
                    None => {
                        position = Position { next: footer.last.next(), date: Some(date) };
                    }
                    Some(newer) => {
                        self.check_link(&key, &footer, newer);
                        if self.is_buried(&footer).await? {
                            return Ok(position);
                        }
                    }
                }
                self.bury(&key, &footer).await?;
                newer = Some(footer);
            }
        }
        Ok(position)
    }

    /// A gap cannot come from archivers: somebody has deleted objects, or the store overwrites them.
    fn check_link(&self, key: &ObjectKey, footer: &Footer, newer: &Footer) {
        let (end, begin) = (footer.last.next().get(), newer.first.get());
        if end != begin {
            error!(shard = self.shard, %key, "the archive's chain is broken after {key}: the next object begins at {begin} instead of {end}");
        }
    }

    /// Whether an object's commits are gone from the log. They go in the order of the rows.
    async fn is_buried(&self, footer: &Footer) -> Result<bool, Fault> {
        let Some(last) = whole_tables(footer).next_back() else {
            return Ok(true);
        };
        let entries = self.log.read(last.id, StreamSeq::ZERO).await?;
        Ok(entries.iter().all(|entry| entry.what != Stored::Commit))
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

    /// Whether another archiver has written from this position on.
    pub(super) async fn is_overtaken(
        &self,
        epoch: Timestamp,
        position: Position,
    ) -> Result<bool, Fault> {
        for date in self.dates(epoch).await? {
            if let Some(newest) = self.keys_newest_first(epoch, date).await?.first() {
                return Ok(newest.first >= position.next);
            }
        }
        Ok(false)
    }

    /// Writes a batch, or finds that another archiver has written from its position on. Waits for as long
    /// as the store does not say which; games stay in the log meanwhile.
    async fn commit(&mut self, epoch: Timestamp, batch: Batch) -> (ObjectKey, Footer) {
        let key = ObjectKey { date: batch.date, epoch, shard: self.shard, first: batch.first };
        let (rows, tables): (Vec<_>, Vec<_>) = batch.tables.into_iter().unzip();
        let footer = Footer {
            epoch,
            shard: self.shard,
            first: batch.first,
            last: batch.last,
            dead_letters: batch.dead_letters,
            tables,
        };
        let started = Instant::now();
        let object = blocking(|| columns::encode(&rows, &footer));
        histogram!("tablecast_archiver_encode_seconds").record(started.elapsed());
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
    async fn bury(&self, key: &ObjectKey, footer: &Footer) -> Result<(), Fault> {
        let burial =
            Burial { log: &*self.log, key, ttl: self.config.tombstone_ttl, now: self.clock.now() };
        for table in whole_tables(footer) {
            burial.bury(table).await?;
        }
        Ok(())
    }

    pub(super) fn show_lag(&self) {
        let lag_ms = self.oldest.map_or(0, |oldest| self.clock.now().millis_since(oldest));
        let shard = self.shard.to_string();
        gauge!("tablecast_archiver_lag_seconds", "shard" => shard).set(seconds(lag_ms));
    }
}

fn whole_tables(footer: &Footer) -> impl DoubleEndedIterator<Item = &FooterTable> {
    let tables = footer.tables.iter();
    tables.filter(|table| table.status == Status::Archived)
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
    if Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread {
        tokio::task::block_in_place(work)
    } else {
        // One thread only, as in a simulation: there is nobody to hand the others to.
        work()
    }
}
