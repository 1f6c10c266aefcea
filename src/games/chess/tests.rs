//! Each refusal, the special moves, every way a game ends, and the clocks.

use super::*;
use crate::domain::{Game, Rejection as _};

const WHITE: Seat = Seat(0);
const BLACK: Seat = Seat(1);
/// When the games of these tests begin.
const START_MS: u64 = 1_000_000;

fn at(now_ms: u64) -> TurnContext {
    TurnContext { now: Timestamp::from_millis(START_MS + now_ms), seed: [7; 32] }
}

/// A game of 60 s and 2 s that has begun from this position; no text: the usual one.
fn given(fen: &str) -> Chess {
    let fen = (!fen.is_empty()).then(|| fen.to_owned());
    let setup = Setup { initial_ms: 60_000, increment_ms: 2_000, fen };
    assert_eq!(Chess::seats(&setup), Ok(2));
    let mut game = Chess::new(setup);
    let events = game.start(&at(0));
    events.iter().for_each(|event| game.evolve(event));
    game
}

/// What happens is taken in.
fn when(game: &mut Chess, by: Seat, command: Command, now_ms: u64) -> Vec<Event> {
    let events = game.decide(by, command, &at(now_ms)).expect("a legal command");
    events.iter().for_each(|event| game.evolve(event));
    events
}

/// Both sides play in turn, in no time.
fn play(game: &mut Chess, moves: &str) {
    for san in moves.split_whitespace() {
        let seat = game.awaiting()[0];
        when(game, seat, Command::san(san), 0);
    }
}

fn refused(game: &Chess, by: Seat, command: Command, now_ms: u64) -> &'static str {
    game.decide(by, command, &at(now_ms)).expect_err("an illegal command").code()
}

fn ended(game: &Chess) -> (Reason, Vec<Seat>) {
    let result = game.view(Viewer::Spectator).result.expect("an end");
    assert_eq!(game.outcome().map(|outcome| outcome.winners), Some(result.winners.clone()));
    (result.reason, result.winners)
}

fn sans(game: &Chess) -> Vec<String> {
    game.view(Viewer::Spectator).moves
}

fn fen(game: &Chess) -> String {
    game.view(Viewer::Spectator).fen
}

#[test]
fn a_move_says_what_happened_and_what_is_left() {
    let mut game = given("");
    let events = when(&mut game, WHITE, Command::uci("e2e4"), 1_500);
    let (uci, san) = ("e2e4".to_owned(), "e4".to_owned());
    let now = at(1_500).now;
    let played = Event::MovePlayed { seat: WHITE, uci, san, left_ms: 60_500, at: now };
    assert_eq!(events, [played]);
    let view = game.view(Viewer::Seated(BLACK));
    assert_eq!(view.fen, "rnbqkbnr/pppppppp/8/8/4P3/8/PPPP1PPP/RNBQKBNR b KQkq e3 0 1");
    assert_eq!((view.last_move.as_deref(), view.awaiting), (Some("e2e4"), vec![BLACK]));
    assert_eq!((view.clocks.left_ms, view.clocks.running), ([60_500, 60_000], Some(BLACK)));
    assert_eq!(view.clocks.deadline, Some(at(61_500).now));
}

#[test]
fn refusals_name_the_rule() {
    let game = given("");
    let uci = |text: &str| Command::uci(text);
    let both = Command::Move { uci: Some("e2e4".to_owned()), san: Some("e4".to_owned()) };
    for (by, command, code) in [
        (BLACK, uci("e7e5"), "not_your_turn"),
        (Seat(2), uci("e2e4"), "no_such_seat"),
        (WHITE, both, "one_notation"),
        (WHITE, Command::Move { uci: None, san: None }, "one_notation"),
        (WHITE, uci(""), "bad_uci"),
        (WHITE, uci("e2e4x"), "bad_uci"),
        (WHITE, uci("E2E4"), "bad_uci"),
        (WHITE, uci("é2e4"), "bad_uci"),
        (WHITE, uci("e2e9"), "bad_uci"),
        (WHITE, uci("e4e5"), "not_your_piece"),
        (WHITE, uci("e7e5"), "not_your_piece"),
        (WHITE, uci("e2e5"), "illegal_move"),
        (WHITE, uci("e2e4q"), "illegal_move"),
        (WHITE, uci("e1g1"), "illegal_move"),
        (WHITE, Command::san("Ke2"), "no_such_san"),
        (WHITE, Command::san(""), "no_such_san"),
        (WHITE, Command::san("♞f3"), "no_such_san"),
        (WHITE, Command::AcceptDraw {}, "no_offer"),
        (WHITE, Command::DeclineDraw {}, "no_offer"),
        (WHITE, Command::ClaimDraw {}, "nothing_to_claim"),
        (BLACK, Command::ClaimDraw {}, "not_your_turn"),
    ] {
        assert_eq!(refused(&game, by, command.clone(), 0), code, "{command:?}");
    }
    assert_eq!(
        refused(&given("4k3/8/8/8/8/8/4r3/R3K3 w Q - 0 1"), WHITE, uci("e1c1"), 0),
        "in_check"
    );
    let pinned = given("4k3/4r3/8/8/8/8/4N3/4K3 w - - 0 1");
    assert_eq!(refused(&pinned, WHITE, uci("e2c3"), 0), "illegal_move");
    let waiting = Chess::new(Setup::default());
    assert_eq!(refused(&waiting, WHITE, uci("e2e4"), 0), "not_started");
}

#[test]
fn castling_is_the_kings_move_in_uci_and_letters_in_san() {
    let corners = "r3k2r/8/8/8/8/8/8/R3K2R w KQkq - 0 1";
    let mut game = given(corners);
    when(&mut game, WHITE, Command::uci("e1g1"), 0);
    when(&mut game, BLACK, Command::san("0-0-0"), 0);
    assert_eq!(sans(&game), ["O-O", "O-O-O"]);
    assert_eq!(fen(&game), "2kr3r/8/8/8/8/8/8/R4RK1 w - - 2 2");
    // The king's way is attacked, has been left, or is barred.
    assert_eq!(refused(&given(corners), WHITE, Command::uci("e1h1"), 0), "bad_uci");
    let attacked = given("4kr2/8/8/8/8/8/8/R3K2R w KQ - 0 1");
    assert_eq!(refused(&attacked, WHITE, Command::san("O-O"), 0), "no_such_san");
    assert!(attacked.decide(WHITE, Command::san("O-O-O"), &at(0)).is_ok());
    let mut moved = given(corners);
    play(&mut moved, "Ke2 Ke7 Ke1 Ke8");
    assert_eq!(refused(&moved, WHITE, Command::uci("e1g1"), 0), "illegal_move");
}

#[test]
fn a_pawn_is_captured_in_passing_at_once_or_never() {
    let mut game = given("4k3/3p4/8/4P3/8/8/8/4K3 b - - 0 1");
    play(&mut game, "d5");
    let mut taken = game.clone();
    when(&mut taken, WHITE, Command::uci("e5d6"), 0);
    assert_eq!(sans(&taken), ["d5", "exd6"]);
    assert_eq!(fen(&taken), "4k3/8/3P4/8/8/8/8/4K3 b - - 0 2");
    play(&mut game, "Ke2 Ke7");
    assert_eq!(refused(&game, WHITE, Command::uci("e5d6"), 0), "illegal_move");
}

#[test]
fn a_pawn_becomes_what_its_player_names() {
    let at_the_door = "1n2k3/P7/8/8/8/8/8/4K3 w - - 0 1";
    assert_eq!(refused(&given(at_the_door), WHITE, Command::uci("a7a8"), 0), "promotion_missing");
    assert_eq!(refused(&given(at_the_door), WHITE, Command::uci("a7a8k"), 0), "bad_uci");
    for (uci, san) in
        [("a7a8q", "a8=Q"), ("a7a8n", "a8=N"), ("a7b8r", "axb8=R+"), ("a7b8b", "axb8=B")]
    {
        let mut game = given(at_the_door);
        when(&mut game, WHITE, Command::uci(uci), 0);
        assert_eq!(sans(&game), [san]);
        let mut game = given(at_the_door);
        when(&mut game, WHITE, Command::san(san), 0);
        assert_eq!(game.view(Viewer::Spectator).last_move.as_deref(), Some(uci));
    }
}

#[test]
fn san_names_the_piece_that_moves_when_several_could() {
    // Knights b1 and f3 reach d2; rooks a1 and a5 reach a3; queens e4, h4 and h1 reach e1.
    for (fen, uci, san) in [
        ("4k3/8/8/8/8/5N2/8/1N2K3 w - - 0 1", "b1d2", "Nbd2"),
        ("4k3/8/8/R7/8/8/8/R3K3 w - - 0 1", "a1a3", "R1a3"),
        ("8/k7/8/8/4Q2Q/8/8/K6Q w - - 0 1", "h4e1", "Qh4e1"),
        // One of the two knights is pinned, so there is nothing to tell apart.
        ("4k3/4r3/8/8/8/8/4N3/1N2K3 w - - 0 1", "b1c3", "Nc3"),
    ] {
        let mut game = given(fen);
        when(&mut game, WHITE, Command::uci(uci), 0);
        assert_eq!(sans(&game), [san]);
        let mut game = given(fen);
        when(&mut game, WHITE, Command::san(san), 0);
        assert_eq!(game.view(Viewer::Spectator).last_move.as_deref(), Some(uci));
    }
    let two = given("4k3/8/8/8/8/5N2/8/1N2K3 w - - 0 1");
    assert_eq!(refused(&two, WHITE, Command::san("Nd2"), 0), "no_such_san");
}

#[test]
fn mate_and_stalemate_end_the_game() {
    let mut game = given("");
    play(&mut game, "f3 e5 g4 Qh4#");
    assert_eq!(ended(&game), (Reason::Checkmate, vec![BLACK]));
    assert_eq!(game.outcome().map(|outcome| outcome.scores), Some(vec![0, 2]));
    assert_eq!((game.deadline(), game.awaiting()), (None, vec![]));
    assert_eq!(refused(&game, WHITE, Command::uci("e2e4"), 0), "game_over");
    assert_eq!(refused(&game, WHITE, Command::Resign {}, 0), "game_over");

    let mut game = given("7k/8/6K1/8/8/5Q2/8/8 w - - 0 1");
    play(&mut game, "Qf7");
    assert_eq!(ended(&game), (Reason::Stalemate, vec![]));
    assert_eq!(game.outcome().map(|outcome| outcome.scores), Some(vec![1, 1]));
}

#[test]
fn a_capture_that_leaves_too_little_ends_the_game() {
    for (fen, capture, is_drawn) in [
        ("4k3/8/8/8/8/8/4q3/4K3 w - - 0 1", "Kxe2", true),
        ("4k3/8/8/8/8/8/4q3/4KN2 w - - 0 1", "Kxe2", true),
        ("4k3/8/8/8/8/8/4q3/4KB2 w - - 0 1", "Kxe2", true),
        // Both bishops on light squares; then one on dark.
        ("2b1k3/8/8/8/8/8/4q3/4KB2 w - - 0 1", "Kxe2", true),
        ("3bk3/8/8/8/8/8/4q3/4KB2 w - - 0 1", "Kxe2", false),
        ("1n2k3/8/8/8/8/8/4q3/4KN2 w - - 0 1", "Kxe2", false),
        ("4k3/8/8/8/8/8/4q3/3NKN2 w - - 0 1", "Kxe2", false),
        ("4k3/7p/8/8/8/8/4q3/4K3 w - - 0 1", "Kxe2", false),
    ] {
        let mut game = given(fen);
        play(&mut game, capture);
        let reason = game.view(Viewer::Spectator).result.map(|result| result.reason);
        assert_eq!(reason, is_drawn.then_some(Reason::InsufficientMaterial), "{fen}");
    }
}

#[test]
fn a_position_that_occurs_three_times_may_be_claimed_and_five_times_is_a_draw() {
    let mut game = given("");
    play(&mut game, "Nf3 Nf6 Ng1 Ng8 Nf3 Nf6 Ng1");
    assert_eq!(refused(&game, BLACK, Command::ClaimDraw {}, 0), "nothing_to_claim");
    play(&mut game, "Ng8");
    let view = game.view(Viewer::Seated(WHITE));
    assert_eq!(view.draw_claim, Some(Reason::ThreefoldRepetition));
    assert!(view.choices.contains(&Command::ClaimDraw {}));
    let mut claimed = game.clone();
    when(&mut claimed, WHITE, Command::ClaimDraw {}, 0);
    assert_eq!(ended(&claimed), (Reason::ThreefoldRepetition, vec![]));
    play(&mut game, "Nf3 Nf6 Ng1 Ng8 Nf3 Nf6 Ng1");
    assert_eq!(game.outcome(), None);
    play(&mut game, "Ng8");
    assert_eq!(ended(&game), (Reason::FivefoldRepetition, vec![]));
}

#[test]
fn positions_differ_by_castling_rights_and_by_a_capture_in_passing_that_is_possible() {
    // The first two moves give the rights up, so the position at the start never comes back.
    let mut rights = given("r3k2r/8/8/8/8/8/8/R3K2R w KQkq - 0 1");
    play(&mut rights, "Ke2 Ke7 Ke1 Ke8 Ke2 Ke7 Ke1 Ke8");
    assert_eq!(refused(&rights, WHITE, Command::ClaimDraw {}, 0), "nothing_to_claim");
    play(&mut rights, "Ke2 Ke7 Ke1 Ke8");
    assert!(rights.decide(WHITE, Command::ClaimDraw {}, &at(0)).is_ok());

    // After d5 White may capture in passing only this once; after a5 there is nobody to do it.
    for (first, claims) in [("d5", false), ("a5", true)] {
        let mut game = given("4k3/p2p4/8/4P3/8/8/8/4K3 b - - 0 1");
        play(&mut game, first);
        play(&mut game, "Kf1 Kf8 Ke1 Ke8 Kf1 Kf8 Ke1 Ke8");
        let claim = game.decide(WHITE, Command::ClaimDraw {}, &at(0));
        assert_eq!(claim.is_ok(), claims, "{first}");
    }
}

#[test]
fn fifty_quiet_moves_may_be_claimed_and_seventy_five_are_a_draw() {
    let mut game = given("4k3/8/8/8/8/8/P7/4K2R w - - 99 80");
    assert_eq!(refused(&game, WHITE, Command::ClaimDraw {}, 0), "nothing_to_claim");
    let mut pawn = game.clone();
    play(&mut pawn, "a3");
    assert_eq!(refused(&pawn, BLACK, Command::ClaimDraw {}, 0), "nothing_to_claim");
    play(&mut game, "Rh2");
    assert_eq!(game.view(Viewer::Spectator).draw_claim, Some(Reason::FiftyMoves));
    when(&mut game, BLACK, Command::ClaimDraw {}, 0);
    assert_eq!(ended(&game), (Reason::FiftyMoves, vec![]));

    let mut game = given("4k3/8/8/8/8/8/8/4K2R w - - 148 90");
    play(&mut game, "Rh2");
    assert_eq!(fen(&game), "4k3/8/8/8/8/8/7R/4K3 b - - 149 90");
    play(&mut game, "Kf8");
    assert_eq!(ended(&game), (Reason::SeventyFiveMoves, vec![]));
    // A mate by the last of these moves counts.
    let mut game = given("7k/8/6K1/8/8/8/8/R7 w - - 149 90");
    play(&mut game, "Ra8#");
    assert_eq!(ended(&game), (Reason::Checkmate, vec![WHITE]));
}

#[test]
fn a_draw_offer_stands_until_it_is_answered_or_the_opponent_moves() {
    let mut game = given("");
    when(&mut game, WHITE, Command::OfferDraw {}, 0);
    assert_eq!(game.view(Viewer::Spectator).draw_offer, Some(WHITE));
    assert_eq!(refused(&game, WHITE, Command::OfferDraw {}, 0), "offer_stands");
    assert_eq!(refused(&game, BLACK, Command::OfferDraw {}, 0), "offer_stands");
    assert_eq!(refused(&game, WHITE, Command::AcceptDraw {}, 0), "no_offer");
    let answers = game.view(Viewer::Seated(BLACK)).choices;
    assert_eq!(answers, [Command::AcceptDraw {}, Command::DeclineDraw {}]);

    // The offerer's own move leaves it; the opponent's takes it away.
    play(&mut game, "e4");
    let mut accepted = game.clone();
    when(&mut accepted, BLACK, Command::AcceptDraw {}, 0);
    assert_eq!(ended(&accepted), (Reason::Agreement, vec![]));
    play(&mut game, "e5");
    assert_eq!(game.view(Viewer::Spectator).draw_offer, None);

    when(&mut game, WHITE, Command::OfferDraw {}, 0);
    when(&mut game, BLACK, Command::DeclineDraw {}, 0);
    assert_eq!(refused(&game, WHITE, Command::OfferDraw {}, 0), "offer_repeated");
    assert_eq!(refused(&game, BLACK, Command::AcceptDraw {}, 0), "no_offer");
    play(&mut game, "Nf3");
    when(&mut game, WHITE, Command::OfferDraw {}, 0);
}

#[test]
fn either_side_resigns_at_any_time() {
    for (by, winner) in [(WHITE, BLACK), (BLACK, WHITE)] {
        let mut game = given("");
        let events = when(&mut game, by, Command::Resign {}, 700);
        assert_eq!(ended(&game), (Reason::Resignation, vec![winner]));
        let Event::GameEnded(result) = &events[0] else { panic!("{events:?}") };
        assert_eq!((result.by, result.left_ms), (by, [59_300, 60_000]));
    }
}

#[test]
fn a_turn_ends_by_a_move_or_by_the_flag_never_both() {
    let game = given("");
    assert_eq!(game.deadline(), Some(at(60_000).now));
    // A millisecond before, a move is in time, and the flag has not fallen.
    assert_eq!(game.on_deadline(&at(59_999)), []);
    let mut in_time = game.clone();
    when(&mut in_time, WHITE, Command::san("e4"), 59_999);
    assert_eq!(in_time.view(Viewer::Spectator).clocks.left_ms, [2_001, 60_000]);
    // At the moment itself it is the other way round, whoever asks first.
    for command in [Command::san("e4"), Command::Resign {}, Command::OfferDraw {}] {
        assert_eq!(refused(&game, WHITE, command, 60_000), "flag_fallen");
    }
    assert_eq!(refused(&game, BLACK, Command::Resign {}, 60_000), "flag_fallen");
    let mut fallen = game;
    let events = fallen.on_deadline(&at(60_000));
    events.iter().for_each(|event| fallen.evolve(event));
    assert_eq!(ended(&fallen), (Reason::Timeout, vec![BLACK]));
    assert_eq!(fallen.view(Viewer::Spectator).clocks.left_ms, [0, 60_000]);
    assert_eq!(refused(&fallen, WHITE, Command::san("e4"), 60_000), "game_over");
    assert_eq!(fallen.on_deadline(&at(70_000)), []);
}

#[test]
fn a_flag_that_falls_before_somebody_who_cannot_mate_is_a_draw() {
    // White's flag falls; what matters is what Black has.
    for (fen, reason) in [
        ("4k3/8/8/8/8/8/P7/4K2R w - - 0 1", Reason::TimeoutWithoutMaterial),
        ("4kb2/8/8/8/8/8/8/4K2R w - - 0 1", Reason::TimeoutWithoutMaterial),
        ("4kn2/8/8/8/8/8/8/4K2Q w - - 0 1", Reason::TimeoutWithoutMaterial),
        // A rook may take the king's last square away; a pawn may promote to what does.
        ("4kn2/8/8/8/8/8/8/4K2R w - - 0 1", Reason::Timeout),
        ("4kb2/8/8/8/8/8/P7/4K3 w - - 0 1", Reason::Timeout),
        ("4k3/p7/8/8/8/8/8/4K2R w - - 0 1", Reason::Timeout),
        ("4knn1/8/8/8/8/8/8/4K2R w - - 0 1", Reason::Timeout),
    ] {
        let mut game = given(fen);
        let events = game.on_deadline(&at(60_000));
        events.iter().for_each(|event| game.evolve(event));
        let winners = if reason == Reason::Timeout { vec![BLACK] } else { vec![] };
        assert_eq!(ended(&game), (reason, winners), "{fen}");
    }
}

#[test]
fn time_given_back_is_not_charged() {
    let mut game = given("");
    play(&mut game, "e4");
    game.credit(10_000);
    assert_eq!(game.deadline(), Some(at(70_000).now));
    when(&mut game, BLACK, Command::san("e5"), 65_000);
    assert_eq!(game.view(Viewer::Spectator).clocks.left_ms, [62_000, 7_000]);
    // More than has passed: nobody's clock gains.
    game.credit(10_000);
    when(&mut game, WHITE, Command::san("d4"), 66_000);
    assert_eq!(game.view(Viewer::Spectator).clocks.left_ms, [64_000, 7_000]);
    when(&mut game, BLACK, Command::Resign {}, 66_000);
    let over = game.clone();
    game.credit(10_000);
    assert_eq!(game, over);
}

#[test]
fn black_may_be_the_first_to_move() {
    let mut game = given("4k3/8/8/8/8/8/8/4K2R b K - 3 40");
    assert_eq!(game.awaiting(), [BLACK]);
    assert_eq!(game.view(Viewer::Spectator).clocks.running, Some(BLACK));
    play(&mut game, "Ke7 O-O");
    assert_eq!(fen(&game), "8/4k3/8/8/8/8/8/5RK1 b - - 5 41");
}

#[test]
fn a_snapshot_of_the_state_is_the_state() {
    let mut game = given("r3k2r/pp6/8/4P3/8/8/8/R3K2R w KQkq - 7 30");
    for moves in ["", "Rd1 b5", "Rd2 Rd8 Rd1 Ra8 Rd2 Rd8 Rd1 Ra8"] {
        play(&mut game, moves);
        let json = serde_json::to_string(&game).expect("encodes");
        assert_eq!(serde_json::from_str::<Chess>(&json).expect("decodes"), game);
        let bytes = rmp_serde::to_vec_named(&game).expect("encodes");
        let mut again = rmp_serde::from_slice::<Chess>(&bytes).expect("decodes");
        assert_eq!(again, game);
        assert_eq!(again.view(Viewer::Seated(WHITE)), game.view(Viewer::Seated(WHITE)));
        play(&mut again, "Kf2");
    }
    assert!(serde_json::from_str::<position::Position>(r#"{"fen":"?","seen":[]}"#).is_err());
}
