//! One table: the game and everything all games share. Folded from commits; asked for decisions.

mod clock;
mod command;
mod credit;
mod decide;
mod draft;
mod evolve;
mod rematch;
mod seats;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

pub use clock::PresenceChange;
pub use command::{Refused, SeatCommand, TableCommand, TableRule};
pub use decide::{Decided, Identity};
pub(super) use rematch::Rematch;
use seats::SeatState;

use super::{
    CommandId, FollowUp, Game, Kind, Opening, PlayerId, Seat, Summary, TableId, TableOptions,
    TableSeq, Timestamp, WorkerId,
};

/// How many accepted commands a table remembers for each seat, so that one sent again is recognised.
const RECENT_PER_SEAT: usize = 32;

/// Raised when a table's own state serialises differently, as [`Game::STATE_VERSION`] is for the game's.
pub const TABLE_STATE_VERSION: u32 = 1;

/// A table's state: what its commits add up to. Everything secret is in here.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Table<G: Game> {
    game: G,
    rules: u32,
    /// What a successor is opened with; kept only where there can be one.
    setup: Option<serde_json::Value>,
    options: TableOptions,
    seats: Vec<SeatState>,
    host: Option<Seat>,
    status: Status,
    summary: Option<Summary>,
    /// While the game is over and the table is not.
    rematch: Option<Rematch>,
    /// Where the players go on.
    successor: Option<TableId>,
    started_at: Option<Timestamp>,
    /// When the game last moved: what a limit on thinking counts from.
    moved_at: Timestamp,
    /// Time given back since then.
    credited_ms: u64,
    /// Up to when time has been given back, so that none is given back twice.
    credited_to: Timestamp,
    /// When the last human left a running game.
    deserted_at: Option<Timestamp>,
    owner: Option<WorkerId>,
    last_seq: TableSeq,
    /// When the last commit was decided.
    last_at: Timestamp,
    recent: VecDeque<(PlayerId, CommandId, TableSeq)>,
}

/// Where a table is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Seats are being filled.
    Waiting,
    /// The game is being played.
    Running,
    /// Nothing more will happen.
    Ended,
}

/// Why an opening cannot be folded.
#[derive(Debug, thiserror::Error)]
pub enum OpeningError {
    /// The commit was written by rules of another name.
    #[error("the table plays {found}, these are the rules of {expected}")]
    OtherKind {
        /// What the commit says.
        found: Kind,
        /// What this binary was asked to play.
        expected: &'static str,
    },
    /// The setup does not decode.
    #[error("the setup of a {kind} table does not decode")]
    Setup {
        /// Which game.
        kind: &'static str,
        /// What serde says.
        source: serde_json::Error,
    },
}

impl<G: Game> Table<G> {
    /// The table before its first commit has been folded.
    ///
    /// # Errors
    /// If the opening is of another game, or its setup does not decode.
    pub fn new(opening: &Opening) -> Result<Self, OpeningError> {
        if opening.kind.as_str() != G::KIND {
            let found = opening.kind.clone();
            return Err(OpeningError::OtherKind { found, expected: G::KIND });
        }
        let setup = serde_json::from_value(opening.setup.clone())
            .map_err(|source| OpeningError::Setup { kind: G::KIND, source })?;
        Ok(Self {
            game: G::new(setup),
            rules: opening.rules,
            setup: (opening.options.rematch_ms > 0).then(|| opening.setup.clone()),
            options: opening.options,
            seats: opening.seats.iter().map(SeatState::new).collect(),
            host: opening.host,
            status: Status::Waiting,
            summary: None,
            rematch: None,
            successor: None,
            started_at: None,
            moved_at: Timestamp::default(),
            credited_ms: 0,
            credited_to: Timestamp::default(),
            deserted_at: None,
            owner: None,
            last_seq: TableSeq::ZERO,
            last_at: Timestamp::default(),
            recent: VecDeque::new(),
        })
    }

    /// The number of the last commit folded in.
    pub fn last_seq(&self) -> TableSeq {
        self.last_seq
    }

    /// When the last commit folded in was decided.
    pub fn last_at(&self) -> Timestamp {
        self.last_at
    }

    /// The version of the rules that the opening pinned.
    pub fn rules(&self) -> u32 {
        self.rules
    }

    /// Where the table is in its life.
    pub fn status(&self) -> Status {
        self.status
    }

    /// How the table ended, once it has.
    pub fn summary(&self) -> Option<&Summary> {
        self.summary.as_ref()
    }

    /// Which worker owns it, as far as the log says. Nothing: the one that opened it.
    pub fn owner(&self) -> Option<&WorkerId> {
        self.owner.as_ref()
    }

    /// What must follow, once the table has ended, in this order.
    pub fn owed(&self) -> Vec<FollowUp> {
        if self.status != Status::Ended {
            return Vec::new();
        }
        let successor = self.successor.map(|_| FollowUp::OpenSuccessor);
        successor.into_iter().chain([FollowUp::Complete]).collect()
    }

    /// What the table does besides the rules.
    pub fn options(&self) -> &TableOptions {
        &self.options
    }

    /// Who may start the game and change seats.
    pub fn host(&self) -> Option<Seat> {
        self.host
    }

    /// When play began, if it has.
    pub fn started_at(&self) -> Option<Timestamp> {
        self.started_at
    }

    /// The game's own state.
    pub(super) fn game(&self) -> &G {
        &self.game
    }

    /// The commit that answered this command, if it is one of the recent ones.
    pub fn verdict_on(&self, player: &PlayerId, id: &CommandId) -> Option<TableSeq> {
        self.recent.iter().rev().find(|(p, i, _)| p == player && i == id).map(|(_, _, seq)| *seq)
    }
}
