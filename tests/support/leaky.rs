//! Liap Tui with a leak planted in it, to see that the twin-world tests find one.

use serde::{Deserialize, Serialize};
use tablecast::domain::{
    Decision, Dice, Game, Outcome, Rejection, Seat, Timestamp, TurnContext, Viewer,
};
use tablecast::games::liap_tui::piece::{Piece, points};
use tablecast::games::liap_tui::{self as liap, Command, Event, EventView, LiapTui, Setup, View};

pub(crate) const IN_VIEWS: u8 = 0;
pub(crate) const IN_EVENTS: u8 = 1;
pub(crate) const IN_REFUSALS: u8 = 2;

/// Leaks in one place.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Leaky<const WHERE: u8>(LiapTui);

/// A view that says how good somebody's hand is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct LeakyView {
    #[serde(flatten)]
    view: View,
    hint: u32,
}

/// A refusal that says who could have done better.
#[derive(Debug, thiserror::Error)]
#[error("{refusal}{hint}")]
pub(crate) struct LeakyRefusal {
    refusal: liap::Rejection,
    hint: String,
}

impl Rejection for LeakyRefusal {
    fn code(&self) -> &'static str {
        self.refusal.code()
    }
}

fn hand(game: &LiapTui, seat: u8) -> Vec<Piece> {
    game.view(Viewer::Seated(Seat(seat))).hand.unwrap_or_default()
}

impl<const WHERE: u8> Game for Leaky<WHERE> {
    const KIND: &'static str = LiapTui::KIND;
    const RULES_VERSION: u32 = LiapTui::RULES_VERSION;
    const HAS_BOTS: bool = LiapTui::HAS_BOTS;
    const GRACE_MS: u32 = LiapTui::GRACE_MS;

    type Setup = Setup;
    type Command = Command;
    type Event = Event;
    type View = LeakyView;
    type EventView = EventView;
    type Rejection = LeakyRefusal;

    fn seats(setup: &Setup) -> Result<u8, String> {
        LiapTui::seats(setup)
    }

    fn new(setup: Setup) -> Self {
        Self(LiapTui::new(setup))
    }

    fn start(&self, cx: &TurnContext) -> Vec<Event> {
        self.0.start(cx)
    }

    fn decide(&self, by: Seat, command: Command, cx: &TurnContext) -> Decision<Self> {
        self.0.decide(by, command, cx).map_err(|refusal| {
            let held = hand(&self.0, 3).contains(&Piece::SoldierRed);
            let hint = if WHERE == IN_REFUSALS && held {
                "; ask seat 3".to_owned()
            } else {
                String::new()
            };
            LeakyRefusal { refusal, hint }
        })
    }

    fn evolve(&mut self, event: &Event) {
        self.0.evolve(event);
    }

    fn view(&self, viewer: Viewer) -> LeakyView {
        let hint = if WHERE == IN_VIEWS { points(&hand(&self.0, 2)) } else { 0 };
        LeakyView { view: self.0.view(viewer), hint }
    }

    fn view_event(event: &Event, viewer: Viewer) -> Option<EventView> {
        let seen_by = if let Event::PiecesPlayed { seat, .. } = event
            && WHERE == IN_EVENTS
        {
            Viewer::Seated(*seat)
        } else {
            viewer
        };
        LiapTui::view_event(event, seen_by)
    }

    fn outcome(&self) -> Option<Outcome> {
        self.0.outcome()
    }

    fn awaiting(&self) -> Vec<Seat> {
        self.0.awaiting()
    }

    fn deadline(&self) -> Option<Timestamp> {
        self.0.deadline()
    }

    fn on_deadline(&self, cx: &TurnContext) -> Vec<Event> {
        self.0.on_deadline(cx)
    }

    fn on_player_left(&self, seat: Seat, cx: &TurnContext) -> Vec<Event> {
        self.0.on_player_left(seat, cx)
    }

    fn bot(view: &LeakyView, seat: Seat, dice: &mut Dice) -> Option<Command> {
        LiapTui::bot(&view.view, seat, dice)
    }
}
