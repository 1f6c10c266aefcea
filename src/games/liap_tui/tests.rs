//! Each refusal, the redeal's clock, the display pauses, and how long bots play.

use super::piece::{Hands, Piece};
use super::*;
use crate::domain::Rejection as _;

const HAND: [Piece; 4] =
    [Piece::GeneralRed, Piece::ChariotRed, Piece::SoldierRed, Piece::SoldierRed];

fn cx(now_ms: u64) -> TurnContext {
    TurnContext { now: Timestamp::from_millis(now_ms), seed: [7; 32] }
}

fn given(setup: Setup, facts: &[Event]) -> LiapTui {
    let mut game = LiapTui::new(setup);
    facts.iter().for_each(|fact| game.evolve(fact));
    game
}

fn without_pauses() -> Setup {
    Setup { pauses: Pauses::none(), ..Setup::default() }
}

fn enter(to: Phase) -> Event {
    Event::PhaseChanged { from: Phase::Waiting, to, round: 1, turn: 0, until: None }
}

fn order() -> [Seat; 4] {
    state::order_from(Seat(0))
}

/// Round 1 has begun, and every seat holds these pieces.
fn dealt(hand: &[Piece]) -> Vec<Event> {
    let hands: Hands = std::array::from_fn(|_| hand.to_vec());
    vec![
        enter(Phase::Preparation),
        Event::RoundStarted { round: 1, multiplier: 1 },
        Event::PiecesDealt { round: 1, deal: 1, hands },
    ]
}

/// Seats 1 and 2 decide on a redeal until 30,000 ms.
fn deciding() -> Vec<Event> {
    let mut facts = dealt(&HAND);
    let deadline = Timestamp::from_millis(30_000);
    facts.push(Event::WeakHandsFound { round: 1, seats: vec![Seat(1), Seat(2)], deadline });
    facts
}

/// Seat 0 starts, and these numbers are declared.
fn declaring(declared: &[u8]) -> Vec<Event> {
    let mut facts = dealt(&HAND);
    let (seat, reason, order) = (Seat(0), StarterReason::HasGeneralRed, order());
    facts.extend([Event::StarterChosen { seat, reason, order }, enter(Phase::Declaration)]);
    facts.extend(order.into_iter().zip(declared).map(|(seat, value)| Event::DeclarationMade {
        seat,
        value: *value,
        running_total: 0,
        zero_streak: 0,
    }));
    facts
}

/// Seat 0 leads the first turn.
fn playing() -> Vec<Event> {
    let mut facts = declaring(&[1, 1, 1, 1]);
    let started = Event::TurnStarted { turn: 1, leader: Seat(0), order: order() };
    facts.extend([enter(Phase::Turn), started]);
    facts
}

/// Seat 0 has led a pair.
fn led() -> Vec<Event> {
    let mut facts = playing();
    facts.push(Event::PiecesPlayed {
        seat: Seat(0),
        count: 2,
        pieces: vec![Piece::SoldierRed; 2],
        play_type: play::PlayType::Pair,
        strength: 4,
    });
    facts
}

fn play(pieces: &[Piece]) -> Command {
    Command::Play { pieces: pieces.to_vec() }
}

#[track_caller]
fn refused(facts: &[Event], by: Seat, command: Command, rejection: Rejection) {
    let game = given(without_pauses(), facts);
    assert_eq!(game.decide(by, command, &cx(1_000)), Err(rejection));
}

#[test]
fn nothing_is_accepted_before_the_start_or_from_nowhere() {
    refused(&[], Seat(0), Command::Declare { value: 1 }, Rejection::WrongPhase);
    refused(&deciding(), Seat(4), Command::RedealAccept {}, Rejection::NoSuchSeat);
    refused(&deciding(), Seat(255), play(&HAND), Rejection::NoSuchSeat);
    assert_eq!(LiapTui::new(without_pauses()).view(Viewer::Seated(Seat(255))).hand, None);
}

#[test]
fn a_command_of_another_phase_is_refused() {
    refused(&deciding(), Seat(1), Command::Declare { value: 1 }, Rejection::WrongPhase);
    refused(&declaring(&[]), Seat(0), play(&HAND[..1]), Rejection::WrongPhase);
    refused(&playing(), Seat(0), Command::RedealDecline {}, Rejection::WrongPhase);
}

#[test]
fn only_a_weak_seat_decides_on_a_redeal_and_only_once() {
    refused(&deciding(), Seat(0), Command::RedealAccept {}, Rejection::NotWeak);
    let mut facts = deciding();
    facts.push(Event::RedealDecisionMade { seat: Seat(1), accepted: true, by_timeout: false });
    refused(&facts, Seat(1), Command::RedealDecline {}, Rejection::AlreadyDecided);
}

#[test]
fn who_lets_the_time_run_out_has_declined() {
    let game = given(without_pauses(), &deciding());
    assert_eq!(game.deadline(), Some(Timestamp::from_millis(30_000)));
    assert_eq!(game.on_deadline(&cx(29_999)), []);
    let late = game.decide(Seat(1), Command::RedealAccept {}, &cx(30_000));
    assert_eq!(late, Err(Rejection::TooLate));
    let events = game.on_deadline(&cx(30_000));
    let declined = |seat| Event::RedealDecisionMade { seat, accepted: false, by_timeout: true };
    assert_eq!(events[..2], [declined(Seat(1)), declined(Seat(2))]);
    assert_eq!(events[2], Event::HandsKept { declining: vec![Seat(1), Seat(2)], until: None });
}

#[test]
fn the_first_accepter_in_play_order_is_the_requester_whoever_was_faster() {
    let mut game = given(without_pauses(), &deciding());
    for (seat, now_ms) in [(Seat(2), 1), (Seat(1), 2)] {
        let events = game.decide(seat, Command::RedealAccept {}, &cx(now_ms)).unwrap();
        events.iter().for_each(|event| game.evolve(event));
    }
    assert_eq!((game.requester, game.multiplier, game.deal), (Some(Seat(1)), 2, 2));
}

#[test]
fn a_declaration_obeys_turn_range_and_limits() {
    let declare = |value| Command::Declare { value };
    refused(&declaring(&[1]), Seat(2), declare(1), Rejection::NotYourTurn);
    refused(&declaring(&[1]), Seat(0), declare(2), Rejection::AlreadyDeclared);
    for value in [-1, 9, i64::MIN, i64::MAX] {
        refused(&declaring(&[]), Seat(0), declare(value), Rejection::ValueOutOfRange);
    }
    refused(&declaring(&[1, 2, 3]), Seat(3), declare(2), Rejection::TotalOfEight);

    let two_zeros =
        Event::DeclarationMade { seat: Seat(0), value: 0, running_total: 0, zero_streak: 2 };
    let facts = [vec![two_zeros], declaring(&[])].concat();
    refused(&facts, Seat(0), declare(0), Rejection::ThirdZero);
}

#[test]
fn a_play_obeys_turn_count_hand_and_type() {
    refused(&playing(), Seat(1), play(&HAND[..1]), Rejection::NotYourTurn);
    refused(&led(), Seat(0), play(&HAND[..1]), Rejection::AlreadyPlayed);
    refused(&playing(), Seat(0), play(&[]), Rejection::NoPieces);
    refused(&led(), Seat(1), play(&[]), Rejection::NoPieces);
    refused(&playing(), Seat(0), play(&[Piece::SoldierRed; 7]), Rejection::TooManyPieces);
    refused(&led(), Seat(1), play(&HAND[..1]), Rejection::WrongCount);
    refused(&playing(), Seat(0), play(&[Piece::SoldierRed; 3]), Rejection::NotInHand);
    refused(&led(), Seat(1), play(&[Piece::GeneralRed; 2]), Rejection::NotInHand);
    refused(&playing(), Seat(0), play(&HAND[..2]), Rejection::InvalidLead);
}

#[test]
fn a_follower_may_play_what_is_no_valid_set() {
    let game = given(without_pauses(), &led());
    let events = game.decide(Seat(1), play(&HAND[..2]), &cx(1)).unwrap();
    assert!(matches!(
        events[..],
        [Event::PiecesPlayed { play_type: play::PlayType::Invalid, strength: 0, .. }]
    ));
}

#[test]
fn the_fourth_play_reveals_the_turn_before_its_pause() {
    let mut game = given(Setup::default(), &led());
    let mut last = Vec::new();
    for seat in [1, 2, 3].map(Seat) {
        last = game.decide(seat, play(&[Piece::SoldierRed; 2]), &cx(1_000)).unwrap();
        last.iter().for_each(|event| game.evolve(event));
    }
    let until = Some(Timestamp::from_millis(6_000));
    assert!(matches!(&last[1..], [Event::TurnCompleted { until: end, .. }] if *end == until));
    assert_eq!((game.deadline(), game.awaiting()), (until, vec![]));
    assert_eq!(game.decide(Seat(0), play(&HAND[..1]), &cx(9_999)), Err(Rejection::Pause));
    assert_eq!(game.on_deadline(&cx(5_999)), []);
    let shown = game.on_deadline(&cx(6_000));
    assert!(matches!(shown[..], [Event::PhaseChanged { to: Phase::TurnResults, .. }]));
}

#[test]
fn the_pause_before_a_round_starts_depends_on_how_its_hands_were_kept() {
    let kept = |facts: &[Event]| {
        let events = given(Setup::default(), facts).on_deadline(&cx(30_000));
        let until = events.iter().find_map(|event| {
            if let Event::HandsKept { until, .. } = event { Some(*until) } else { None }
        });
        until.expect("the hands are kept").map(|until| until.as_millis() - 30_000)
    };
    assert_eq!(kept(&dealt(&HAND)), Some(2_000), "no hand was weak");
    assert_eq!(kept(&deciding()), None, "the weak seats have looked at their hands");

    let redealt = Event::RedealExecuted {
        accepting: vec![Seat(1)],
        declining: vec![Seat(2)],
        requester: Seat(1),
        multiplier: 2,
    };
    for last_deal in [dealt(&HAND), deciding()] {
        let mut facts = deciding();
        facts.push(redealt.clone());
        facts.extend_from_slice(&last_deal[2..]);
        assert_eq!(kept(&facts), Some(4_000));
    }
}

#[test]
fn a_finished_game_refuses_everything() {
    let mut facts = playing();
    let (winners, totals) = (vec![Seat(0)], [50, 0, 0, 0]);
    let result = GameResult { winners, totals, ranking: order(), rounds_played: 1 };
    facts.push(Event::GameEnded(result));
    for command in [
        Command::RedealAccept {},
        Command::RedealDecline {},
        Command::Declare { value: 1 },
        play(&HAND[..1]),
    ] {
        refused(&facts, Seat(0), command, Rejection::GameOver);
    }
    let outcome = given(without_pauses(), &facts).outcome().unwrap();
    assert_eq!((outcome.winners, outcome.scores), (vec![Seat(0)], vec![50, 0, 0, 0]));
}

#[test]
fn commands_are_named_as_in_the_rules_and_take_no_unknown_field() {
    let decode = serde_json::from_str::<Command>;
    assert_eq!(decode(r#"{"type":"redeal_accept"}"#).unwrap(), Command::RedealAccept {});
    assert_eq!(decode(r#"{"type":"declare","value":-3}"#).unwrap(), Command::Declare { value: -3 });
    let wish = decode(r#"{"type":"play","pieces":["GENERAL_RED"]}"#).unwrap();
    assert_eq!(wish, play(&[Piece::GeneralRed]));
    for bad in [
        r#"{"type":"redeal_accept","seat":2}"#,
        r#"{"type":"declare","value":1,"seat":2}"#,
        r#"{"type":"declare","value":1.5}"#,
        r#"{"type":"play","pieces":["GENERAL_GREEN"]}"#,
        r#"{"type":"table.leave"}"#,
    ] {
        assert!(decode(bad).is_err(), "{bad} was taken");
    }
}

#[test]
fn a_hidden_part_of_an_event_is_absent() {
    let json =
        |event: &Event, viewer| serde_json::to_value(LiapTui::view_event(event, viewer)).unwrap();
    let played = led().pop().unwrap();
    assert_eq!(
        json(&played, Viewer::Seated(Seat(1))),
        serde_json::json!({"type": "pieces_played", "seat": 0, "count": 2})
    );
    assert_eq!(
        json(&played, Viewer::Seated(Seat(0))),
        serde_json::json!({"type": "pieces_played", "seat": 0, "count": 2, "strength": 4,
            "pieces": ["SOLDIER_RED", "SOLDIER_RED"], "play_type": "PAIR"})
    );
    let dealt = dealt(&HAND[..1]).pop().unwrap();
    assert_eq!(
        json(&dealt, Viewer::Spectator),
        serde_json::json!({"type": "pieces_dealt", "round": 1, "deal": 1, "hand_sizes": [1, 1, 1, 1]})
    );
}

#[test]
fn every_rejection_names_its_section() {
    for rejection in [Rejection::TotalOfEight, Rejection::ThirdZero, Rejection::Pause] {
        assert!(rejection.to_string().contains("section"), "{}", rejection.code());
    }
}

/// Plays one game of four bots without pauses; gives its number of rounds.
fn rounds_of_bots(seed: u64) -> u32 {
    let mut game = LiapTui::new(without_pauses());
    let mut step = 0_u64;
    let mut cx = || {
        step += 1;
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        bytes[8..16].copy_from_slice(&step.to_le_bytes());
        TurnContext { now: Timestamp::from_millis(step), seed: bytes }
    };
    let mut events = game.start(&cx());
    loop {
        events.iter().for_each(|event| game.evolve(event));
        let Some(seat) = game.awaiting().first().copied() else {
            return game.round;
        };
        assert!(game.round < 500, "seed {seed} goes on and on");
        let cx = cx();
        let view = game.view(Viewer::Seated(seat));
        let command = LiapTui::bot(&view, seat, &mut cx.dice()).expect("the seat owes a decision");
        events = game.decide(seat, command, &cx).expect("a bot's choice is legal");
    }
}

/// The number of rounds below which this share of the games of four bots end.
fn quantiles_of_bots<const N: usize>(games: u64, percents: [usize; N]) -> [u32; N] {
    let mut rounds: Vec<_> = (0..games).map(rounds_of_bots).collect();
    rounds.sort_unstable();
    percents.map(|percent| rounds[(rounds.len() - 1) * percent / 100])
}

#[test]
fn bots_come_to_an_end() {
    let [median, most] = quantiles_of_bots(200, [50, 99]);
    assert!(median <= 20 && most < 60, "median {median}, 99th percentile {most}");
}

#[test]
#[ignore = "takes some seconds; prints the distribution that bot.rs states"]
fn distribution_of_bot_games() {
    let [p10, p50, p90, p99, max] = quantiles_of_bots(2_000, [10, 50, 90, 99, 100]);
    println!(
        "rounds of 2,000 games of bots: p10 {p10}, p50 {p50}, p90 {p90}, p99 {p99}, max {max}"
    );
}

#[test]
fn a_player_who_leaves_declines_the_redeal_it_owes() {
    let mut facts = dealt(&HAND);
    let deadline = Timestamp::from_millis(30_000);
    facts.push(Event::WeakHandsFound { round: 1, seats: vec![Seat(1), Seat(2)], deadline });
    let game = given(without_pauses(), &facts);
    let declined = Event::RedealDecisionMade { seat: Seat(1), accepted: false, by_timeout: false };
    assert_eq!(game.on_player_left(Seat(1), &cx(0)), [declined]);
    assert_eq!(game.on_player_left(Seat(0), &cx(0)), [], "a seat that is not weak owes nothing");
}
