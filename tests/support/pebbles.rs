//! A game for tests: two seats take 1 to 3 pebbles in turn, and who takes the last one wins.

use rand::RngExt;
use serde::{Deserialize, Serialize};
use tablecast::domain::{
    Decision, Dice, Game, Outcome, Rejection, Seat, Timestamp, TurnContext, Viewer,
};

pub(crate) const KIND: &str = "pebbles";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pebbles {
    setup: Setup,
    left: u32,
    turn: Seat,
    take_by: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Setup {
    pub(crate) pebbles: u32,
    /// After this long, one pebble is taken for whoever thinks.
    pub(crate) limit_ms: Option<u64>,
    /// A mistake of a game's author: the limit passes, and nothing is taken.
    pub(crate) limit_is_barren: bool,
    /// Another one: the limit passes, and the turn ends twice.
    pub(crate) limit_is_double: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self { pebbles: 10, limit_ms: None, limit_is_barren: false, limit_is_double: false }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Command {
    Take {
        count: u32,
    },
    /// Accepted, and changes nothing.
    Look {},
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Event {
    Poured { pebbles: u32, take_by: Option<Timestamp> },
    Taken { seat: Seat, count: u32, take_by: Option<Timestamp> },
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct View {
    left: u32,
    turn: Seat,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("it is not your turn")]
    NotYourTurn,
    #[error("a turn takes 1 to 3 pebbles that are there")]
    WrongCount,
}

impl Rejection for Refused {
    fn code(&self) -> &'static str {
        match self {
            Self::NotYourTurn => "not_your_turn",
            Self::WrongCount => "wrong_count",
        }
    }
}

impl Pebbles {
    fn take_by(&self, cx: &TurnContext) -> Option<Timestamp> {
        Some(cx.now.plus_millis(self.setup.limit_ms?))
    }

    fn taken(&self, count: u32, cx: &TurnContext) -> Event {
        Event::Taken { seat: self.turn, count, take_by: self.take_by(cx) }
    }
}

impl Game for Pebbles {
    const KIND: &'static str = KIND;
    const RULES_VERSION: u32 = 1;
    const HAS_BOTS: bool = true;

    type Setup = Setup;
    type Command = Command;
    type Event = Event;
    type View = View;
    type EventView = Event;
    type Rejection = Refused;

    fn seats(setup: &Setup) -> Result<u8, String> {
        match setup.pebbles {
            0..=100 => Ok(2),
            _ => Err("at most 100 pebbles".to_owned()),
        }
    }

    fn new(setup: Setup) -> Self {
        Self { left: setup.pebbles, setup, turn: Seat(0), take_by: None }
    }

    fn start(&self, cx: &TurnContext) -> Vec<Event> {
        vec![Event::Poured { pebbles: self.left, take_by: self.take_by(cx) }]
    }

    fn decide(&self, by: Seat, command: Command, cx: &TurnContext) -> Decision<Self> {
        let Command::Take { count } = command else {
            return Ok(Vec::new());
        };
        if by != self.turn {
            return Err(Refused::NotYourTurn);
        }
        if !(1..=3.min(self.left)).contains(&count) {
            return Err(Refused::WrongCount);
        }
        Ok(vec![self.taken(count, cx)])
    }

    fn evolve(&mut self, event: &Event) {
        match *event {
            Event::Poured { pebbles, take_by } => {
                self.left = pebbles;
                self.take_by = take_by;
            }
            Event::Taken { seat, count, take_by } => {
                // Whatever the log says has happened, but this cannot have.
                assert!(count <= self.left, "more pebbles taken than there were");
                self.left -= count;
                self.turn = Seat(1 - seat.0);
                self.take_by = take_by;
            }
        }
    }

    fn view(&self, _viewer: Viewer) -> View {
        View { left: self.left, turn: self.turn }
    }

    fn view_event(event: &Event, _viewer: Viewer) -> Option<Event> {
        Some(event.clone())
    }

    fn outcome(&self) -> Option<Outcome> {
        (self.left == 0).then(|| Outcome {
            winners: vec![Seat(1 - self.turn.0)],
            scores: vec![i64::from(self.turn.0), i64::from(1 - self.turn.0)],
        })
    }

    fn awaiting(&self) -> Vec<Seat> {
        if self.left == 0 {
            return Vec::new();
        }
        vec![self.turn]
    }

    fn deadline(&self) -> Option<Timestamp> {
        self.take_by.filter(|_| self.left > 0)
    }

    fn on_deadline(&self, cx: &TurnContext) -> Vec<Event> {
        if self.setup.limit_is_barren {
            return Vec::new();
        }
        let taken = self.taken(1, cx);
        if self.setup.limit_is_double && self.left > 1 {
            return vec![taken.clone(), taken];
        }
        vec![taken]
    }

    fn credit(&mut self, millis: u64) {
        self.take_by = self.take_by.map(|at| at.plus_millis(millis));
    }

    fn bot(view: &View, _seat: Seat, dice: &mut Dice) -> Option<Command> {
        let count = dice.random_range(1..=3.min(view.left));
        Some(Command::Take { count })
    }
}
