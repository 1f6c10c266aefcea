//! Which tables this gateway follows. One feed for each, however many follow it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio_util::task::TaskTracker;

use super::feed_task::{self, FeedContext};
use super::live_table::{LiveTable, Loaded};
use super::load;
use super::metrics;
use super::outbox::FeedId;
use super::subscriber::Join;
use super::table_feed::Feed;
use super::wire::Wire;
use crate::bus::{Entry, ReadError};
use crate::domain::{Kind, TableId, Viewer, WorkerId};

/// The followed tables.
#[derive(Debug)]
pub(super) struct Hub {
    feeds: Mutex<BTreeMap<TableId, Arc<Feed>>>,
    context: Arc<FeedContext>,
    tasks: TaskTracker,
    next_feed: AtomicU64,
}

/// What is known of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Known<T> {
    /// This.
    Table(T),
    /// It is over, and only the archive has it.
    Archived(Entry),
    /// There is no such table, or none that this binary can read.
    Unknown,
}

impl Hub {
    /// Follows nothing yet.
    pub(super) fn new(context: FeedContext, tasks: TaskTracker) -> Arc<Self> {
        Arc::new(Self {
            feeds: Mutex::new(BTreeMap::new()),
            context: Arc::new(context),
            tasks,
            next_feed: AtomicU64::new(0),
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TableId, Arc<Feed>>> {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a connection follow a table. The first to do so starts its feed; the others share it.
    pub(super) fn join(self: &Arc<Self>, table: TableId, join: &Join) -> Arc<Feed> {
        loop {
            let feed = self.feed(table);
            if feed.try_join(join.clone()).is_ok() {
                return feed;
            }
            // It closed between the two locks.
            self.forget(&feed);
        }
    }

    fn feed(self: &Arc<Self>, table: TableId) -> Arc<Feed> {
        let mut feeds = self.lock();
        if let Some(feed) = feeds.get(&table) {
            return Arc::clone(feed);
        }
        let id = FeedId(self.next_feed.fetch_add(1, Ordering::Relaxed));
        let feed = Arc::new(Feed::new(id, table));
        feeds.insert(table, Arc::clone(&feed));
        metrics::followed(feeds.len());
        let hub = Arc::clone(self);
        let task = Arc::clone(&feed);
        self.tasks.spawn(async move {
            feed_task::run(Arc::clone(&task), Arc::clone(&hub.context)).await;
            hub.forget(&task);
        });
        feed
    }

    /// Takes a closed feed off the list, unless another has its place already.
    fn forget(&self, feed: &Arc<Feed>) {
        let mut feeds = self.lock();
        if feeds.get(&feed.table).is_some_and(|other| Arc::ptr_eq(other, feed)) {
            feeds.remove(&feed.table);
        }
        metrics::followed(feeds.len());
    }

    fn followed(&self, table: TableId) -> Option<Arc<Feed>> {
        self.lock().get(&table).map(Arc::clone)
    }

    /// The followed tables that need an owner and, as far as one knows, have this one.
    pub(super) fn running_of(&self, worker: &WorkerId) -> Vec<(TableId, Kind)> {
        let feeds: Vec<_> = self.lock().values().map(Arc::clone).collect();
        feeds.iter().filter_map(|feed| Some((feed.table, feed.kind_if_of(worker)?))).collect()
    }

    /// Whether a table is followed and needs an owner.
    pub(super) fn needs_owner(&self, table: TableId) -> bool {
        self.followed(table).is_some_and(|feed| feed.needs_owner())
    }

    /// By which rules a table is played: from memory, else from the log.
    pub(super) async fn kind_of(&self, table: TableId) -> Result<Known<Kind>, ReadError> {
        if let Some(kind) = self.followed(table).and_then(|feed| feed.kind()) {
            return Ok(Known::Table(kind));
        }
        let loaded = self.load(table).await?;
        Ok(loaded.map(|live| live.kind()))
    }

    /// What anyone may know of a table, as a `snapshot` frame: from memory, else from the log or the archive.
    pub(super) async fn spectator_snapshot(
        &self,
        table: TableId,
    ) -> Result<Known<Bytes>, ReadError> {
        let in_memory = self.followed(table);
        if let Some(frame) = in_memory.and_then(|feed| feed.spectator_snapshot()) {
            return Ok(Known::Table(frame));
        }
        let loaded = match self.load(table).await? {
            Known::Archived(tombstone) => match load::archived(&self.context, &tombstone).await {
                Ok(Some(live)) => Known::Table(live),
                Ok(None) => Known::Archived(tombstone),
                Err(error) => {
                    let reason = error.to_string();
                    return Err(ReadError::Unavailable { reason });
                }
            },
            loaded @ (Known::Table(_) | Known::Unknown) => loaded,
        };
        Ok(loaded.map(|mut live| live.snapshot(Viewer::Spectator, Wire::Json).payload()))
    }

    async fn load(&self, table: TableId) -> Result<Known<Box<LiveTable>>, ReadError> {
        // What is poison is counted by the feed of whoever follows the table.
        let (loaded, _) = load::load(&self.context, table, 1).await?;
        Ok(match loaded {
            Loaded::Live(live) => Known::Table(live),
            Loaded::Archived(tombstone) => Known::Archived(tombstone),
            Loaded::Unknown | Loaded::UnknownKind | Loaded::Unreadable => Known::Unknown,
        })
    }
}

impl<T> Known<T> {
    fn map<U>(self, f: impl FnOnce(T) -> U) -> Known<U> {
        match self {
            Self::Table(table) => Known::Table(f(table)),
            Self::Archived(tombstone) => Known::Archived(tombstone),
            Self::Unknown => Known::Unknown,
        }
    }
}

#[cfg(test)]
mod tests;
