//! Chess: published counts of legal moves, published games, and what holds in every game.

mod counts;
mod every_game;
mod known_games;

use tablecast::domain::{Game, Seat, Timestamp, TurnContext, Viewer};
use tablecast::games::chess::{Chess, Command, Setup, View};

fn cx(now_ms: u64) -> TurnContext {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&now_ms.to_le_bytes());
    TurnContext { now: Timestamp::from_millis(now_ms), seed }
}

/// A game that has begun at time 0.
fn begun(setup: Setup) -> Chess {
    Chess::seats(&setup).expect("a playable setup");
    let mut game = Chess::new(setup);
    let events = game.start(&cx(0));
    events.iter().for_each(|event| game.evolve(event));
    game
}

fn from(fen: &str) -> Chess {
    begun(Setup { fen: Some(fen.to_owned()), ..Setup::default() })
}

fn public(game: &Chess) -> View {
    game.view(Viewer::Spectator)
}

/// The moves that the player in turn is offered.
fn moves(game: &Chess) -> Vec<Command> {
    let seat = game.awaiting().first().copied().unwrap_or(Seat(0));
    let mut choices = game.view(Viewer::Seated(seat)).choices;
    choices.retain(|choice| matches!(choice, Command::Move { .. }));
    choices
}

/// The game after a command of the player in turn, which is legal.
fn after(game: &Chess, command: Command) -> Chess {
    let seat = game.awaiting()[0];
    let events = game.decide(seat, command, &cx(0)).expect("a legal command");
    let mut game = game.clone();
    events.iter().for_each(|event| game.evolve(event));
    game
}
