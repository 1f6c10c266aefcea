//! The rules that all tables share, with a game small enough to be forgotten.

use serde::{Deserialize, Serialize};

use super::*;
use crate::domain::{
    Cause, Closing, Commit, CreditReason, Decision, Dice, FollowUp, Holder, Lifecycle, Outcome,
    Rejection, Seating, StartRule, TableEvent, TurnContext, Viewer,
};

/// Each seat draws a card that only it sees; the higher one wins.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct HighCard {
    drawn: [Option<u8>; 2],
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Setup {}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Wish {
    Draw,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Fact {
    Drawn { seat: Seat, card: u8 },
}

#[derive(Debug, thiserror::Error)]
#[error("one card each")]
struct OneEach;

impl Rejection for OneEach {
    fn code(&self) -> &'static str {
        "one_each"
    }
}

impl Game for HighCard {
    const KIND: &'static str = "high-card";
    const RULES_VERSION: u32 = 3;
    const HAS_BOTS: bool = true;
    const GRACE_MS: u32 = 5_000;

    type Setup = Setup;
    type Command = Wish;
    type Event = Fact;
    type View = Vec<Option<u8>>;
    type EventView = Fact;
    type Rejection = OneEach;

    fn seats(_setup: &Setup) -> Result<u8, String> {
        Ok(2)
    }

    fn new(_setup: Setup) -> Self {
        Self::default()
    }

    fn start(&self, _cx: &TurnContext) -> Vec<Fact> {
        Vec::new()
    }

    fn decide(&self, by: Seat, _command: Wish, cx: &TurnContext) -> Decision<Self> {
        if self.drawn[by.index()].is_some() {
            return Err(OneEach);
        }
        Ok(vec![Fact::Drawn { seat: by, card: cx.seed[0] + by.0 }])
    }

    fn evolve(&mut self, event: &Fact) {
        let Fact::Drawn { seat, card } = *event;
        self.drawn[seat.index()] = Some(card);
    }

    fn view(&self, viewer: Viewer) -> Self::View {
        let shown = |(index, card): (usize, &Option<u8>)| {
            card.filter(|_| viewer.seat().is_some_and(|seat| seat.index() == index))
        };
        self.drawn.iter().enumerate().map(shown).collect()
    }

    fn view_event(event: &Fact, viewer: Viewer) -> Option<Fact> {
        let Fact::Drawn { seat, .. } = event;
        (viewer.seat() == Some(*seat)).then(|| event.clone())
    }

    fn outcome(&self) -> Option<Outcome> {
        let [Some(first), Some(second)] = self.drawn else {
            return None;
        };
        let winner = if first > second { Seat(0) } else { Seat(1) };
        Some(Outcome { winners: vec![winner], scores: vec![i64::from(first), i64::from(second)] })
    }

    fn awaiting(&self) -> Vec<Seat> {
        (0u8..2).map(Seat).filter(|seat| self.drawn[seat.index()].is_none()).collect()
    }

    fn bot(_view: &Self::View, _seat: Seat, _dice: &mut Dice) -> Option<Wish> {
        Some(Wish::Draw)
    }
}

/// A table, the time, and the ids of commands so far.
struct Play {
    table: Table<HighCard>,
    now: u64,
    commands: u32,
}

fn identity(name: &str) -> Identity {
    Identity { player: name.parse().expect("a player id"), name: name.to_owned() }
}

fn human(name: &str) -> Seating {
    Seating::Human { player: name.parse().expect("a player id"), name: name.to_owned() }
}

fn id(text: &str) -> CommandId {
    text.parse().expect("a command id")
}

impl Play {
    fn open(seats: Vec<Seating>, options: TableOptions) -> Self {
        let opening = Opening {
            kind: Table::<HighCard>::kind(),
            rules: HighCard::RULES_VERSION,
            setup: serde_json::json!({}),
            options,
            host: seats.iter().any(|seat| *seat == human("ann")).then_some(Seat(0)),
            seats,
        };
        let cause = Cause::Command { player: identity("ann").player, id: id("open") };
        let mut play = Self { table: Table::new(&opening).unwrap(), now: 1_000, commands: 0 };
        let first = Table::<HighCard>::open(opening, cause, &play.cx()).unwrap();
        play.table.evolve(&first);
        play
    }

    fn cx(&self) -> TurnContext {
        TurnContext { now: Timestamp::from_millis(self.now), seed: [7; 32] }
    }

    fn fold(&mut self, commit: Option<Commit<Fact>>) -> Vec<TableEvent<Fact>> {
        let Some(commit) = commit else {
            return Vec::new();
        };
        assert_eq!(commit.seq, self.table.last_seq().next());
        self.table.evolve(&commit);
        commit.events
    }

    fn act(
        &mut self,
        name: &str,
        command: TableCommand<Wish>,
    ) -> Result<Vec<TableEvent<Fact>>, &'static str> {
        self.commands += 1;
        let id = id(&format!("c{}", self.commands));
        let decided = self.table.decide(&identity(name), id, command, &self.cx());
        decided.map(|commit| self.fold(commit)).map_err(|refused| refused.code())
    }

    fn seat(
        &mut self,
        name: &str,
        command: SeatCommand,
    ) -> Result<Vec<TableEvent<Fact>>, &'static str> {
        self.act(name, TableCommand::Table(command))
    }

    fn draw(&mut self, name: &str) -> Result<Vec<TableEvent<Fact>>, &'static str> {
        self.act(name, TableCommand::Game(Wish::Draw))
    }

    fn presence(&mut self, name: &str, change: PresenceChange) -> Vec<TableEvent<Fact>> {
        let commit = self.table.on_presence(&identity(name).player, change, &self.cx());
        self.fold(commit)
    }

    fn pass_ms(&mut self, millis: u64) -> Vec<TableEvent<Fact>> {
        self.now += millis;
        let commit = self.table.on_time(&self.cx());
        self.fold(commit)
    }
}

fn with_bot() -> Play {
    let mut play = Play::open(vec![human("ann"), Seating::Bot], TableOptions::default());
    play.seat("ann", SeatCommand::Start).unwrap();
    play
}

fn two_players() -> Play {
    let mut play = Play::open(vec![human("ann"), Seating::Open], TableOptions::default());
    play.seat("bea", SeatCommand::Sit { seat: None }).unwrap();
    play.seat("ann", SeatCommand::Start).unwrap();
    play
}

#[test]
fn a_game_ends_with_its_summary_and_states_what_must_follow() {
    let mut play = two_players();
    play.draw("ann").unwrap();
    let decided =
        play.table.decide(&identity("bea"), id("last"), TableCommand::Game(Wish::Draw), &play.cx());
    let commit = decided.unwrap().unwrap();
    assert_eq!(commit.follow_up, [FollowUp::Complete]);
    play.table.evolve(&commit);
    assert_eq!(play.table.status(), Status::Ended);
    let summary = play.table.summary().unwrap();
    assert_eq!((summary.closing, &summary.winners), (Closing::Finished, &vec![Seat(1)]));
    assert_eq!(summary.players[1].player, Some(identity("bea").player));
    assert_eq!(play.draw("ann"), Err("game_over"));
}

#[test]
fn a_command_sent_again_is_recognised() {
    let mut play = two_players();
    let decided =
        play.table.decide(&identity("ann"), id("once"), TableCommand::Game(Wish::Draw), &play.cx());
    play.fold(decided.unwrap());
    let verdict = play.table.verdict_on(&identity("ann").player, &id("once"));
    assert_eq!(verdict, Some(play.table.last_seq()));
    assert_eq!(play.table.verdict_on(&identity("bea").player, &id("once")), None);
}

#[test]
fn only_the_host_changes_seats_and_only_before_the_start() {
    let mut play = Play::open(vec![human("ann"), Seating::Open], TableOptions::default());
    assert_eq!(play.seat("ann", SeatCommand::Start), Err("seats_open"));
    assert_eq!(play.seat("bea", SeatCommand::AddBot { seat: Seat(1) }), Err("not_host"));
    assert_eq!(play.seat("ann", SeatCommand::AddBot { seat: Seat(9) }), Err("no_such_seat"));
    assert_eq!(play.seat("ann", SeatCommand::RemovePlayer { seat: Seat(0) }), Err("own_seat"));
    play.seat("ann", SeatCommand::AddBot { seat: Seat(1) }).unwrap();
    // A bot makes room for a human.
    play.seat("bea", SeatCommand::Sit { seat: None }).unwrap();
    assert_eq!(play.seat("ann", SeatCommand::AddBot { seat: Seat(1) }), Err("seat_taken"));
    assert_eq!(play.seat("cid", SeatCommand::Sit { seat: None }), Err("no_free_seat"));
    assert_eq!(play.seat("bea", SeatCommand::Sit { seat: Some(Seat(0)) }), Err("already_seated"));
    assert_eq!(play.draw("ann"), Err("not_started"));
    play.seat("ann", SeatCommand::Start).unwrap();
    assert_eq!(play.seat("ann", SeatCommand::Start), Err("already_started"));
    assert_eq!(play.seat("cid", SeatCommand::Sit { seat: None }), Err("already_started"));
    assert_eq!(play.draw("cid"), Err("not_seated"));
}

#[test]
fn a_host_that_leaves_before_the_start_closes_the_table() {
    let mut play = Play::open(vec![human("ann"), Seating::Open], TableOptions::default());
    play.seat("ann", SeatCommand::Leave).unwrap();
    assert_eq!(play.table.summary().unwrap().closing, Closing::Closed);
}

#[test]
fn a_full_table_starts_by_itself_when_it_is_told_to() {
    let options = TableOptions { start: StartRule::WhenFull, ..TableOptions::default() };
    let mut play = Play::open(vec![Seating::Open, Seating::Bot], options);
    assert_eq!(play.table.status(), Status::Waiting);
    play.seat("cid", SeatCommand::Sit { seat: None }).unwrap();
    assert_eq!(play.table.status(), Status::Running);
}

#[test]
fn after_the_grace_a_bot_plays_on_and_the_player_may_come_back() {
    let mut play = two_players();
    play.presence("bea", PresenceChange::Went);
    assert!(play.table.bots_to_act().is_empty(), "the grace has begun, no more");
    assert!(!play.table.seat_views()[1].present);
    let events = play.pass_ms(5_000);
    assert_eq!(events, [TableEvent::Lifecycle(Lifecycle::SeatTakenByBot { seat: Seat(1) })]);
    assert_eq!(play.table.bots_to_act(), [Seat(1)]);
    play.presence("bea", PresenceChange::Came);
    assert!(play.table.bots_to_act().is_empty());
    assert_eq!(play.table.seat_views()[1].holder, Holder::Human);
}

#[test]
fn a_player_who_is_back_within_the_grace_has_lost_nothing() {
    let mut play = two_players();
    play.presence("bea", PresenceChange::Went);
    play.presence("bea", PresenceChange::Came);
    assert_eq!(play.pass_ms(60_000), []);
}

#[test]
fn a_move_takes_the_seat_back_from_the_bot() {
    let mut play = two_players();
    play.seat("bea", SeatCommand::Leave).unwrap();
    let events = play.draw("bea").unwrap();
    assert_eq!(events[0], TableEvent::Lifecycle(Lifecycle::SeatReturned { seat: Seat(1) }));
    assert_eq!(events.len(), 2);
}

#[test]
fn the_host_hands_over_to_a_player_who_is_here() {
    let mut play = two_players();
    let events = play.seat("ann", SeatCommand::Leave).unwrap();
    assert!(events.contains(&TableEvent::Lifecycle(Lifecycle::HostChanged { to: Seat(1) })));
    play.seat("ann", SeatCommand::Sit { seat: None }).unwrap();
    assert_eq!(play.table.host(), Some(Seat(1)), "rights do not return by themselves");
}

#[test]
fn a_table_that_everyone_left_is_dropped_after_a_while() {
    let mut play = with_bot();
    play.seat("ann", SeatCommand::Leave).unwrap();
    assert_eq!(play.pass_ms(29_999), []);
    play.pass_ms(1);
    assert_eq!(play.table.summary().unwrap().closing, Closing::Abandoned);
}

#[test]
fn a_table_of_bots_alone_is_not_deserted() {
    let options = TableOptions { start: StartRule::WhenFull, ..TableOptions::default() };
    let mut play = Play::open(vec![Seating::Bot, Seating::Bot], options);
    assert_eq!(play.pass_ms(1_000_000), []);
    let decided = play.table.decide_for_bot(Seat(0), &play.cx());
    assert_eq!(play.fold(decided.unwrap()).len(), 1);
}

#[test]
fn a_limit_on_thinking_makes_one_decision_and_leaves_the_seat_to_its_player() {
    let options = TableOptions { turn_limit_ms: Some(2_000), ..TableOptions::default() };
    let mut play = Play::open(vec![human("ann"), Seating::Bot], options);
    play.seat("ann", SeatCommand::Start).unwrap();
    assert_eq!(play.table.next_due(), Some(Timestamp::from_millis(3_000)));
    let events = play.pass_ms(2_000);
    assert_eq!(events, [TableEvent::Game(Fact::Drawn { seat: Seat(0), card: 7 })]);
    assert!(!play.table.seat_views()[0].bot_plays);
}

/// Two players, or one and a bot, who have 20 seconds to agree on another game.
fn over(seats: Vec<Seating>) -> Play {
    let options = TableOptions { rematch_ms: 20_000, ..TableOptions::default() };
    let has_bot = seats.contains(&Seating::Bot);
    let mut play = Play::open(seats, options);
    play.seat("ann", SeatCommand::Start).unwrap();
    play.draw("ann").unwrap();
    if has_bot {
        let decided = play.table.decide_for_bot(Seat(1), &play.cx());
        play.fold(decided.unwrap());
    } else {
        play.draw("bea").unwrap();
    }
    play
}

fn closing(play: &Play) -> Option<Closing> {
    play.table.summary().map(|summary| summary.closing)
}

#[test]
fn a_game_that_is_over_waits_for_its_players_and_no_longer() {
    let mut play = over(vec![human("ann"), human("bea")]);
    assert_eq!(play.table.status(), Status::Running);
    assert_eq!(play.table.next_due(), Some(Timestamp::from_millis(21_000)));
    let view = play.table.view(Viewer::Spectator);
    assert_eq!(view.rematch.unwrap().until, Timestamp::from_millis(21_000));
    assert_eq!(view.result.unwrap().winners, [Seat(1)]);
    // Nothing of the game goes on.
    assert_eq!(play.draw("ann"), Err("game_over"));
    assert_eq!(play.seat("cid", SeatCommand::Sit { seat: None }), Err("already_started"));
    assert_eq!(play.seat("cid", SeatCommand::Rematch), Err("not_seated"));
    let wanted = TableEvent::Lifecycle(Lifecycle::RematchWanted { seat: Seat(1) });
    assert_eq!(play.seat("bea", SeatCommand::Rematch), Ok(vec![wanted]));
    assert_eq!(play.seat("bea", SeatCommand::Rematch), Ok(Vec::new()), "once is enough");
    assert_eq!(play.table.view(Viewer::Spectator).rematch.unwrap().wanted, [Seat(1)]);
    assert_eq!(play.pass_ms(19_999), []);
    play.now += 1;
    assert_eq!(play.seat("ann", SeatCommand::Rematch), Err("no_rematch"));
    play.now -= 1;
    assert_eq!(play.pass_ms(1).len(), 1);
    let summary = play.table.summary().unwrap();
    assert_eq!((summary.closing, &summary.winners), (Closing::Finished, &vec![Seat(1)]));
    assert_eq!(summary.ended_at, Timestamp::from_millis(1_000), "when the game ended");
    assert_eq!(play.table.successor(), None);
    assert_eq!(play.table.view(Viewer::Spectator).rematch, None);
    assert_eq!(play.seat("ann", SeatCommand::Rematch), Err("no_rematch"));
}

#[test]
fn a_table_without_time_for_it_has_no_rematch() {
    let mut play = two_players();
    assert_eq!(play.seat("ann", SeatCommand::Rematch), Err("no_rematch"), "the game goes on");
    play.draw("ann").unwrap();
    play.draw("bea").unwrap();
    assert_eq!(play.table.status(), Status::Ended);
    assert_eq!(play.seat("ann", SeatCommand::Rematch), Err("no_rematch"));
}

#[test]
fn players_who_agree_go_on_at_a_table_that_the_commit_names() {
    let mut play = over(vec![human("ann"), human("bea")]);
    play.seat("ann", SeatCommand::Rematch).unwrap();
    play.now += 500;
    let command = TableCommand::Table(SeatCommand::Rematch);
    let decided = play.table.decide(&identity("bea"), id("again"), command, &play.cx());
    let commit = decided.unwrap().unwrap();
    assert_eq!(commit.follow_up, [FollowUp::OpenSuccessor, FollowUp::Complete], "in this order");
    play.table.evolve(&commit);
    let (table, opening) = play.table.successor().unwrap();
    assert_eq!(table.opened_at(), Timestamp::from_millis(1_500));
    assert_eq!(
        commit.events[..2],
        [
            TableEvent::Lifecycle(Lifecycle::RematchWanted { seat: Seat(1) }),
            TableEvent::Lifecycle(Lifecycle::Succeeded { table }),
        ]
    );
    assert_eq!((closing(&play), commit.events.len()), (Some(Closing::Finished), 3));
    assert_eq!(play.table.view(Viewer::Spectator).successor, Some(table));
    assert_eq!((opening.host, opening.seats.len()), (Some(Seat(0)), 2));
    assert_eq!(opening.seats, [human("ann"), human("bea")]);
    // Whoever opens it, it begins at once.
    let cause = Cause::Rematch { from: table };
    let first = Table::<HighCard>::open(opening, cause, &play.cx()).unwrap();
    assert!(first.events.contains(&TableEvent::Lifecycle(Lifecycle::Started)));
}

#[test]
fn a_rematch_may_be_followed_by_another() {
    let mut ids = std::collections::BTreeSet::new();
    let mut play = over(vec![human("ann"), Seating::Bot]);
    for round in 0..3 {
        play.seat("ann", SeatCommand::Rematch).unwrap();
        let (table, opening) = play.table.successor().expect("bots always want another");
        assert!(ids.insert(table), "{table} again");
        play = Play { now: play.now + 1, ..Play::open(opening.seats.clone(), opening.options) };
        play.now += 10_000 * round;
        assert_eq!(play.table.status(), Status::Running);
        play.draw("ann").unwrap();
        let decided = play.table.decide_for_bot(Seat(1), &play.cx());
        play.fold(decided.unwrap());
    }
}

#[test]
fn who_leaves_has_no_say_and_does_not_come_along() {
    let mut play = over(vec![human("ann"), human("bea")]);
    play.seat("bea", SeatCommand::Rematch).unwrap();
    let events = play.seat("ann", SeatCommand::Leave).unwrap();
    assert!(events.contains(&TableEvent::Lifecycle(Lifecycle::HostChanged { to: Seat(1) })));
    let (_, opening) = play.table.successor().expect("all who stayed agree");
    assert_eq!(opening.seats, [Seating::Bot, human("bea")]);
    assert_eq!(opening.host, Some(Seat(1)));
}

#[test]
fn a_wish_goes_with_its_player_and_must_be_said_again() {
    let mut play = over(vec![human("ann"), human("bea")]);
    play.seat("ann", SeatCommand::Rematch).unwrap();
    play.seat("ann", SeatCommand::Leave).unwrap();
    play.seat("ann", SeatCommand::Sit { seat: None }).unwrap();
    play.seat("bea", SeatCommand::Rematch).unwrap();
    assert_eq!(closing(&play), None, "ann is back, and has not said it again");
    play.seat("ann", SeatCommand::Rematch).unwrap();
    assert!(play.table.successor().is_some());
}

#[test]
fn a_rematch_waits_for_who_is_away_until_they_have_left() {
    let mut play = over(vec![human("ann"), human("bea")]);
    play.presence("bea", PresenceChange::Went);
    play.seat("ann", SeatCommand::Rematch).unwrap();
    assert_eq!(closing(&play), None);
    assert!(play.table.successor().is_none());
    play.pass_ms(5_000);
    assert_eq!(play.table.successor().unwrap().1.seats, [human("ann"), Seating::Bot]);
}

#[test]
fn a_table_that_everyone_leaves_waits_for_nobody() {
    let mut play = over(vec![human("ann"), human("bea")]);
    play.seat("ann", SeatCommand::Leave).unwrap();
    play.seat("bea", SeatCommand::Leave).unwrap();
    assert_eq!((closing(&play), play.table.successor()), (Some(Closing::Finished), None));
}

#[test]
fn bots_alone_do_not_go_on_for_ever() {
    let options =
        TableOptions { start: StartRule::WhenFull, rematch_ms: 20_000, ..TableOptions::default() };
    let mut play = Play::open(vec![Seating::Bot, Seating::Bot], options);
    for seat in [Seat(0), Seat(1)] {
        let decided = play.table.decide_for_bot(seat, &play.cx());
        play.fold(decided.unwrap());
    }
    assert_eq!((closing(&play), play.table.successor()), (Some(Closing::Finished), None));
}

#[test]
fn time_without_an_owner_is_given_back_to_who_may_want_a_rematch() {
    let mut play = over(vec![human("ann"), human("bea")]);
    play.now = 31_000;
    assert_eq!(play.claim(Some(2_000)), Some((29_000, CreditReason::NoOwner)));
    assert_eq!(play.table.next_due(), Some(Timestamp::from_millis(50_000)));
    play.seat("ann", SeatCommand::Rematch).unwrap();
    play.seat("bea", SeatCommand::Rematch).unwrap();
    assert!(play.table.successor().is_some());
}

fn limited() -> Play {
    let options = TableOptions { turn_limit_ms: Some(2_000), ..TableOptions::default() };
    let mut play = Play::open(vec![human("ann"), Seating::Bot], options);
    play.seat("ann", SeatCommand::Start).unwrap();
    play
}

fn credited(events: &[TableEvent<Fact>]) -> Option<(u64, CreditReason)> {
    events.iter().find_map(|event| match event {
        TableEvent::Lifecycle(Lifecycle::Credited { ms, reason }) => Some((*ms, *reason)),
        TableEvent::Lifecycle(_) | TableEvent::Game(_) => None,
    })
}

impl Play {
    fn claim(&mut self, alive_until: Option<u64>) -> Option<(u64, CreditReason)> {
        let alive_until = alive_until.map(Timestamp::from_millis);
        let commit = self.table.claim("w2".parse().unwrap(), alive_until, &self.cx());
        credited(&self.fold(Some(commit)))
    }

    fn lose_gateway(&mut self, name: &str, heard_at: u64) {
        let heard_at = Timestamp::from_millis(heard_at);
        let lost = self.table.on_gateway_lost(&identity(name).player, heard_at, &self.cx());
        self.fold(lost);
    }
}

#[test]
fn time_without_an_owner_is_given_back_once() {
    let mut play = limited();
    play.now = 2_500;
    assert_eq!(play.claim(Some(1_700)), Some((800, CreditReason::NoOwner)));
    assert_eq!(play.table.next_due(), Some(Timestamp::from_millis(3_800)));
    // Another adopter that heard nothing since gives back only what came after.
    play.now = 2_600;
    assert_eq!(play.claim(Some(1_700)), Some((100, CreditReason::NoOwner)));
    assert_eq!(play.pass_ms(1_299), []);
    assert_eq!(play.pass_ms(1).len(), 1);
}

#[test]
fn without_a_sign_of_life_an_owner_is_gone_since_its_last_commit() {
    let mut play = limited();
    play.now = 9_000;
    assert_eq!(play.claim(None), Some((8_000, CreditReason::NoOwner)));
    assert_eq!(play.table.next_due(), Some(Timestamp::from_millis(11_000)));
    // A table without a clock has nothing to be given back.
    let mut play = two_players();
    play.now = 9_000;
    assert_eq!(play.claim(None), None);
}

#[test]
fn clocks_stand_still_while_the_gateway_of_who_is_awaited_is_gone() {
    let mut play = limited();
    play.now = 2_900;
    play.lose_gateway("ann", 2_000);
    assert_eq!(play.table.next_due(), Some(Timestamp::from_millis(12_900)), "the grace, no clock");
    assert_eq!(play.pass_ms(5_000), []);
    let events = play.presence("ann", PresenceChange::Came);
    assert_eq!(credited(&events), Some((5_900, CreditReason::GatewayLost)));
    assert_eq!(play.table.next_due(), Some(Timestamp::from_millis(8_900)));
    assert_eq!(play.pass_ms(1_000).len(), 1);
}

#[test]
fn the_loss_of_a_gateway_stops_no_clock_of_others() {
    let options = TableOptions { turn_limit_ms: Some(2_000), ..TableOptions::default() };
    let mut play = Play::open(vec![human("ann"), human("bea")], options);
    play.seat("ann", SeatCommand::Start).unwrap();
    play.draw("bea").unwrap();
    play.lose_gateway("bea", play.now);
    let drawn = TableEvent::Game(Fact::Drawn { seat: Seat(0), card: 7 });
    assert_eq!(play.pass_ms(2_000)[0], drawn, "ann's decision is made for her");
}

#[test]
fn a_move_of_another_player_gives_a_standing_clock_its_time() {
    let options = TableOptions { turn_limit_ms: Some(2_000), ..TableOptions::default() };
    let mut play = Play::open(vec![human("ann"), human("bea")], options);
    play.seat("ann", SeatCommand::Start).unwrap();
    play.lose_gateway("ann", 1_000);
    play.now = 4_000;
    let events = play.draw("bea").unwrap();
    assert_eq!(credited(&events), Some((3_000, CreditReason::GatewayLost)));
    play.now = 5_000;
    let events = play.presence("ann", PresenceChange::Came);
    assert_eq!(credited(&events), Some((1_000, CreditReason::GatewayLost)));
}

#[test]
fn who_does_not_come_back_is_played_for_and_clocks_go_on() {
    let mut play = limited();
    play.lose_gateway("ann", 1_000);
    let events = play.pass_ms(10_000);
    assert_eq!(credited(&events), Some((10_000, CreditReason::GatewayLost)));
    assert_eq!(play.table.bots_to_act(), [Seat(0), Seat(1)]);
}

#[test]
fn a_claim_keeps_what_a_standing_clock_was_owed() {
    let mut play = limited();
    play.now = 2_000;
    play.lose_gateway("ann", 1_500);
    play.now = 4_000;
    assert_eq!(play.claim(Some(3_900)), Some((2_500, CreditReason::NoOwner)));
    play.now = 5_000;
    let events = play.presence("ann", PresenceChange::Came);
    assert_eq!(credited(&events), Some((1_000, CreditReason::GatewayLost)));
}

#[test]
fn views_and_events_keep_a_drawn_card_to_its_seat() {
    let mut play = two_players();
    let events = play.draw("ann").unwrap();
    assert_eq!(play.table.view(Viewer::Seated(Seat(0))).game, [Some(7), None]);
    for other in [Viewer::Seated(Seat(1)), Viewer::Spectator] {
        assert_eq!(play.table.view(other).game, [None, None]);
        assert_eq!(events[0].view::<HighCard>(other), None);
    }
}

#[test]
fn account_ids_are_in_no_view() {
    let play = two_players();
    let view = serde_json::to_string(&play.table.view(Viewer::Spectator)).unwrap();
    assert!(view.contains("\"name\":\"bea\""), "{view}");
    assert!(!view.contains("player_id") && !view.contains("\"player\""), "{view}");
}

#[test]
fn what_cannot_be_played_is_not_opened() {
    let open = |seats: Vec<Seating>, options| {
        let opening = Opening {
            kind: Table::<HighCard>::kind(),
            rules: 3,
            setup: serde_json::json!({}),
            options,
            seats,
            host: None,
        };
        let cx = TurnContext { now: Timestamp::default(), seed: [0; 32] };
        Table::<HighCard>::open(opening, Cause::Clock, &cx).map_err(|rule| rule.code()).map(|_| ())
    };
    assert_eq!(open(vec![Seating::Open], TableOptions::default()), Err("bad_opening"));
    let delays = TableOptions { bot_delay_ms: (5, 1), ..TableOptions::default() };
    assert_eq!(open(vec![Seating::Open, Seating::Open], delays), Err("bad_opening"));
}
