//! The published vectors of Liap Tui: every file, every case, every field.

use std::path::PathBuf;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tablecast::domain::{Game, Rejection as _, Seat, Viewer};
use tablecast::games::liap_tui::piece::{Hands, Piece};
use tablecast::games::liap_tui::play::{Play, PlayType};
use tablecast::games::liap_tui::scoring::base_score;
use tablecast::games::liap_tui::{Command, Event, LiapTui, Pauses, Phase, Setup, StarterReason};

use crate::support::{
    SEATS, cx, deal_instead, declared, enter, given, order_from, play, round_started,
    starter_chosen, turn_started, without_pauses,
};

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
struct TypedPlay {
    seat: Seat,
    pieces: Vec<Piece>,
    #[serde(rename = "type")]
    play_type: PlayType,
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
        let pauses = Pauses {
            turn_end_ms: 1,
            ..Pauses::none()
        };
        let setup = Setup {
            pauses,
            ..Setup::default()
        };
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
        let Some(Event::TurnCompleted {
            plays,
            winner,
            piles_won,
            piles,
            next_leader,
            ..
        }) = last.last()
        else {
            panic!("{id}: the turn is not complete after {last:?}")
        };
        for (found, made) in plays.iter().zip(&case.plays) {
            assert_eq!(
                (found.seat, found.play_type),
                (made.seat, made.play_type),
                "{id}"
            );
        }
        assert_eq!((winner, piles_won), (&case.winner, &case.piles_won), "{id}");
        assert_eq!(
            (piles, next_leader),
            (&case.piles, &case.next_starter),
            "{id}"
        );
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
            let named = pieces
                .iter()
                .filter(|piece| **piece == hand[*place])
                .count();
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeclareCase {
    id: String,
    previous: Vec<u8>,
    zero_streak: u8,
    last: bool,
    legal: Vec<u8>,
}

#[test]
fn declare() {
    for case in cases::<DeclareCase>("declare.jsonl") {
        let id = &case.id;
        let seat = SEATS[case.previous.len()];
        // The streak comes from an earlier round.
        let mut facts = vec![declared(seat, 0, case.zero_streak)];
        facts.extend(round_started(2, 1));
        facts.extend([starter_chosen(Seat(0)), enter(Phase::Declaration)]);
        facts.extend(
            SEATS
                .iter()
                .zip(&case.previous)
                .map(|(seat, value)| declared(*seat, *value, 0)),
        );
        let game = given(without_pauses(), &facts);
        assert_eq!(case.last, case.previous.len() == 3, "{id}");
        assert_eq!(
            game.view(Viewer::Spectator).legal_declarations,
            case.legal,
            "{id}"
        );
        for value in -1..=9 {
            let answer = game.decide(seat, Command::Declare { value }, &cx(1, 1));
            let legal = case.legal.iter().any(|legal| i64::from(*legal) == value);
            assert_eq!(answer.is_ok(), legal, "{id}: {value}: {answer:?}");
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StreakCase {
    id: String,
    declared: Vec<u8>,
    streak_after: Vec<u8>,
    zero_allowed_next: bool,
}

#[test]
fn zero_streak() {
    for case in cases::<StreakCase>("zero_streak.jsonl") {
        let id = &case.id;
        assert_eq!(case.declared.len(), case.streak_after.len(), "{id}");
        let mut game = LiapTui::new(without_pauses());
        let begin_round = |game: &mut LiapTui, round| {
            let mut facts = round_started(round, 1);
            facts.extend([starter_chosen(Seat(2)), enter(Phase::Declaration)]);
            facts.iter().for_each(|fact| game.evolve(fact));
        };
        for (round, (value, streak)) in (1..).zip(case.declared.iter().zip(&case.streak_after)) {
            begin_round(&mut game, round);
            command(
                &mut game,
                id,
                Seat(2),
                Command::Declare {
                    value: i64::from(*value),
                },
            );
            assert_eq!(
                game.view(Viewer::Spectator).zero_streaks[2],
                *streak,
                "{id}"
            );
        }
        begin_round(&mut game, 99);
        let zero = game.decide(Seat(2), Command::Declare { value: 0 }, &cx(1, 1));
        assert_eq!(zero.is_ok(), case.zero_allowed_next, "{id}");
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WeakCase {
    id: String,
    hands: Hands,
    weak: Vec<Seat>,
}

#[test]
fn weak_hand() {
    for case in cases::<WeakCase>("weak_hand.jsonl") {
        let mut game = LiapTui::new(without_pauses());
        let facts = deal_instead(game.start(&cx(1, 1)), &case.hands);
        facts.iter().for_each(|fact| game.evolve(fact));
        let next = game.on_deadline(&cx(1, 1));
        let found = match &next[0] {
            Event::WeakHandsFound { seats, .. } => seats.clone(),
            _ => Vec::new(),
        };
        assert_eq!(found, case.weak, "{}", case.id);
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SingleScoreCase {
    id: String,
    declared: u8,
    actual: u8,
    multiplier: u32,
    base: i64,
    score: i64,
}

#[test]
fn score_single() {
    for case in cases::<SingleScoreCase>("score_single.jsonl") {
        let base = base_score(case.declared, case.actual);
        assert_eq!(base, case.base, "{}", case.id);
        assert_eq!(base * i64::from(case.multiplier), case.score, "{}", case.id);
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScoringCase {
    id: String,
    multiplier: u32,
    declared: [u8; 4],
    actual: [u8; 4],
    before: [i64; 4],
    base: [i64; 4],
    score: [i64; 4],
    after: [i64; 4],
    perfect: [bool; 4],
    game_over: bool,
    winners: Vec<Seat>,
    ranking: [Seat; 4],
}

#[test]
fn scoring() {
    for case in cases::<ScoringCase>("scoring.jsonl") {
        let id = &case.id;
        let mut facts = vec![Event::RoundScored(
            serde_json::from_value(serde_json::json!({
                "round": 1, "multiplier": 1, "declared": [0, 0, 0, 0], "taken": [0, 0, 0, 0],
                "base": [0, 0, 0, 0], "score": [0, 0, 0, 0], "totals": case.before,
                "perfect": [false, false, false, false],
            }))
            .expect("a scored round"),
        )];
        facts.extend(round_started(2, case.multiplier));
        facts.extend(SEATS.map(|seat| declared(seat, case.declared[seat.index()], 0)));
        facts.push(Event::TurnCompleted {
            turn: 1,
            plays: vec![],
            winner: Seat(0),
            piles_won: 1,
            piles: case.actual,
            next_leader: Seat(0),
            until: None,
        });
        facts.push(enter(Phase::TurnResults));
        let mut game = given(without_pauses(), &facts);
        let events = game.on_deadline(&cx(1, 1));
        events.iter().for_each(|event| game.evolve(event));
        let view = game.view(Viewer::Spectator);
        let score = view.scores.last().expect("a scored round");
        assert_eq!((score.base, score.score), (case.base, case.score), "{id}");
        assert_eq!(
            (score.totals, score.perfect),
            (case.after, case.perfect),
            "{id}"
        );
        assert_eq!(
            (view.totals, view.ranking),
            (case.after, case.ranking),
            "{id}"
        );
        let outcome = game.outcome();
        assert_eq!(outcome.is_some(), case.game_over, "{id}");
        assert_eq!(
            outcome.map(|outcome| outcome.winners).unwrap_or_default(),
            case.winners,
            "{id}"
        );
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RedealDecision {
    seat: Seat,
    accept: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DealCase {
    hands: Hands,
    weak: Vec<Seat>,
    decisions: Vec<RedealDecision>,
    outcome: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RedealCase {
    id: String,
    round: u32,
    previous_last_turn_winner: Option<Seat>,
    deals: Vec<DealCase>,
    multiplier: u32,
    starter: Seat,
    starter_reason: StarterReason,
    order: [Seat; 4],
}

#[test]
fn redeal() {
    for case in cases::<RedealCase>("redeal.jsonl") {
        let id = &case.id;
        let mut facts = Vec::new();
        if let Some(winner) = case.previous_last_turn_winner {
            facts.push(Event::TurnCompleted {
                turn: 8,
                plays: vec![],
                winner,
                piles_won: 1,
                piles: [0; 4],
                next_leader: winner,
                until: None,
            });
        }
        facts.extend(round_started(case.round, 1));
        let mut game = given(without_pauses(), &facts);
        let drawn = game.on_deadline(&cx(1, 1));
        prepare(&mut game, id, drawn, &case.deals);
        let view = game.view(Viewer::Spectator);
        let starter = view.starter.expect("a starter");
        assert_eq!(
            (view.round, view.multiplier),
            (case.round, case.multiplier),
            "{id}"
        );
        assert_eq!(
            (starter.seat, starter.reason),
            (case.starter, case.starter_reason),
            "{id}"
        );
        assert_eq!(starter.order, case.order, "{id}");
    }
}

/// Drives phase `preparation` with the given deals in place of the drawn ones.
fn prepare(game: &mut LiapTui, id: &str, mut drawn: Vec<Event>, deals: &[DealCase]) {
    let mut now_ms = 1;
    for (number, deal) in deals.iter().enumerate() {
        let dealt = deal_instead(drawn, &deal.hands);
        dealt.iter().for_each(|event| game.evolve(event));
        let mut events = game.on_deadline(&cx(1, now_ms));
        events.iter().for_each(|event| game.evolve(event));
        let redeal = game.view(Viewer::Spectator).redeal;
        assert_eq!(
            redeal.map(|redeal| redeal.weak).unwrap_or_default(),
            deal.weak,
            "{id}"
        );
        let weak_deciding: Vec<_> = deal
            .decisions
            .iter()
            .map(|decision| decision.seat)
            .collect();
        assert!(
            deal.weak.iter().all(|seat| weak_deciding.contains(seat)),
            "{id}"
        );

        // Not applied yet when it brings another deal, which is to be replaced.
        for decision in &deal.decisions {
            let wish = match decision.accept {
                Some(true) => Command::RedealAccept {},
                Some(false) => Command::RedealDecline {},
                // Lets the time run out.
                None => continue,
            };
            assert!(!has_deal(&events), "{id}: a redeal before all have decided");
            events = game
                .decide(decision.seat, wish, &cx(1, now_ms))
                .expect("a legal decision");
            if !has_deal(&events) {
                events.iter().for_each(|event| game.evolve(event));
            }
        }
        if deal
            .decisions
            .iter()
            .any(|decision| decision.accept.is_none())
        {
            let deadline = game
                .deadline()
                .expect("a limit while seats have not decided");
            assert_eq!(
                game.on_deadline(&cx(1, deadline.as_millis() - 1)),
                [],
                "{id}"
            );
            now_ms = deadline.as_millis();
            events = game.on_deadline(&cx(1, now_ms));
            if !has_deal(&events) {
                events.iter().for_each(|event| game.evolve(event));
            }
        }
        let outcome = if has_deal(&events) { "redeal" } else { "keep" };
        assert_eq!(outcome, deal.outcome, "{id}");
        assert_eq!(outcome == "redeal", number + 1 < deals.len(), "{id}");
        drawn = events;
    }
    assert_eq!(
        game.view(Viewer::Spectator).phase,
        Phase::Declaration,
        "{id}"
    );
}

fn has_deal(events: &[Event]) -> bool {
    events
        .iter()
        .any(|event| matches!(event, Event::PiecesDealt { .. }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GameCase {
    id: String,
    #[serde(rename = "seed")]
    _seed: u64,
    #[serde(rename = "style")]
    _style: String,
    rounds: Vec<RoundCase>,
    #[serde(rename = "final")]
    totals: [i64; 4],
    winners: Vec<Seat>,
    ranking: [Seat; 4],
    perfect_rounds: [usize; 4],
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RoundCase {
    round: u32,
    deals: Vec<DealCase>,
    multiplier: u32,
    starter: Seat,
    declarations: Vec<DeclarationCase>,
    declared: [u8; 4],
    turns: Vec<GameTurnCase>,
    piles: [u8; 4],
    round_scores: [i64; 4],
    totals: [i64; 4],
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeclarationCase {
    seat: Seat,
    zero_streak_before: u8,
    legal: Vec<u8>,
    value: u8,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GameTurnCase {
    turn: u32,
    starter: Seat,
    required: usize,
    plays: Vec<TypedPlay>,
    winner: Seat,
    piles_won: u8,
}

#[test]
fn games() {
    for case in cases::<GameCase>("games.jsonl") {
        let id = &case.id;
        let mut game = LiapTui::new(without_pauses());
        let mut drawn = game.start(&cx(1, 1));
        for round in &case.rounds {
            let label = format!("{id} round {}", round.round);
            prepare(&mut game, &label, drawn, &round.deals);
            declare_all(&mut game, &label, round);
            drawn = play_all(&mut game, &label, round);
            // The next round's deal is to be replaced, so it is not applied with the rest.
            let until_deal = drawn
                .iter()
                .position(|event| matches!(event, Event::RoundScored(_)));
            let scored = drawn.split_off(until_deal.expect("a scored round") + 1);
            drawn.iter().for_each(|event| game.evolve(event));
            let view = game.view(Viewer::Spectator);
            let score = view.scores.last().expect("a scored round");
            assert_eq!(
                (score.round, score.multiplier),
                (round.round, round.multiplier),
                "{label}"
            );
            assert_eq!(
                (score.declared, score.taken),
                (round.declared, round.piles),
                "{label}"
            );
            assert_eq!(
                (score.score, view.totals),
                (round.round_scores, round.totals),
                "{label}"
            );
            assert_eq!(view.piles, round.piles, "{label}");
            drawn = scored;
        }
        drawn.iter().for_each(|event| game.evolve(event));
        let view = game.view(Viewer::Spectator);
        let result = view.result.expect("a result");
        assert_eq!(
            (view.phase, view.totals),
            (Phase::GameOver, case.totals),
            "{id}"
        );
        assert_eq!(
            (result.totals, &result.winners),
            (case.totals, &case.winners),
            "{id}"
        );
        assert_eq!(
            (result.ranking, view.ranking),
            (case.ranking, case.ranking),
            "{id}"
        );
        assert_eq!(view.perfect_rounds, case.perfect_rounds, "{id}");
        assert_eq!(
            usize::try_from(result.rounds_played),
            Ok(case.rounds.len()),
            "{id}"
        );
    }
}

fn declare_all(game: &mut LiapTui, id: &str, round: &RoundCase) {
    let starter = game.view(Viewer::Spectator).starter.expect("a starter");
    assert_eq!(starter.seat, round.starter, "{id}");
    let seats: Vec<_> = round.declarations.iter().map(|made| made.seat).collect();
    assert_eq!(seats, order_from(round.starter), "{id}");
    for made in &round.declarations {
        let view = game.view(Viewer::Seated(made.seat));
        assert_eq!(view.awaiting, [made.seat], "{id}");
        assert_eq!(
            view.zero_streaks[made.seat.index()],
            made.zero_streak_before,
            "{id}"
        );
        assert_eq!(view.legal_declarations, made.legal, "{id}");
        assert_eq!(round.declared[made.seat.index()], made.value, "{id}");
        command(
            game,
            id,
            made.seat,
            Command::Declare {
                value: i64::from(made.value),
            },
        );
    }
}

/// Plays a round's turns. Gives the events of the last play, which are not applied.
fn play_all(game: &mut LiapTui, id: &str, round: &RoundCase) -> Vec<Event> {
    let plays = round
        .turns
        .iter()
        .flat_map(|turn| turn.plays.iter().map(move |play| (turn, play)));
    let mut last = Vec::new();
    for (turn, made) in plays {
        last.iter().for_each(|event| game.evolve(event));
        let view = game.view(Viewer::Spectator);
        assert_eq!(
            (view.turn, view.leader),
            (turn.turn, Some(turn.starter)),
            "{id}"
        );
        assert_eq!(view.awaiting, [made.seat], "{id}");
        assert!(
            view.required
                .is_none_or(|required| required == turn.required),
            "{id}"
        );
        assert_eq!(made.pieces.len(), turn.required, "{id}");
        let answer = game.decide(made.seat, play(&made.pieces), &cx(1, 1));
        last = answer.unwrap_or_else(|rejection| panic!("{id} turn {}: {rejection}", turn.turn));
        let played = Play::new(made.seat, made.pieces.clone());
        assert_eq!(played.play_type, made.play_type, "{id} turn {}", turn.turn);
        let completed = last.iter().find_map(|event| match event {
            Event::TurnCompleted {
                winner, piles_won, ..
            } => Some((*winner, *piles_won)),
            _ => None,
        });
        let is_last = turn.plays.last().is_some_and(|last| last.seat == made.seat);
        let expected = is_last.then_some((turn.winner, turn.piles_won));
        assert_eq!(completed, expected, "{id} turn {}", turn.turn);
    }
    last
}

/// A command that must be accepted.
fn command(game: &mut LiapTui, id: &str, seat: Seat, command: Command) -> Vec<Event> {
    let answer = game.decide(seat, command.clone(), &cx(1, 1));
    let events = answer.unwrap_or_else(|rejection| panic!("{id}: {command:?}: {rejection}"));
    events.iter().for_each(|event| game.evolve(event));
    events
}
