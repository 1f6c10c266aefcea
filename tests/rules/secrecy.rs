//! What a viewer may not know makes no difference to what it sees.

use proptest::prelude::*;
use rand::RngExt;
use rand::seq::IndexedRandom;
use tablecast::domain::{Dice, Game, Seat, Viewer};
use tablecast::games::liap_tui::piece::{Hands, Piece, is_weak};
use tablecast::games::liap_tui::play::Play;
use tablecast::games::liap_tui::{Event, LiapTui, Phase};

use crate::support::{Match, Players, SEATS, given, without_pauses};

/// Where a piece is that only its seat can see.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Hidden {
    seat: Seat,
    piece: Piece,
    /// In the turn in progress, face down, and not in the hand.
    is_played: bool,
}

fn hidden(game: &LiapTui, seat: Seat) -> Vec<Hidden> {
    let view = game.view(Viewer::Seated(seat));
    let faces = view.plays.into_iter().filter_map(|play| play.face);
    let played = faces.flat_map(|face| face.pieces).map(|piece| (piece, true));
    let held = view.hand.into_iter().flatten().map(|piece| (piece, false));
    held.chain(played).map(|(piece, is_played)| Hidden { seat, piece, is_played }).collect()
}

fn replace(pieces: &mut [Piece], old: Piece, new: Piece) {
    let place = pieces.iter().position(|piece| *piece == old).expect("the piece is there");
    pieces[place] = new;
}

fn last_deal(log: &mut [Event]) -> &mut Hands {
    log.iter_mut()
        .rev()
        .find_map(|event| match event {
            Event::PiecesDealt { hands, .. } => Some(hands),
            _ => None,
        })
        .expect("a deal")
}

/// The same history, but that two seats had each other's piece.
fn with_pieces_swapped(log: &[Event], one: Hidden, other: Hidden) -> Vec<Event> {
    let mut log = log.to_vec();
    for (from, to) in [(one, other), (other, one)] {
        replace(&mut last_deal(&mut log)[from.seat.index()], from.piece, to.piece);
        if from.is_played {
            let played = log.iter_mut().rev().find_map(|event| match event {
                Event::PiecesPlayed { seat, pieces, play_type, strength, .. }
                    if *seat == from.seat =>
                {
                    Some((pieces, play_type, strength))
                }
                _ => None,
            });
            let (pieces, play_type, strength) = played.expect("the play in progress");
            replace(pieces, from.piece, to.piece);
            let play = Play::new(from.seat, pieces.clone());
            (*pieces, *play_type, *strength) = (play.pieces, play.play_type, play.strength);
        }
    }
    log
}

/// Another history that nobody but the seats concerned can tell from the real one.
fn with_another_secret(game: &Match, viewer: Viewer, dice: &mut Dice) -> Option<Vec<Event>> {
    let others: Vec<_> = SEATS.into_iter().filter(|seat| viewer != Viewer::Seated(*seat)).collect();
    let redeal = game.game.view(Viewer::Spectator).redeal;
    if redeal.is_some() && dice.random_bool(0.5) {
        let mut log = game.log.clone();
        let made = log.iter_mut().rev().map_while(|event| match event {
            Event::RedealDecisionMade { seat, accepted, .. } => Some((seat, accepted)),
            _ => None,
        });
        made.filter(|(seat, _)| others.contains(seat)).for_each(|(_, said)| *said = !*said);
        return Some(log);
    }
    let one = *hidden(&game.game, *others.choose(dice)?).choose(dice)?;
    let other = *hidden(&game.game, *others.choose(dice)?).choose(dice)?;
    // The rules make public who started because of GENERAL_RED, and whose hand is weak.
    if one.seat == other.seat || [one.piece, other.piece].contains(&Piece::GeneralRed) {
        return None;
    }
    let log = with_pieces_swapped(&game.log, one, other);
    let weak = |log: &[Event]| last_deal(&mut log.to_vec()).each_ref().map(|hand| is_weak(hand));
    (weak(&log) == weak(&game.log)).then_some(log)
}

fn views(log: &[Event], viewer: Viewer) -> Vec<Option<impl PartialEq + std::fmt::Debug + use<>>> {
    log.iter().map(|event| LiapTui::view_event(event, viewer)).collect()
}

/// Whether there was anything to compare.
fn check(game: &Match, viewer: Viewer, dice: &mut Dice) -> bool {
    let Some(other) = with_another_secret(game, viewer, dice) else {
        return false;
    };
    let state = given(without_pauses(), &other);
    assert_eq!(state.view(viewer), game.game.view(viewer), "{viewer:?}");
    assert_eq!(views(&other, viewer), views(&game.log, viewer), "{viewer:?}");
    assert_eq!(state.awaiting(), game.game.awaiting());
    assert_eq!(state.deadline(), game.game.deadline());
    state != game.game
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn a_secret_makes_no_difference_to_any_other_viewer(seed: u64) {
        let mut game = Match::start(without_pauses(), Players::Random, seed);
        let mut dice = game.cx().dice();
        let mut compared = 0;
        while game.round() <= 2 && game.step().is_some() {
            for viewer in SEATS.map(Viewer::Seated).into_iter().chain([Viewer::Spectator]) {
                compared += usize::from(check(&game, viewer, &mut dice));
            }
        }
        prop_assert!(compared > 20, "only {} states compared", compared);
    }
}

#[test]
fn a_play_is_face_down_until_the_fourth_and_then_face_up() {
    let mut game = Match::start(without_pauses(), Players::Bots, 7);
    while game.game.view(Viewer::Spectator).phase != Phase::Turn {
        game.step();
    }
    for down in 1..=3 {
        game.step();
        let public = game.game.view(Viewer::Spectator);
        assert_eq!(public.plays.len(), down);
        assert_eq!(public.last_turn, None);
        for seat in SEATS {
            let view = game.game.view(Viewer::Seated(seat));
            let seen = view.plays.iter().filter(|play| play.face.is_some());
            assert!(seen.into_iter().all(|play| play.seat == seat));
        }
    }
    let events = game.step().expect("the fourth play");
    let reveals =
        |event: &Event| matches!(event, Event::TurnCompleted { plays, .. } if plays.len() == 4);
    assert!(reveals(&events[1]));
    assert!(game.game.view(Viewer::Spectator).last_turn.is_some());
}
