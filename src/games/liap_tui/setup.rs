//! What whoever opens a table may choose.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Target, time limit and display pauses. Every field has the value of the rules as its default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Setup {
    /// The game ends after the round in which a total reaches this.
    pub target: i64,
    /// How long weak seats may think about a redeal.
    pub redeal_limit_ms: u64,
    pub pauses: Pauses,
}

impl Default for Setup {
    fn default() -> Self {
        Self { target: 50, redeal_limit_ms: 30_000, pauses: Pauses::default() }
    }
}

/// How long the table stands still for people to look. Zero means: go on at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pauses {
    /// After the first deal of a round, if no hand in it is weak.
    pub deal_ms: u64,
    /// After the hands are kept in a round that had a redeal.
    pub redeal_ms: u64,
    /// While starter and order are shown.
    pub round_start_ms: u64,
    /// Between the fourth play of a turn and phase `turn_results`.
    pub turn_end_ms: u64,
    /// While the result of a turn is shown.
    pub turn_results_ms: u64,
    /// While the scores of a round are shown.
    pub scoring_ms: u64,
}

impl Default for Pauses {
    fn default() -> Self {
        Self {
            deal_ms: 2_000,
            redeal_ms: 4_000,
            round_start_ms: 5_000,
            turn_end_ms: 5_000,
            turn_results_ms: 7_000,
            scoring_ms: 7_000,
        }
    }
}

impl Pauses {
    /// For tests, and for tables of bots.
    pub fn none() -> Self {
        Self {
            deal_ms: 0,
            redeal_ms: 0,
            round_start_ms: 0,
            turn_end_ms: 0,
            turn_results_ms: 0,
            scoring_ms: 0,
        }
    }

    /// All of them longer or shorter by this factor.
    #[must_use]
    pub fn scaled(mut self, factor: f64) -> Self {
        for pause in self.all_mut() {
            *pause = Duration::from_millis(*pause)
                .mul_f64(factor)
                .as_millis()
                .try_into()
                .expect("a pause of some minutes is some thousand milliseconds");
        }
        self
    }

    fn longest_ms(&self) -> u64 {
        let mut all = self.clone();
        all.all_mut().into_iter().map(|pause| *pause).max().unwrap_or_default()
    }

    fn all_mut(&mut self) -> [&mut u64; 6] {
        [
            &mut self.deal_ms,
            &mut self.redeal_ms,
            &mut self.round_start_ms,
            &mut self.turn_end_ms,
            &mut self.turn_results_ms,
            &mut self.scoring_ms,
        ]
    }
}

/// Longer would be taken for a hung table.
const PAUSE_MAX_MS: u64 = 60_000;
const REDEAL_LIMIT_MAX_MS: u64 = 600_000;
/// Ten times the usual game.
const TARGET_MAX: i64 = 500;

impl Setup {
    /// # Errors
    /// A sentence for whoever opens the table.
    pub(super) fn check(&self) -> Result<(), String> {
        if !(1..=TARGET_MAX).contains(&self.target) {
            return Err(format!("target is a number from 1 to {TARGET_MAX}"));
        }
        if !(1..=REDEAL_LIMIT_MAX_MS).contains(&self.redeal_limit_ms) {
            return Err(format!("redeal_limit_ms is a number from 1 to {REDEAL_LIMIT_MAX_MS}"));
        }
        if self.pauses.longest_ms() > PAUSE_MAX_MS {
            return Err(format!("a pause takes at most {PAUSE_MAX_MS} ms"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_request_gets_the_rules_as_written() {
        assert_eq!(serde_json::from_str::<Setup>("{}").unwrap(), Setup::default());
        let partial = serde_json::from_str::<Setup>(r#"{"pauses":{"deal_ms":1}}"#).unwrap();
        assert_eq!(partial.pauses, Pauses { deal_ms: 1, ..Pauses::default() });
        assert!(serde_json::from_str::<Setup>(r#"{"traget":50}"#).is_err());
    }

    #[test]
    fn a_pace_scales_every_pause() {
        assert_eq!(Pauses::default().scaled(0.0), Pauses::none());
        let half = Pauses::default().scaled(0.5);
        assert_eq!((half.deal_ms, half.scoring_ms), (1_000, 3_500));
    }

    #[test]
    fn nonsense_is_refused() {
        let pauses = Pauses { scoring_ms: 60_001, ..Pauses::none() };
        for bad in [
            Setup { target: 0, ..Setup::default() },
            Setup { redeal_limit_ms: 0, ..Setup::default() },
            Setup { pauses, ..Setup::default() },
        ] {
            assert!(bad.check().is_err(), "{bad:?} was taken");
        }
    }
}
