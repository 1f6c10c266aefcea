//! Chess by the FIDE Laws, with clocks that run in real time. The rules of movement are `cozy-chess`'s.
//!
//! Numbers in this module are those of the articles of the Laws. Nothing is hidden, so every viewer sees
//! the same; what is special is time: the clock of whoever is to move runs until a move or a flag ends the turn.

mod bot;
mod clocks;
mod command;
mod event;
mod judge;
mod notation;
mod position;
mod setup;
mod state;
#[cfg(test)]
mod tests;
mod view;

pub use command::{Command, Rejection};
pub use event::{Event, GameResult, Reason};
pub use setup::Setup;
pub use state::Chess;
pub use view::{ClocksView, Phase, View};

use crate::domain::{Decision, Dice, Game, Outcome, Seat, Timestamp, TurnContext, Viewer};

impl Game for Chess {
    const KIND: &'static str = "chess";
    const RULES_VERSION: u32 = 1;
    const HAS_BOTS: bool = true;
    /// The own clock runs on meanwhile, so nobody gains by leaving.
    const GRACE_MS: u32 = 30_000;

    type Setup = Setup;
    type Command = Command;
    type Event = Event;
    type View = View;
    type EventView = Event;
    type Rejection = Rejection;

    fn seats(setup: &Setup) -> Result<u8, String> {
        setup.check().map(|()| 2)
    }

    fn new(setup: Setup) -> Self {
        Self::waiting(&setup)
    }

    fn start(&self, cx: &TurnContext) -> Vec<Event> {
        let fen = self.start_fen.clone();
        let (initial_ms, increment_ms) = (self.clocks.initial_ms, self.clocks.increment_ms);
        vec![Event::GameStarted { fen, initial_ms, increment_ms, at: cx.now }]
    }

    fn decide(&self, by: Seat, command: Command, cx: &TurnContext) -> Decision<Self> {
        self.judge(by, command, cx.now)
    }

    fn evolve(&mut self, event: &Event) {
        self.apply(event);
    }

    fn view(&self, viewer: Viewer) -> View {
        View::new(self, viewer)
    }

    fn view_event(event: &Event, _viewer: Viewer) -> Option<Event> {
        Some(event.clone())
    }

    fn outcome(&self) -> Option<Outcome> {
        self.result.as_ref().map(|result| Outcome {
            winners: result.winners.clone(),
            scores: result.scores.to_vec(),
        })
    }

    fn awaiting(&self) -> Vec<Seat> {
        self.seat_in_turn().into_iter().collect()
    }

    fn deadline(&self) -> Option<Timestamp> {
        self.clocks.deadline()
    }

    fn on_deadline(&self, cx: &TurnContext) -> Vec<Event> {
        self.flag_fall(cx.now)
    }

    /// The turn began later than it did: what is given back is nobody's thinking time.
    fn credit(&mut self, millis: u64) {
        self.clocks.credit(millis);
    }

    fn bot(view: &View, seat: Seat, dice: &mut Dice) -> Option<Command> {
        bot::choose(view, seat, dice)
    }
}
