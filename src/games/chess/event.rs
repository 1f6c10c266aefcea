//! What has happened. Everything is public: chess hides nothing.

use serde::{Deserialize, Serialize};

use crate::domain::{Seat, Timestamp};

/// A fact. Times of clocks are written down, so a replay needs no clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// The clock of the side to move runs from `at`.
    GameStarted {
        /// The position that play begins from.
        fen: String,
        /// On each clock, in milliseconds.
        initial_ms: u64,
        /// What each move adds to its player's clock, in milliseconds.
        increment_ms: u64,
        at: Timestamp,
    },
    /// Declines an offer of the opponent, too. The opponent's clock runs from `at`.
    MovePlayed {
        seat: Seat,
        uci: String,
        san: String,
        /// What the move leaves on its player's clock, increment included, in milliseconds.
        left_ms: u64,
        at: Timestamp,
    },
    DrawOffered {
        seat: Seat,
    },
    DrawDeclined {
        seat: Seat,
    },
    GameEnded(GameResult),
}

/// How a game ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GameResult {
    pub reason: Reason,
    /// One seat, or none after a draw.
    pub winners: Vec<Seat>,
    /// By seat, in half points: 2 for a win, 1 for a draw.
    pub scores: [i64; 2],
    /// Whose move, word or flag ended the game.
    pub by: Seat,
    /// By seat, where the clocks stopped, in milliseconds.
    pub left_ms: [u64; 2],
}

/// Why a game ended. The numbers are those of the FIDE Laws of Chess.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// 5.1.1
    Checkmate,
    /// 5.1.2
    Resignation,
    /// 6.9: the flag fell.
    Timeout,
    /// 6.9: the flag fell, but no series of legal moves lets the opponent mate.
    TimeoutWithoutMaterial,
    /// 5.2.1
    Stalemate,
    /// 5.2.2: neither side has what it takes to mate.
    InsufficientMaterial,
    /// 5.2.3
    Agreement,
    /// 9.2, claimed.
    ThreefoldRepetition,
    /// 9.3, claimed.
    FiftyMoves,
    /// 9.6.1, without a claim.
    FivefoldRepetition,
    /// 9.6.2, without a claim.
    SeventyFiveMoves,
}

impl GameResult {
    pub(super) fn won(reason: Reason, winner: Seat, by: Seat, left_ms: [u64; 2]) -> Self {
        let scores = [0, 1].map(|seat| if winner == Seat(seat) { 2 } else { 0 });
        Self { reason, winners: vec![winner], scores, by, left_ms }
    }

    pub(super) fn drawn(reason: Reason, by: Seat, left_ms: [u64; 2]) -> Self {
        Self { reason, winners: Vec::new(), scores: [1, 1], by, left_ms }
    }
}
