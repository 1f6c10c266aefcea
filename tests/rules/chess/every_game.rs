//! What holds in every game of chess, whoever plays it and however slowly.

use proptest::prelude::*;
use rand::RngExt;
use rand::rand_core::SeedableRng;
use rand::seq::IndexedRandom;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tablecast::domain::Dice;
use tablecast::games::chess::{Event, Reason};

use super::*;

/// What happened, and what was asked.
struct Played {
    game: Chess,
    setup: Setup,
    events: Vec<Event>,
    commands: Vec<Command>,
    states: Vec<Chess>,
}

fn survives<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) {
    let json = serde_json::to_string(value).expect("encodes to JSON");
    assert_eq!(&serde_json::from_str::<T>(&json).expect("decodes from JSON"), value);
    let bytes = rmp_serde::to_vec_named(value).expect("encodes to MessagePack");
    assert_eq!(&rmp_serde::from_slice::<T>(&bytes).expect("decodes from MessagePack"), value);
}

/// Random players give any command that they are offered; bots give what bots do.
fn play(seed: u64, bots: bool, think_ms: u64, half_moves: usize) -> Played {
    let mut dice = Dice::seed_from_u64(seed);
    let setup = Setup { initial_ms: 60_000, increment_ms: 500, fen: None };
    let mut game = begun(setup.clone());
    let mut played = Played {
        events: Chess::new(setup.clone()).start(&cx(0)),
        game: game.clone(),
        setup,
        commands: Vec::new(),
        states: vec![game.clone()],
    };
    let mut now_ms = 0;
    for _ in 0..half_moves {
        let Some(seat) = game.awaiting().first().copied() else { break };
        now_ms += dice.random_range(0..=think_ms);
        let context = cx(now_ms);
        let before = public(&game).clocks;
        let is_late = before.deadline.is_some_and(|deadline| deadline <= context.now);
        let view = game.view(Viewer::Seated(seat));
        let command = if bots || dice.random_range(0..20) > 0 {
            Chess::bot(&view, seat, &mut dice)
        } else {
            view.choices.choose(&mut dice).cloned()
        };
        let command = command.expect("a player in turn has a choice");
        let events = if is_late {
            assert!(game.decide(seat, command, &context).is_err());
            game.on_deadline(&context)
        } else {
            assert_eq!(game.on_deadline(&context), []);
            played.commands.push(command.clone());
            game.decide(seat, command, &context).expect("an offered choice is legal")
        };
        events.iter().for_each(|event| game.evolve(event));
        check_clocks(&before, &events, &game, now_ms);
        played.events.extend(events);
        played.states.push(game.clone());
    }
    played.game = game;
    played
}

/// Time is neither made nor lost but by the increment.
fn check_clocks(
    before: &tablecast::games::chess::ClocksView,
    events: &[Event],
    game: &Chess,
    now_ms: u64,
) {
    let after = public(game).clocks;
    let runner = before.running.expect("a clock ran");
    let since = before.since.expect("since some time").as_millis();
    for event in events {
        if let Event::MovePlayed { seat, left_ms, .. } = event {
            assert_eq!(*seat, runner);
            let spent = now_ms - since;
            assert_eq!(*left_ms + spent, before.left_ms[runner.index()] + before.increment_ms);
            assert_eq!(after.left_ms[runner.index()], *left_ms);
        }
    }
    let waiting = 1 - runner.index();
    assert_eq!(after.left_ms[waiting], before.left_ms[waiting]);
    assert_eq!(after.deadline.is_some(), game.outcome().is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_game_replays_from_its_events_and_from_any_snapshot(
        seed: u64, bots: bool, think_ms in 0..4_000u64,
    ) {
        let played = play(seed, bots, think_ms, 300);
        played.events.iter().for_each(survives);
        played.commands.iter().for_each(survives);
        survives(&played.setup);
        let mut replayed = Chess::new(played.setup.clone());
        played.events.iter().for_each(|event| replayed.evolve(event));
        prop_assert_eq!(&replayed, &played.game);
        for state in played.states.iter().step_by(7) {
            survives(state);
            // A position in a view is all that a client needs to go on from there.
            let fen = public(state).fen;
            let again = Setup { fen: Some(fen.clone()), ..Setup::default() };
            if state.outcome().is_none() {
                prop_assert_eq!(public(&begun(again)).fen, fen);
            }
        }
    }

    #[test]
    fn nothing_is_accepted_after_the_end_and_everybody_saw_the_same(seed: u64) {
        let played = play(seed, false, 4_000, 600);
        let game = &played.game;
        let white = game.view(Viewer::Seated(Seat(0)));
        let mut as_spectator = white.clone();
        as_spectator.seat = None;
        as_spectator.choices.clear();
        prop_assert_eq!(as_spectator, public(game));
        for event in &played.events {
            prop_assert_eq!(Chess::view_event(event, Viewer::Spectator), Some(event.clone()));
        }
        if game.outcome().is_some() {
            prop_assert!(white.choices.is_empty());
            prop_assert_eq!(game.deadline(), None);
            for command in &played.commands {
                for seat in [Seat(0), Seat(1)] {
                    let refusal = game.decide(seat, command.clone(), &cx(9)).expect_err("over");
                    prop_assert_eq!(tablecast::domain::Rejection::code(&refusal), "game_over");
                }
            }
        }
    }
}

/// Bots that do not think play until the rules end the game, and see every kind of end in time.
#[test]
fn games_of_bots_end_by_themselves() {
    let mut reasons = std::collections::BTreeMap::new();
    for seed in 0..40 {
        let played = play(seed, true, 0, 2_000);
        let reason = public(&played.game).result.expect("an end").reason;
        *reasons.entry(format!("{reason:?}")).or_insert(0) += 1;
    }
    println!("{reasons:?}");
    assert!(reasons.contains_key(&format!("{:?}", Reason::Checkmate)), "{reasons:?}");
    assert!(reasons.len() > 1, "{reasons:?}");
}
