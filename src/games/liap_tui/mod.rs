//! Liap Tui: four seats take tricks with Chinese-chess pieces, and score by what they said they would take.
//!
//! The section numbers in this module are those of the rules of the game.

mod bot;
mod command;
pub mod declaring;
mod event;
mod judge;
pub mod piece;
pub mod play;
mod progress;
pub mod scoring;
mod setup;
mod state;
#[cfg(test)]
mod tests;
mod view;

pub use command::{Command, Rejection};
pub use event::{Event, EventView, Face, GameResult, Phase, PlayView, StarterReason};
pub use setup::{Pauses, Setup};
pub use state::LiapTui;
pub use view::{CompletedTurn, RedealView, Starter, View};

use crate::domain::{Decision, Dice, Game, Outcome, Seat, Timestamp, TurnContext, Viewer};
use state::Stage;

impl Game for LiapTui {
    const KIND: &'static str = "liap-tui";
    const RULES_VERSION: u32 = 1;
    const HAS_BOTS: bool = true;
    /// Section 15: the seat becomes bot-controlled at once.
    const GRACE_MS: u32 = 0;

    type Setup = Setup;
    type Command = Command;
    type Event = Event;
    type View = View;
    type EventView = EventView;
    type Rejection = Rejection;

    fn seats(setup: &Setup) -> Result<u8, String> {
        setup.check().map(|()| 4)
    }

    fn paced(pace: f64) -> Setup {
        Setup { pauses: Pauses::default().scaled(pace), ..Setup::default() }
    }

    fn new(setup: Setup) -> Self {
        Self::waiting(setup)
    }

    fn start(&self, cx: &TurnContext) -> Vec<Event> {
        self.with_consequences(self.first_facts(), cx)
    }

    fn decide(&self, by: Seat, command: Command, cx: &TurnContext) -> Decision<Self> {
        let fact = self.judge(by, command, cx.now)?;
        Ok(self.with_consequences(vec![fact], cx))
    }

    fn evolve(&mut self, event: &Event) {
        self.apply(event);
    }

    fn view(&self, viewer: Viewer) -> View {
        View::new(self, viewer)
    }

    fn view_event(event: &Event, viewer: Viewer) -> Option<EventView> {
        Some(EventView::new(event, viewer))
    }

    fn outcome(&self) -> Option<Outcome> {
        self.result.as_ref().map(|result| Outcome {
            winners: result.winners.clone(),
            scores: result.totals.to_vec(),
        })
    }

    fn awaiting(&self) -> Vec<Seat> {
        match &self.stage {
            Stage::Deciding(decisions) => decisions.undecided().collect(),
            Stage::Declaring | Stage::Playing => self.seat_in_turn().into_iter().collect(),
            Stage::Waiting
            | Stage::Dealing
            | Stage::Dealt
            | Stage::Kept
            | Stage::RoundStart
            | Stage::TurnDone
            | Stage::TurnResults
            | Stage::Scoring
            | Stage::GameOver => Vec::new(),
        }
    }

    fn deadline(&self) -> Option<Timestamp> {
        self.redeal_decisions().map(|decisions| decisions.deadline).or(self.pause_until)
    }

    /// Also goes on from a state in which nothing is waited for, so that a test may stop between two
    /// events, say something else has happened (another deal), and go on from there.
    fn on_deadline(&self, cx: &TurnContext) -> Vec<Event> {
        self.with_consequences(self.redeal_timeouts(cx.now), cx)
    }

    /// Display pauses are nobody's time.
    fn credit(&mut self, millis: u64) {
        if let Stage::Deciding(decisions) = &mut self.stage {
            decisions.deadline = decisions.deadline.plus_millis(millis);
        }
    }

    /// Section 15: a pending redeal decision is declined; what else is owed, the bot decides.
    fn on_player_left(&self, seat: Seat, cx: &TurnContext) -> Vec<Event> {
        match self.judge(seat, Command::RedealDecline {}, cx.now) {
            Ok(declined) => self.with_consequences(vec![declined], cx),
            Err(_nothing_to_decline) => Vec::new(),
        }
    }

    fn bot(view: &View, seat: Seat, dice: &mut Dice) -> Option<Command> {
        bot::choose(view, seat, dice)
    }
}
