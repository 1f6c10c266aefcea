//! Two games that differ only in what a viewer may not know look the same to that viewer, byte for byte.

mod rules;
mod wire;

use rand_chacha::rand_core::SeedableRng;
use tablecast::domain::Dice;

fn dice(seed: u64) -> Dice {
    Dice::seed_from_u64(seed)
}

/// Phase, plays that lie face down, and whether a redeal is being decided: when there is most to hide.
const SECRET_MOMENTS: [&str; 4] =
    ["(Turn, 1, false)", "(Turn, 2, false)", "(Turn, 3, false)", "(Preparation, 0, true)"];
