//! The smallest game: a number that its player may raise. What is measured with it is not the game.

use serde::{Deserialize, Serialize};

use crate::domain::{Decision, Game, Outcome, Rejection, Seat, TurnContext, Viewer};

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Counter {
    total: u64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Setup {}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Command {
    Raise,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Event {
    Raised { total: u64 },
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct View {
    total: u64,
}

/// This game refuses nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Never {}

impl Rejection for Never {
    fn code(&self) -> &'static str {
        match *self {}
    }
}

impl Game for Counter {
    const KIND: &'static str = "bench-counter";
    const RULES_VERSION: u32 = 1;

    type Setup = Setup;
    type Command = Command;
    type Event = Event;
    type View = View;
    type EventView = Event;
    type Rejection = Never;

    fn seats(_setup: &Setup) -> Result<u8, String> {
        Ok(1)
    }

    fn new(_setup: Setup) -> Self {
        Self::default()
    }

    fn start(&self, _cx: &TurnContext) -> Vec<Event> {
        Vec::new()
    }

    fn decide(&self, _by: Seat, command: Command, _cx: &TurnContext) -> Decision<Self> {
        let Command::Raise = command;
        Ok(vec![Event::Raised { total: self.total + 1 }])
    }

    fn evolve(&mut self, event: &Event) {
        let Event::Raised { total } = event;
        self.total = *total;
    }

    fn view(&self, _viewer: Viewer) -> View {
        View { total: self.total }
    }

    fn view_event(event: &Event, _viewer: Viewer) -> Option<Event> {
        Some(event.clone())
    }

    fn outcome(&self) -> Option<Outcome> {
        None
    }

    fn awaiting(&self) -> Vec<Seat> {
        vec![Seat(0)]
    }
}
