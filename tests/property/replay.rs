//! Replaying a table's commits gives the state that the worker had, whatever happened at the table.

use bytes::Bytes;
use proptest::prelude::*;
use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::rand_core::SeedableRng;
use serde_json::{Value, json};
use tablecast::catalog::{Catalog, Drafted, FoldError, Referee, Replica};
use tablecast::domain::{
    Cause, Closing, CommandId, Commit, Dice, Game, Identity, Kind, Opening, PresenceChange, Seat,
    Seating, StartRule, Status, TableEvent, TableId, TableOptions, TableSeq, Timestamp,
    TurnContext, Viewer,
};
use tablecast::games::chess::{Chess, Event};
use tablecast::games::liap_tui::LiapTui;
use tablecast::protocol::archive::{self, ArchivedTable, OpaqueEnvelope};
use tablecast::protocol::envelope::{Envelope, Message, SavedState, VERSION};
use tablecast::protocol::frame::Format;

use crate::pebbles::Pebbles;

const EPOCH: Timestamp = Timestamp::from_millis(1_795_000_000_000);

/// A worker's side of a table, a gateway's side, and what is in the log between them.
struct Table<G> {
    rules: Catalog,
    kind: Kind,
    table: TableId,
    seats: u8,
    referee: Box<dyn Referee>,
    replica: Box<dyn Replica>,
    log: Vec<Bytes>,
    now_ms: u64,
    dice: Dice,
    game: std::marker::PhantomData<G>,
}

fn player(seat: u8) -> Identity {
    Identity {
        player: format!("p{seat}").parse().expect("a player"),
        name: format!("Player {seat}"),
    }
}

impl<G: Game> Table<G> {
    fn open(setup: Value, (start, rematch_ms): (StartRule, u32), seed: u64) -> Self {
        let rules = Catalog::new().with::<G>();
        let kind: Kind = G::KIND.parse().expect("a kind");
        let game = rules.get(&kind).expect("a game");
        let seats = game.seats(&setup).expect("a setup");
        let seating = (0..seats).map(|seat| match seat {
            0 => Seating::Human { player: player(0).player, name: player(0).name },
            1 => Seating::Open,
            _ => Seating::Bot,
        });
        let opening = Opening {
            kind: kind.clone(),
            rules: G::RULES_VERSION,
            setup,
            options: TableOptions {
                start,
                turn_limit_ms: Some(60_000),
                rematch_ms,
                ..TableOptions::default()
            },
            seats: seating.collect(),
            host: Some(Seat(0)),
        };
        let cause = Cause::Command { player: player(0).player, id: "open".parse().expect("an id") };
        let cx = TurnContext { now: EPOCH, seed: [1; 32] };
        let table = TableId::new(EPOCH, [3; 10]);
        let (mut referee, draft) = game.open(table, opening, cause, &cx).expect("opened");
        referee.confirm();
        let (replica, _) =
            game.replica(table, &draft.payload, Timestamp::default()).expect("a first commit");
        Self {
            kind,
            table,
            seats,
            referee,
            replica,
            log: vec![draft.payload],
            now_ms: EPOCH.as_millis(),
            dice: Dice::seed_from_u64(seed),
            rules,
            game: std::marker::PhantomData,
        }
    }

    /// Something happens, or is refused.
    fn step(&mut self) {
        self.now_ms += self.dice.random_range(0..2_000);
        let cx = TurnContext { now: Timestamp::from_millis(self.now_ms), seed: self.dice.random() };
        if let Some(draft) = self.draft(&cx) {
            self.referee.confirm();
            self.replica.fold(&draft.payload, Timestamp::default()).expect("the next commit");
            self.log.push(draft.payload);
        }
    }

    fn draft(&mut self, cx: &TurnContext) -> Option<Drafted> {
        let who = player(self.dice.random_range(0..self.seats + 1));
        let id = format!("c{}", self.dice.random_range(0..50)).parse::<CommandId>();
        let id = id.expect("an id");
        if let Some(wanted) = self.wanted_rematch(id.clone(), cx) {
            return Some(wanted);
        }
        match self.dice.random_range(0..14) {
            0 => {
                let alive = self.now_ms.checked_sub(self.dice.random_range(0..3_000));
                let alive = alive.map(Timestamp::from_millis).filter(|_| self.dice.random());
                Some(self.referee.claim("w2".parse().expect("a worker"), alive, cx))
            }
            1 => {
                let change = [PresenceChange::Came, PresenceChange::Went];
                let change = *change.choose(&mut self.dice)?;
                if self.dice.random() {
                    let heard_at = Timestamp::from_millis(self.now_ms.saturating_sub(1_000));
                    return self.referee.on_gateway_lost(&who.player, heard_at, cx);
                }
                self.referee.on_presence(&who.player, change, cx)
            }
            2..=4 => {
                let due = self.referee.next_due()?;
                // Nobody does anything for a while: rarely, or every clock of chess would run out.
                if self.dice.random_ratio(1, 8) {
                    self.now_ms = self.now_ms.max(due.as_millis());
                }
                let now = Timestamp::from_millis(self.now_ms);
                if due > now {
                    return None;
                }
                self.referee.on_time(&TurnContext { now, ..*cx })
            }
            // What is due comes before bots: they know no time, and come too late like anybody.
            5..=7 if self.referee.next_due().is_some_and(|due| due <= cx.now) => {
                self.referee.on_time(cx)
            }
            5..=7 => {
                let seat = *self.referee.bots_to_act().choose(&mut self.dice)?;
                self.referee.decide_for_bot(seat, cx).expect("legal")
            }
            8..=11 => {
                let seat = Seat(self.dice.random_range(0..self.seats));
                let command = self.offered(seat)?;
                self.referee.decide(&player(seat.0), id, command, cx).ok().flatten()
            }
            _ => {
                let seat = self.dice.random_range(0..self.seats);
                let commands = [
                    json!({ "type": "table.sit", "seat": seat }),
                    json!({ "type": "table.sit" }),
                    json!({ "type": "table.leave" }),
                    json!({ "type": "table.add_bot", "seat": seat }),
                    json!({ "type": "table.remove_player", "seat": seat }),
                    json!({ "type": "table.start" }),
                    json!({ "type": "table.start" }),
                    json!({ "type": "take", "count": 2 }),
                    json!({ "type": "declare", "value": 2 }),
                    json!({ "type": "redeal_accept" }),
                    json!({ "type": "move", "san": "e4" }),
                    json!({ "type": "offer_draw" }),
                    json!({ "type": "decline_draw" }),
                    json!({ "type": "accept_draw" }),
                    json!({ "type": "claim_draw" }),
                ];
                let command = commands.choose(&mut self.dice)?.clone();
                self.referee.decide(&who, id, command, cx).ok().flatten()
            }
        }
    }

    /// Now and then a player wants another game: refused, and nothing has happened, unless this one is over.
    fn wanted_rematch(&mut self, id: CommandId, cx: &TurnContext) -> Option<Drafted> {
        let command = json!({ "type": "table.rematch" });
        let who = player(self.dice.random_range(0..2));
        let is_said: bool = self.dice.random();
        is_said.then(|| self.referee.decide(&who, id, command, cx).ok().flatten()).flatten()
    }

    /// One of the commands that a seat's view offers, if the game's views do so.
    fn offered(&mut self, seat: Seat) -> Option<Value> {
        let frame = self.replica.snapshot(Viewer::Seated(seat), Format::Json);
        let frame: Value = serde_json::from_slice(&frame).expect("a frame");
        frame["view"]["game"]["choices"].as_array()?.choose(&mut self.dice).cloned()
    }

    /// Folds the log anew, on both sides, and compares.
    fn check(&self) -> Result<(), TestCaseError> {
        let game = self.rules.get(&self.kind).expect("a game");
        let mut referee = game.referee(self.table, &self.log[0]).expect("a first commit");
        let (mut replica, _) =
            game.replica(self.table, &self.log[0], Timestamp::default()).expect("a first commit");
        for (number, payload) in self.log.iter().enumerate() {
            let envelope: Envelope<G::Event> =
                Envelope::decode(payload, self.table).expect("a commit");
            prop_assert_eq!(envelope.commit.seq.get(), number as u64 + 1);
            prop_assert_eq!(&envelope.encode(), payload);
            if number > 0 {
                referee.fold(payload).expect("the next commit");
                replica.fold(payload, Timestamp::default()).expect("the next commit");
            }
        }
        // The whole secret state, not only what somebody may see of it.
        prop_assert_eq!(format!("{referee:?}"), format!("{:?}", self.referee));
        prop_assert_eq!(referee.next_due(), self.referee.next_due());
        // And the state goes on from a snapshot as from its commits.
        let restored = game.restore(self.table, &referee.state()).expect("a state of this version");
        prop_assert_eq!(format!("{restored:?}"), format!("{referee:?}"));
        let older = SavedState { game_version: 0, ..referee.state() };
        prop_assert!(game.restore(self.table, &older).is_none());
        prop_assert_eq!(referee.status(), replica.status());
        let successor = referee.successor();
        prop_assert_eq!(&successor, &self.referee.successor());
        prop_assert_eq!(&successor, &restored.successor());
        if let Some((table, opening)) = successor {
            let cause = Cause::Rematch { from: self.table };
            let cx = TurnContext { now: EPOCH, seed: [2; 32] };
            prop_assert!(game.open(table, opening, cause, &cx).is_ok(), "it cannot be opened");
        }
        let saved = game.restore_replica(self.table, &referee.state());
        let saved = saved.expect("a state of this version");
        prop_assert!(game.restore_replica(self.table, &older).is_none());
        let archived = self.as_archived();
        for viewer in (0..self.seats).map(|seat| Viewer::Seated(Seat(seat))) {
            for (viewer, format) in [viewer, Viewer::Spectator]
                .into_iter()
                .flat_map(|viewer| Format::ALL.map(|format| (viewer, format)))
            {
                prop_assert_eq!(
                    replica.snapshot(viewer, format),
                    self.replica.snapshot(viewer, format)
                );
                for other in [&saved, &archived] {
                    prop_assert_eq!(
                        other.snapshot(viewer, format),
                        self.replica.snapshot(viewer, format)
                    );
                }
            }
        }
        Ok(())
    }
}

impl<G: Game> Table<G> {
    /// A gateway's side, from what the archive would have of it.
    fn as_archived(&self) -> Box<dyn Replica> {
        let events = self.log.iter().flat_map(|payload| {
            let envelope = OpaqueEnvelope::decode(payload, self.table).expect("a commit");
            envelope.commit.into_events().expect("all have a type")
        });
        let archived = ArchivedTable {
            table_id: self.table,
            kind: self.kind.clone(),
            rules_version: G::RULES_VERSION,
            status: archive::Status::Archived,
            reason: None,
            closing: Closing::Finished,
            opened_at: EPOCH,
            started_at: None,
            ended_at: EPOCH,
            duration_ms: None,
            commits: self.log.len() as u64,
            players: vec![],
            winners: vec![],
            scores: vec![],
            dead_letters: vec![],
            events: events.collect(),
        };
        let envelopes = archived.envelopes().expect("it is all there");
        let mut payloads = envelopes.iter().map(OpaqueEnvelope::encode);
        let first = payloads.next().expect("a first commit");
        let game = self.rules.get(&self.kind).expect("a game");
        let replica = game.replica(self.table, &first, EPOCH);
        let (mut replica, _) = replica.expect("a first commit");
        for payload in payloads {
            replica.fold(&payload, EPOCH).expect("the next commit");
        }
        replica
    }
}

fn check<G: Game>(
    setup: Value,
    options: (StartRule, u32),
    seed: u64,
    steps: usize,
) -> Result<(), TestCaseError> {
    let mut table = Table::<G>::open(setup, options, seed);
    for _ in 0..steps {
        if table.referee.status() == Status::Ended {
            break;
        }
        table.step();
    }
    table.check()
}

/// When play begins, and how long a rematch is waited for.
fn options() -> impl Strategy<Value = (StartRule, u32)> {
    let start = prop_oneof![Just(StartRule::Host), Just(StartRule::WhenFull)];
    (start, prop_oneof![1 => Just(0), 3 => Just(20_000)])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_table_of_pebbles_replays(
        seed: u64, options in options(), pebbles in 0..40u32, limit_ms in proptest::option::of(0..5_000u64),
    ) {
        let setup = json!({ "pebbles": pebbles, "limit_ms": limit_ms });
        check::<Pebbles>(setup, options, seed, 120)?;
    }

    #[test]
    fn a_table_of_liap_tui_replays(seed: u64, options in options(), steps in 0..600usize) {
        let setup = json!({ "target": 10, "pauses": { "turn_end_ms": 0, "scoring_ms": 3 } });
        check::<LiapTui>(setup, options, seed, steps)?;
    }

    #[test]
    fn a_table_of_chess_replays(
        seed: u64, options in options(), initial_ms in 1_000..200_000u64, steps in 0..600usize,
    ) {
        let setup = json!({ "initial_ms": initial_ms, "increment_ms": 1_000 });
        check::<Chess>(setup, options, seed, steps)?;
    }
}

/// As two owners without a fence would write it: each move legal, but not one after the other.
#[test]
fn a_commit_that_the_rules_cannot_follow_is_an_error_and_nothing_after_it_folds() {
    let start = StartRule::WhenFull;
    let table = Table::<Chess>::open(json!({}), (start, 0), 1);
    let commit = |seq: u64, events: Vec<TableEvent<Event>>| {
        let (seq, at, cause) = (TableSeq::new(seq), EPOCH, Cause::Clock);
        let commit = Commit { seq, at, cause, events, follow_up: Vec::new() };
        Envelope { v: VERSION, table: table.table, kind: table.kind.clone(), commit }.encode()
    };
    let moved = Event::MovePlayed {
        seat: Seat(1),
        uci: "e2e5".to_owned(),
        san: "e5".to_owned(),
        left_ms: 1,
        at: EPOCH,
    };
    let torn = commit(2, vec![TableEvent::Game(moved)]);
    let next = commit(3, Vec::new());
    let (mut referee, mut replica) = (table.referee, table.replica);
    for folded in [referee.fold(&torn), replica.fold(&torn, Timestamp::default()).map(drop)] {
        assert!(matches!(folded, Err(FoldError::Rules { .. })), "{folded:?}");
    }
    for folded in [referee.fold(&next), replica.fold(&next, Timestamp::default()).map(drop)] {
        assert!(matches!(folded, Err(FoldError::OutOfOrder { .. })), "{folded:?}");
    }
}
