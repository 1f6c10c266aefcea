//! What holds in every game of Liap Tui, whoever plays it.

use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tablecast::domain::{Game, Viewer};
use tablecast::games::liap_tui::piece::{Piece, deck};
use tablecast::games::liap_tui::play::PlayType;
use tablecast::games::liap_tui::{Command, Event, LiapTui, Phase, Rejection, Setup};

use crate::support::{Match, Players, SEATS, without_pauses};

/// Random players may never reach the target.
const ROUNDS_MAX: u32 = 6;

fn players() -> impl Strategy<Value = Players> {
    prop_oneof![Just(Players::Bots), Just(Players::Random)]
}

fn survives<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) {
    let json = serde_json::to_string(value).expect("encodes to JSON");
    assert_eq!(&serde_json::from_str::<T>(&json).expect("decodes from JSON"), value);
    let bytes = rmp_serde::to_vec_named(value).expect("encodes to MessagePack");
    assert_eq!(&rmp_serde::from_slice::<T>(&bytes).expect("decodes from MessagePack"), value);
}

/// Views are only ever written; both codecs must write the same.
fn reads_alike<T: Serialize>(view: &T) {
    let bytes = rmp_serde::to_vec_named(view).expect("encodes to MessagePack");
    let decoded: serde_json::Value = rmp_serde::from_slice(&bytes).expect("decodes");
    assert_eq!(decoded, serde_json::to_value(view).expect("encodes to JSON"));
}

/// What section 18 says of each event, given the events of the round before it.
fn check(event: &Event, round: &[Event]) {
    match event {
        Event::PiecesDealt { hands, .. } => {
            let mut all = hands.concat();
            all.sort_unstable();
            assert_eq!(all, deck());
        }
        Event::RedealExecuted { multiplier, .. } => {
            let redeals = round.iter().filter(|e| matches!(e, Event::RedealExecuted { .. }));
            assert_eq!(usize::try_from(*multiplier), Ok(2 + redeals.count()));
        }
        Event::DeclarationMade { zero_streak, .. } => assert!(*zero_streak <= 2),
        Event::TurnCompleted { turn, plays, winner, piles_won, piles, .. } => {
            assert!(*turn <= 8);
            let won = plays.iter().find(|play| play.seat == *winner).expect("the winner played");
            assert_eq!(won.play_type, plays[0].play_type);
            assert_ne!(won.play_type, PlayType::Invalid);
            assert!(plays.iter().all(|play| !play.beats(won)));
            assert!(plays.iter().all(|play| play.pieces.len() == usize::from(*piles_won)));
            let before = round.iter().rev().find_map(|event| match event {
                Event::TurnCompleted { piles, .. } => Some(*piles),
                _ => None,
            });
            let mut expected = before.unwrap_or_default();
            expected[winner.index()] += piles_won;
            assert_eq!(*piles, expected);
        }
        Event::RoundScored(score) => {
            let turns = round.iter().filter(|e| matches!(e, Event::TurnCompleted { .. })).count();
            assert!((2..=8).contains(&turns));
            assert_eq!(score.taken.iter().sum::<u8>(), 8);
            assert_ne!(score.declared.iter().sum::<u8>(), 8);
            assert!(score.score.iter().any(|score| *score < 0));
        }
        _ => {}
    }
}

/// What section 18 says of each state between decisions.
fn check_state(game: &LiapTui) {
    let seen = SEATS.map(|seat| game.view(Viewer::Seated(seat)));
    let public = game.view(Viewer::Spectator);
    if public.phase == Phase::GameOver {
        return;
    }
    let mut all: Vec<Piece> = public.pieces_out.clone();
    for view in &seen {
        all.extend(view.hand.iter().flatten());
        let own = view.plays.iter().filter_map(|play| play.face.as_ref());
        all.extend(own.flat_map(|face| &face.pieces));
    }
    all.sort_unstable();
    assert_eq!(all, deck(), "hands and pieces played are the deck");
    if public.plays.is_empty() {
        assert!(public.hand_sizes.iter().all(|size| *size == public.hand_sizes[0]));
    }
    if public.phase != Phase::Scoring {
        assert!(public.totals.iter().all(|total| *total < public.target));
    }
    assert!(public.plays.iter().all(|play| play.face.is_none()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn every_game_keeps_the_invariants(seed: u64, players in players(), paused: bool) {
        let setup = if paused { Setup::default() } else { without_pauses() };
        let mut game = Match::start(setup, players, seed);
        let mut round = Vec::new();
        let mut events = game.log.clone();
        loop {
            for event in &events {
                if matches!(event, Event::RoundStarted { .. }) {
                    round.clear();
                }
                check(event, &round);
                round.push(event.clone());
            }
            check_state(&game.game);
            if game.round() > ROUNDS_MAX {
                break;
            }
            match game.step() {
                Some(next) => events = next,
                None => break,
            }
        }
    }

    #[test]
    fn facts_and_wishes_survive_both_codecs_and_replay_gives_the_live_state(
        seed: u64,
        players in players(),
    ) {
        let setup = Setup::default();
        let mut game = Match::start(setup.clone(), players, seed);
        while game.round() <= 3 && game.step().is_some() {}
        game.log.iter().for_each(survives);
        game.commands.iter().for_each(survives);
        survives(&setup);

        for viewer in [Viewer::Spectator, Viewer::Seated(SEATS[0])] {
            reads_alike(&game.game.view(viewer));
            game.log.iter().for_each(|event| reads_alike(&LiapTui::view_event(event, viewer)));
        }

        let mut replayed = LiapTui::new(setup);
        for event in &game.log {
            let bytes = rmp_serde::to_vec_named(event).expect("encodes");
            replayed.evolve(&rmp_serde::from_slice(&bytes).expect("decodes"));
        }
        prop_assert_eq!(replayed, game.game);
    }

    #[test]
    fn nothing_is_accepted_in_a_pause_or_after_the_end(seed: u64) {
        let setup = Setup { target: 8, ..Setup::default() };
        let mut game = Match::start(setup, Players::Bots, seed);
        let mut commands = vec![Command::RedealAccept {}, Command::RedealDecline {}];
        commands.push(Command::Declare { value: 1 });
        commands.push(Command::Play { pieces: vec![Piece::SoldierRed] });
        loop {
            if game.game.awaiting().is_empty() {
                let over = game.game.outcome().is_some();
                let expected = if over { Rejection::GameOver } else { Rejection::Pause };
                prop_assert_eq!(game.game.deadline().is_none(), over);
                let cx = game.cx();
                for (seat, command) in SEATS.into_iter().flat_map(|s| commands.iter().map(move |c| (s, c))) {
                    prop_assert_eq!(game.game.decide(seat, command.clone(), &cx), Err(expected));
                }
            }
            // Even the luckless reach 8 some day; a few rounds are enough here.
            if game.round() > 20 || game.step().is_none() {
                break;
            }
        }
    }
}
