//! Vectors of weak hands, declarations and scores.

use serde::Deserialize;
use tablecast::domain::{Game, Seat, Viewer};
use tablecast::games::liap_tui::piece::Hands;
use tablecast::games::liap_tui::scoring::RoundScore;
use tablecast::games::liap_tui::{Command, Event, LiapTui, Phase};

use super::{cases, command};
use crate::support::{
    SEATS, cx, deal_instead, declared, enter, given, round_started, starter_chosen, without_pauses,
};

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
            SEATS.iter().zip(&case.previous).map(|(seat, value)| declared(*seat, *value, 0)),
        );
        let game = given(without_pauses(), &facts);
        assert_eq!(case.last, case.previous.len() == 3, "{id}");
        assert_eq!(game.view(Viewer::Spectator).legal_declarations, case.legal, "{id}");
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
            command(&mut game, id, Seat(2), Command::Declare { value: i64::from(*value) });
            assert_eq!(game.view(Viewer::Spectator).zero_streaks[2], *streak, "{id}");
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
        let (declared, taken) = ([case.declared; 4], [case.actual; 4]);
        let round = RoundScore::new(1, case.multiplier, declared, taken, [0; 4]);
        assert_eq!(round.base, [case.base; 4], "{}", case.id);
        assert_eq!(round.score, [case.score; 4], "{}", case.id);
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
        assert_eq!((score.totals, score.perfect), (case.after, case.perfect), "{id}");
        assert_eq!((view.totals, view.ranking), (case.after, case.ranking), "{id}");
        let outcome = game.outcome();
        assert_eq!(outcome.is_some(), case.game_over, "{id}");
        assert_eq!(
            outcome.map(|outcome| outcome.winners).unwrap_or_default(),
            case.winners,
            "{id}"
        );
    }
}
