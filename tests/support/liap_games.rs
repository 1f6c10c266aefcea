//! Whole games of Liap Tui as their tables' commits, and their twins: the same but for what a viewer may not know.

use bytes::Bytes;
use rand::RngExt;
use rand::seq::{IndexedRandom, SliceRandom};
use serde_json::{Value, json};
use tablecast::catalog::{Catalog, Drafted, Referee};
use tablecast::domain::{
    Cause, Commit, Dice, Game, Identity, Kind, Opening, PresenceChange, Seat, Seating, StartRule,
    Status, TableEvent, TableId, TableOptions, Timestamp, TurnContext, Viewer,
};
use tablecast::games::liap_tui::piece::{Hands, Piece, is_weak};
use tablecast::games::liap_tui::play::Play;
use tablecast::games::liap_tui::{Command, Event, LiapTui, Pauses, Phase, Setup};
use tablecast::protocol::envelope::{Envelope, Message, VERSION};

pub(crate) const SEATS: [Seat; 4] = [Seat(0), Seat(1), Seat(2), Seat(3)];

/// When the games begin.
pub(crate) const EPOCH: Timestamp = Timestamp::from_millis(1_795_000_000_000);

pub(crate) type LiapCommit = Commit<Event>;

pub(crate) fn kind() -> Kind {
    LiapTui::KIND.parse().expect("a kind")
}

pub(crate) fn viewers() -> impl Iterator<Item = Viewer> {
    let seats = SEATS.into_iter().map(Viewer::Seated);
    seats.chain([Viewer::Spectator])
}

/// The player of a seat.
pub(crate) fn player(seat: Seat) -> Identity {
    Identity {
        player: format!("p{seat}").parse().expect("a player"),
        name: format!("Player {seat}"),
    }
}

pub(crate) fn encode(table: TableId, commit: &LiapCommit) -> Bytes {
    let envelope = Envelope { v: VERSION, table, kind: kind(), commit: commit.clone() };
    envelope.encode()
}

/// Plays a whole game at one table: four players, who come and go, and owners that change.
pub(crate) fn play(seed: u64, target: i64) -> Vec<LiapCommit> {
    Play4::new(seed, target).play_on()
}

/// Games in which weak seats decide on a redeal.
pub(crate) fn games_with_weak_hands(target: i64) -> impl Iterator<Item = Vec<LiapCommit>> {
    let has_weak_hands = |game: &Vec<LiapCommit>| {
        let mut events = game.iter().flat_map(|commit| &commit.events);
        events.any(|event| matches!(event, TableEvent::Game(Event::WeakHandsFound { .. })))
    };
    (0..).map(move |seed| play(seed, target)).filter(has_weak_hands)
}

struct Play4 {
    dice: Dice,
    now_ms: u64,
    table: TableId,
    referee: Box<dyn Referee>,
    game: LiapTui,
    commits: Vec<LiapCommit>,
}

impl Play4 {
    fn new(seed: u64, target: i64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let first = TurnContext { now: EPOCH, seed: bytes };
        let setup = Setup { target, pauses: Pauses::default().scaled(0.01), ..Setup::default() };
        let opening = Opening {
            kind: kind(),
            rules: LiapTui::RULES_VERSION,
            setup: serde_json::to_value(&setup).expect("plain data"),
            options: TableOptions { start: StartRule::WhenFull, ..TableOptions::default() },
            seats: SEATS.map(seating).to_vec(),
            host: Some(Seat(0)),
        };
        let table = TableId::new(EPOCH, [7; 10]);
        let cause =
            Cause::Command { player: player(Seat(0)).player, id: "open".parse().expect("an id") };
        let catalog = Catalog::new().with::<LiapTui>();
        let rules = catalog.get(&kind()).expect("a game");
        let opened = rules.open(table, opening, cause, &first);
        let (referee, draft) = opened.expect("a table");
        let mut play = Self {
            dice: first.dice(),
            now_ms: EPOCH.as_millis(),
            table,
            referee,
            game: LiapTui::new(setup),
            commits: Vec::new(),
        };
        play.confirm(&draft);
        play
    }

    fn play_on(mut self) -> Vec<LiapCommit> {
        while self.referee.status() != Status::Ended {
            if let Some(draft) = self.draft() {
                self.confirm(&draft);
            }
        }
        self.commits
    }

    fn confirm(&mut self, draft: &Drafted) {
        let decoded = Envelope::<Event>::decode(&draft.payload, self.table);
        let commit = decoded.expect("our own commit").commit;
        evolve(&mut self.game, &commit);
        self.commits.push(commit);
        self.referee.confirm();
    }

    fn draft(&mut self) -> Option<Drafted> {
        let cx = self.cx();
        if self.dice.random_bool(0.02) {
            return Some(self.referee.claim("w1".parse().expect("a worker"), None, &cx));
        }
        if self.dice.random_bool(0.05) {
            let who = player(*SEATS.choose(&mut self.dice)?).player;
            let change = [PresenceChange::Came, PresenceChange::Went];
            let change = *change.choose(&mut self.dice)?;
            return self.referee.on_presence(&who, change, &cx);
        }
        let awaiting = self.game.awaiting();
        let is_late = awaiting.is_empty() || self.dice.random_bool(0.05);
        if let Some(due) = self.referee.next_due().filter(|_| is_late) {
            self.now_ms = self.now_ms.max(due.as_millis());
            let cx = self.cx();
            return self.referee.on_time(&cx);
        }
        let seat = *awaiting.choose(&mut self.dice)?;
        if self.referee.bots_to_act().contains(&seat) {
            return self.referee.decide_for_bot(seat, &cx).expect("legal");
        }
        let view = self.game.view(Viewer::Seated(seat));
        let command = LiapTui::bot(&view, seat, &mut self.dice).expect("a choice");
        let id = format!("c{}", self.commits.len()).parse().expect("an id");
        let command = serde_json::to_value(command).expect("plain data");
        let decided = self.referee.decide(&player(seat), id, command, &cx);
        decided.expect("a legal command")
    }

    fn cx(&mut self) -> TurnContext {
        self.now_ms += 1;
        TurnContext { now: Timestamp::from_millis(self.now_ms), seed: self.dice.random() }
    }
}

fn seating(seat: Seat) -> Seating {
    let Identity { player, name } = player(seat);
    Seating::Human { player, name }
}

fn evolve(game: &mut LiapTui, commit: &LiapCommit) {
    for event in &commit.events {
        if let TableEvent::Game(event) = event {
            game.evolve(event);
        }
    }
}

/// The game after these commits.
pub(crate) fn game_after(commits: &[LiapCommit]) -> LiapTui {
    let mut game = LiapTui::new(Setup::default());
    commits.iter().for_each(|commit| evolve(&mut game, commit));
    game
}

/// Another history that this viewer cannot tell from the real one, if there is any.
pub(crate) fn twin(
    commits: &[LiapCommit],
    viewer: Viewer,
    dice: &mut Dice,
) -> Option<Vec<LiapCommit>> {
    let is_other = |seat: &Seat| viewer != Viewer::Seated(*seat);
    let others: Vec<Seat> = SEATS.into_iter().filter(is_other).collect();
    let game = game_after(commits);
    let mut twin = commits.to_vec();
    let mut events: Vec<&mut Event> = twin
        .iter_mut()
        .flat_map(|commit| &mut commit.events)
        .filter_map(|event| match event {
            TableEvent::Game(event) => Some(event),
            TableEvent::Lifecycle(_) => None,
        })
        .collect();
    exchange_redealt_hands(&mut events, &others, dice);
    exchange_hidden_pieces(&mut events, &game, &others, dice);
    change_secret_decisions(&mut events, &others, dice);
    (twin != commits).then_some(twin)
}

/// Whose hand is weak is public.
fn weak(hands: &Hands) -> [bool; 4] {
    hands.each_ref().map(|hand| is_weak(hand))
}

/// Hands that were taken back are nobody's business any more but their own seats'.
fn exchange_redealt_hands(events: &mut [&mut Event], others: &[Seat], dice: &mut Dice) {
    let mut last_deal: Option<&mut Hands> = None;
    for event in events {
        let is_redeal = matches!(event, Event::RedealExecuted { .. });
        if let Event::PiecesDealt { hands, .. } = &mut **event {
            last_deal = Some(hands);
        } else if is_redeal {
            let hands = last_deal.take().expect("a deal before it is taken back");
            let slots = others.iter().flat_map(|seat| {
                let held = hands[seat.index()].clone().into_iter();
                held.map(|piece| Hidden { seat: *seat, piece, is_played: false })
            });
            let slots: Vec<Hidden> = slots.collect();
            if let Some(pieces) = exchanged(&slots, hands, dice) {
                deal_instead(hands, &slots, &pieces);
            }
        }
    }
}

/// Where a piece is that only its seat can see.
#[derive(Clone, Copy, Debug)]
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

/// Other pieces for these places, so that the same seats are weak and hold `GENERAL_RED`, which may have
/// made its seat the starter.
fn exchanged(slots: &[Hidden], dealt: &Hands, dice: &mut Dice) -> Option<Vec<Piece>> {
    for _ in 0..50 {
        let mut pieces: Vec<Piece> = slots.iter().map(|slot| slot.piece).collect();
        pieces.shuffle(dice);
        let mut hands = dealt.clone();
        deal_instead(&mut hands, slots, &pieces);
        let holder =
            |hands: &Hands| hands.iter().position(|hand| hand.contains(&Piece::GeneralRed));
        if weak(&hands) == weak(dealt) && holder(&hands) == holder(dealt) {
            return Some(pieces);
        }
    }
    None
}

fn deal_instead(hands: &mut Hands, slots: &[Hidden], pieces: &[Piece]) {
    for slot in slots {
        let hand = &mut hands[slot.seat.index()];
        let place = hand.iter().position(|piece| *piece == slot.piece);
        hand.remove(place.expect("what is hidden was dealt"));
    }
    for (slot, piece) in slots.iter().zip(pieces) {
        hands[slot.seat.index()].push(*piece);
    }
}

fn exchange_hidden_pieces(
    events: &mut [&mut Event],
    game: &LiapTui,
    others: &[Seat],
    dice: &mut Dice,
) {
    let slots: Vec<Hidden> = others.iter().flat_map(|seat| hidden(game, *seat)).collect();
    let deal = events.iter_mut().rev().find_map(|event| {
        if let Event::PiecesDealt { hands, .. } = &mut **event { Some(hands) } else { None }
    });
    let Some(hands) = deal.filter(|_| !slots.is_empty()) else {
        return;
    };
    let Some(pieces) = exchanged(&slots, hands, dice) else {
        return;
    };
    deal_instead(hands, &slots, &pieces);
    for seat in others {
        let of_play = |(slot, _): &(&Hidden, &Piece)| slot.seat == *seat && slot.is_played;
        let played: Vec<Piece> =
            slots.iter().zip(&pieces).filter(of_play).map(|(_, piece)| *piece).collect();
        if !played.is_empty() {
            play_instead(events, Play::new(*seat, played));
        }
    }
}

fn play_instead(events: &mut [&mut Event], play: Play) {
    for event in events.iter_mut().rev() {
        if let Event::PiecesPlayed { seat, pieces, play_type, strength, .. } = &mut **event
            && *seat == play.seat
        {
            assert_eq!(pieces.len(), play.pieces.len());
            (*pieces, *play_type, *strength) = (play.pieces, play.play_type, play.strength);
            return;
        }
    }
    panic!("a play in progress was made");
}

/// What others have said to a redeal that is not decided.
fn change_secret_decisions(events: &mut [&mut Event], others: &[Seat], dice: &mut Dice) {
    for event in events.iter_mut().rev() {
        let Event::RedealDecisionMade { seat, accepted, by_timeout } = &mut **event else {
            return;
        };
        if others.contains(seat) {
            *accepted = dice.random();
            *by_timeout = dice.random();
        }
    }
}

/// Commands of every sort, most of them illegal at most times.
pub(crate) fn attempts(own_hand: &[Piece]) -> Vec<Value> {
    let play = |pieces: &[Piece]| {
        let pieces = pieces.to_vec();
        serde_json::to_value(Command::Play { pieces }).expect("plain data")
    };
    let mut all = vec![
        json!({ "type": "redeal_accept" }),
        json!({ "type": "redeal_decline" }),
        json!({ "type": "table.start" }),
        json!({ "type": "table.sit", "seat": 1 }),
        json!({ "type": "table.remove_player", "seat": 2 }),
        json!({ "type": "peek" }),
        play(&[]),
        play(&Piece::KINDS[..7]),
    ];
    all.extend((-1..10).map(|value| json!({ "type": "declare", "value": value })));
    all.extend(Piece::KINDS.map(|piece| play(&[piece])));
    all.extend(Piece::KINDS.map(|piece| play(&[piece, piece])));
    all.extend((1..own_hand.len()).map(|count| play(&own_hand[..count])));
    all
}

/// A short name of what is hidden at this moment, for coverage.
pub(crate) fn moment(commits: &[LiapCommit]) -> (Phase, usize, bool) {
    let view = game_after(commits).view(Viewer::Spectator);
    (view.phase, view.plays.len(), view.redeal.is_some())
}
