//! What players may ask of a table, and why it may refuse.

use serde::{Deserialize, Serialize};

use super::super::{Rejection, Seat};

/// A command as it comes from a player: the table's own, or the game's.
///
/// Both are objects with a `type`; the table's begin with `table.`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TableCommand<C> {
    /// Common to all games.
    Table(SeatCommand),
    /// By the rules of the game.
    Game(C),
}

/// What any table understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum SeatCommand {
    /// Take a seat, or come back to one's own. Without a number: the first empty one, else the first bot's.
    #[serde(rename = "table.sit")]
    Sit {
        /// Which seat.
        #[serde(default)]
        seat: Option<Seat>,
    },
    /// Give the seat up; after the start a bot plays on and the seat stays one's own.
    #[serde(rename = "table.leave")]
    Leave,
    /// The host seats a bot.
    #[serde(rename = "table.add_bot")]
    AddBot {
        /// Where.
        seat: Seat,
    },
    /// The host empties a seat.
    #[serde(rename = "table.remove_player")]
    RemovePlayer {
        /// Which.
        seat: Seat,
    },
    /// The host begins the game.
    #[serde(rename = "table.start")]
    Start,
    /// A player wants another game, now that this one is over.
    #[serde(rename = "table.rematch")]
    Rematch,
}

/// Why a command was refused.
#[derive(Debug, thiserror::Error)]
pub enum Refused<R> {
    /// By the table.
    #[error(transparent)]
    Table(TableRule),
    /// By the rules of the game.
    #[error(transparent)]
    Game(R),
}

impl<R: Rejection> Refused<R> {
    /// A stable name for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Table(rule) => rule.code(),
            Self::Game(rejection) => rejection.code(),
        }
    }
}

impl<R> From<TableRule> for Refused<R> {
    fn from(rule: TableRule) -> Self {
        Self::Table(rule)
    }
}

/// A rule of tables that forbids a command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableRule {
    /// The opening asks for what the game cannot be.
    #[error("this table cannot be opened: {0}")]
    BadOpening(String),
    /// Only players with a seat may do this.
    #[error("you have no seat at this table")]
    NotSeated,
    /// A seat number the table does not have.
    #[error("this table has no seat {0}")]
    NoSuchSeat(Seat),
    /// Somebody else's seat.
    #[error("seat {0} is taken")]
    SeatTaken(Seat),
    /// One seat each.
    #[error("you already hold seat {0} of this table")]
    AlreadySeated(Seat),
    /// Every seat is held by a player.
    #[error("every seat of this table is taken")]
    NoFreeSeat,
    /// Only the host may do this.
    #[error("only the host may do this")]
    NotHost,
    /// Too late.
    #[error("the game has started: seats cannot be changed any more")]
    AlreadyStarted,
    /// Too early.
    #[error("the game has not started yet")]
    NotStarted,
    /// Too early.
    #[error("every seat must be filled before the game can start")]
    SeatsOpen,
    /// The game's author wrote no bot.
    #[error("this game has no bots")]
    NoBots,
    /// The host cannot throw itself out.
    #[error("the host empties other seats, and leaves its own")]
    OwnSeat,
    /// Nothing more will happen here.
    #[error("the game is over")]
    GameOver,
    /// Too early, too late, or not at this table.
    #[error("this table is not waiting for its players to play again")]
    NoRematch,
}

impl TableRule {
    /// A stable name for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadOpening(_) => "bad_opening",
            Self::NotSeated => "not_seated",
            Self::NoSuchSeat(_) => "no_such_seat",
            Self::SeatTaken(_) => "seat_taken",
            Self::AlreadySeated(_) => "already_seated",
            Self::NoFreeSeat => "no_free_seat",
            Self::NotHost => "not_host",
            Self::AlreadyStarted => "already_started",
            Self::NotStarted => "not_started",
            Self::SeatsOpen => "seats_open",
            Self::NoBots => "no_bots",
            Self::OwnSeat => "own_seat",
            Self::GameOver => "game_over",
            Self::NoRematch => "no_rematch",
        }
    }
}
