//! When is a batch ready? Pure: takes the time as an argument.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::time::Duration;

use crate::domain::{StreamSeq, TableId, Timestamp};
use crate::protocol::archive::{ArchivedTable, Date, FooterTable};

/// What makes a batch ready.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// This many tables.
    pub(super) tables: NonZeroUsize,
    /// This many bytes of commits. One table may exceed it: it is then alone.
    pub(super) bytes: u64,
    /// This long after its first marker came.
    pub(super) age: Duration,
}

/// Where in its stream a shard's archive goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// After the last marker of the newest object.
    pub(super) next: StreamSeq,
    /// The newest object's day, if there is one. Dates of a chain never go backwards.
    pub(super) date: Option<Date>,
}

/// A completed table with its row, as fetched.
#[derive(Clone, Debug)]
pub(super) struct Fetched {
    /// The row.
    pub(super) row: ArchivedTable,
    /// What the footer says of it.
    pub(super) listed: FooterTable,
    /// Bytes of its commits.
    pub(super) bytes: u64,
}

/// What will be one object.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    /// Its day.
    pub(super) date: Date,
    /// Where it starts.
    pub(super) first: StreamSeq,
    /// Its last marker.
    pub(super) last: StreamSeq,
    /// Rows and what the footer says of each, by table id.
    pub(super) tables: Vec<(ArchivedTable, FooterTable)>,
    /// Markers without a row.
    pub(super) dead_letters: Vec<StreamSeq>,
}

/// Collects completed tables until they make a batch.
#[derive(Debug)]
pub(super) struct Batcher {
    limits: Limits,
    start: Position,
    begun: Option<Begun>,
    tables: Vec<(ArchivedTable, FooterTable)>,
    ids: HashSet<TableId>,
    dead_letters: Vec<StreamSeq>,
}

/// What the first marker decides, and what each one moves on.
#[derive(Clone, Copy, Debug)]
struct Begun {
    date: Date,
    at: Timestamp,
    oldest: Timestamp,
    last: StreamSeq,
    bytes: u64,
}

impl Batcher {
    /// An empty batch.
    pub(super) fn new(limits: Limits, start: Position) -> Self {
        Self {
            limits,
            start,
            begun: None,
            tables: Vec::new(),
            ids: HashSet::new(),
            dead_letters: Vec::new(),
        }
    }

    /// The position of the next marker to look at.
    pub(super) fn cursor(&self) -> StreamSeq {
        self.begun.map_or(self.start.next, |begun| begun.last.next())
    }

    /// When the log stored the oldest marker of this batch.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.begun.map(|begun| begun.oldest)
    }

    /// Whether a marker belongs to this batch, or is the first of the next day's.
    pub(super) fn admits(&self, stored_at: Timestamp) -> bool {
        // Every marker counts for the date, readable or not: a name must not depend on what a binary can read.
        self.begun.is_none_or(|begun| Date::of(stored_at) <= begun.date)
    }

    /// Whether a table is in this batch already.
    pub(super) fn contains(&self, table: TableId) -> bool {
        self.ids.contains(&table)
    }

    /// Takes in a completed table.
    pub(super) fn add(
        &mut self,
        now: Timestamp,
        marker: StreamSeq,
        stored_at: Timestamp,
        table: Fetched,
    ) {
        let begun = self.advance(now, marker, stored_at);
        begun.bytes = begun.bytes.saturating_add(table.bytes);
        self.ids.insert(table.row.table_id);
        self.tables.push((table.row, table.listed));
    }

    /// Accounts for a marker that has no row.
    pub(super) fn add_dead_letter(
        &mut self,
        now: Timestamp,
        marker: StreamSeq,
        stored_at: Timestamp,
    ) {
        self.advance(now, marker, stored_at);
        self.dead_letters.push(marker);
    }

    fn advance(&mut self, now: Timestamp, marker: StreamSeq, stored_at: Timestamp) -> &mut Begun {
        let date = Date::of(stored_at);
        let not_before = self.start.date.unwrap_or(date);
        let begun = self.begun.get_or_insert(Begun {
            date: date.max(not_before),
            at: now,
            oldest: stored_at,
            last: marker,
            bytes: 0,
        });
        begun.last = marker;
        begun
    }

    /// Whether there is room for nothing more.
    pub(super) fn is_full(&self) -> bool {
        let markers = self.tables.len() + self.dead_letters.len();
        let bytes = self.begun.map_or(0, |begun| begun.bytes);
        markers >= self.limits.tables.get() || bytes >= self.limits.bytes
    }

    /// When the batch is ready whatever is in it. Nothing while it is empty.
    pub(super) fn due(&self) -> Option<Timestamp> {
        let age = u64::try_from(self.limits.age.as_millis()).unwrap_or(u64::MAX);
        self.begun.map(|begun| begun.at.plus_millis(age))
    }

    /// The batch, unless it is empty.
    pub(super) fn finish(mut self) -> Option<Batch> {
        let begun = self.begun?;
        self.tables.sort_by_key(|(row, _)| row.table_id);
        Some(Batch {
            date: begun.date,
            first: self.start.next,
            last: begun.last,
            tables: self.tables,
            dead_letters: self.dead_letters,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 86_400_000;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn batcher(tables: usize, date: Option<Date>) -> Batcher {
        let limits = Limits {
            tables: NonZeroUsize::new(tables).expect("at least one"),
            bytes: 1_000,
            age: Duration::from_secs(60),
        };
        let next = StreamSeq::new(5);
        Batcher::new(limits, Position { next, date })
    }

    #[test]
    fn an_empty_batch_is_never_due_and_a_batch_is_due_after_its_first_marker() {
        let mut batch = batcher(10, None);
        assert_eq!(batch.due(), None);
        batch.add_dead_letter(at(1_000), StreamSeq::new(9), at(400));
        batch.add_dead_letter(at(2_000), StreamSeq::new(12), at(500));
        assert_eq!(batch.due(), Some(at(61_000)));
        assert_eq!(batch.oldest(), Some(at(400)));
        assert_eq!(batch.cursor(), StreamSeq::new(13));
        let batch = batch.finish().expect("two markers");
        assert_eq!((batch.first, batch.last), (StreamSeq::new(5), StreamSeq::new(12)));
    }

    #[test]
    fn a_batch_has_one_date_and_dates_never_go_backwards() {
        let mut batch = batcher(10, None);
        assert!(batch.admits(at(DAY_MS + 5)));
        batch.add_dead_letter(at(0), StreamSeq::new(5), at(DAY_MS + 5));
        assert!(batch.admits(at(2 * DAY_MS - 1)));
        assert!(!batch.admits(at(2 * DAY_MS)));
        // A server whose clock is behind has become the leader.
        assert!(batch.admits(at(DAY_MS - 1)));

        let yesterday = Date::of(at(DAY_MS));
        let mut behind = batcher(10, Some(yesterday));
        behind.add_dead_letter(at(0), StreamSeq::new(5), at(5));
        assert_eq!(behind.finish().map(|batch| batch.date), Some(yesterday));
    }

    #[test]
    fn a_batch_is_full_by_count() {
        let mut batch = batcher(2, None);
        batch.add_dead_letter(at(0), StreamSeq::new(5), at(0));
        assert!(!batch.is_full());
        batch.add_dead_letter(at(0), StreamSeq::new(6), at(0));
        assert!(batch.is_full());
    }
}
