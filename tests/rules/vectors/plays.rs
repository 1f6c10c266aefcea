//! Vectors of plays and turns.

use serde::Deserialize;
use tablecast::domain::{Game, Rejection as _, Seat, Viewer};
use tablecast::games::liap_tui::piece::{Hands, Piece};
use tablecast::games::liap_tui::play::{Play, PlayType};
use tablecast::games::liap_tui::{Event, Pauses, Setup};

use super::{TypedPlay, cases, command};
use crate::support::{cx, given, play, turn_started, without_pauses};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TypeCase {
    id: String,
    pieces: Vec<Piece>,
    valid: bool,
    #[serde(rename = "type")]
    play_type: PlayType,
}

#[test]
fn play_type() {
    for case in cases::<TypeCase>("play_type.jsonl") {
        let play_type = PlayType::of(&case.pieces);
        assert_eq!(play_type, case.play_type, "{}", case.id);
        assert_eq!(play_type != PlayType::Invalid, case.valid, "{}", case.id);
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CompareCase {
    id: String,
    first: Vec<Piece>,
    second: Vec<Piece>,
    first_type: PlayType,
    second_type: PlayType,
    result: String,
}

#[test]
fn compare() {
    for case in cases::<CompareCase>("compare.jsonl") {
        let first = Play::new(Seat(0), case.first);
        let second = Play::new(Seat(1), case.second);
        let result = match (first.beats(&second), second.beats(&first)) {
            (true, _) => "first",
            (_, true) => "second",
            _ if first.play_type == second.play_type => "tie",
            _ => "incomparable",
        };
        assert_eq!(first.play_type, case.first_type, "{}", case.id);
        assert_eq!(second.play_type, case.second_type, "{}", case.id);
        assert_eq!(result, case.result, "{}", case.id);
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TurnCase {
    id: String,
    starter: Seat,
    required: usize,
    plays: Vec<TypedPlay>,
    winner: Seat,
    piles_won: u8,
    piles: [u8; 4],
    next_starter: Seat,
}

#[test]
fn turn() {
    for case in cases::<TurnCase>("turn.jsonl") {
        let id = &case.id;
        let mut hands = Hands::default();
        for play in &case.plays {
            hands[play.seat.index()].clone_from(&play.pieces);
        }
        // With a pause the game stops at the finished turn.
        let pauses = Pauses { turn_end_ms: 1, ..Pauses::none() };
        let setup = Setup { pauses, ..Setup::default() };
        let mut game = given(setup, &turn_started(case.starter, hands));
        let mut last = Vec::new();
        for (place, made) in case.plays.iter().enumerate() {
            assert_eq!(game.awaiting(), [made.seat], "{id}");
            last = command(&mut game, id, made.seat, play(&made.pieces));
            if place < 3 {
                let required = game.view(Viewer::Spectator).required;
                assert_eq!(required, Some(case.required), "{id}");
            }
        }
        let Some(Event::TurnCompleted { plays, winner, piles_won, piles, next_leader, .. }) =
            last.last()
        else {
            panic!("{id}: the turn is not complete after {last:?}")
        };
        for (found, made) in plays.iter().zip(&case.plays) {
            assert_eq!((found.seat, found.play_type), (made.seat, made.play_type), "{id}");
        }
        assert_eq!((winner, piles_won), (&case.winner, &case.piles_won), "{id}");
        assert_eq!((piles, next_leader), (&case.piles, &case.next_starter), "{id}");
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UntypedPlay {
    seat: Seat,
    pieces: Vec<Piece>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckCase {
    id: String,
    starter: Seat,
    played: Vec<UntypedPlay>,
    seat: Seat,
    hand: Vec<Piece>,
    indices: Vec<usize>,
    accepted: bool,
    reason: String,
}

/// A command names kinds, not places: what is named twice is one copy more than the hand holds.
fn pieces_at(hand: &[Piece], indices: &[usize]) -> Vec<Piece> {
    let mut pieces: Vec<_> = indices.iter().map(|place| hand[*place]).collect();
    for (number, place) in indices.iter().enumerate() {
        if indices[..number].contains(place) {
            let held = hand.iter().filter(|piece| **piece == hand[*place]).count();
            let named = pieces.iter().filter(|piece| **piece == hand[*place]).count();
            pieces.extend(vec![hand[*place]; (held + 1).saturating_sub(named)]);
        }
    }
    pieces
}

#[test]
fn play_check() {
    for case in cases::<CheckCase>("play_check.jsonl") {
        let id = &case.id;
        let mut hands = Hands::default();
        for made in &case.played {
            hands[made.seat.index()].clone_from(&made.pieces);
        }
        // A seat that has played has what it played and what it has left.
        hands[case.seat.index()].extend(&case.hand);
        let mut game = given(without_pauses(), &turn_started(case.starter, hands));
        for made in &case.played {
            command(&mut game, id, made.seat, play(&made.pieces));
        }
        let before = game.clone();
        let wish = play(&pieces_at(&case.hand, &case.indices));
        let answer = game.decide(case.seat, wish, &cx(1, 1));
        assert_eq!(answer.is_ok(), case.accepted, "{id}: {answer:?}");
        assert_eq!(game, before, "{id}");
        // The reason is not normative where a case breaks several rules, but one is there if and only if
        // the play is refused.
        let code = answer.err().map_or("ok", |rejection| rejection.code());
        assert_eq!(code == "ok", case.reason == "ok", "{id}: {code}");
    }
}
