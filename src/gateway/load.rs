//! How a table comes into memory: from its worker's snapshot and the commits since, if that is a short way, else
//! from all its commits.

use std::sync::Arc;

use super::feed_task::FeedContext;
use super::live_table::{LiveTable, Loaded, Missed, Taken};
use super::metrics;
use crate::archive::ObjectError;
use crate::bus::way_back::{WAY_BACK_MAX, way_back};
use crate::bus::{Entry, ReadError, Stored};
use crate::catalog::{FoldError, Rules};
use crate::domain::{StreamSeq, TableId, TableSeq};
use crate::protocol::envelope::{Message, Snapshot, commit_seq};
use crate::protocol::subject::Address;

/// Of a table with fewer commits, reading a snapshot saves nothing.
const SNAPSHOT_FROM: u64 = 8;

/// What could not be read, and why.
pub(super) type Poison = Vec<(Entry, FoldError)>;

/// What the log has of a table. What is poison comes back beside it.
pub(super) async fn load(
    cx: &FeedContext,
    table: TableId,
    ring_len: usize,
) -> Result<(Loaded, Poison), ReadError> {
    // Closed never: a permit that cannot be had changes nothing but the order.
    let _permit = cx.reads.acquire().await;
    if let Some((loaded, from)) = by_the_short_way(cx, table, ring_len).await? {
        metrics::loaded(from);
        return Ok((loaded, Vec::new()));
    }
    metrics::loaded("front");
    let entries = cx.bus.log.read(table, StreamSeq::ZERO).await?;
    Ok(LiveTable::load(&cx.catalog, table, &entries, ring_len))
}

/// From the last entry back. Nothing if that is no way: then all is read, and what is wrong is seen.
async fn by_the_short_way(
    cx: &FeedContext,
    table: TableId,
    ring_len: usize,
) -> Result<Option<(Loaded, &'static str)>, ReadError> {
    let log = &*cx.bus.log;
    let Some(newest) = log.newest_of(table).await? else {
        return Ok(Some((Loaded::Unknown, "nothing")));
    };
    if newest.what == Stored::Tombstone {
        return Ok(Some((Loaded::Archived(newest), "tombstone")));
    }
    let address = newest.address.clone();
    let number = commit_seq(&newest.payload, table).map(TableSeq::get);
    let (Some(rules), Some(number)) = (cx.catalog.get(&address.kind), number) else {
        return Ok(None);
    };
    if number >= SNAPSHOT_FROM
        && let Some(live) = saved(cx, &address, rules, ring_len).await
    {
        if newest.seq == live.last() {
            return Ok(Some((Loaded::Live(Box::new(live)), "snapshot")));
        }
        let after = live.last_seq();
        let entries = way_back(log, &address, newest.clone(), after, WAY_BACK_MAX).await?;
        if let Some(live) = entries.and_then(|entries| with_tail(live, &entries)) {
            return Ok(Some((Loaded::Live(Box::new(live)), "snapshot")));
        }
    }
    let entries = way_back(log, &address, newest, TableSeq::ZERO, WAY_BACK_MAX).await?;
    let Some(entries) = entries.filter(|entries| entries[0].previous == StreamSeq::ZERO) else {
        return Ok(None);
    };
    let (loaded, poison) = LiveTable::load(&cx.catalog, table, &entries, ring_len);
    Ok(poison.is_empty().then_some((loaded, "commits")))
}

/// A table as its worker has saved it. A snapshot is never needed, so any trouble with it means that there is none.
async fn saved(
    cx: &FeedContext,
    address: &Address,
    rules: &Arc<dyn Rules>,
    ring_len: usize,
) -> Option<LiveTable> {
    if rules.is_relayed() {
        return None;
    }
    let bytes = cx.bus.snapshots.newest(address).await.ok()??;
    let snapshot = Snapshot::decode(&bytes, address.table).ok()?;
    if snapshot.kind != address.kind {
        return None;
    }
    let Some(replica) = rules.restore_replica(address.table, &snapshot.state) else {
        metrics::snapshot_ignored();
        return None;
    };
    Some(LiveTable::restored(replica, snapshot.last, Some(snapshot.worker), ring_len))
}

/// With what has been appended since. Nothing if that does not follow it.
fn with_tail(mut live: LiveTable, entries: &[Entry]) -> Option<LiveTable> {
    let follows = entries.first().is_some_and(|first| first.previous == live.last());
    let fits = |entry| matches!(live.take(entry), Taken::Commit(_));
    (follows && entries.iter().all(fits)).then_some(live)
}

/// Commits that somebody has missed, from the log; none if it does not have them all.
pub(super) async fn missed(cx: &FeedContext, table: TableId, missed: Missed) -> Vec<Entry> {
    let _permit = cx.reads.acquire().await;
    let log = &*cx.bus.log;
    let address = Address::new(table, missed.kind, log.shards());
    let entries = async {
        let Some(last) = log.entry(&address, missed.last).await? else {
            return Ok(None);
        };
        way_back(log, &address, last, missed.after, missed.count).await
    };
    let entries: Result<Option<Vec<Entry>>, ReadError> = entries.await;
    entries.ok().flatten().unwrap_or_default()
}

/// A table of the archive. Nothing if this gateway has no archive, or that cannot show it.
pub(super) async fn archived(
    cx: &FeedContext,
    tombstone: &Entry,
) -> Result<Option<Box<LiveTable>>, ObjectError> {
    match &cx.archived {
        Some(archived) => archived.load(&cx.catalog, tombstone).await,
        None => Ok(None),
    }
}
