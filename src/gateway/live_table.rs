//! One followed table in memory: its state, its last commits, its newest snapshots. No I/O.

use std::collections::VecDeque;
use std::sync::Arc;

use super::wire::{Frame, Wire};
use crate::bus::{Entry, Stored};
use crate::catalog::{Catalog, FannedOut, FoldError, Replica};
use crate::domain::{Kind, PlayerId, Seat, Status, StreamSeq, TableId, TableSeq, Viewer, WorkerId};

/// A table and what is kept to serve its followers.
#[derive(Debug)]
pub(super) struct LiveTable {
    replica: Box<dyn Replica>,
    /// The last commits, rising; as many as configured.
    ring: VecDeque<Kept>,
    ring_len: usize,
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
    frames: Frames,
}

impl Kept {
    fn new(commit: Arc<dyn FannedOut>) -> Self {
        Self { commit, frames: Frames::default() }
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
    /// With a snapshot.
    Snapshot,
}

/// What the stored entries of a table come to.
#[derive(Debug)]
pub(super) enum Loaded {
    /// A table.
    Live(Box<LiveTable>),
    /// The log has only its tombstone.
    Archived,
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
                otherwise = Loaded::Archived;
                continue;
            }
            if matches!(otherwise, Loaded::Archived) {
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
        Self {
            replica,
            ring: VecDeque::from([Kept::new(first)]),
            ring_len,
            last: entry.seq,
            owner: entry.worker.clone(),
            snapshots: Frames::default(),
        }
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
                if self.ring.len() >= self.ring_len {
                    self.ring.pop_front();
                }
                self.ring.push_back(Kept::new(Arc::clone(&commit)));
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
        let (Some(cursor), Some(first)) = (cursor, self.ring.front()) else {
            return Resume::Snapshot;
        };
        // In this order: a client may say any number, and none comes after the largest.
        if cursor > self.last_seq() || cursor.next() < first.commit.seq() {
            return Resume::Snapshot;
        }
        let mut missed = self.ring.iter().filter(|kept| kept.commit.seq() > cursor);
        if missed.any(|kept| kept.commit.changes_seats()) {
            return Resume::Snapshot;
        }
        Resume::Commits
    }

    /// The commits after a cursor as an audience may see them, as far as they are kept.
    pub(super) fn commits_after(
        &mut self,
        cursor: TableSeq,
        viewer: Viewer,
        wire: Wire,
    ) -> impl Iterator<Item = (TableSeq, Frame)> {
        let missed = self.ring.iter_mut().filter(move |kept| kept.commit.seq() > cursor);
        missed.map(move |Kept { commit, frames }| {
            let write = |out: &mut Vec<u8>| commit.write(viewer, wire.format(), out);
            (commit.seq(), frames.get(viewer, wire, write))
        })
    }

    /// The last commit as an audience may see it. Encoded once.
    pub(super) fn last_commit(&mut self, viewer: Viewer, wire: Wire) -> Frame {
        let Kept { commit, frames } = self.ring.back_mut().expect("a table has a first commit");
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

    /// Whether a worker has to look after it, be it over or not.
    pub(super) fn needs_owner(&self) -> bool {
        self.replica.needs_owner()
    }
}

/// A commit that only has a number is to be set aside, too.
fn unread(entry: &Entry, commit: &dyn FannedOut) -> Option<(Entry, FoldError)> {
    let reason = commit.unread()?;
    Some((entry.clone(), FoldError::Relayed(reason.to_owned())))
}
