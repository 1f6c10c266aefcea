//! Chess: two players, or one and a bot, who move at random, and now and then offer a draw or resign.

use rand::RngExt;
use rand_chacha::ChaCha20Rng;
use serde_json::{Value, json};

use super::{Clocks, Opening, Script, Turns};

pub(crate) struct Chess;

impl Script for Chess {
    fn kind(&self) -> &'static str {
        "chess"
    }

    /// Little time on the clocks, so that some flags fall.
    fn opening(&self, dice: &mut ChaCha20Rng) -> Opening {
        let has_guest = dice.random_bool(0.5);
        let initial = [6_000, 20_000, 60_000][dice.random_range(0..3)];
        let increment = [0, 500][dice.random_range(0..2)];
        Opening {
            setup: json!({ "initial_ms": initial, "increment_ms": increment }),
            options: json!({
                "start": "when_full", "bot_delay_ms": [200, 600], "abandon_ms": 60_000,
            }),
            seats: if has_guest { json!(["me", "open"]) } else { json!(["me", "bot"]) },
            guests: usize::from(has_guest),
        }
    }

    fn choose(&self, game: &Value, _seat: u8, dice: &mut ChaCha20Rng) -> Option<Value> {
        let choices = game["choices"].as_array()?;
        let of = |kind: &str| choices.iter().find(|choice| choice["type"] == kind).cloned();
        let rare =
            [("claim_draw", 1.0), ("accept_draw", 0.3), ("offer_draw", 0.05), ("resign", 0.01)];
        for (kind, chance) in rare {
            if let Some(choice) = of(kind)
                && dice.random_bool(chance)
            {
                return Some(choice);
            }
        }
        let moves: Vec<&Value> = choices.iter().filter(|choice| choice["type"] == "move").collect();
        if moves.is_empty() {
            return of("decline_draw");
        }
        Some(moves[dice.random_range(0..moves.len())].clone())
    }

    fn turns(&self) -> Box<dyn Turns> {
        Box::<Reader>::default()
    }

    fn clocks(&self) -> Option<Box<dyn Clocks>> {
        Some(Box::<Flags>::default())
    }
}

/// A turn is named by who has it, and by how often the opponent has moved: moving twice names it twice.
#[derive(Default)]
struct Reader {
    moves: [u32; 2],
}

impl Turns for Reader {
    fn read(&mut self, event: &Value) -> Option<String> {
        let seat = match event["type"].as_str()? {
            "move_played" => event["seat"].as_u64()?,
            "game_ended" if event["reason"].as_str()?.starts_with("timeout") => {
                event["by"].as_u64()?
            }
            _ => return None,
        };
        let seat = usize::from(seat == 1);
        let turn = format!("turn of seat {seat} after {} of the other", self.moves[1 - seat]);
        self.moves[seat] += 1;
        Some(turn)
    }
}

/// What is left on each clock, added up from when moves were made.
#[derive(Default)]
struct Flags {
    left: [u64; 2],
    increment: u64,
    running: usize,
    since: u64,
}

impl Clocks for Flags {
    fn credit(&mut self, ms: u64) {
        self.since += ms;
    }

    fn read(&mut self, event: &Value) -> Result<(), String> {
        let number = |name: &str| event[name].as_u64().unwrap_or_default();
        match event["type"].as_str().unwrap_or_default() {
            "game_started" => {
                self.left = [number("initial_ms"); 2];
                self.increment = number("increment_ms");
                // The side to move stands in the position.
                let is_black = event["fen"].as_str().is_some_and(|fen| fen.contains(" b "));
                (self.running, self.since) = (usize::from(is_black), number("at"));
            }
            "move_played" => {
                let seat = usize::from(number("seat") == 1);
                let spent = number("at").saturating_sub(self.since);
                let due = self.left[seat].saturating_sub(spent) + self.increment;
                if seat != self.running || spent >= self.left[seat] || number("left_ms") != due {
                    let (left, found) = (self.left[seat], number("left_ms"));
                    return Err(format!("seat {seat} had {left} ms, spent {spent}, has {found}"));
                }
                self.left[seat] = due;
                (self.running, self.since) = (1 - seat, number("at"));
            }
            _ => {}
        }
        Ok(())
    }

    fn run_out(&self, event: &Value, at: u64) -> Option<Result<(), String>> {
        let is_timeout = event["type"] == "game_ended"
            && event["reason"].as_str().is_some_and(|reason| reason.starts_with("timeout"));
        is_timeout.then(|| {
            let (spent, left) = (at.saturating_sub(self.since), self.left[self.running]);
            if spent < left {
                return Err(format!("the flag fell after {spent} of {left} ms"));
            }
            Ok(())
        })
    }
}
