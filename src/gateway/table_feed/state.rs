//! What a feed keeps under its lock: the table, who follows it, who waits to begin, and what its owner is to be told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::super::live_table::{LiveTable, Resume};
use super::super::mailbox::ConnectionId;
use super::super::outbox::FeedId;
use super::super::subscriber::{Join, Subscriber};
use crate::catalog::FannedOut;
use crate::domain::{PlayerId, PresenceChange, TableId, TableSeq};
use crate::protocol::frame::Deliver;

/// How long commits that were read back are kept: others of the same storm may miss them, too.
const READ_BACK_KEPT: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct State {
    pub(super) phase: Phase,
    pub(super) subscribers: BTreeMap<ConnectionId, Subscriber>,
    /// Those who are to begin with commits that have to be read back first.
    pub(super) behind: Vec<Join>,
    /// Since when commits are kept that were read back.
    pub(super) read_back_at: Option<Instant>,
    /// Players with a seat and a connection here, as announced to the table's owner.
    pub(super) here: BTreeSet<PlayerId>,
    /// What the owner has not been told yet. At most one line for each player.
    pub(super) notices: BTreeMap<PlayerId, PresenceChange>,
    /// Since when nobody follows.
    pub(super) idle_since: Option<Instant>,
}

#[derive(Debug)]
pub(super) enum Phase {
    /// The first read is under way; those who came share it.
    Loading(Vec<Join>),
    Live(Box<LiveTable>),
    /// Whoever wants to join must make a new feed.
    Closed,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            phase: Phase::Loading(Vec::new()),
            subscribers: BTreeMap::new(),
            behind: Vec::new(),
            read_back_at: None,
            here: BTreeSet::new(),
            notices: BTreeMap::new(),
            idle_since: Some(Instant::now()),
        }
    }

    pub(super) fn is_behind(&self, connection: ConnectionId) -> bool {
        self.behind.iter().any(|join| join.mailbox.connection == connection)
    }

    /// Only while the table is in memory.
    pub(super) fn admit(&mut self, table: TableId, feed: FeedId, join: Join) {
        let Phase::Live(live) = &mut self.phase else {
            return;
        };
        let connection = join.mailbox.connection;
        self.behind.retain(|other| other.mailbox.connection != connection);
        // A view needs no commit but the last.
        let asks = join.deliver == Deliver::Events;
        if asks && matches!(live.resume(join.cursor), Resume::Older) {
            self.behind.push(join);
            self.idle_since = None;
            return;
        }
        self.admit_now(table, feed, join);
    }

    /// Those whose cursor is not before this commit's predecessor; all of them if that is zero.
    pub(super) fn admit_those_behind(&mut self, table: TableId, feed: FeedId, first: TableSeq) {
        let is_due = |join: &Join| join.cursor.is_none_or(|cursor| cursor.next() >= first);
        let behind = std::mem::take(&mut self.behind);
        let (due, others): (Vec<_>, Vec<_>) = behind.into_iter().partition(is_due);
        self.behind = others;
        for join in due {
            self.admit_now(table, feed, join);
        }
    }

    fn admit_now(&mut self, table: TableId, feed: FeedId, join: Join) {
        let Phase::Live(live) = &mut self.phase else {
            return;
        };
        let cursor = join.cursor;
        let subscriber = Subscriber::new(join, live);
        match (live.resume(cursor), cursor) {
            (Resume::Commits, Some(cursor)) => subscriber.start_after_cursor(table, live, cursor),
            (Resume::Snapshot | Resume::Older | Resume::Commits, _) => {
                subscriber.start_over(table, live);
            }
        }
        if live.is_archived() {
            subscriber.mailbox.end_table(table, feed, "archived");
        }
        let has_seat = subscriber.viewer.seat().is_some();
        let connection = subscriber.mailbox.connection;
        let replaced = self.subscribers.insert(connection, subscriber);
        self.idle_since = None;
        let had_seat = replaced.is_some_and(|old| old.viewer.seat().is_some());
        if had_seat || has_seat {
            self.note_presence();
        }
    }

    pub(super) fn trim_if_due(&mut self) {
        let is_due = self.read_back_at.is_some_and(|at| at.elapsed() >= READ_BACK_KEPT);
        if let (true, Phase::Live(live)) = (is_due && self.behind.is_empty(), &mut self.phase) {
            live.trim();
            self.read_back_at = None;
        }
    }

    pub(super) fn fan_out(&mut self, table: TableId, commit: &dyn FannedOut) {
        let Phase::Live(live) = &mut self.phase else {
            return;
        };
        let now = Instant::now();
        let mut anyone_moved = false;
        for subscriber in self.subscribers.values_mut() {
            if commit.changes_seats() && subscriber.has_moved(live) {
                anyone_moved = true;
                subscriber.start_over(table, live);
                continue;
            }
            subscriber.push(table, live, now);
        }
        if anyone_moved {
            self.note_presence();
        }
        if commit.new_owner().is_some() {
            // A new owner knows of nobody's presence.
            self.announce_all();
        }
    }

    pub(super) fn announce_all(&mut self) {
        for player in &self.here {
            self.notices.insert(player.clone(), PresenceChange::Came);
        }
    }

    /// Finds out who came and who went since the owner was last told.
    pub(super) fn note_presence(&mut self) {
        let Phase::Live(live) = &self.phase else {
            return;
        };
        if live.is_archived() {
            // Nobody owns it.
            return;
        }
        let here: BTreeSet<PlayerId> = self
            .subscribers
            .values()
            .filter(|subscriber| subscriber.viewer.seat().is_some())
            .filter_map(|subscriber| subscriber.player.clone())
            .collect();
        for player in here.difference(&self.here) {
            self.notices.insert(player.clone(), PresenceChange::Came);
        }
        for player in self.here.difference(&here) {
            if live.seat_of(player).is_some() {
                self.notices.insert(player.clone(), PresenceChange::Went);
            } else {
                self.notices.remove(player);
            }
        }
        self.here = here;
    }
}
