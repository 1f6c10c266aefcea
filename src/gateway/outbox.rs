//! What waits for one socket. Pure: frames and the time in, the next thing to send out.

mod standing;
mod turns;
mod waiting;

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::time::Duration;

use litemap::LiteMap;
use tokio::time::Instant;

use super::throttle::{Bucket, BucketTime, Rate};
use super::wire::Frame;
use crate::domain::{TableId, TableSeq};
use crate::protocol::close::CloseCode;
use turns::Turns;
use waiting::{First, Waiting};

pub(super) use standing::{Behind, Hold, Standing};
pub(super) use turns::Class;

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
    /// How fast bytes go out. A frame goes out while none are owed and is paid for afterwards, so that even one
    /// that is larger than the bucket passes; nothing but own frames goes out while any are owed.
    pub byte_rate: Rate,
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
    /// Nothing may go out before this, for this reason.
    WaitUntil(Instant, Hold),
    /// Nothing waits.
    Nothing,
}

/// The limited, conflating queue of one connection.
///
/// Own frames (verdicts, errors) go first, then tables in turn, those with an own seat before those that are only
/// watched, the list of tables last. Frames of one table are never reordered.
#[derive(Debug)]
pub(super) struct Outbox {
    limits: OutboxLimits,
    time: BucketTime,
    connection: Bucket,
    /// Taken from the connection's bucket, and no table could use it yet.
    holds_token: bool,
    bytes: Bucket,
    /// Bytes that went out and were not taken from the bucket yet.
    owed: u32,
    own: VecDeque<Frame>,
    /// Few, and most connections have one: a table's entry costs what it holds.
    tables: LiteMap<TableId, Waiting>,
    turns: Turns,
    lobby_due: bool,
    dropped: Vec<(TableId, FeedId)>,
    closing: Option<CloseCode>,
    standing: Standing,
}

/// What waits for one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    /// Tables that are followed.
    pub tables: usize,
    /// Frames that wait.
    pub frames: usize,
    /// Bytes that wait.
    pub bytes: usize,
}

impl Outbox {
    /// Nothing waits, all buckets are full.
    pub(super) fn new(limits: OutboxLimits, now: Instant) -> Self {
        let time = BucketTime::starting_at(now);
        Self {
            limits,
            connection: Bucket::full(limits.connection_rate, &time),
            bytes: Bucket::full(limits.byte_rate, &time),
            time,
            holds_token: false,
            owed: 0,
            own: VecDeque::new(),
            tables: LiteMap::new(),
            turns: Turns::default(),
            lobby_due: false,
            dropped: Vec::new(),
            closing: None,
            standing: Standing::default(),
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
        self.turns.rest();
        for (_, waiting) in self.tables.iter_mut() {
            waiting.rest();
        }
    }

    /// How the connection stands.
    pub(super) fn standing(&mut self) -> &mut Standing {
        &mut self.standing
    }

    /// What waits. Takes as long as there are tables and own frames.
    pub(super) fn load(&self) -> Load {
        let own = self.own.iter().map(|frame| (1, frame.len()));
        let tables = self.tables.values().map(Waiting::waiting);
        own.chain(tables).fold(
            Load { tables: self.tables.len(), ..Load::default() },
            |load, (frames, bytes)| Load {
                frames: load.frames + frames,
                bytes: load.bytes + bytes,
                ..load
            },
        )
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
    pub(super) fn follow(&mut self, table: TableId, class: Class, subscribed: Frame) {
        if self.tables.is_empty() {
            // Room for more comes with the second table.
            self.tables = LiteMap::with_capacity(1);
        }
        let waiting = self
            .tables
            .entry(table)
            .or_insert_with(|| Waiting::new(class, &self.limits, &self.time));
        if waiting.class != class {
            if std::mem::take(&mut waiting.has_turn) {
                self.turns.remove(waiting.class, table);
            }
            waiting.class = class;
        }
        waiting.start_anew(subscribed);
        give_turn(&mut self.turns, table, waiting);
    }

    /// Nothing more of this table is sent.
    pub(super) fn unfollow(&mut self, table: TableId) {
        if let Some(waiting) = self.tables.remove(&table)
            && waiting.has_turn
        {
            self.turns.remove(waiting.class, table);
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
            waiting.end_with(unsubscribed, feed);
            give_turn(&mut self.turns, table, waiting);
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
        let pushed = waiting.push(frame, frames_max, &self.limits, now);
        if let Pushed::Conflated { frames } = pushed {
            let frames = u32::try_from(frames).unwrap_or(u32::MAX);
            self.standing.conflated = self.standing.conflated.saturating_add(frames);
        }
        // The table keeps its turn, so a busy table cannot starve a quiet one.
        give_turn(&mut self.turns, table, waiting);
        pushed
    }

    /// The newest snapshot of a table for which one is due. Called while nobody can push to that table.
    pub(super) fn resolve(&mut self, table: TableId, snapshot: TableFrame, now: Instant) {
        if let Some(waiting) = self.tables.get_mut(&table) {
            waiting.resolve(snapshot, now);
        }
    }

    /// What to do next. A frame that comes out counts as sent.
    pub(super) fn next(&mut self, now: Instant) -> Next {
        if let Some(frame) = self.own.pop_front() {
            self.owe(frame.len());
            return Next::Send(frame, None);
        }
        // Paid at once, even if nothing waits: what a full bucket would have gained meanwhile is lost.
        let paid = self.pay(now);
        if self.turns.is_empty() && !self.lobby_due {
            return Next::Nothing;
        }
        if let Err(wait) = paid {
            return Next::WaitUntil(now + wait, Hold::ByteRate);
        }
        let next = self.next_of_tables(now);
        let is_idle = matches!(next, Next::WaitUntil(..) | Next::Nothing);
        if is_idle && std::mem::take(&mut self.lobby_due) {
            return Next::LobbyDue;
        }
        next
    }

    /// So many bytes went out.
    pub(super) fn owe(&mut self, bytes: usize) {
        self.owed = self.owed.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    /// By as much as the bucket holds at a time, so whatever is owed is paid in the end.
    fn pay(&mut self, now: Instant) -> Result<(), Duration> {
        while let Some(owed) = NonZeroU32::new(self.owed) {
            self.owed -= self.bytes.try_take_most(owed, now)?.get();
        }
        Ok(())
    }

    /// Asks each table that has a turn once.
    fn next_of_tables(&mut self, now: Instant) -> Next {
        if !self.turns.is_empty() && !self.holds_token {
            match self.connection.try_take(now) {
                Ok(()) => self.holds_token = true,
                Err(wait) => return Next::WaitUntil(now + wait, Hold::FrameRate),
            }
        }
        let mut wait: Option<Duration> = None;
        for class in self.turns.order() {
            for _ in 0..self.turns.len(class) {
                let Some(table) = self.turns.take_first(class) else {
                    break;
                };
                match self.next_of_table(class, table, now) {
                    Ok(Some(next)) => return next,
                    Ok(None) => {}
                    Err(until) => wait = Some(wait.map_or(until, |wait| wait.min(until))),
                }
            }
        }
        wait.map_or(Next::Nothing, |wait| Next::WaitUntil(now + wait, Hold::TableRate))
    }

    /// Of a table whose turn it is. Nothing, if nothing of it waits; an error, if it has no token.
    fn next_of_table(
        &mut self,
        class: Class,
        table: TableId,
        now: Instant,
    ) -> Result<Option<Next>, Duration> {
        let waiting = self.tables.get_mut(&table).expect("a table not followed has no turn");
        if let Err(until) = waiting.try_take_token(now) {
            self.turns.give(class, table);
            return Err(until);
        }
        match waiting.take_first() {
            First::Frame(frame, then) => {
                self.holds_token = false;
                waiting.has_turn = !waiting.is_empty();
                self.turns.has_sent(class);
                if waiting.has_turn {
                    self.turns.give(class, table);
                }
                self.owe(frame.len() + then.as_ref().map_or(0, Frame::len));
                Ok(Some(Next::Send(frame, then)))
            }
            First::End(end) => {
                let (frame, feed) = *end;
                self.holds_token = false;
                self.turns.has_sent(class);
                self.tables.remove(&table);
                self.dropped.push((table, feed));
                self.owe(frame.len());
                Ok(Some(Next::Send(frame, None)))
            }
            First::SnapshotDue => {
                self.turns.give_back(class, table);
                Ok(Some(Next::SnapshotDue(table)))
            }
            First::Nothing => {
                waiting.has_turn = false;
                Ok(None)
            }
        }
    }
}

/// Most queues of most connections never hold more than one thing: the first takes no room for others.
fn push_first_exactly<T>(queue: &mut VecDeque<T>, item: T) {
    if queue.capacity() == 0 {
        queue.reserve_exact(1);
    }
    queue.push_back(item);
}

fn give_turn(turns: &mut Turns, table: TableId, waiting: &mut Waiting) {
    if !waiting.has_turn {
        waiting.has_turn = true;
        turns.give(waiting.class, table);
    }
}

#[cfg(test)]
mod tests;
