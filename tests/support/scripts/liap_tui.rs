//! Liap Tui: one or two players and bots, by rules that a view states.

use rand::RngExt;
use rand_chacha::ChaCha20Rng;
use serde_json::{Value, json};

use super::{Opening, Script, Turns};

pub(crate) struct LiapTui;

impl Script for LiapTui {
    fn kind(&self) -> &'static str {
        "liap-tui"
    }

    /// Short pauses and short games, so that a run sees many ends; a limit on thinking at every other table.
    fn opening(&self, dice: &mut ChaCha20Rng) -> Opening {
        let pause = dice.random_range(100..600);
        let pauses = json!({
            "deal_ms": pause, "redeal_ms": pause, "round_start_ms": pause,
            "turn_end_ms": pause, "turn_results_ms": pause, "scoring_ms": pause,
        });
        let target = [1, 10, 30][dice.random_range(0..3)];
        let turn_limit = [None, Some(1_500)][dice.random_range(0..2)];
        let has_guest = dice.random_bool(0.5);
        Opening {
            setup: json!({ "target": target, "redeal_limit_ms": 2_000, "pauses": pauses }),
            options: json!({
                "start": "when_full", "bot_delay_ms": [300, 900], "turn_limit_ms": turn_limit,
                "abandon_ms": 60_000,
            }),
            seats: if has_guest {
                json!(["me", "open", "bot", "bot"])
            } else {
                json!(["me", "bot", "bot", "bot"])
            },
            guests: usize::from(has_guest),
        }
    }

    fn choose(&self, game: &Value, seat: u8, dice: &mut ChaCha20Rng) -> Option<Value> {
        if !game["awaiting"].as_array()?.contains(&json!(seat)) {
            return None;
        }
        match game["phase"].as_str()? {
            "preparation" if dice.random_bool(0.5) => Some(json!({ "type": "redeal_accept" })),
            "preparation" => Some(json!({ "type": "redeal_decline" })),
            "declaration" => {
                let legal = game["legal_declarations"].as_array()?;
                let value = legal.get(dice.random_range(0..legal.len()))?;
                Some(json!({ "type": "declare", "value": value }))
            }
            "turn" => {
                // One piece is always a valid lead, and followers may play anything of the right count.
                let count = usize::try_from(game["required"].as_u64().unwrap_or(1)).ok()?;
                let hand = game["hand"].as_array()?;
                Some(json!({ "type": "play", "pieces": hand.get(..count)? }))
            }
            _ => None,
        }
    }

    fn turns(&self) -> Box<dyn Turns> {
        Box::<Reader>::default()
    }
}

#[derive(Default)]
struct Reader {
    round: u64,
    deal: u64,
    turn: u64,
}

impl Turns for Reader {
    fn read(&mut self, event: &Value) -> Option<String> {
        let Self { round, deal, turn } = self;
        let seat = &event["seat"];
        match event["type"].as_str()? {
            "round_started" => *round = event["round"].as_u64()?,
            "pieces_dealt" => *deal = event["deal"].as_u64()?,
            "turn_started" => *turn = event["turn"].as_u64()?,
            "redeal_decision_made" => {
                return Some(format!("redeal decision of seat {seat}, round {round} deal {deal}"));
            }
            "declaration_made" => {
                return Some(format!("declaration of seat {seat}, round {round}"));
            }
            "pieces_played" => {
                return Some(format!("play of seat {seat}, round {round} turn {turn}"));
            }
            _ => {}
        }
        None
    }
}
