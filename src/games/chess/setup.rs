//! What whoever opens a table may choose.

use serde::{Deserialize, Serialize};

use super::position::Position;

/// Time for each side, and the position that play begins from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Setup {
    /// On each clock at the start, in milliseconds.
    pub initial_ms: u64,
    /// What each move adds to its player's clock, in milliseconds.
    pub increment_ms: u64,
    /// Nothing: the usual position.
    pub fen: Option<String>,
}

impl Default for Setup {
    fn default() -> Self {
        Self { initial_ms: 300_000, increment_ms: 3_000, fen: None }
    }
}

/// Less cannot be played over a network.
const INITIAL_MIN_MS: u64 = 1_000;
/// A day.
const INITIAL_MAX_MS: u64 = 86_400_000;
const INCREMENT_MAX_MS: u64 = 600_000;

impl Setup {
    /// # Errors
    /// A sentence for whoever opens the table.
    pub(super) fn check(&self) -> Result<(), String> {
        if !(INITIAL_MIN_MS..=INITIAL_MAX_MS).contains(&self.initial_ms) {
            return Err(format!(
                "initial_ms is a number from {INITIAL_MIN_MS} to {INITIAL_MAX_MS}"
            ));
        }
        if self.increment_ms > INCREMENT_MAX_MS {
            return Err(format!("increment_ms is a number from 0 to {INCREMENT_MAX_MS}"));
        }
        let position = self.position()?;
        match position.ending() {
            Some(reason) => Err(format!("fen: the game is over in this position ({reason:?})")),
            None => Ok(()),
        }
    }

    /// Where play begins.
    ///
    /// # Errors
    /// What is wrong with `fen`.
    pub(super) fn position(&self) -> Result<Position, String> {
        match &self.fen {
            Some(fen) => Position::from_fen(fen).map_err(|reason| format!("fen: {reason}")),
            None => Ok(Position::usual()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(fen: &str) -> Setup {
        Setup { fen: Some(fen.to_owned()), ..Setup::default() }
    }

    #[test]
    fn an_empty_request_gets_five_minutes_and_three_seconds() {
        let setup = serde_json::from_str::<Setup>("{}").unwrap();
        assert_eq!((setup.initial_ms, setup.increment_ms, setup.fen), (300_000, 3_000, None));
        assert!(serde_json::from_str::<Setup>(r#"{"increment":3}"#).is_err());
        assert!(serde_json::from_str::<Setup>(r#"{"initial_ms":-1}"#).is_err());
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for (bad, word) in [
            (Setup { initial_ms: 999, ..Setup::default() }, "initial_ms"),
            (Setup { initial_ms: u64::MAX, ..Setup::default() }, "initial_ms"),
            (Setup { increment_ms: 600_001, ..Setup::default() }, "increment_ms"),
            (at(""), "six fields"),
            (at("banana"), "six fields"),
            (at(&format!("{} w - - 0 1", "8/".repeat(10_000))), "eight ranks"),
            (at("4k3/8/8/8/8/8/8/4K2R w K - 0 1 more"), "six fields"),
            (at("8/8/8/8/8/8/8/4K2R w K - 0 1"), "board"),
            (at("4k3/8/8/8/8/8/4K2R w - - 0 1"), "eight ranks"),
            (at("4k3/4R3/8/8/8/8/8/4K3 w - - 0 1"), "board"),
            (at("4k3/8/8/8/8/8/8/4KP2 w - - 0 1"), "board"),
            (at("4k3/8/8/8/8/8/8/4K2R x K - 0 1"), "side"),
            (at("4k3/8/8/8/8/8/8/4K2R w Q - 0 1"), "castling"),
            (at("4k3/8/8/8/8/8/8/3K3R w K - 0 1"), "castling"),
            (at("4k3/8/8/8/8/8/8/4K2R w K e6 0 1"), "en passant"),
            (at("4k3/8/8/8/8/8/8/4K2R w K - -1 1"), "moves"),
            (at("4k3/8/8/8/8/8/8/4K2R w K - 0 0"), "moves"),
            (at("7k/5Q2/6K1/8/8/8/8/8 b - - 0 1"), "Stalemate"),
            (at("8/8/8/8/8/4k3/8/4K2B w - - 0 1"), "InsufficientMaterial"),
            (at("4k3/8/8/8/8/8/8/4K2R w K - 150 90"), "SeventyFiveMoves"),
        ] {
            let refusal = bad.check().expect_err("nonsense");
            assert!(refusal.contains(word), "{bad:?}: {refusal}");
        }
        assert_eq!(at("4k3/8/8/8/8/8/8/4K2R w K - 149 90").check(), Ok(()));
    }
}
