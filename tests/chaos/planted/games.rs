//! Liap Tui, with a clock that declares for whoever has just declared.

use serde::{Deserialize, Serialize};
use tablecast::domain::{Decision, Dice, Game, Outcome, Seat, Timestamp, TurnContext, Viewer};
use tablecast::games::liap_tui::{Command, Event, EventView, LiapTui, Rejection, Setup, View};

/// How long after a declaration the clock makes it once more.
const DELAY_MS: u64 = 1;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Doubled {
    game: LiapTui,
    last: Option<Event>,
}

impl Game for Doubled {
    const KIND: &'static str = LiapTui::KIND;
    const RULES_VERSION: u32 = LiapTui::RULES_VERSION;
    const HAS_BOTS: bool = true;
    const GRACE_MS: u32 = LiapTui::GRACE_MS;

    type Setup = Setup;
    type Command = Command;
    type Event = Event;
    type View = View;
    type EventView = EventView;
    type Rejection = Rejection;

    fn seats(setup: &Setup) -> Result<u8, String> {
        LiapTui::seats(setup)
    }

    fn new(setup: Setup) -> Self {
        Self { game: LiapTui::new(setup), last: None }
    }

    fn start(&self, cx: &TurnContext) -> Vec<Event> {
        self.game.start(cx)
    }

    fn decide(&self, by: Seat, command: Command, cx: &TurnContext) -> Decision<Self> {
        self.game.decide(by, command, cx)
    }

    fn evolve(&mut self, event: &Event) {
        self.game.evolve(event);
        // Once only: the second one is not followed by a third.
        let is_new = self.last.as_ref() != Some(event);
        let is_declaration = matches!(event, Event::DeclarationMade { .. });
        self.last = (is_declaration && is_new).then(|| event.clone());
    }

    fn view(&self, viewer: Viewer) -> View {
        self.game.view(viewer)
    }

    fn view_event(event: &Event, viewer: Viewer) -> Option<EventView> {
        LiapTui::view_event(event, viewer)
    }

    fn outcome(&self) -> Option<Outcome> {
        self.game.outcome()
    }

    fn awaiting(&self) -> Vec<Seat> {
        self.game.awaiting()
    }

    fn deadline(&self) -> Option<Timestamp> {
        match &self.last {
            Some(_) => Some(Timestamp::from_millis(DELAY_MS)),
            None => self.game.deadline(),
        }
    }

    fn on_deadline(&self, cx: &TurnContext) -> Vec<Event> {
        match &self.last {
            Some(event) => vec![event.clone()],
            None => self.game.on_deadline(cx),
        }
    }

    fn credit(&mut self, millis: u64) {
        self.game.credit(millis);
    }

    fn on_player_left(&self, seat: Seat, cx: &TurnContext) -> Vec<Event> {
        self.game.on_player_left(seat, cx)
    }

    fn bot(view: &View, seat: Seat, dice: &mut Dice) -> Option<Command> {
        LiapTui::bot(view, seat, dice)
    }
}
