//! What a player may wish for, and why it may be refused.

use serde::{Deserialize, Serialize};

// Braces instead of unit variants: serde ignores unknown fields of a unit variant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// A move, written in exactly one of two ways.
    Move {
        /// As in `e2e4`, `e1g1` (castling) and `e7e8q`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uci: Option<String>,
        /// As in `e4`, `O-O` and `e8=Q`; signs of check may be left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        san: Option<String>,
    },
    /// In turn or not. It stands until the opponent answers or moves.
    OfferDraw {},
    AcceptDraw {},
    DeclineDraw {},
    /// After threefold repetition or fifty moves, by the player in turn.
    ClaimDraw {},
    /// In turn or not.
    Resign {},
}

impl Command {
    /// A move, as UCI writes it.
    pub fn uci(text: impl Into<String>) -> Self {
        Self::Move { uci: Some(text.into()), san: None }
    }

    /// A move, as players write it down.
    pub fn san(text: impl Into<String>) -> Self {
        Self::Move { uci: None, san: Some(text.into()) }
    }
}

/// Why a command was refused. The texts are shown to the player and name the rule, by its number in the
/// FIDE Laws of Chess where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error("the game is over; no command is accepted any more (5)")]
    GameOver,
    #[error("the game has not begun")]
    NotStarted,
    #[error("chess has two seats: 0 plays White, 1 plays Black (1)")]
    NoSuchSeat,
    #[error("the time of the player to move has run out, which has ended the game (6.8)")]
    FlagFallen,
    #[error("it is the opponent's turn (1.3)")]
    NotYourTurn,
    #[error("a move is written once: as uci, or as san")]
    OneNotation,
    #[error("UCI names two squares, and what a pawn becomes, as in e2e4, e1g1 and e7e8q")]
    BadUci,
    #[error("a move begins on a square with a piece of the player's own (3.1)")]
    NotYourPiece,
    #[error("a pawn that reaches the last rank becomes a piece: name it, as in e7e8q (3.7.3)")]
    PromotionMissing,
    #[error("the king is in check, and this move does not end that (3.9)")]
    InCheck,
    #[error("the piece does not move so, or its king would be left in check (3)")]
    IllegalMove,
    #[error("no legal move, or more than one, is written so in this position (appendix C)")]
    NoSuchSan,
    #[error("a draw offer stands until the opponent answers it or moves (9.1)")]
    OfferStands,
    #[error("a player offers a draw once between two moves of their own (9.1, 11.5)")]
    OfferRepeated,
    #[error("there is no draw offer of the opponent to answer (9.1)")]
    NoOffer,
    #[error(
        "a draw is claimed when the position has occurred three times, or after fifty moves \
         without a capture or a pawn move (9.2, 9.3)"
    )]
    NothingToClaim,
}

impl crate::domain::Rejection for Rejection {
    fn code(&self) -> &'static str {
        match self {
            Self::GameOver => "game_over",
            Self::NotStarted => "not_started",
            Self::NoSuchSeat => "no_such_seat",
            Self::FlagFallen => "flag_fallen",
            Self::NotYourTurn => "not_your_turn",
            Self::OneNotation => "one_notation",
            Self::BadUci => "bad_uci",
            Self::NotYourPiece => "not_your_piece",
            Self::PromotionMissing => "promotion_missing",
            Self::InCheck => "in_check",
            Self::IllegalMove => "illegal_move",
            Self::NoSuchSan => "no_such_san",
            Self::OfferStands => "offer_stands",
            Self::OfferRepeated => "offer_repeated",
            Self::NoOffer => "no_offer",
            Self::NothingToClaim => "nothing_to_claim",
        }
    }
}
