//! What a seed makes of a simulation, before it begins.

use std::sync::Arc;

use rand::RngExt;
use serde_json::{Value, json};
use tablecast::bus::EventLog;

use crate::chance::dice;
use crate::defects::{Defective, Dropping, Fenceless, Hasty};
use crate::scripts::{self, Opening, Script};

/// A promise that is broken on purpose, to see whether the checker notices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Defect {
    #[default]
    None,
    /// Some commits are acknowledged and not stored.
    Dropping,
    /// Commits are acknowledged before they are stored.
    Hasty,
    /// A former owner is not refused.
    Fenceless,
    /// A turn that runs out ends twice.
    DoubleTimeout,
}

impl Defect {
    /// The log, as a worker with this defect has it.
    pub(crate) fn applied_to(self, real: Arc<dyn EventLog>) -> Arc<dyn EventLog> {
        match self {
            Self::None | Self::DoubleTimeout => real,
            Self::Dropping => Arc::new(Defective { real, defect: Dropping::default() }),
            Self::Hasty => Arc::new(Defective { real, defect: Hasty::default() }),
            Self::Fenceless => Arc::new(Defective { real, defect: Fenceless }),
        }
    }
}

/// A table of the simulation.
#[derive(Clone)]
pub(crate) struct Game {
    pub(crate) script: &'static dyn Script,
    pub(crate) opening: Opening,
    /// When it is opened.
    pub(crate) begins_ms: u64,
    /// When its players leave for good, if they do: then nobody looks at the table.
    pub(crate) deserted_after_ms: Option<u64>,
}

impl std::fmt::Debug for Game {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Game").field("kind", &self.script.kind()).finish_non_exhaustive()
    }
}

/// A simulation to be.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) defect: Defect,
    pub(crate) workers: usize,
    pub(crate) doors: usize,
    pub(crate) worker_args: Vec<&'static str>,
    pub(crate) games: Vec<Game>,
    /// How long things are broken, in milliseconds.
    pub(crate) broken_ms: u64,
    /// Whether the workers' clocks differ.
    pub(crate) is_skewed: bool,
}

impl Plan {
    pub(crate) fn of(seed: u64, defect: Defect) -> Self {
        let mut dice = dice(seed, "plan");
        let sleep_after = [["--sleep-after", "1s"], ["--sleep-after", "60s"]];
        let snapshots = [["--snapshot-every", "3"], ["--snapshot-every", "100"]];
        let mut worker_args =
            vec!["--drain-timeout", "3s", "--ended-linger", "500ms", "--memory-max", "1TiB"];
        worker_args.extend(sleep_after[dice.random_range(0..2)]);
        worker_args.extend(snapshots[dice.random_range(0..2)]);
        if dice.random_bool(0.2) {
            worker_args.extend(["--tables-max", "3"]);
        }
        let tables = dice.random_range(3..7);
        let broken_ms = dice.random_range(8_000..20_000);
        let games = (0..tables).map(|number| game(seed, number, defect, broken_ms)).collect();
        Self {
            defect,
            workers: dice.random_range(2..5),
            doors: dice.random_range(2..4),
            worker_args,
            games,
            broken_ms,
            is_skewed: dice.random_bool(0.25),
        }
    }
}

fn game(seed: u64, number: usize, defect: Defect, broken_ms: u64) -> Game {
    let mut dice = dice(seed, &format!("game {number}"));
    let others = scripts::all();
    let script: &'static dyn Script = match number {
        // The others take longer to play.
        0 if defect == Defect::None && dice.random_bool(0.6) => {
            others[dice.random_range(0..others.len())]
        }
        _ => &scripts::pebbles::Pebbles,
    };
    let mut opening = script.opening(&mut dice);
    match script.kind() {
        "chess" => opening.setup["initial_ms"] = json!(dice.random_range(2_000..6_000)),
        "liap-tui" => opening.setup["target"] = json!(1),
        _ if defect == Defect::DoubleTimeout => {
            opening.setup["limit_ms"] = json!(500);
            opening.setup["limit_is_double"] = json!(true);
        }
        _ => {}
    }
    if opening.options["grace_ms"] == Value::Null {
        opening.options["grace_ms"] = json!(dice.random_range(300..3_000));
    }
    opening.options["abandon_ms"] = json!(dice.random_range(2_000..10_000));
    let is_deserted = dice.random_bool(0.2);
    Game {
        script,
        opening,
        begins_ms: dice.random_range(0..broken_ms * 2 / 3),
        deserted_after_ms: is_deserted.then(|| dice.random_range(500..6_000)),
    }
}
