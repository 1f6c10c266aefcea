//! The games that come with Tablecast.

pub mod liap_tui;
