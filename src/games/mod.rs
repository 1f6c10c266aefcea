//! The games that come with Tablecast.

pub mod chess;
pub mod liap_tui;
