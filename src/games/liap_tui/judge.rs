//! Whether a command is legal, and the one fact that it makes.

use super::command::{Command, Rejection};
use super::declaring;
use super::event::Event;
use super::piece::{Piece, without};
use super::play::{PLAY_SIZE_MAX, Play, PlayType};
use super::state::{LiapTui, Stage};
use crate::domain::{Seat, Timestamp};

impl LiapTui {
    pub(super) fn judge(
        &self,
        by: Seat,
        command: Command,
        now: Timestamp,
    ) -> Result<Event, Rejection> {
        if self.result.is_some() {
            return Err(Rejection::GameOver);
        }
        if by.index() >= self.hands.len() {
            return Err(Rejection::NoSuchSeat);
        }
        if self.pause_until.is_some() {
            return Err(Rejection::Pause);
        }
        match command {
            Command::RedealAccept {} => self.judge_redeal(by, true, now),
            Command::RedealDecline {} => self.judge_redeal(by, false, now),
            Command::Declare { value } => self.judge_declaration(by, value),
            Command::Play { pieces } => self.judge_play(by, pieces),
        }
    }

    fn judge_redeal(&self, by: Seat, accepted: bool, now: Timestamp) -> Result<Event, Rejection> {
        let decisions = self.redeal_decisions().ok_or(Rejection::WrongPhase)?;
        if !decisions.weak.contains(&by) {
            return Err(Rejection::NotWeak);
        }
        if decisions.accepted[by.index()].is_some() {
            return Err(Rejection::AlreadyDecided);
        }
        // The timer may be late, the rule is not.
        if now >= decisions.deadline {
            return Err(Rejection::TooLate);
        }
        Ok(Event::RedealDecisionMade { seat: by, accepted, by_timeout: false })
    }

    fn judge_declaration(&self, by: Seat, value: i64) -> Result<Event, Rejection> {
        if self.stage != Stage::Declaring {
            return Err(Rejection::WrongPhase);
        }
        if self.declared[by.index()].is_some() {
            return Err(Rejection::AlreadyDeclared);
        }
        if self.seat_in_turn() != Some(by) {
            return Err(Rejection::NotYourTurn);
        }
        let previous = self.declared_so_far();
        let zero_streak = self.zero_streaks[by.index()];
        let value = declaring::check(&previous, zero_streak, value)?;
        Ok(Event::DeclarationMade {
            seat: by,
            value,
            running_total: previous.iter().sum::<u8>() + value,
            zero_streak: declaring::streak_after(zero_streak, value),
        })
    }

    fn judge_play(&self, by: Seat, pieces: Vec<Piece>) -> Result<Event, Rejection> {
        if self.stage != Stage::Playing {
            return Err(Rejection::WrongPhase);
        }
        if self.plays.iter().any(|play| play.seat == by) {
            return Err(Rejection::AlreadyPlayed);
        }
        if self.seat_in_turn() != Some(by) {
            return Err(Rejection::NotYourTurn);
        }
        match self.required() {
            _ if pieces.is_empty() => return Err(Rejection::NoPieces),
            Some(required) if pieces.len() != required => return Err(Rejection::WrongCount),
            None if pieces.len() > PLAY_SIZE_MAX => return Err(Rejection::TooManyPieces),
            Some(_) | None => {}
        }
        if without(&self.hands[by.index()], &pieces).is_none() {
            return Err(Rejection::NotInHand);
        }
        let Play { seat, pieces, play_type, strength } = Play::new(by, pieces);
        if self.plays.is_empty() && play_type == PlayType::Invalid {
            return Err(Rejection::InvalidLead);
        }
        let count = u8::try_from(pieces.len()).expect("a play has at most 6 pieces");
        Ok(Event::PiecesPlayed { seat, count, pieces, play_type, strength })
    }
}
