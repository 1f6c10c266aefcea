//! A game of one's own, complete: rules, views, a bot, and a binary with every role.
//!
//! `cargo run --example tic_tac_toe -- dev` opens tables of it; `docs/your-own-game.md` walks through it.

use std::process::ExitCode;

use rand::seq::IndexedRandom;
use serde::{Deserialize, Serialize};
use tablecast::catalog::Catalog;
use tablecast::domain::{Decision, Dice, Game, Outcome, Rejection, Seat, TurnContext, Viewer};

fn main() -> ExitCode {
    tablecast::cli::main(Catalog::new().with::<TicTacToe>())
}

/// The lines that win, by cell.
const LINES: [[usize; 3]; 8] =
    [[0, 1, 2], [3, 4, 5], [6, 7, 8], [0, 3, 6], [1, 4, 7], [2, 5, 8], [0, 4, 8], [2, 4, 6]];

/// The state: which seat marked each cell, and whose turn it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct TicTacToe {
    cells: [Option<Seat>; 9],
    turn: Seat,
}

/// A table of this game has nothing to choose.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Setup {}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Command {
    Mark { cell: usize },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Event {
    Marked { seat: Seat, cell: usize },
}

/// Nothing is hidden in this game: viewers differ only in what they may do.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct View {
    board: [String; 3],
    turn: Seat,
    /// What the seat in turn may send: the page shows a button for each.
    choices: Vec<Command>,
}

#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("it is not your turn")]
    NotYourTurn,
    #[error("cells are numbered 0 to 8")]
    NoSuchCell,
    #[error("this cell is marked already")]
    CellTaken,
    #[error("the game is over")]
    GameOver,
}

impl Rejection for Refused {
    fn code(&self) -> &'static str {
        match self {
            Self::NotYourTurn => "not_your_turn",
            Self::NoSuchCell => "no_such_cell",
            Self::CellTaken => "cell_taken",
            Self::GameOver => "game_over",
        }
    }
}

impl TicTacToe {
    fn winner(&self) -> Option<Seat> {
        LINES.iter().find_map(|[a, b, c]| {
            let seat = self.cells[*a]?;
            (self.cells[*b] == Some(seat) && self.cells[*c] == Some(seat)).then_some(seat)
        })
    }

    fn free_cells(&self) -> impl Iterator<Item = usize> {
        (0..9).filter(|cell| self.cells[*cell].is_none())
    }
}

impl Game for TicTacToe {
    const KIND: &'static str = "tic-tac-toe";
    const RULES_VERSION: u32 = 1;
    const HAS_BOTS: bool = true;

    type Setup = Setup;
    type Command = Command;
    type Event = Event;
    type View = View;
    type EventView = Event;
    type Rejection = Refused;

    fn seats(_setup: &Setup) -> Result<u8, String> {
        Ok(2)
    }

    fn new(_setup: Setup) -> Self {
        Self::default()
    }

    fn start(&self, _cx: &TurnContext) -> Vec<Event> {
        Vec::new()
    }

    fn decide(&self, by: Seat, command: Command, _cx: &TurnContext) -> Decision<Self> {
        let Command::Mark { cell } = command;
        if self.outcome().is_some() {
            return Err(Refused::GameOver);
        }
        if by != self.turn {
            return Err(Refused::NotYourTurn);
        }
        match self.cells.get(cell) {
            None => Err(Refused::NoSuchCell),
            Some(Some(_)) => Err(Refused::CellTaken),
            Some(None) => Ok(vec![Event::Marked { seat: by, cell }]),
        }
    }

    fn evolve(&mut self, event: &Event) {
        let Event::Marked { seat, cell } = *event;
        self.cells[cell] = Some(seat);
        self.turn = Seat(1 - seat.0);
    }

    fn view(&self, viewer: Viewer) -> View {
        let mark = |cell: usize| match self.cells[cell] {
            None => '.',
            Some(Seat(0)) => 'X',
            Some(_) => 'O',
        };
        let row = |row: usize| (0..3).map(|column| mark(3 * row + column)).collect();
        let is_in_turn = self.awaiting().iter().any(|seat| viewer == Viewer::Seated(*seat));
        let free_cells = self.free_cells().filter(|_| is_in_turn);
        let choices = free_cells.map(|cell| Command::Mark { cell }).collect();
        View { board: [row(0), row(1), row(2)], turn: self.turn, choices }
    }

    fn view_event(event: &Event, _viewer: Viewer) -> Option<Event> {
        Some(event.clone())
    }

    fn outcome(&self) -> Option<Outcome> {
        let winner = self.winner();
        if winner.is_none() && self.free_cells().next().is_some() {
            return None;
        }
        let scores = [Seat(0), Seat(1)].map(|seat| i64::from(winner == Some(seat))).to_vec();
        Some(Outcome { winners: winner.into_iter().collect(), scores })
    }

    fn awaiting(&self) -> Vec<Seat> {
        if self.outcome().is_some() { Vec::new() } else { vec![self.turn] }
    }

    fn bot(view: &View, _seat: Seat, dice: &mut Dice) -> Option<Command> {
        view.choices.choose(dice).cloned()
    }
}

#[cfg(test)]
mod tests {
    use tablecast::domain::Timestamp;

    use super::*;

    const CX: TurnContext = TurnContext { now: Timestamp::from_millis(0), seed: [0; 32] };

    fn after(cells: &[usize]) -> TicTacToe {
        let mut game = TicTacToe::default();
        for cell in cells {
            let command = Command::Mark { cell: *cell };
            for event in game.decide(game.turn, command, &CX).expect("a legal opening") {
                game.evolve(&event);
            }
        }
        game
    }

    #[test]
    fn three_in_a_row_win() {
        let outcome = after(&[0, 3, 1, 4, 2]).outcome().expect("an end");
        assert_eq!(outcome, Outcome { winners: vec![Seat(0)], scores: vec![1, 0] });
    }

    #[test]
    fn a_marked_cell_stays_marked() {
        let refused = after(&[4]).decide(Seat(1), Command::Mark { cell: 4 }, &CX);
        assert_eq!(refused.map_err(|refused| refused.code()), Err("cell_taken"));
    }

    #[test]
    fn after_the_end_everything_is_refused() {
        let game = after(&[0, 3, 1, 4, 2]);
        for seat in [Seat(0), Seat(1)] {
            let refused = game.decide(seat, Command::Mark { cell: 8 }, &CX);
            assert_eq!(refused.map_err(|refused| refused.code()), Err("game_over"));
        }
    }
}
