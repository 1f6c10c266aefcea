//! `decide`: which facts follow from a command, or from the passing of time.

use cozy_chess::Move;

use super::command::{Command, Rejection};
use super::event::{Event, GameResult, Reason};
use super::notation;
use super::state::{Chess, opponent};
use crate::domain::{Seat, Timestamp};

impl Chess {
    /// What a command comes to.
    pub(super) fn judge(
        &self,
        by: Seat,
        command: Command,
        now: Timestamp,
    ) -> Result<Vec<Event>, Rejection> {
        if by.index() >= self.clocks.left_ms.len() {
            return Err(Rejection::NoSuchSeat);
        }
        if self.result.is_some() {
            return Err(Rejection::GameOver);
        }
        let in_turn = self.seat_in_turn().ok_or(Rejection::NotStarted)?;
        // Only time can end this turn now: whatever is asked comes too late.
        if self.clocks.flag_has_fallen(now) {
            return Err(Rejection::FlagFallen);
        }
        match command {
            Command::Move { .. } | Command::ClaimDraw {} if by != in_turn => {
                Err(Rejection::NotYourTurn)
            }
            Command::Move { uci, san } => {
                self.read_move(uci, san).map(|legal| self.play(legal, now))
            }
            Command::ClaimDraw {} => {
                let reason = self.position.claim().ok_or(Rejection::NothingToClaim)?;
                Ok(vec![self.drawn(reason, by, now)])
            }
            Command::OfferDraw {} => match self.draw_offer {
                Some(_) => Err(Rejection::OfferStands),
                None if self.has_offered[by.index()] => Err(Rejection::OfferRepeated),
                None => Ok(vec![Event::DrawOffered { seat: by }]),
            },
            Command::AcceptDraw {} => {
                self.offer_to(by)?;
                Ok(vec![self.drawn(Reason::Agreement, by, now)])
            }
            Command::DeclineDraw {} => {
                self.offer_to(by)?;
                Ok(vec![Event::DrawDeclined { seat: by }])
            }
            Command::Resign {} => Ok(vec![self.won(Reason::Resignation, opponent(by), by, now)]),
        }
    }

    /// What the passing of the deadline brings about.
    pub(super) fn flag_fall(&self, now: Timestamp) -> Vec<Event> {
        let Some(fallen) = self.seat_in_turn().filter(|_| self.clocks.flag_has_fallen(now)) else {
            return Vec::new();
        };
        let winner = opponent(fallen);
        vec![if self.position.can_mate(winner) {
            self.won(Reason::Timeout, winner, fallen, now)
        } else {
            self.drawn(Reason::TimeoutWithoutMaterial, fallen, now)
        }]
    }

    fn read_move(&self, uci: Option<String>, san: Option<String>) -> Result<Move, Rejection> {
        match (uci, san) {
            (Some(uci), None) => notation::from_uci(&self.position, &uci),
            (None, Some(san)) => notation::from_san(&self.position, &san),
            (None, None) | (Some(_), Some(_)) => Err(Rejection::OneNotation),
        }
    }

    /// A legal move of the player in turn, and the end of the game if it brings that about.
    fn play(&self, legal: Move, now: Timestamp) -> Vec<Event> {
        let (seat, board) = (self.position.turn(), self.position.board());
        let mut left_ms = self.clocks.left_at(now);
        left_ms[seat.index()] += self.clocks.increment_ms;
        let mut events = vec![Event::MovePlayed {
            seat,
            uci: notation::uci(board, legal),
            san: notation::san(board, legal),
            left_ms: left_ms[seat.index()],
            at: now,
        }];
        events.extend(self.position.after(legal).ending().map(|reason| {
            Event::GameEnded(if reason == Reason::Checkmate {
                GameResult::won(reason, seat, seat, left_ms)
            } else {
                GameResult::drawn(reason, seat, left_ms)
            })
        }));
        events
    }

    fn offer_to(&self, seat: Seat) -> Result<(), Rejection> {
        let is_theirs = self.draw_offer == Some(opponent(seat));
        if is_theirs { Ok(()) } else { Err(Rejection::NoOffer) }
    }

    fn won(&self, reason: Reason, winner: Seat, by: Seat, now: Timestamp) -> Event {
        Event::GameEnded(GameResult::won(reason, winner, by, self.clocks.left_at(now)))
    }

    fn drawn(&self, reason: Reason, by: Seat, now: Timestamp) -> Event {
        Event::GameEnded(GameResult::drawn(reason, by, self.clocks.left_at(now)))
    }
}
