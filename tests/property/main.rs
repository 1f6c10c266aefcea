//! What holds for all inputs.

#[path = "../support/pebbles.rs"]
mod pebbles;

mod replay;
