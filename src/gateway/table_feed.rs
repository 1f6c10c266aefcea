//! One followed table and its subscribers: who joins how, and what each is handed of every commit.

mod state;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;

use state::{Phase, State};

use super::live_table::{LiveTable, Missed, Taken};
use super::mailbox::{ConnectionId, Mailbox};
use super::outbox::{FeedId, TableFrame};
use super::subscriber::Join;
use super::wire::Wire;
use crate::bus::Entry;
use crate::catalog::FoldError;
use crate::domain::{
    Kind, PlayerId, PresenceChange, StreamSeq, TableId, TableSeq, Viewer, WorkerId,
};

/// One followed table.
///
/// Connections call in from their own tasks, the feed's task from its own: everything happens under one
/// lock, so a subscriber that joins between two commits gets exactly what follows its start.
#[derive(Debug)]
pub(super) struct Feed {
    /// Unlike any other feed's of this process.
    pub id: FeedId,
    /// Which table.
    pub table: TableId,
    state: Mutex<State>,
    /// Rung when there is something to do for the feed's task.
    bell: Notify,
}

/// The feed has closed: nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Closed;

/// What an entry led to.
#[derive(Debug)]
pub(super) enum Fed {
    /// It was fanned out, or needed no fanning out.
    Done,
    /// It was fanned out, and says that the table has this owner from now on.
    Claimed(WorkerId),
    /// Something is missing before it.
    Gap,
    /// It was skipped, or fanned out as a number and nothing else.
    Poison(FoldError),
}

impl Feed {
    /// A feed that waits for its first read.
    pub(super) fn new(id: FeedId, table: TableId) -> Self {
        Self { id, table, state: Mutex::new(State::new()), bell: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a connection follow the table, from now or from when the first read is done.
    pub(super) fn try_join(&self, join: Join) -> Result<(), Closed> {
        let mut state = self.lock();
        match &mut state.phase {
            Phase::Closed => return Err(Closed),
            Phase::Loading(waiting) => {
                waiting.retain(|other| other.mailbox.connection != join.mailbox.connection);
                waiting.push(join);
            }
            Phase::Live(_) => {
                state.admit(self.table, self.id, join);
                self.ring_if_due(&state);
            }
        }
        Ok(())
    }

    /// Ends a connection's following.
    pub(super) fn leave(&self, connection: ConnectionId) {
        let mut state = self.lock();
        if let Phase::Loading(waiting) = &mut state.phase {
            waiting.retain(|join| join.mailbox.connection != connection);
        }
        let was_behind = state.is_behind(connection);
        state.behind.retain(|join| join.mailbox.connection != connection);
        let gone = state.subscribers.remove(&connection);
        if gone.is_none() && !was_behind {
            return;
        }
        if gone.is_some_and(|gone| gone.viewer.seat().is_some()) {
            state.note_presence();
        }
        if state.subscribers.is_empty() && state.behind.is_empty() {
            state.idle_since = Some(Instant::now());
            self.bell.notify_one();
        }
        self.ring_if_due(&state);
    }

    fn ring_if_due(&self, state: &State) {
        if !state.notices.is_empty() || !state.behind.is_empty() {
            self.bell.notify_one();
        }
    }

    /// Hands a connection the newest snapshot, if one is due.
    pub(super) fn resolve(&self, mailbox: &Mailbox) {
        let mut state = self.lock();
        let State { phase: Phase::Live(live), subscribers, .. } = &mut *state else {
            return;
        };
        if let Some(subscriber) = subscribers.get(&mailbox.connection) {
            let frame = live.snapshot(subscriber.viewer, mailbox.wire);
            let seq = live.last_seq();
            let then = None;
            // Under the feed's lock nobody else pushes frames of this table.
            mailbox.resolve(self.table, TableFrame { seq, frame, then });
        }
    }

    /// What anyone may know, if the table is in memory.
    pub(super) fn spectator_snapshot(&self) -> Option<Bytes> {
        match &mut self.lock().phase {
            Phase::Live(live) => Some(live.snapshot(Viewer::Spectator, Wire::Json).payload()),
            Phase::Loading(_) | Phase::Closed => None,
        }
    }

    /// Which game, if the table is in memory.
    pub(super) fn kind(&self) -> Option<Kind> {
        match &self.lock().phase {
            Phase::Live(live) => Some(live.kind()),
            Phase::Loading(_) | Phase::Closed => None,
        }
    }

    /// Which game, if the table is in memory and goes on.
    pub(super) fn kind_if_running(&self) -> Option<Kind> {
        match &self.lock().phase {
            Phase::Live(live) if !live.has_ended() => Some(live.kind()),
            Phase::Live(_) | Phase::Loading(_) | Phase::Closed => None,
        }
    }

    /// Whether the table is in memory and needs an owner.
    pub(super) fn needs_owner(&self) -> bool {
        matches!(&self.lock().phase, Phase::Live(live) if live.needs_owner())
    }

    /// Which game, if the table is in memory, needs an owner, and has this one or none that one knows of.
    pub(super) fn kind_if_of(&self, worker: &WorkerId) -> Option<Kind> {
        match &self.lock().phase {
            Phase::Live(live) if live.needs_owner() => {
                live.owner().is_none_or(|owner| owner == worker).then(|| live.kind())
            }
            Phase::Live(_) | Phase::Loading(_) | Phase::Closed => None,
        }
    }

    /// The first read is done: whoever waited is served.
    pub(super) fn open(&self, live: Box<LiveTable>) {
        let mut state = self.lock();
        let waiting = std::mem::replace(&mut state.phase, Phase::Live(live));
        if let Phase::Loading(waiting) = waiting {
            for join in waiting {
                state.admit(self.table, self.id, join);
            }
        }
        self.ring_if_due(&state);
    }

    /// What is to be read from the log for those who are behind.
    pub(super) fn missed(&self) -> Option<Missed> {
        let mut state = self.lock();
        let after = state.behind.iter().filter_map(|join| join.cursor).min()?;
        let Phase::Live(live) = &mut state.phase else {
            return None;
        };
        let missed = live.missed(after);
        if missed.is_none() {
            // By now it is here, or too far back.
            state.admit_those_behind(self.table, self.id, TableSeq::ZERO);
        }
        missed
    }

    /// What was read: whoever waited for it is served, with a snapshot if it is not all there.
    pub(super) fn on_found(&self, entries: &[Entry]) {
        let mut state = self.lock();
        let Phase::Live(live) = &mut state.phase else {
            return;
        };
        live.take_missed(entries);
        let first = entries.first().map_or(TableSeq::ZERO, |_| live.kept_since());
        state.read_back_at = Some(Instant::now());
        state.admit_those_behind(self.table, self.id, first);
        self.ring_if_due(&state);
    }

    /// Nothing can be followed any more: everyone is told why.
    pub(super) fn close(&self, reason: &'static str) {
        let mut state = self.lock();
        if let Phase::Loading(waiting) = std::mem::replace(&mut state.phase, Phase::Closed) {
            for join in waiting {
                join.mailbox.drop_table(self.table, self.id, reason);
            }
        }
        for join in std::mem::take(&mut state.behind) {
            join.mailbox.drop_table(self.table, self.id, reason);
            state.subscribers.remove(&join.mailbox.connection);
        }
        for subscriber in std::mem::take(&mut state.subscribers).into_values() {
            subscriber.mailbox.drop_table(self.table, self.id, reason);
        }
    }

    /// Closes the feed if nobody has followed it for this long.
    pub(super) fn close_if_idle(&self, linger: Duration) -> bool {
        let mut state = self.lock();
        let is_due = state.idle_since.is_some_and(|at| at.elapsed() >= linger);
        // Somebody must still be told who went.
        if is_due && state.notices.is_empty() {
            state.phase = Phase::Closed;
            return true;
        }
        false
    }

    /// Since when nobody follows.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        self.lock().idle_since
    }

    /// Returns once there is something to do for the feed's task.
    pub(super) async fn rung(&self) {
        self.bell.notified().await;
    }

    /// What the owner has not been told yet.
    pub(super) fn take_notices(&self) -> BTreeMap<PlayerId, PresenceChange> {
        std::mem::take(&mut self.lock().notices)
    }

    /// The owner may have missed who is here: it is told again.
    pub(super) fn announce_again(&self) {
        let mut state = self.lock();
        state.announce_all();
        state.trim_if_due();
        self.ring_if_due(&state);
    }

    /// The owner could not be told this; what has happened since stands.
    pub(super) fn put_notice_back(&self, player: PlayerId, change: PresenceChange) {
        self.lock().notices.entry(player).or_insert(change);
    }

    /// The log's position up to which everything has been taken in.
    pub(super) fn last(&self) -> StreamSeq {
        match &self.lock().phase {
            Phase::Live(live) => live.last(),
            Phase::Loading(_) | Phase::Closed => StreamSeq::ZERO,
        }
    }

    /// An entry that was followed: anything may be missing before it.
    pub(super) fn on_followed(&self, entry: &Entry) -> Fed {
        let mut state = self.lock();
        let is_next = match &state.phase {
            Phase::Live(live) => live.is_next(entry),
            Phase::Loading(_) | Phase::Closed => return Fed::Done,
        };
        if !is_next {
            return Fed::Gap;
        }
        self.take(&mut state, entry)
    }

    /// An entry that was read from the log after [`Feed::last`]: nothing is missing before it.
    pub(super) fn on_read(&self, entry: &Entry) -> Fed {
        self.take(&mut self.lock(), entry)
    }

    fn take(&self, state: &mut State, entry: &Entry) -> Fed {
        let Phase::Live(live) = &mut state.phase else {
            return Fed::Done;
        };
        match live.take(entry) {
            Taken::Commit(commit) => {
                state.fan_out(self.table, commit.as_ref());
                state.trim_if_due();
                self.ring_if_due(state);
                if let Some(reason) = commit.unread() {
                    return Fed::Poison(FoldError::Relayed(reason.to_owned()));
                }
                commit.new_owner().cloned().map_or(Fed::Done, Fed::Claimed)
            }
            Taken::Archived | Taken::Old => Fed::Done,
            Taken::Poison(error) => Fed::Poison(error),
        }
    }
}
