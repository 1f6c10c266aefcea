//! A game small enough to read in a minute, with something to hide: each seat has a number of its own.

use serde::{Deserialize, Serialize};
use tablecast::domain::{Decision, Game, Outcome, Rejection, Seat, TurnContext, Viewer};

/// Seats take no turns: whoever says 0 wins.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct HiddenNumber {
    seats: u8,
    numbers: Vec<u32>,
    said: Vec<u32>,
    winner: Option<Seat>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Setup {
    pub(crate) seats: u8,
}

impl Default for Setup {
    fn default() -> Self {
        Self { seats: 2 }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Command {
    Say { number: u32 },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Event {
    Dealt { numbers: Vec<u32> },
    Said { seat: Seat, number: u32 },
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum EventView {
    Dealt { yours: u32 },
    Said { seat: Seat, number: u32 },
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct View {
    yours: Option<u32>,
    said: Vec<u32>,
}

#[derive(Debug, thiserror::Error)]
#[error("numbers above 1000000 are not said")]
pub(crate) struct TooLarge;

impl Rejection for TooLarge {
    fn code(&self) -> &'static str {
        "too_large"
    }
}

impl Game for HiddenNumber {
    const KIND: &'static str = "hidden-number";
    const RULES_VERSION: u32 = 1;

    type Setup = Setup;
    type Command = Command;
    type Event = Event;
    type View = View;
    type EventView = EventView;
    type Rejection = TooLarge;

    fn seats(setup: &Setup) -> Result<u8, String> {
        Ok(setup.seats)
    }

    fn new(setup: Setup) -> Self {
        Self { seats: setup.seats, ..Self::default() }
    }

    fn start(&self, cx: &TurnContext) -> Vec<Event> {
        let secret = u32::from(cx.seed[0]) + 1000;
        let numbers = (0..u32::from(self.seats)).map(|seat| secret + seat).collect();
        vec![Event::Dealt { numbers }]
    }

    fn decide(&self, by: Seat, command: Command, _cx: &TurnContext) -> Decision<Self> {
        match command {
            Command::Say { number } if number > 1_000_000 => Err(TooLarge),
            Command::Say { number } => Ok(vec![Event::Said { seat: by, number }]),
        }
    }

    fn evolve(&mut self, event: &Event) {
        match event {
            Event::Dealt { numbers } => self.numbers.clone_from(numbers),
            Event::Said { seat, number } => {
                self.said.push(*number);
                if *number == 0 {
                    self.winner = Some(*seat);
                }
            }
        }
    }

    fn view(&self, viewer: Viewer) -> View {
        let yours = viewer.seat().and_then(|seat| self.numbers.get(seat.index()));
        View { yours: yours.copied(), said: self.said.clone() }
    }

    fn view_event(event: &Event, viewer: Viewer) -> Option<EventView> {
        match event {
            Event::Dealt { numbers } => {
                let yours = *numbers.get(viewer.seat()?.index())?;
                Some(EventView::Dealt { yours })
            }
            Event::Said { seat, number } => Some(EventView::Said { seat: *seat, number: *number }),
        }
    }

    fn outcome(&self) -> Option<Outcome> {
        let winners = vec![self.winner?];
        let scores = vec![0; usize::from(self.seats)];
        Some(Outcome { winners, scores })
    }

    fn awaiting(&self) -> Vec<Seat> {
        (0..self.seats).map(Seat).collect()
    }
}
