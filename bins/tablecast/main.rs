//! The binary: which games it knows, and nothing else.

use std::process::ExitCode;

use tablecast::catalog::Catalog;
use tablecast::games::chess::Chess;
use tablecast::games::liap_tui::LiapTui;

fn main() -> ExitCode {
    tablecast::cli::main(Catalog::new().with::<LiapTui>().with::<Chess>())
}
