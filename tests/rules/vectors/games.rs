//! Vectors of redeals and of whole games, driven through the real state machine with the given deals.

use serde::Deserialize;
use tablecast::domain::{Game, Seat, Viewer};
use tablecast::games::liap_tui::piece::Hands;
use tablecast::games::liap_tui::play::Play;
use tablecast::games::liap_tui::{Command, Event, LiapTui, Phase, StarterReason};

use super::{TypedPlay, cases, command};
use crate::support::{cx, deal_instead, given, order_from, play, round_started, without_pauses};

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
        assert_eq!((view.round, view.multiplier), (case.round, case.multiplier), "{id}");
        assert_eq!((starter.seat, starter.reason), (case.starter, case.starter_reason), "{id}");
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
        assert_eq!(redeal.map(|redeal| redeal.weak).unwrap_or_default(), deal.weak, "{id}");
        let weak_deciding: Vec<_> = deal.decisions.iter().map(|decision| decision.seat).collect();
        assert!(deal.weak.iter().all(|seat| weak_deciding.contains(seat)), "{id}");

        // Not applied yet when it brings another deal, which is to be replaced.
        for decision in &deal.decisions {
            let wish = match decision.accept {
                Some(true) => Command::RedealAccept {},
                Some(false) => Command::RedealDecline {},
                // Lets the time run out.
                None => continue,
            };
            assert!(!has_deal(&events), "{id}: a redeal before all have decided");
            events = game.decide(decision.seat, wish, &cx(1, now_ms)).expect("a legal decision");
            if !has_deal(&events) {
                events.iter().for_each(|event| game.evolve(event));
            }
        }
        if deal.decisions.iter().any(|decision| decision.accept.is_none()) {
            let deadline = game.deadline().expect("a limit while seats have not decided");
            assert_eq!(game.on_deadline(&cx(1, deadline.as_millis() - 1)), [], "{id}");
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
    assert_eq!(game.view(Viewer::Spectator).phase, Phase::Declaration, "{id}");
}

fn has_deal(events: &[Event]) -> bool {
    events.iter().any(|event| matches!(event, Event::PiecesDealt { .. }))
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
            let until_deal = drawn.iter().position(|event| matches!(event, Event::RoundScored(_)));
            let scored = drawn.split_off(until_deal.expect("a scored round") + 1);
            drawn.iter().for_each(|event| game.evolve(event));
            let view = game.view(Viewer::Spectator);
            let score = view.scores.last().expect("a scored round");
            assert_eq!((score.round, score.multiplier), (round.round, round.multiplier), "{label}");
            assert_eq!((score.declared, score.taken), (round.declared, round.piles), "{label}");
            assert_eq!((score.score, view.totals), (round.round_scores, round.totals), "{label}");
            assert_eq!(view.piles, round.piles, "{label}");
            drawn = scored;
        }
        drawn.iter().for_each(|event| game.evolve(event));
        let view = game.view(Viewer::Spectator);
        let result = view.result.expect("a result");
        assert_eq!((view.phase, view.totals), (Phase::GameOver, case.totals), "{id}");
        assert_eq!((result.totals, &result.winners), (case.totals, &case.winners), "{id}");
        assert_eq!((result.ranking, view.ranking), (case.ranking, case.ranking), "{id}");
        assert_eq!(view.perfect_rounds, case.perfect_rounds, "{id}");
        assert_eq!(usize::try_from(result.rounds_played), Ok(case.rounds.len()), "{id}");
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
        assert_eq!(view.zero_streaks[made.seat.index()], made.zero_streak_before, "{id}");
        assert_eq!(view.legal_declarations, made.legal, "{id}");
        assert_eq!(round.declared[made.seat.index()], made.value, "{id}");
        command(game, id, made.seat, Command::Declare { value: i64::from(made.value) });
    }
}

/// Plays a round's turns. Gives the events of the last play, which are not applied.
fn play_all(game: &mut LiapTui, id: &str, round: &RoundCase) -> Vec<Event> {
    let plays = round.turns.iter().flat_map(|turn| turn.plays.iter().map(move |play| (turn, play)));
    let mut last = Vec::new();
    for (turn, made) in plays {
        last.iter().for_each(|event| game.evolve(event));
        let view = game.view(Viewer::Spectator);
        assert_eq!((view.turn, view.leader), (turn.turn, Some(turn.starter)), "{id}");
        assert_eq!(view.awaiting, [made.seat], "{id}");
        assert!(view.required.is_none_or(|required| required == turn.required), "{id}");
        assert_eq!(made.pieces.len(), turn.required, "{id}");
        let answer = game.decide(made.seat, play(&made.pieces), &cx(1, 1));
        last = answer.unwrap_or_else(|rejection| panic!("{id} turn {}: {rejection}", turn.turn));
        let played = Play::new(made.seat, made.pieces.clone());
        assert_eq!(played.play_type, made.play_type, "{id} turn {}", turn.turn);
        let completed = last.iter().find_map(|event| match event {
            Event::TurnCompleted { winner, piles_won, .. } => Some((*winner, *piles_won)),
            _ => None,
        });
        let is_last = turn.plays.last().is_some_and(|last| last.seat == made.seat);
        let expected = is_last.then_some((turn.winner, turn.piles_won));
        assert_eq!(completed, expected, "{id} turn {}", turn.turn);
    }
    last
}
