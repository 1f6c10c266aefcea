//! Liap Tui.
