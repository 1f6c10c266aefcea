//! Where the rest of the gateway leaves frames for one connection, without ever waiting for it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::metrics;
use super::outbox::{FeedId, Outbox, OutboxLimits, Pushed, TableFrame};
use crate::domain::TableId;
use crate::protocol::frame::{Format, ServerFrame};

/// One connection of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ConnectionId(pub u64);

/// A connection's outbox, and the bell that tells the connection to look into it.
///
/// Order of locks: a table's feed first, the outbox second.
#[derive(Debug)]
pub(super) struct Mailbox {
    /// Whose.
    pub connection: ConnectionId,
    /// How its frames are written.
    pub format: Format,
    outbox: Mutex<Outbox>,
    bell: Notify,
}

impl Mailbox {
    /// An empty one.
    pub(super) fn new(connection: ConnectionId, format: Format, limits: OutboxLimits) -> Self {
        Self {
            connection,
            format,
            outbox: Mutex::new(Outbox::new(limits, Instant::now())),
            bell: Notify::new(),
        }
    }

    /// The outbox itself. Held for moments only.
    pub(super) fn lock(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns once something was left here since it last returned.
    pub(super) async fn rung(&self) {
        self.bell.notified().await;
    }

    /// Leaves a frame for this connection alone.
    pub(super) fn push_own(&self, frame: &ServerFrame) {
        self.lock().push_own(self.format.encode(frame));
        self.bell.notify_one();
    }

    /// Starts, or starts anew, what is sent of a table.
    pub(super) fn follow(&self, table: TableId, subscribed: &ServerFrame) {
        self.lock().follow(table, self.format.encode(subscribed));
        self.bell.notify_one();
    }

    /// Leaves a frame of a table.
    pub(super) fn push(&self, table: TableId, frame: TableFrame, now: Instant) {
        let pushed = self.lock().push(table, frame, now);
        match pushed {
            Pushed::Queued => {}
            Pushed::Conflated { frames } => metrics::conflated(frames),
            Pushed::NotFollowed => return,
        }
        self.bell.notify_one();
    }

    /// Ends what is sent of a table, and tells the client why.
    pub(super) fn drop_table(&self, table: TableId, feed: FeedId, reason: &'static str) {
        let frame = ServerFrame::Unsubscribed { table, reason };
        self.lock().drop_table(table, feed, self.format.encode(&frame));
        self.bell.notify_one();
    }

    /// The list of tables has changed.
    pub(super) fn push_lobby(&self) {
        self.lock().push_lobby();
        self.bell.notify_one();
    }

    /// What is to be sent of a table is this snapshot, if one is due.
    pub(super) fn resolve(&self, table: TableId, snapshot: TableFrame) {
        self.lock().resolve(table, snapshot, Instant::now());
    }
}
