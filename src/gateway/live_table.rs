//! One followed table in memory: its state, its last commits, its newest snapshots. No I/O.

use std::collections::VecDeque;
use std::sync::Arc;

use super::wire::{Frame, Wire};
use crate::bus::{Entry, Stored};
use crate::catalog::{Catalog, FannedOut, FoldError, Replica};
use crate::domain::{Kind, PlayerId, Seat, Status, StreamSeq, TableId, TableSeq, Viewer, WorkerId};

/// A resume from the log may reach so far back. Further, a snapshot is the better answer.
pub(super) const MISSED_MAX: u64 = 512;
/// How many more commits than usual are kept while the log is asked for older ones.
const HELD_MAX: usize = 512;

/// A table and what is kept to serve its followers.
#[derive(Debug)]
pub(super) struct LiveTable {
    replica: Box<dyn Replica>,
    /// The last commits, rising, without a gap; none if the table was restored and nothing has happened since.
    ring: VecDeque<Kept>,
    /// How many commits are kept.
    ring_len: usize,
    /// How many are kept for the moment: more while somebody needs older ones.
    room: usize,
    /// The log's position of the commit before the ring's first; [`StreamSeq::ZERO`] if there is none.
    before: StreamSeq,
    /// Commits before this one were read back for somebody who had missed them.
    own_since: TableSeq,
    /// Whether it was read from the archive: there is nothing more to come.
    is_archived: bool,
    /// The log's position up to which everything has been taken in.
    last: StreamSeq,
    /// Who appended last, or has claimed it since; nothing if that was no worker.
    owner: Option<WorkerId>,
    /// Snapshots of the last commit, as far as somebody asked for them.
    snapshots: Frames,
}

/// A commit, and its frames as far as somebody asked for them.
#[derive(Debug)]
struct Kept {
    commit: Arc<dyn FannedOut>,
    /// Its position in the log.
    at: StreamSeq,
    frames: Frames,
}

impl Kept {
    fn new(commit: Arc<dyn FannedOut>, at: StreamSeq) -> Self {
        Self { commit, at, frames: Frames::default() }
    }
}

/// One thing as each audience may see it, encoded once for each. There are few, so they are looked through.
#[derive(Debug, Default)]
struct Frames(Vec<(Viewer, Wire, Frame)>);

impl Frames {
    fn get(&mut self, viewer: Viewer, wire: Wire, write: impl FnOnce(&mut Vec<u8>)) -> Frame {
        let made = self.0.iter().find(|(for_whom, how, _)| *for_whom == viewer && *how == wire);
        if let Some((_, _, frame)) = made {
            return frame.clone();
        }
        let frame = Frame::encode(wire, write);
        self.0.push((viewer, wire, frame.clone()));
        frame
    }
}

/// What an entry turned out to be.
#[derive(Debug)]
pub(super) enum Taken {
    /// The next commit.
    Commit(Arc<dyn FannedOut>),
    /// The table is in the archive. What is in memory stays true.
    Archived,
    /// It was taken in before.
    Old,
    /// It is no commit of this table, and skipped.
    Poison(FoldError),
}

/// How a subscriber starts.
#[derive(Debug)]
pub(super) enum Resume {
    /// With the commits after its cursor, which may be none.
    Commits,
    /// The same, once the log was asked for those that are kept no more.
    Older,
    /// With a snapshot.
    Snapshot,
}

/// Commits that somebody has missed and the ring has no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Missed {
    /// By which rules.
    pub(super) kind: Kind,
    /// The log's position of the last of them.
    pub(super) last: StreamSeq,
    /// They are those after this one.
    pub(super) after: TableSeq,
    /// How many.
    pub(super) count: u64,
}

/// What the stored entries of a table come to.
#[derive(Debug)]
pub(super) enum Loaded {
    /// A table.
    Live(Box<LiveTable>),
    /// The log has only its tombstone.
    Archived(Entry),
    /// The log has nothing of it.
    Unknown,
    /// It plays by rules that this binary does not have.
    UnknownKind,
    /// The log has entries, and none that opens a table.
    Unreadable,
}

impl LiveTable {
    /// Folds all stored entries of a table. Those that are poison come back beside it.
    pub(super) fn load(
        catalog: &Catalog,
        table: TableId,
        entries: &[Entry],
        ring_len: usize,
    ) -> (Loaded, Vec<(Entry, FoldError)>) {
        let mut poison = Vec::new();
        let mut live: Option<Box<Self>> = None;
        let mut otherwise = Loaded::Unknown;
        for entry in entries {
            if let Some(live) = &mut live {
                match live.take(entry) {
                    Taken::Poison(error) => poison.push((entry.clone(), error)),
                    Taken::Commit(commit) => poison.extend(unread(entry, commit.as_ref())),
                    Taken::Archived | Taken::Old => {}
                }
                continue;
            }
            if entry.what == Stored::Tombstone {
                otherwise = Loaded::Archived(entry.clone());
                continue;
            }
            if matches!(otherwise, Loaded::Archived(_)) {
                // Nothing begins anew after its end, whatever somebody still publishes.
                continue;
            }
            let Some(rules) = catalog.get(&entry.address.kind) else {
                otherwise = Loaded::UnknownKind;
                continue;
            };
            match rules.replica(table, &entry.payload, entry.stored_at) {
                Ok((replica, first)) => {
                    poison.extend(unread(entry, first.as_ref()));
                    live = Some(Box::new(Self::new(replica, first, entry, ring_len)));
                }
                Err(error) => {
                    otherwise = Loaded::Unreadable;
                    poison.push((entry.clone(), error));
                }
            }
        }
        (live.map_or(otherwise, Loaded::Live), poison)
    }

    fn new(
        replica: Box<dyn Replica>,
        first: Arc<dyn FannedOut>,
        entry: &Entry,
        ring_len: usize,
    ) -> Self {
        let mut live = Self::restored(replica, StreamSeq::ZERO, entry.worker.clone(), ring_len);
        live.own_since = first.seq();
        live.last = entry.seq;
        live.ring.push_back(Kept::new(first, entry.seq));
        live
    }

    /// As it was after the commit at a position, which this worker owned then.
    pub(super) fn restored(
        replica: Box<dyn Replica>,
        last: StreamSeq,
        owner: Option<WorkerId>,
        ring_len: usize,
    ) -> Self {
        Self {
            own_since: replica.last_seq().next(),
            replica,
            ring: VecDeque::new(),
            ring_len,
            room: ring_len,
            before: last,
            is_archived: false,
            last,
            owner,
            snapshots: Frames::default(),
        }
    }

    /// The same, as the archive has it.
    #[must_use]
    pub(super) fn into_archived(self) -> Self {
        Self { is_archived: true, ..self }
    }

    /// Whether nothing can be missing between what was taken in and this entry.
    pub(super) fn is_next(&self, entry: &Entry) -> bool {
        entry.previous == self.last || entry.seq <= self.last || entry.what == Stored::Tombstone
    }

    /// Takes in an entry before which nothing is missing.
    pub(super) fn take(&mut self, entry: &Entry) -> Taken {
        if entry.seq <= self.last {
            return Taken::Old;
        }
        self.last = entry.seq;
        if entry.what == Stored::Tombstone {
            return Taken::Archived;
        }
        match self.replica.fold(&entry.payload, entry.stored_at) {
            Ok(commit) => {
                self.snapshots.0.clear();
                self.owner = commit.new_owner().or(entry.worker.as_ref()).cloned();
                self.ring.push_back(Kept::new(Arc::clone(&commit), entry.seq));
                self.keep(self.room);
                Taken::Commit(commit)
            }
            Err(error) => Taken::Poison(error),
        }
    }

    /// How a subscriber with this cursor starts.
    ///
    /// A commit after the cursor that changed who sits where may have changed the subscriber's own
    /// audience: what it has folded is then not what it may know, and a snapshot is due.
    pub(super) fn resume(&self, cursor: Option<TableSeq>) -> Resume {
        let Some(cursor) = cursor.filter(|cursor| *cursor <= self.last_seq()) else {
            return Resume::Snapshot;
        };
        let mut missed = self.ring.iter().filter(|kept| kept.commit.seq() > cursor);
        if missed.any(|kept| kept.commit.changes_seats()) {
            return Resume::Snapshot;
        }
        if cursor.next() >= self.kept_since() {
            return Resume::Commits;
        }
        let is_far = self.last_seq().get() - cursor.get() > MISSED_MAX;
        if is_far || self.before == StreamSeq::ZERO { Resume::Snapshot } else { Resume::Older }
    }

    /// The number of the first commit that is kept, or of the one to come.
    pub(super) fn kept_since(&self) -> TableSeq {
        self.ring.front().map_or(self.last_seq().next(), |kept| kept.commit.seq())
    }

    /// Whether the commit after this cursor was read from the log for somebody who had missed it.
    pub(super) fn is_read_back(&self, cursor: TableSeq) -> bool {
        cursor.next() < self.own_since
    }

    /// What the log is to be asked for by whoever has this cursor. Nothing older is dropped meanwhile.
    pub(super) fn missed(&mut self, after: TableSeq) -> Option<Missed> {
        let count = self.kept_since().get().checked_sub(after.next().get())?;
        if count == 0 || count > MISSED_MAX || self.before == StreamSeq::ZERO {
            return None;
        }
        self.room = self.ring.len() + HELD_MAX;
        Some(Missed { kind: self.kind(), last: self.before, after, count })
    }

    /// Keeps older commits, too, if they are the ones before those that are kept.
    pub(super) fn take_missed(&mut self, entries: &[Entry]) {
        for entry in entries.iter().rev() {
            let due = self.kept_since();
            match self.replica.past(&entry.payload).filter(|commit| commit.seq().next() == due) {
                Some(commit) => self.ring.push_front(Kept::new(commit, entry.seq)),
                None => break,
            }
            self.before = entry.previous;
        }
        self.room = self.ring.len().max(self.ring_len);
    }

    /// Keeps no more than configured from now on.
    pub(super) fn trim(&mut self) {
        self.room = self.ring_len;
        self.keep(self.ring_len);
    }

    fn keep(&mut self, room: usize) {
        while self.ring.len() > room {
            let dropped = self.ring.pop_front();
            self.before = dropped.map_or(self.before, |kept| kept.at);
        }
    }

    /// The commits after a cursor as an audience may see them, as far as they are kept.
    pub(super) fn commits_after(
        &mut self,
        cursor: TableSeq,
        viewer: Viewer,
        wire: Wire,
    ) -> impl Iterator<Item = (TableSeq, Frame)> {
        let missed = self.ring.iter_mut().filter(move |kept| kept.commit.seq() > cursor);
        missed.map(move |Kept { commit, frames, .. }| {
            let write = |out: &mut Vec<u8>| commit.write(viewer, wire.format(), out);
            (commit.seq(), frames.get(viewer, wire, write))
        })
    }

    /// The last commit as an audience may see it. Encoded once.
    pub(super) fn last_commit(&mut self, viewer: Viewer, wire: Wire) -> Frame {
        let Kept { commit, frames, .. } = self.ring.back_mut().expect("a table has a first commit");
        frames.get(viewer, wire, |out| commit.write(viewer, wire.format(), out))
    }

    /// The newest snapshot for an audience. Encoded once for each commit.
    pub(super) fn snapshot(&mut self, viewer: Viewer, wire: Wire) -> Frame {
        let Self { replica, snapshots, .. } = self;
        snapshots.get(viewer, wire, |out| replica.write_snapshot(viewer, wire.format(), out))
    }

    /// The number of the last commit.
    pub(super) fn last_seq(&self) -> TableSeq {
        self.replica.last_seq()
    }

    /// The log's position up to which everything has been taken in.
    pub(super) fn last(&self) -> StreamSeq {
        self.last
    }

    /// The worker that owns the table, as far as its commits tell.
    pub(super) fn owner(&self) -> Option<&WorkerId> {
        self.owner.as_ref()
    }

    /// The seat that a player holds.
    pub(super) fn seat_of(&self, player: &PlayerId) -> Option<Seat> {
        self.replica.seat_of(player)
    }

    /// Which game.
    pub(super) fn kind(&self) -> Kind {
        self.replica.kind()
    }

    /// Whether nothing more will happen.
    pub(super) fn has_ended(&self) -> bool {
        self.replica.status() == Status::Ended
    }

    /// Whether it was read from the archive.
    pub(super) fn is_archived(&self) -> bool {
        self.is_archived
    }

    /// Whether a worker has to look after it, be it over or not.
    pub(super) fn needs_owner(&self) -> bool {
        !self.is_archived && self.replica.needs_owner()
    }
}

/// A commit that only has a number is to be set aside, too.
fn unread(entry: &Entry, commit: &dyn FannedOut) -> Option<(Entry, FoldError)> {
    let reason = commit.unread()?;
    Some((entry.clone(), FoldError::Relayed(reason.to_owned())))
}
