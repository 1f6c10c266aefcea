//! The published vectors of Liap Tui: every file, every case, every field.

mod games;
mod plays;
mod rounds;

use std::path::PathBuf;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tablecast::domain::{Game, Seat};
use tablecast::games::liap_tui::piece::Piece;
use tablecast::games::liap_tui::play::PlayType;
use tablecast::games::liap_tui::{Command, Event, LiapTui};

use crate::support::cx;

fn directory() -> PathBuf {
    #[expect(
        clippy::disallowed_methods,
        reason = "not configuration: other vectors, for this test"
    )]
    let other = std::env::var("LIAP_TUI_VECTORS");
    other.map_or_else(
        |_| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/liap-tui"),
        PathBuf::from,
    )
}

/// Every line of a file. A case with a field that its type does not have is an error, so none goes unchecked.
fn cases<T: DeserializeOwned>(file: &str) -> Vec<T> {
    let path = directory().join(file);
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{} cannot be read: {error}", path.display()));
    let case = |(number, line): (usize, &str)| {
        serde_json::from_str(line)
            .unwrap_or_else(|error| panic!("line {} of {file}: {error}: {line}", number + 1))
    };
    let cases: Vec<T> = text.lines().enumerate().map(case).collect();
    assert!(!cases.is_empty(), "{file} is empty");
    cases
}

/// A command that must be accepted.
fn command(game: &mut LiapTui, id: &str, seat: Seat, wish: Command) -> Vec<Event> {
    let label = format!("{id}: {wish:?}");
    let answer = game.decide(seat, wish, &cx(1, 1));
    let events = answer.unwrap_or_else(|rejection| panic!("{label}: {rejection}"));
    events.iter().for_each(|event| game.evolve(event));
    events
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TypedPlay {
    seat: Seat,
    pieces: Vec<Piece>,
    #[serde(rename = "type")]
    play_type: PlayType,
}

#[test]
fn no_file_goes_unread() {
    let files = std::fs::read_dir(directory()).expect("the directory of vectors");
    let names =
        files.map(|file| file.expect("an entry").file_name().into_string().expect("a name"));
    let mut found: Vec<_> = names.filter(|name| name.ends_with(".jsonl")).collect();
    found.sort_unstable();
    let read = [
        "compare",
        "declare",
        "games",
        "play_check",
        "play_type",
        "redeal",
        "score_single",
        "scoring",
        "turn",
        "weak_hand",
        "zero_streak",
    ];
    assert_eq!(found, read.map(|name| format!("{name}.jsonl")));
}
