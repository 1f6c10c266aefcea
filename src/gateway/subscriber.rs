//! One connection at one table: how it starts, and what it is handed of each commit.

use std::sync::Arc;

use tokio::time::Instant;

use super::live_table::LiveTable;
use super::mailbox::Mailbox;
use super::metrics;
use super::outbox::{Class, TableFrame};
use crate::domain::{PlayerId, TableId, TableSeq, Viewer};
use crate::protocol::frame::{Deliver, ServerFrame};

/// A connection that wants to follow a table.
#[derive(Clone, Debug)]
pub(super) struct Join {
    /// Where its frames go.
    pub mailbox: Arc<Mailbox>,
    /// Whose it is, if anybody's.
    pub player: Option<PlayerId>,
    /// The last commit it has.
    pub cursor: Option<TableSeq>,
    /// What it wants of each commit.
    pub deliver: Deliver,
}

/// A connection that follows a table, and as whom.
#[derive(Debug)]
pub(super) struct Subscriber {
    /// Where its frames go.
    pub(super) mailbox: Arc<Mailbox>,
    /// Whose it is, if anybody's.
    pub(super) player: Option<PlayerId>,
    /// Whose eyes it is shown things to.
    pub(super) viewer: Viewer,
    /// What it wants of each commit.
    pub(super) deliver: Deliver,
}

impl Subscriber {
    /// As the player's seat says.
    pub(super) fn new(join: Join, live: &LiveTable) -> Self {
        let mut subscriber = Self {
            mailbox: join.mailbox,
            player: join.player,
            viewer: Viewer::Spectator,
            deliver: join.deliver,
        };
        subscriber.has_moved(live);
        subscriber
    }

    /// Hands over the last commit.
    pub(super) fn push(&self, table: TableId, live: &mut LiveTable, now: Instant) {
        let wire = self.mailbox.wire;
        let frame = TableFrame {
            seq: live.last_seq(),
            frame: live.last_commit(self.viewer, wire),
            then: match self.deliver {
                Deliver::Events => None,
                Deliver::Views => Some(live.snapshot(self.viewer, wire)),
            },
        };
        self.mailbox.push(table, frame, now);
    }

    /// Looks the player's seat up again; whether it is another than before.
    pub(super) fn has_moved(&mut self, live: &LiveTable) -> bool {
        let seat = self.player.as_ref().and_then(|player| live.seat_of(player));
        let viewer = seat.map_or(Viewer::Spectator, Viewer::Seated);
        let has_moved = viewer != self.viewer;
        self.viewer = viewer;
        has_moved
    }

    /// Begins with a snapshot.
    pub(super) fn start_over(&self, table: TableId, live: &mut LiveTable) {
        metrics::joined("snapshot");
        self.announce(table, live, false);
        let seq = live.last_seq();
        let frame = live.snapshot(self.viewer, self.mailbox.wire);
        let then = None;
        self.mailbox.push(table, TableFrame { seq, frame, then }, Instant::now());
    }

    /// Begins with the commits it has missed.
    pub(super) fn start_after_cursor(
        &self,
        table: TableId,
        live: &mut LiveTable,
        cursor: TableSeq,
    ) {
        metrics::joined(match () {
            () if live.is_archived() => "archive",
            () if live.is_read_back(cursor) => "log",
            () => "ring",
        });
        self.announce(table, live, true);
        let now = Instant::now();
        let wire = self.mailbox.wire;
        let last = live.last_seq();
        // Older snapshots are not kept: views start with that of the last commit.
        let mut view = (self.deliver == Deliver::Views).then(|| live.snapshot(self.viewer, wire));
        for (seq, frame) in live.commits_after(cursor, self.viewer, wire) {
            let then = view.take_if(|_| seq == last);
            self.mailbox.push_missed(table, TableFrame { seq, frame, then }, now);
        }
    }

    fn announce(&self, table: TableId, live: &LiveTable, recovered: bool) {
        let class = match self.viewer {
            Viewer::Seated(_) => Class::Seated,
            Viewer::Spectator => Class::Watched,
        };
        self.mailbox.follow(
            table,
            class,
            &ServerFrame::Subscribed {
                table,
                kind: live.kind(),
                seat: self.viewer.seat(),
                recovered,
                seq: live.last_seq(),
            },
        );
    }
}
