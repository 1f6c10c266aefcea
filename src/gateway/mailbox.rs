//! Where the rest of the gateway leaves frames for one connection, without ever waiting for it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use tokio::time::Instant;

use super::metrics;
use super::outbox::{Class, FeedId, Outbox, OutboxLimits, Pushed, TableFrame};
use super::wire::{Frame, Wire};
use crate::domain::{PlayerId, TableId};
use crate::protocol::close::CloseCode;
use crate::protocol::frame::ServerFrame;

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
    /// How its frames go over the wire.
    pub wire: Wire,
    /// Whom its socket leads to, if that is known.
    pub address: Option<IpAddr>,
    /// Whose it is, once it has said so.
    player: OnceLock<PlayerId>,
    outbox: Mutex<Outbox>,
    /// Whether something was left here since the connection last looked.
    has_rung: AtomicBool,
    reader: AtomicWaker,
}

impl Mailbox {
    /// An empty one.
    pub(super) fn new(
        connection: ConnectionId,
        wire: Wire,
        address: Option<IpAddr>,
        limits: OutboxLimits,
    ) -> Self {
        Self {
            connection,
            wire,
            address,
            player: OnceLock::new(),
            outbox: Mutex::new(Outbox::new(limits, Instant::now())),
            has_rung: AtomicBool::new(false),
            reader: AtomicWaker::new(),
        }
    }

    /// The outbox itself. Held for moments only.
    pub(super) fn lock(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose it is, once it has said so.
    pub(super) fn player(&self) -> Option<&PlayerId> {
        self.player.get()
    }

    /// It has said whose it is. That stays.
    pub(super) fn identify(&self, player: &PlayerId) {
        self.player.get_or_init(|| player.clone());
    }

    /// Ready once something was left here since it last was. For one task: the connection's own.
    pub(super) fn poll_rung(&self, cx: &Context<'_>) -> Poll<()> {
        self.reader.register(cx.waker());
        if self.has_rung.swap(false, Ordering::AcqRel) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Returns once that is so.
    #[cfg(test)]
    pub(super) async fn rung(&self) {
        std::future::poll_fn(|cx| self.poll_rung(cx)).await;
    }

    /// Whoever rings twice before the connection has looked wakes it once.
    pub(super) fn ring(&self) {
        if !self.has_rung.swap(true, Ordering::AcqRel) {
            self.reader.wake();
        }
    }

    /// The connection is to end.
    pub(super) fn close(&self, code: CloseCode) {
        self.lock().close(code);
        self.ring();
    }

    /// Leaves a frame for this connection alone.
    pub(super) fn push_own(&self, frame: &ServerFrame) {
        self.push_own_frame(Frame::of(self.wire, frame));
    }

    /// The same by the connection itself, which needs no bell to look.
    pub(super) fn reply(&self, frame: &ServerFrame) {
        let encoded = Frame::of(self.wire, frame);
        let mut outbox = self.lock();
        if is_throttled(frame) {
            let throttled = &mut outbox.standing().throttled_in;
            *throttled = throttled.saturating_add(1);
        }
        outbox.push_own(encoded);
    }

    /// The same, as it is to be written.
    pub(super) fn push_own_frame(&self, frame: Frame) {
        self.lock().push_own(frame);
        self.ring();
    }

    /// Starts, or starts anew, what is sent of a table.
    pub(super) fn follow(&self, table: TableId, class: Class, subscribed: &ServerFrame) {
        let subscribed = Frame::of(self.wire, subscribed);
        self.lock().follow(table, class, subscribed);
        self.ring();
    }

    /// Leaves a frame of a table.
    pub(super) fn push(&self, table: TableId, frame: TableFrame, now: Instant) {
        let pushed = self.lock().push(table, frame, now);
        match pushed {
            Pushed::Queued => {}
            Pushed::Conflated { frames } => metrics::conflated(frames),
            Pushed::NotFollowed => return,
        }
        self.ring();
    }

    /// Leaves a commit that the connection has missed.
    pub(super) fn push_missed(&self, table: TableId, frame: TableFrame, now: Instant) {
        if let Pushed::Conflated { frames } = self.lock().push_missed(table, frame, now) {
            metrics::conflated(frames);
        }
        self.ring();
    }

    /// Ends what is sent of a table once all that waits of it is sent, and tells the client why.
    pub(super) fn end_table(&self, table: TableId, feed: FeedId, reason: &'static str) {
        let frame = ServerFrame::Unsubscribed { table, reason };
        self.lock().end_table(table, feed, Frame::of(self.wire, &frame));
        self.ring();
    }

    /// Ends what is sent of a table, and tells the client why.
    pub(super) fn drop_table(&self, table: TableId, feed: FeedId, reason: &'static str) {
        let frame = ServerFrame::Unsubscribed { table, reason };
        self.lock().drop_table(table, feed, Frame::of(self.wire, &frame));
        self.ring();
    }

    /// The list of tables has changed.
    pub(super) fn push_lobby(&self) {
        self.lock().push_lobby();
        self.ring();
    }

    /// What is to be sent of a table is this snapshot, if one is due.
    pub(super) fn resolve(&self, table: TableId, snapshot: TableFrame) {
        self.lock().resolve(table, snapshot, Instant::now());
    }
}

/// Whether the client is told that it sends too fast.
fn is_throttled(frame: &ServerFrame) -> bool {
    match frame {
        ServerFrame::Error { code, .. } => *code == "throttled",
        ServerFrame::Rejected { refusal, .. } => refusal.code == "throttled",
        ServerFrame::Welcome { .. }
        | ServerFrame::Opened { .. }
        | ServerFrame::Accepted { .. }
        | ServerFrame::Subscribed { .. }
        | ServerFrame::Unsubscribed { .. }
        | ServerFrame::Lobby { .. }
        | ServerFrame::Status { .. }
        | ServerFrame::Goodbye { .. }
        | ServerFrame::Pong { .. } => false,
    }
}
