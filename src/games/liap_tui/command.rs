//! What a player may wish for, and why it may be refused.

use serde::{Deserialize, Serialize};

use super::piece::Piece;

// Braces instead of unit variants: serde ignores unknown fields of a unit variant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// A weak seat asks for a redeal.
    RedealAccept {},
    /// A weak seat is content with its hand.
    RedealDecline {},
    /// How many piles the seat will take. Wide, so that nonsense gets an answer that names the rule.
    Declare { value: i64 },
    /// Pieces by kind, in any order; a kind named twice means two of them.
    Play { pieces: Vec<Piece> },
}

/// Why a command was refused. The texts are shown to the player: they name the rule, and nothing hidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error("the game is over; no command is accepted any more (section 13)")]
    GameOver,
    #[error("seats are numbered 0 to 3 (section 1)")]
    NoSuchSeat,
    #[error("this command belongs to another phase of the game (section 17)")]
    WrongPhase,
    #[error("no command is accepted in a display pause (section 14)")]
    Pause,
    #[error(
        "only a seat whose hand has no piece of more than 9 points decides on a redeal (section 5)"
    )]
    NotWeak,
    #[error("a redeal decision cannot be changed (section 5)")]
    AlreadyDecided,
    #[error("the time to decide on a redeal has run out, which counts as declining (section 5)")]
    TooLate,
    #[error("it is another seat's turn (sections 7 and 10)")]
    NotYourTurn,
    #[error("a declaration cannot be changed (section 7)")]
    AlreadyDeclared,
    #[error("a declaration is a whole number from 0 to 8 (section 7)")]
    ValueOutOfRange,
    #[error("the four declarations may not add up to 8 (section 7, total rule)")]
    TotalOfEight,
    #[error("a seat may not declare 0 three rounds in a row (section 7, zero streak)")]
    ThirdZero,
    #[error("a seat plays once in a turn (section 10)")]
    AlreadyPlayed,
    #[error("a play names at least one piece (section 10)")]
    NoPieces,
    #[error("a leader plays at most 6 pieces (section 10)")]
    TooManyPieces,
    #[error("a follower plays exactly as many pieces as the leader (section 10)")]
    WrongCount,
    #[error("a play names only pieces that are in the hand, each of them once (section 10)")]
    NotInHand,
    #[error("the leader's pieces must be one of the nine valid types (sections 8 and 10)")]
    InvalidLead,
}

impl crate::domain::Rejection for Rejection {
    fn code(&self) -> &'static str {
        match self {
            Self::GameOver => "game_over",
            Self::NoSuchSeat => "no_such_seat",
            Self::WrongPhase => "wrong_phase",
            Self::Pause => "pause",
            Self::NotWeak => "not_weak",
            Self::AlreadyDecided => "already_decided",
            Self::TooLate => "too_late",
            Self::NotYourTurn => "not_your_turn",
            Self::AlreadyDeclared => "already_declared",
            Self::ValueOutOfRange => "value_out_of_range",
            Self::TotalOfEight => "total_of_eight",
            Self::ThirdZero => "third_zero",
            Self::AlreadyPlayed => "already_played",
            Self::NoPieces => "no_pieces",
            Self::TooManyPieces => "too_many_pieces",
            Self::WrongCount => "wrong_count",
            Self::NotInHand => "not_in_hand",
            Self::InvalidLead => "invalid_lead",
        }
    }
}
