//! What waits for one socket. Pure: frames and the time in, the next thing to send out.

use std::collections::VecDeque;
use std::time::Duration;

use litemap::LiteMap;
use tokio::time::Instant;

use super::throttle::{Bucket, BucketTime, Rate};
use super::wire::Frame;
use crate::domain::{TableId, TableSeq};
use crate::protocol::close::CloseCode;

/// One following of a table by this gateway: a table that is followed anew has another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FeedId(pub u64);

/// The limits of one connection's outbox.
#[derive(Clone, Copy, Debug)]
pub(super) struct OutboxLimits {
    /// How many frames of one table may wait.
    pub frames_per_table: usize,
    /// How many bytes of one table may wait; one frame always may.
    pub bytes_per_table: usize,
    /// How long a table's frame may wait before a snapshot that replaces it is the better answer.
    pub age: Duration,
    /// How fast frames of one table go out.
    pub table_rate: Rate,
    /// How fast frames of all tables together go out.
    pub connection_rate: Rate,
}

/// One commit for one viewer, encoded.
#[derive(Clone, Debug)]
pub(super) struct TableFrame {
    /// The commit it tells of.
    pub seq: TableSeq,
    /// The `commit` frame, or a `snapshot` frame.
    pub frame: Frame,
    /// A `snapshot` frame of the same `seq`, for those who asked for views.
    pub then: Option<Frame>,
}

impl TableFrame {
    fn bytes(&self) -> usize {
        self.frame.len() + self.then.as_ref().map_or(0, Frame::len)
    }
}

/// What became of a frame that was pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It waits its turn.
    Queued,
    /// The table's waiting frames, this one included, gave way to one newer snapshot.
    Conflated {
        /// How many frames will not be sent.
        frames: usize,
    },
    /// Nobody follows the table any more.
    NotFollowed,
}

/// What to do next.
#[derive(Debug)]
pub(super) enum Next {
    /// Send these, in this order.
    Send(Frame, Option<Frame>),
    /// Make the newest snapshot of this table and hand it to [`Outbox::resolve`].
    SnapshotDue(TableId),
    /// Send the newest list of tables.
    LobbyDue,
    /// Nothing may go out before this.
    WaitUntil(Instant),
    /// Nothing waits.
    Nothing,
}

/// The limited, conflating queue of one connection.
///
/// Own frames (verdicts, errors) go first, then tables in turn, the list of tables last. Frames of one
/// table are never reordered.
#[derive(Debug)]
pub(super) struct Outbox {
    limits: OutboxLimits,
    time: BucketTime,
    connection: Bucket,
    /// Taken from the connection's bucket, and no table could use it yet.
    holds_token: bool,
    own: VecDeque<Frame>,
    /// Few, and most connections have one: a table's entry costs what it holds.
    tables: LiteMap<TableId, Waiting>,
    /// Tables that have something to send, each once.
    turn: VecDeque<TableId>,
    lobby_due: bool,
    dropped: Vec<(TableId, FeedId)>,
    closing: Option<CloseCode>,
}

#[derive(Debug)]
struct Waiting {
    bucket: Bucket,
    /// Taken from the table's bucket and not used yet.
    holds_token: bool,
    /// A `subscribed` frame, which goes before everything else of its table and is never conflated.
    head: Option<Frame>,
    body: Body,
    /// What is sent last of all, after which the table is not followed any more.
    end: Option<Box<(Frame, FeedId)>>,
    has_turn: bool,
}

#[derive(Debug)]
enum Body {
    /// In order, each with the time since when it waits.
    Frames {
        frames: VecDeque<(Instant, TableFrame)>,
        bytes: usize,
    },
    SnapshotDue,
}

impl Body {
    const EMPTY: Self = Self::Frames { frames: VecDeque::new(), bytes: 0 };
}

impl Outbox {
    /// Nothing waits, all buckets are full.
    pub(super) fn new(limits: OutboxLimits, now: Instant) -> Self {
        let time = BucketTime::starting_at(now);
        Self {
            limits,
            connection: Bucket::full(limits.connection_rate, &time),
            time,
            holds_token: false,
            own: VecDeque::new(),
            tables: LiteMap::new(),
            turn: VecDeque::new(),
            lobby_due: false,
            dropped: Vec::new(),
            closing: None,
        }
    }

    /// A frame for this connection alone: a verdict, an error.
    ///
    /// Has no limit of its own: while [`Outbox::own_waiting`] is over the connection's limit, nothing is
    /// read from the socket that could cause more of them.
    pub(super) fn push_own(&mut self, frame: Frame) {
        push_first_exactly(&mut self.own, frame);
    }

    /// How many own frames wait.
    pub(super) fn own_waiting(&self) -> usize {
        self.own.len()
    }

    /// The connection is to end, for this reason. The first one stays.
    pub(super) fn close(&mut self, code: CloseCode) {
        self.closing.get_or_insert(code);
    }

    /// Why the connection is to end, if it is.
    pub(super) fn closing(&self) -> Option<CloseCode> {
        self.closing
    }

    /// Gives memory back that a silent connection does not need. What waits is untouched.
    pub(super) fn rest(&mut self) {
        if self.own.is_empty() {
            self.own = VecDeque::new();
        }
        if self.turn.is_empty() {
            self.turn = VecDeque::new();
        }
        for (_, waiting) in self.tables.iter_mut() {
            if waiting.is_empty() {
                waiting.body = Body::EMPTY;
            }
        }
    }

    /// The list of tables has changed.
    pub(super) fn push_lobby(&mut self) {
        self.lobby_due = true;
    }

    /// The list of tables is not wanted any more.
    pub(super) fn drop_lobby(&mut self) {
        self.lobby_due = false;
    }

    /// Starts, or starts anew, what is sent of a table: a `subscribed` frame, then what is pushed after it.
    pub(super) fn follow(&mut self, table: TableId, subscribed: Frame) {
        if self.tables.is_empty() {
            // Room for more comes with the second table.
            self.tables = LiteMap::with_capacity(1);
        }
        let waiting = self.tables.entry(table).or_insert_with(|| Waiting {
            bucket: Bucket::full(self.limits.table_rate, &self.time),
            holds_token: false,
            head: None,
            body: Body::EMPTY,
            end: None,
            has_turn: false,
        });
        waiting.head = Some(subscribed);
        waiting.body = Body::EMPTY;
        waiting.end = None;
        give_turn(&mut self.turn, table, waiting);
    }

    /// Nothing more of this table is sent.
    pub(super) fn unfollow(&mut self, table: TableId) {
        if self.tables.remove(&table).is_some_and(|waiting| waiting.has_turn) {
            self.turn.retain(|other| *other != table);
        }
    }

    /// Nothing more of this table is sent, by no wish of the client: it is told so.
    pub(super) fn drop_table(&mut self, table: TableId, feed: FeedId, unsubscribed: Frame) {
        self.unfollow(table);
        self.push_own(unsubscribed);
        self.dropped.push((table, feed));
    }

    /// Nothing more of this table is sent after what waits: the client is told so then.
    pub(super) fn end_table(&mut self, table: TableId, feed: FeedId, unsubscribed: Frame) {
        if let Some(waiting) = self.tables.get_mut(&table) {
            waiting.end = Some(Box::new((unsubscribed, feed)));
            give_turn(&mut self.turn, table, waiting);
        }
    }

    /// Tables dropped since this was last asked.
    pub(super) fn take_dropped(&mut self) -> Vec<(TableId, FeedId)> {
        std::mem::take(&mut self.dropped)
    }

    /// A frame of a table that is followed. `seq` goes up by one from push to push.
    pub(super) fn push(&mut self, table: TableId, frame: TableFrame, now: Instant) -> Pushed {
        self.put(table, frame, self.limits.frames_per_table, now)
    }

    /// The same of a commit that the client has missed: a whole row of these comes at once, and is limited by its
    /// bytes alone. What follows them is counted with them.
    pub(super) fn push_missed(
        &mut self,
        table: TableId,
        frame: TableFrame,
        now: Instant,
    ) -> Pushed {
        self.put(table, frame, usize::MAX, now)
    }

    fn put(
        &mut self,
        table: TableId,
        frame: TableFrame,
        frames_max: usize,
        now: Instant,
    ) -> Pushed {
        let Some(waiting) = self.tables.get_mut(&table) else {
            return Pushed::NotFollowed;
        };
        let limits = &self.limits;
        let pushed = match &mut waiting.body {
            Body::Frames { frames, bytes } => {
                debug_assert!(
                    frames.back().is_none_or(|(_, last)| last.seq < frame.seq),
                    "commits of one table come in order"
                );
                let more = frame.bytes();
                let too_many = frames.len() >= frames_max;
                let too_big = !frames.is_empty() && *bytes + more > limits.bytes_per_table;
                let too_old = frames
                    .front()
                    .is_some_and(|(since, _)| now.duration_since(*since) > limits.age);
                if too_many || too_big || too_old {
                    let frames = frames.len() + 1;
                    waiting.body = Body::SnapshotDue;
                    Pushed::Conflated { frames }
                } else {
                    push_first_exactly(frames, (now, frame));
                    *bytes += more;
                    Pushed::Queued
                }
            }
            Body::SnapshotDue => Pushed::Conflated { frames: 1 },
        };
        // The table keeps its turn, so a busy table cannot starve a quiet one.
        give_turn(&mut self.turn, table, waiting);
        pushed
    }

    /// The newest snapshot of a table for which one is due. Called while nobody can push to that table.
    pub(super) fn resolve(&mut self, table: TableId, snapshot: TableFrame, now: Instant) {
        if let Some(waiting) = self.tables.get_mut(&table)
            && matches!(waiting.body, Body::SnapshotDue)
        {
            waiting.body =
                Body::Frames { bytes: snapshot.bytes(), frames: VecDeque::from([(now, snapshot)]) };
        }
    }

    /// What to do next. A frame that comes out counts as sent.
    pub(super) fn next(&mut self, now: Instant) -> Next {
        if let Some(frame) = self.own.pop_front() {
            return Next::Send(frame, None);
        }
        let next = self.next_of_tables(now);
        let is_idle = matches!(next, Next::WaitUntil(_) | Next::Nothing);
        if is_idle && std::mem::take(&mut self.lobby_due) {
            return Next::LobbyDue;
        }
        next
    }

    /// Asks each table that has a turn once.
    fn next_of_tables(&mut self, now: Instant) -> Next {
        if !self.turn.is_empty() && !self.holds_token {
            match self.connection.try_take(now) {
                Ok(()) => self.holds_token = true,
                Err(wait) => return Next::WaitUntil(now + wait),
            }
        }
        let mut wait: Option<Duration> = None;
        for _ in 0..self.turn.len() {
            let Some(table) = self.turn.pop_front() else {
                break;
            };
            let waiting =
                self.tables.get_mut(&table).expect("a table that is not followed has no turn");
            if let Err(until) = waiting.try_take_token(now) {
                wait = Some(wait.map_or(until, |wait| wait.min(until)));
                self.turn.push_back(table);
                continue;
            }
            match waiting.take_first() {
                First::Frame(frame, then) => {
                    self.holds_token = false;
                    waiting.has_turn = !waiting.is_empty();
                    if waiting.has_turn {
                        self.turn.push_back(table);
                    }
                    return Next::Send(frame, then);
                }
                First::End(end) => {
                    let (frame, feed) = *end;
                    self.holds_token = false;
                    self.tables.remove(&table);
                    self.dropped.push((table, feed));
                    return Next::Send(frame, None);
                }
                First::SnapshotDue => {
                    self.turn.push_front(table);
                    return Next::SnapshotDue(table);
                }
                First::Nothing => waiting.has_turn = false,
            }
        }
        wait.map_or(Next::Nothing, |wait| Next::WaitUntil(now + wait))
    }
}

enum First {
    Frame(Frame, Option<Frame>),
    End(Box<(Frame, FeedId)>),
    SnapshotDue,
    Nothing,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        let no_body = matches!(&self.body, Body::Frames { frames, .. } if frames.is_empty());
        self.head.is_none() && no_body && self.end.is_none()
    }

    fn try_take_token(&mut self, now: Instant) -> Result<(), Duration> {
        if !self.holds_token {
            self.bucket.try_take(now)?;
            self.holds_token = true;
        }
        Ok(())
    }

    /// A frame that comes out uses the table's token.
    fn take_first(&mut self) -> First {
        if let Some(head) = self.head.take() {
            self.holds_token = false;
            return First::Frame(head, None);
        }
        let Body::Frames { frames, bytes } = &mut self.body else {
            return First::SnapshotDue;
        };
        let Some((_, first)) = frames.pop_front() else {
            return self.end.take().map_or(First::Nothing, First::End);
        };
        *bytes -= first.bytes();
        self.holds_token = false;
        First::Frame(first.frame, first.then)
    }
}

/// Most queues of most connections never hold more than one thing: the first takes no room for others.
fn push_first_exactly<T>(queue: &mut VecDeque<T>, item: T) {
    if queue.capacity() == 0 {
        queue.reserve_exact(1);
    }
    queue.push_back(item);
}

fn give_turn(turn: &mut VecDeque<TableId>, table: TableId, waiting: &mut Waiting) {
    if !waiting.has_turn {
        waiting.has_turn = true;
        push_first_exactly(turn, table);
    }
}

#[cfg(test)]
mod tests;
