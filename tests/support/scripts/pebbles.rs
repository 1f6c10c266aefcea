//! Pebbles, the game of the tests: short, with limits of its own or the table's.

use rand::RngExt;
use rand_chacha::ChaCha20Rng;
use serde_json::{Value, json};

use super::{Opening, Script, Turns};

pub(crate) struct Pebbles;

impl Script for Pebbles {
    fn kind(&self) -> &'static str {
        "pebbles"
    }

    fn opening(&self, dice: &mut ChaCha20Rng) -> Opening {
        let limit = [None, Some(dice.random_range(400..1_500))][dice.random_range(0..2)];
        let turn_limit = [None, Some(dice.random_range(400..1_500))][dice.random_range(0..2)];
        let has_guest = dice.random_bool(0.7);
        Opening {
            setup: json!({ "pebbles": dice.random_range(10..70), "limit_ms": limit }),
            options: json!({
                "start": "when_full", "bot_delay_ms": [50, 400], "turn_limit_ms": turn_limit,
            }),
            seats: if has_guest { json!(["me", "open"]) } else { json!(["me", "bot"]) },
            guests: usize::from(has_guest),
        }
    }

    fn choose(&self, game: &Value, seat: u8, dice: &mut ChaCha20Rng) -> Option<Value> {
        let left = game["left"].as_u64()?;
        let is_turn = game["turn"] == seat && left > 0;
        is_turn.then(|| json!({ "type": "take", "count": dice.random_range(1..=left.min(3)) }))
    }

    fn turns(&self) -> Box<dyn Turns> {
        Box::<Reader>::default()
    }
}

/// Seats take turns, so whoever takes twice in a row has ended a turn twice.
#[derive(Default)]
struct Reader {
    turn: u64,
    seat: Option<u64>,
}

impl Turns for Reader {
    fn read(&mut self, event: &Value) -> Option<String> {
        if event["type"] != "taken" {
            return None;
        }
        let seat = event["seat"].as_u64()?;
        if self.seat != Some(seat) {
            self.turn += 1;
            self.seat = Some(seat);
        }
        Some(format!("turn {} of seat {seat}", self.turn))
    }
}
