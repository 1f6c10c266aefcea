//! What the tests of Liap Tui share: contexts, given facts, players.

use rand::RngExt;
use rand::seq::{IndexedRandom, SliceRandom};
use tablecast::domain::{Dice, Game, Seat, Timestamp, TurnContext, Viewer};
use tablecast::games::liap_tui::piece::{HAND_SIZE, Hands, Piece};
use tablecast::games::liap_tui::play::valid_plays;
use tablecast::games::liap_tui::{Command, Event, LiapTui, Pauses, Phase, Setup, StarterReason};

pub(crate) const SEATS: [Seat; 4] = [Seat(0), Seat(1), Seat(2), Seat(3)];

/// A context with a time and dice that follow from one number.
pub(crate) fn cx(seed: u64, now_ms: u64) -> TurnContext {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&now_ms.to_le_bytes());
    TurnContext { now: Timestamp::from_millis(now_ms), seed: bytes }
}

pub(crate) fn without_pauses() -> Setup {
    Setup { pauses: Pauses::none(), ..Setup::default() }
}

pub(crate) fn order_from(first: Seat) -> [Seat; 4] {
    [0, 1, 2, 3].map(|step| Seat((first.0 + step) % 4))
}

/// A game in which this has happened.
pub(crate) fn given(setup: Setup, facts: &[Event]) -> LiapTui {
    let mut game = LiapTui::new(setup);
    facts.iter().for_each(|fact| game.evolve(fact));
    game
}

pub(crate) fn enter(to: Phase) -> Event {
    Event::PhaseChanged { from: Phase::Waiting, to, round: 1, turn: 0, until: None }
}

pub(crate) fn round_started(round: u32, multiplier: u32) -> Vec<Event> {
    vec![enter(Phase::Preparation), Event::RoundStarted { round, multiplier }]
}

pub(crate) fn starter_chosen(seat: Seat) -> Event {
    let reason = StarterReason::HasGeneralRed;
    Event::StarterChosen { seat, reason, order: order_from(seat) }
}

pub(crate) fn declared(seat: Seat, value: u8, zero_streak: u8) -> Event {
    Event::DeclarationMade { seat, value, running_total: 0, zero_streak }
}

/// The facts that lead to the first play of a turn with these hands.
pub(crate) fn turn_started(leader: Seat, hands: Hands) -> Vec<Event> {
    let mut facts = round_started(1, 1);
    facts.push(Event::PiecesDealt { round: 1, deal: 1, hands });
    facts.push(starter_chosen(leader));
    facts.extend(SEATS.map(|seat| declared(seat, 1, 0)));
    facts.push(enter(Phase::Turn));
    facts.push(Event::TurnStarted { turn: 1, leader, order: order_from(leader) });
    facts
}

/// The same facts with another deal in place of the one that was drawn; what followed from that is cut off.
pub(crate) fn deal_instead(mut facts: Vec<Event>, hands: &Hands) -> Vec<Event> {
    let place = facts
        .iter()
        .position(|fact| matches!(fact, Event::PiecesDealt { .. }))
        .expect("a deal among the facts");
    facts.truncate(place + 1);
    if let Event::PiecesDealt { hands: dealt, .. } = &mut facts[place] {
        assert!(hands.iter().all(|hand| hand.len() == HAND_SIZE));
        dealt.clone_from(hands);
    }
    facts
}

/// What the bot of a seat would do.
pub(crate) fn bot(game: &LiapTui, seat: Seat, dice: &mut Dice) -> Command {
    let view = game.view(Viewer::Seated(seat));
    LiapTui::bot(&view, seat, dice).expect("the seat owes a decision")
}

pub(crate) fn play(pieces: &[Piece]) -> Command {
    Command::Play { pieces: pieces.to_vec() }
}

/// Who sits in all four seats.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Players {
    Bots,
    /// Any legal choice, each as likely as the others.
    Random,
}

/// A game in play, with everything that led to it.
#[derive(Debug)]
pub(crate) struct Match {
    pub(crate) game: LiapTui,
    pub(crate) log: Vec<Event>,
    pub(crate) commands: Vec<Command>,
    pub(crate) dice: Dice,
    players: Players,
    now_ms: u64,
}

impl Match {
    pub(crate) fn start(setup: Setup, players: Players, seed: u64) -> Self {
        let cx = cx(seed, 1);
        let game = LiapTui::new(setup);
        let log = game.start(&cx);
        let mut started = Self { game, log, commands: vec![], dice: cx.dice(), players, now_ms: 1 };
        started.log.iter().for_each(|event| started.game.evolve(event));
        started
    }

    /// The next decision, be it a player's or the clock's; none once the game is over.
    pub(crate) fn step(&mut self) -> Option<Vec<Event>> {
        let awaiting = self.game.awaiting();
        let is_late = awaiting.is_empty() || self.dice.random_bool(0.1);
        let events = match self.game.deadline() {
            Some(deadline) if is_late => {
                self.now_ms = deadline.as_millis();
                let cx = self.cx();
                self.game.on_deadline(&cx)
            }
            _ => {
                let seat = *awaiting.choose(&mut self.dice)?;
                let command = match self.players {
                    Players::Bots => bot(&self.game, seat, &mut self.dice),
                    Players::Random => any_legal(&self.game, seat, &mut self.dice),
                };
                self.commands.push(command.clone());
                let cx = self.cx();
                self.game.decide(seat, command, &cx).expect("a legal command")
            }
        };
        events.iter().for_each(|event| self.game.evolve(event));
        self.log.extend(events.iter().cloned());
        Some(events)
    }

    pub(crate) fn cx(&mut self) -> TurnContext {
        self.now_ms += 1;
        cx(self.dice.random(), self.now_ms)
    }

    pub(crate) fn round(&self) -> u32 {
        self.game.view(Viewer::Spectator).round
    }
}

fn any_legal(game: &LiapTui, seat: Seat, dice: &mut Dice) -> Command {
    let view = game.view(Viewer::Seated(seat));
    let mut hand = view.hand.expect("a seated viewer has a hand");
    match (view.phase, view.required) {
        (Phase::Preparation, _) if dice.random_bool(0.5) => Command::RedealAccept {},
        (Phase::Preparation, _) => Command::RedealDecline {},
        (Phase::Declaration, _) => {
            let value =
                view.legal_declarations.choose(dice).expect("seven numbers are always left");
            Command::Declare { value: i64::from(*value) }
        }
        (_, None) => {
            let sets: Vec<_> = valid_plays(&hand).collect();
            play(sets.choose(dice).expect("a single is always valid"))
        }
        (_, Some(required)) => {
            hand.shuffle(dice);
            play(&hand[..required])
        }
    }
}
