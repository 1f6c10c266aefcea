//! How many games of so many half moves there are: numbers that chess programs are checked with ("perft").
//! Each move that a view offers is decided and evolved.

use super::*;

const USUAL: &str = "rnbqkbnr/pppppppp/8/8/8/8/PPPPPPPP/RNBQKBNR w KQkq - 0 1";
/// Castling both ways, pins, captures in passing.
const KIWIPETE: &str = "r3k2r/p1ppqpb1/bn2pnp1/3PN3/1p2P3/2N2Q1p/PPPBBPPP/R3K2R w KQkq - 0 1";
/// A king on the rank of a capture in passing.
const ENDGAME: &str = "8/2p5/3p4/KP5r/1R3p1k/8/4P1P1/8 w - - 0 1";
const PROMOTIONS: &str = "n1n5/PPPk4/8/8/8/8/4Kppp/5N1N b - - 0 1";
const MIRROR: &str = "r4rk1/1pp1qppp/p1np1n2/2b1p1B1/2B1P1b1/P1NP1N2/1PP1QPPP/R4RK1 w - - 0 10";

fn count(game: &Chess, half_moves: usize) -> usize {
    if half_moves == 0 {
        return 1;
    }
    moves(game).into_iter().map(|choice| count(&after(game, choice), half_moves - 1)).sum()
}

#[test]
fn as_many_games_as_others_have_counted() {
    for (fen, counts) in [
        (USUAL, &[20, 400, 8_902][..]),
        (KIWIPETE, &[48, 2_039, 97_862]),
        (ENDGAME, &[14, 191, 2_812]),
        (PROMOTIONS, &[24, 496, 9_483]),
        (MIRROR, &[46, 2_079]),
    ] {
        for (half_moves, expected) in (1..).zip(counts) {
            assert_eq!(count(&from(fen), half_moves), *expected, "{fen}, {half_moves} half moves");
        }
    }
}

/// Every text of UCI's form: what the view offers is accepted, anything else is refused.
#[test]
fn exactly_the_offered_moves_are_accepted() {
    let squares: Vec<String> =
        ('a'..='h').flat_map(|file| ('1'..='8').map(move |rank| format!("{file}{rank}"))).collect();
    for fen in [USUAL, KIWIPETE, ENDGAME, PROMOTIONS] {
        let game = from(fen);
        let seat = game.awaiting()[0];
        let offered = moves(&game);
        let mut accepted = 0;
        for (start, end) in squares.iter().flat_map(|s| squares.iter().map(move |e| (s, e))) {
            for piece in ["", "q", "n"] {
                let command = Command::uci(format!("{start}{end}{piece}"));
                let is_legal = game.decide(seat, command.clone(), &cx(0)).is_ok();
                assert_eq!(is_legal, offered.contains(&command), "{command:?} in {fen}");
                accepted += usize::from(is_legal);
            }
        }
        let is_tried = |choice: &&Command| match choice {
            Command::Move { uci: Some(uci), .. } => !uci.ends_with(['r', 'b']) || uci.len() == 4,
            _ => false,
        };
        assert_eq!(accepted, offered.iter().filter(is_tried).count(), "{fen}");
    }
}
