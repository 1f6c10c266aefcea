//! A gateway's side of a table: commits are folded in, and shown to each audience as it may see them.

use std::fmt::Debug;
use std::sync::Arc;

use bytes::Bytes;

use super::{FoldError, decode, follow};
use crate::domain::{
    Commit, Game, Kind, PlayerId, Seat, Status, Table, TableEventView, TableId, TableSeq,
    Timestamp, Viewer, WorkerId,
};
use crate::protocol::envelope::{Envelope, Message};
use crate::protocol::frame::{CommitFrame, Format, SnapshotFrame};

/// One table in a gateway's memory. Decides nothing.
pub trait Replica: Debug + Send {
    /// Folds in a commit that is in the log since `stored_at`, and hands it back for fanning out.
    ///
    /// # Errors
    /// If it is not this table's next commit.
    fn fold(
        &mut self,
        payload: &[u8],
        stored_at: Timestamp,
    ) -> Result<Arc<dyn FannedOut>, FoldError>;

    /// A commit before the last one, for whoever missed it. Changes nothing. Nothing if it is no commit of this
    /// table, or one that cannot be shown without those before it.
    fn past(&self, payload: &[u8]) -> Option<Arc<dyn FannedOut>>;

    /// The number of the last commit folded in.
    fn last_seq(&self) -> TableSeq;

    /// Where the table is in its life.
    fn status(&self) -> Status;

    /// Whether a worker has to look after it: it goes on, or is over and names a successor, which a worker
    /// that died may not have opened.
    fn needs_owner(&self) -> bool;

    /// Which game.
    fn kind(&self) -> Kind;

    /// How many seats there are.
    fn seats(&self) -> usize;

    /// The seat that a player holds.
    fn seat_of(&self, player: &PlayerId) -> Option<Seat>;

    /// Appends everything this viewer may know, as a `snapshot` frame.
    fn write_snapshot(&self, viewer: Viewer, format: Format, out: &mut Vec<u8>);

    /// The same, by itself.
    fn snapshot(&self, viewer: Viewer, format: Format) -> Bytes {
        let mut out = Vec::new();
        self.write_snapshot(viewer, format, &mut out);
        out.into()
    }
}

/// One commit on its way to viewers. Encodes each time it is asked: whoever fans out keeps the result.
pub trait FannedOut: Debug + Send + Sync {
    /// Its number.
    fn seq(&self) -> TableSeq;

    /// Appends what this viewer may know of it, as a `commit` frame.
    fn write(&self, viewer: Viewer, format: Format, out: &mut Vec<u8>);

    /// The same, by itself.
    fn frame(&self, viewer: Viewer, format: Format) -> Bytes {
        let mut out = Vec::new();
        self.write(viewer, format, &mut out);
        out.into()
    }

    /// Whether it changed who sits where, so that viewers' seats must be looked up again.
    fn changes_seats(&self) -> bool;

    /// The worker that took the table over with it, which knows nothing of who is present.
    fn new_owner(&self) -> Option<&WorkerId>;

    /// Why it has a number and nothing else: the message in the log cannot be read, and is to be set aside. Only
    /// commits of relayed tables are kept like this; what cannot be read of others is skipped.
    fn unread(&self) -> Option<&str> {
        None
    }
}

#[derive(Debug)]
struct ReplicaOf<G: Game> {
    table: TableId,
    state: Table<G>,
}

pub(super) fn of_state<G: Game>(
    table: TableId,
    state: Table<G>,
    first: Commit<G::Event>,
) -> (Box<dyn Replica>, Arc<dyn FannedOut>) {
    let replica = ReplicaOf { table, state };
    let first = replica.fanned_out(first);
    (Box::new(replica), first)
}

pub(super) fn of_saved<G: Game>(table: TableId, state: Table<G>) -> Box<dyn Replica> {
    Box::new(ReplicaOf { table, state })
}

impl<G: Game> ReplicaOf<G> {
    fn fanned_out(&self, commit: Commit<G::Event>) -> Arc<dyn FannedOut> {
        Arc::new(FannedOutOf::<G> { table: self.table, commit })
    }
}

impl<G: Game> Replica for ReplicaOf<G> {
    fn fold(&mut self, payload: &[u8], _: Timestamp) -> Result<Arc<dyn FannedOut>, FoldError> {
        let commit = decode::<G>(self.table, self.state.last_seq(), payload)?;
        follow(&mut self.state, &commit)?;
        Ok(self.fanned_out(commit))
    }

    fn past(&self, payload: &[u8]) -> Option<Arc<dyn FannedOut>> {
        let envelope = Envelope::<G::Event>::decode(payload, self.table).ok()?;
        Some(self.fanned_out(envelope.commit))
    }

    fn last_seq(&self) -> TableSeq {
        self.state.last_seq()
    }

    fn status(&self) -> Status {
        self.state.status()
    }

    fn needs_owner(&self) -> bool {
        self.state.status() != Status::Ended || self.state.successor_id().is_some()
    }

    fn kind(&self) -> Kind {
        Table::<G>::kind()
    }

    fn seats(&self) -> usize {
        self.state.filled().1
    }

    fn seat_of(&self, player: &PlayerId) -> Option<Seat> {
        self.state.seat_of(player)
    }

    fn write_snapshot(&self, viewer: Viewer, format: Format, out: &mut Vec<u8>) {
        let view = self.state.view(viewer);
        let frame = SnapshotFrame { table: self.table, seq: self.state.last_seq(), view };
        format.write(&frame, out);
    }
}

#[derive(Debug)]
struct FannedOutOf<G: Game> {
    table: TableId,
    commit: Commit<G::Event>,
}

impl<G: Game> FannedOut for FannedOutOf<G> {
    fn seq(&self) -> TableSeq {
        self.commit.seq
    }

    fn write(&self, viewer: Viewer, format: Format, out: &mut Vec<u8>) {
        let events: Vec<TableEventView<G::EventView>> =
            self.commit.events.iter().filter_map(|event| event.view::<G>(viewer)).collect();
        let (seq, at) = (self.commit.seq, self.commit.at);
        format.write(&CommitFrame { table: self.table, seq, at, events }, out);
    }

    fn changes_seats(&self) -> bool {
        use crate::domain::{Lifecycle as L, TableEvent as E};
        self.commit.events.iter().any(|event| {
            matches!(
                event,
                E::Lifecycle(
                    L::Opened(_) | L::SeatTaken { .. } | L::SeatFreed { .. } | L::BotSeated { .. }
                )
            )
        })
    }

    fn new_owner(&self) -> Option<&WorkerId> {
        use crate::domain::{Lifecycle, TableEvent};
        self.commit.events.iter().find_map(|event| match event {
            TableEvent::Lifecycle(Lifecycle::Claimed { worker }) => Some(worker),
            TableEvent::Lifecycle(_) | TableEvent::Game(_) => None,
        })
    }
}
