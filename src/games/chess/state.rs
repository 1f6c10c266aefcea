//! The full state, and how each event changes it.

use serde::{Deserialize, Serialize};

use super::clocks::Clocks;
use super::event::{Event, GameResult};
use super::notation;
use super::position::Position;
use super::setup::Setup;
use crate::domain::Seat;

/// The whole state of one game.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chess {
    pub(super) start_fen: String,
    pub(super) position: Position,
    /// Every move in SAN, a space between two. One text, because a decision works on a copy of the state.
    pub(super) moves: String,
    /// In UCI.
    pub(super) last_move: Option<String>,
    pub(super) clocks: Clocks,
    /// Whose offer stands.
    pub(super) draw_offer: Option<Seat>,
    /// By seat: whether it has offered a draw since its last move.
    pub(super) has_offered: [bool; 2],
    pub(super) result: Option<GameResult>,
}

pub(super) fn opponent(seat: Seat) -> Seat {
    Seat(1 - seat.0)
}

impl Chess {
    pub(super) fn waiting(setup: &Setup) -> Self {
        // Whoever opened the table heard of a bad position; a log holds none.
        let position = setup.position().unwrap_or_else(|_never_opened| Position::usual());
        Self {
            start_fen: position.fen(),
            position,
            moves: String::new(),
            last_move: None,
            clocks: Clocks::stopped(setup.initial_ms, setup.increment_ms),
            draw_offer: None,
            has_offered: [false; 2],
            result: None,
        }
    }

    /// The seat to move, while the game is being played.
    pub(super) fn seat_in_turn(&self) -> Option<Seat> {
        self.clocks.running.map(|running| running.seat)
    }

    /// `evolve`: takes every event at its word.
    pub(super) fn apply(&mut self, event: &Event) {
        match event {
            Event::GameStarted { fen, initial_ms, increment_ms, at } => {
                self.position = Position::from_fen(fen).expect("a game starts from a position");
                self.start_fen.clone_from(fen);
                self.clocks = Clocks::stopped(*initial_ms, *increment_ms);
                self.clocks.run(self.position.turn(), *at);
            }
            Event::MovePlayed { seat, uci, san, left_ms, at } => {
                let played = notation::from_uci(&self.position, uci);
                self.position = self.position.after(played.expect("the log holds legal moves"));
                if !self.moves.is_empty() {
                    self.moves.push(' ');
                }
                self.moves.push_str(san);
                self.last_move = Some(uci.clone());
                self.clocks.left_ms[seat.index()] = *left_ms;
                self.clocks.run(opponent(*seat), *at);
                self.has_offered[seat.index()] = false;
                self.draw_offer.take_if(|offerer| *offerer != *seat);
            }
            Event::DrawOffered { seat } => {
                self.draw_offer = Some(*seat);
                self.has_offered[seat.index()] = true;
            }
            Event::DrawDeclined { .. } => self.draw_offer = None,
            Event::GameEnded(result) => {
                self.clocks.left_ms = result.left_ms;
                self.clocks.running = None;
                self.draw_offer = None;
                self.result = Some(result.clone());
            }
        }
    }
}
