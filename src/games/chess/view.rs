//! What a viewer sees: everything. Only `seat` and `choices` are its own.

use serde::{Deserialize, Serialize};

use super::command::Command;
use super::event::{GameResult, Reason};
use super::notation;
use super::state::{Chess, opponent};
use crate::domain::{Seat, Timestamp, Viewer};

/// The state as one viewer sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct View {
    /// The viewer's own seat: 0 plays White, 1 plays Black.
    pub seat: Option<Seat>,
    pub phase: Phase,
    /// The position in Forsyth-Edwards notation.
    pub fen: String,
    /// The position that play began from.
    pub start_fen: String,
    /// Every move so far in SAN.
    pub moves: Vec<String>,
    /// In UCI.
    pub last_move: Option<String>,
    /// Whether the side to move is in check.
    pub is_check: bool,
    /// The seat to move, while the game is being played.
    pub awaiting: Vec<Seat>,
    pub clocks: ClocksView,
    /// Whose draw offer stands.
    pub draw_offer: Option<Seat>,
    /// What the player to move may claim a draw by.
    pub draw_claim: Option<Reason>,
    pub result: Option<GameResult>,
    /// Every command that the viewer's seat may give in its turn, or in answer to a draw offer.
    pub choices: Vec<Command>,
}

/// Where a game stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Waiting,
    Playing,
    GameOver,
}

/// Both clocks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClocksView {
    /// By seat, in milliseconds. Of the running clock: when it was started, at `since`.
    pub left_ms: [u64; 2],
    /// What each began with.
    pub initial_ms: u64,
    pub increment_ms: u64,
    pub running: Option<Seat>,
    pub since: Option<Timestamp>,
    /// When the running flag falls.
    pub deadline: Option<Timestamp>,
}

impl View {
    pub(super) fn new(game: &Chess, viewer: Viewer) -> Self {
        // A seat that does not exist sees what spectators see.
        let seat = viewer.seat().filter(|seat| seat.index() < 2);
        let in_turn = game.seat_in_turn();
        Self {
            seat,
            phase: match (&game.result, in_turn) {
                (Some(_), _) => Phase::GameOver,
                (None, Some(_)) => Phase::Playing,
                (None, None) => Phase::Waiting,
            },
            fen: game.position.fen(),
            start_fen: game.start_fen.clone(),
            moves: game.moves.split_whitespace().map(str::to_owned).collect(),
            last_move: game.last_move.clone(),
            is_check: game.position.is_check(),
            awaiting: in_turn.into_iter().collect(),
            clocks: ClocksView {
                left_ms: game.clocks.left_ms,
                initial_ms: game.clocks.initial_ms,
                increment_ms: game.clocks.increment_ms,
                running: in_turn,
                since: game.clocks.running.map(|running| running.since),
                deadline: game.clocks.deadline(),
            },
            draw_offer: game.draw_offer,
            draw_claim: in_turn.and_then(|_| game.position.claim()),
            result: game.result.clone(),
            choices: seat.map(|seat| choices(game, seat)).unwrap_or_default(),
        }
    }
}

fn choices(game: &Chess, seat: Seat) -> Vec<Command> {
    let Some(in_turn) = game.seat_in_turn() else {
        return Vec::new();
    };
    let mut choices = Vec::new();
    if seat == in_turn {
        let board = game.position.board();
        let moves = game.position.legal_moves().into_iter();
        choices.extend(moves.map(|legal| Command::uci(notation::uci(board, legal))));
        if game.position.claim().is_some() {
            choices.push(Command::ClaimDraw {});
        }
        if game.draw_offer.is_none() && !game.has_offered[seat.index()] {
            choices.push(Command::OfferDraw {});
        }
    }
    if game.draw_offer == Some(opponent(seat)) {
        choices.extend([Command::AcceptDraw {}, Command::DeclineDraw {}]);
    }
    if seat == in_turn {
        choices.push(Command::Resign {});
    }
    choices
}
