//! How tests play each kind of game, and how they read its turns. Another game is one more file here.
#![allow(dead_code, reason = "not every test binary needs all of it")]

mod chess;
mod liap_tui;
pub(crate) mod pebbles;

use rand_chacha::ChaCha20Rng;
use serde_json::Value;
use tablecast::catalog::Catalog;
use tablecast::games;

/// One kind of game.
pub(crate) trait Script: Send + Sync {
    /// As in the catalog.
    fn kind(&self) -> &'static str;

    /// What to open, and how many players beside the host are to sit down.
    fn opening(&self, dice: &mut ChaCha20Rng) -> Opening;

    /// A legal command of the player in a seat, if its decision is awaited in this view (`view.game`).
    fn choose(&self, game: &Value, seat: u8, dice: &mut ChaCha20Rng) -> Option<Value>;

    /// Reads the turns of one table.
    fn turns(&self) -> Box<dyn Turns>;

    /// Reads the clocks of one table, if the game has any of its own.
    fn clocks(&self) -> Option<Box<dyn Clocks>> {
        None
    }
}

/// A table to open.
#[derive(Clone, Debug)]
pub(crate) struct Opening {
    pub(crate) setup: Value,
    pub(crate) options: Value,
    pub(crate) seats: Value,
    /// How many seats are open.
    pub(crate) guests: usize,
}

/// Reads a table's events in order.
pub(crate) trait Turns {
    /// The turn that the event ends, by a name that no other turn of the table has.
    fn read(&mut self, event: &Value) -> Option<String>;
}

static SCRIPTS: [&dyn Script; 2] = [&liap_tui::LiapTui, &chess::Chess];

/// The games of the binary.
pub(crate) fn catalog() -> Catalog {
    Catalog::new().with::<games::liap_tui::LiapTui>().with::<games::chess::Chess>()
}

/// Adds up the clocks of a game.
pub(crate) trait Clocks {
    /// So many milliseconds were given back to whoever's clock runs.
    fn credit(&mut self, ms: u64);

    /// Reads an event.
    ///
    /// # Errors
    /// What does not add up.
    fn read(&mut self, event: &Value) -> Result<(), String>;

    /// Whether the event says that time has run out, and whether it had.
    fn run_out(&self, event: &Value, at: u64) -> Option<Result<(), String>>;
}

/// All kinds of the binary.
pub(crate) fn all() -> &'static [&'static dyn Script] {
    &SCRIPTS
}

/// The script of a kind; those of the tests, too.
pub(crate) fn of(kind: &str) -> Option<&'static dyn Script> {
    let scripts = SCRIPTS.iter().copied().chain([&pebbles::Pebbles as &dyn Script]);
    scripts.into_iter().find(|script| script.kind() == kind)
}
