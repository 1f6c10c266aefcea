//! What follows by itself, until a player has to decide or a display pause is due.
//!
//! Two readings of section 14 are settled here:
//!
//! - *"2 s after a deal without weak hands, 4 s after the last redeal"*: both pauses stand between the
//!   hands being kept and phase `round_start`. A round that had a redeal pauses 4 s, however its last
//!   hands came to be kept, in place of the 2 s. A first deal whose weak seats all decline needs no pause:
//!   everyone has looked at it while they decided.
//! - *"5 s before a finished turn is shown"* against *"all four plays to all when the fourth is down"*: the
//!   visibility rule wins. `TurnCompleted` stands in the same decision as the fourth play, and the 5 s
//!   are spent in phase `turn` before `turn_results` begins.

use super::event::{Event, GameResult, Phase, StarterReason};
use super::piece::{Piece, deal, is_weak};
use super::play::best;
use super::scoring::{RoundScore, ranking, winners};
use super::state::{LiapTui, RedealDecisions, Stage, order_from};
use crate::domain::{Dice, Seat, Timestamp, TurnContext};

impl LiapTui {
    /// These facts, and all that follow from them by themselves.
    pub(super) fn with_consequences(&self, facts: Vec<Event>, cx: &TurnContext) -> Vec<Event> {
        let mut after = self.clone();
        let mut dice = cx.dice();
        let mut events = Vec::new();
        let mut due = facts;
        loop {
            due.iter().for_each(|event| after.apply(event));
            events.append(&mut due);
            due = after.follow_ups(cx.now, &mut dice);
            if due.is_empty() {
                return events;
            }
        }
    }

    /// The declines of those who let the time run out.
    pub(super) fn redeal_timeouts(&self, now: Timestamp) -> Vec<Event> {
        let expired = self.redeal_decisions().filter(|decisions| now >= decisions.deadline);
        let undecided = expired.into_iter().flat_map(RedealDecisions::undecided);
        undecided
            .map(|seat| Event::RedealDecisionMade { seat, accepted: false, by_timeout: true })
            .collect()
    }

    /// The next facts that follow from the state alone; none while a decision or a pause is due.
    fn follow_ups(&self, now: Timestamp, dice: &mut Dice) -> Vec<Event> {
        if self.pause_until.is_some_and(|until| now < until) {
            return Vec::new();
        }
        match &self.stage {
            Stage::Dealing => {
                let (round, deal_number) = (self.round, self.deal + 1);
                vec![Event::PiecesDealt { round, deal: deal_number, hands: deal(dice) }]
            }
            Stage::Dealt => vec![self.look_for_weak_hands(now)],
            Stage::Deciding(decisions) if decisions.undecided().next().is_some() => Vec::new(),
            Stage::Deciding(decisions) => vec![self.redeal_or_keep(decisions, now)],
            Stage::Kept => vec![
                self.enter(Phase::RoundStart, self.setup.pauses.round_start_ms, now),
                self.choose_starter(),
            ],
            Stage::RoundStart => vec![self.enter(Phase::Declaration, 0, now)],
            Stage::Declaring => match (&self.starter, self.seat_in_turn()) {
                (Some(starter), None) => self.begin_turn(starter.seat),
                _ => Vec::new(),
            },
            Stage::Playing if self.plays.len() < 4 => Vec::new(),
            Stage::Playing => self.complete_turn(now).into_iter().collect(),
            Stage::TurnDone => {
                vec![self.enter(Phase::TurnResults, self.setup.pauses.turn_results_ms, now)]
            }
            Stage::TurnResults => match self.last_turn_winner {
                Some(leader) if self.hands.iter().any(|hand| !hand.is_empty()) => {
                    self.begin_turn(leader)
                }
                _ => vec![
                    self.enter(Phase::Scoring, self.setup.pauses.scoring_ms, now),
                    Event::RoundScored(self.score_round()),
                ],
            },
            Stage::Scoring => self.end_game(now).unwrap_or_else(|| self.begin_round()),
            Stage::Waiting | Stage::GameOver => Vec::new(),
        }
    }

    fn enter(&self, to: Phase, pause_ms: u64, now: Timestamp) -> Event {
        Event::PhaseChanged {
            from: self.stage.phase(),
            to,
            round: self.round,
            turn: self.turn,
            until: pause(pause_ms, now),
        }
    }

    /// The facts with which play begins.
    pub(super) fn first_facts(&self) -> Vec<Event> {
        let mut facts = vec![Event::GameStarted { target: self.setup.target }];
        facts.extend(self.begin_round());
        facts
    }

    fn begin_round(&self) -> Vec<Event> {
        let (from, to, round) = (self.stage.phase(), Phase::Preparation, self.round + 1);
        vec![
            Event::PhaseChanged { from, to, round, turn: 0, until: None },
            Event::RoundStarted { round, multiplier: 1 },
        ]
    }

    fn look_for_weak_hands(&self, now: Timestamp) -> Event {
        let weak: Vec<_> =
            (0..4).map(Seat).filter(|seat| is_weak(&self.hands[seat.index()])).collect();
        if weak.is_empty() {
            return self.keep_hands(Vec::new(), now);
        }
        let deadline = now.plus_millis(self.setup.redeal_limit_ms);
        Event::WeakHandsFound { round: self.round, seats: weak, deadline }
    }

    fn redeal_or_keep(&self, decisions: &RedealDecisions, now: Timestamp) -> Event {
        let (accepting, declining) = (decisions.who_said(true), decisions.who_said(false));
        let current_starter = self.requester.or(self.last_turn_winner).unwrap_or(Seat(0));
        match order_from(current_starter).into_iter().find(|seat| accepting.contains(seat)) {
            Some(requester) => {
                let multiplier = self.multiplier + 1;
                Event::RedealExecuted { accepting, declining, requester, multiplier }
            }
            None => self.keep_hands(declining, now),
        }
    }

    fn keep_hands(&self, declining: Vec<Seat>, now: Timestamp) -> Event {
        let pause_ms = match (self.requester, declining.is_empty()) {
            (Some(_), _) => self.setup.pauses.redeal_ms,
            (None, true) => self.setup.pauses.deal_ms,
            (None, false) => 0,
        };
        Event::HandsKept { declining, until: pause(pause_ms, now) }
    }

    fn choose_starter(&self) -> Event {
        let (seat, reason) = match (self.requester, self.last_turn_winner) {
            (Some(requester), _) => (requester, StarterReason::AcceptedRedeal),
            (None, Some(winner)) => (winner, StarterReason::WonLastTurn),
            (None, None) => {
                let holds = |seat: &Seat| self.hands[seat.index()].contains(&Piece::GeneralRed);
                let holder = (0..4).map(Seat).find(holds);
                let seat = holder.expect("the whole deck is dealt, GENERAL_RED included");
                (seat, StarterReason::HasGeneralRed)
            }
        };
        Event::StarterChosen { seat, reason, order: order_from(seat) }
    }

    fn begin_turn(&self, leader: Seat) -> Vec<Event> {
        let (from, to, turn) = (self.stage.phase(), Phase::Turn, self.turn + 1);
        vec![
            Event::PhaseChanged { from, to, round: self.round, turn, until: None },
            Event::TurnStarted { turn, leader, order: order_from(leader) },
        ]
    }

    fn complete_turn(&self, now: Timestamp) -> Option<Event> {
        let best = best(&self.plays)?;
        let piles_won = u8::try_from(best.pieces.len()).expect("a play has at most 6 pieces");
        let mut piles = self.piles;
        piles[best.seat.index()] += piles_won;
        Some(Event::TurnCompleted {
            turn: self.turn,
            plays: self.plays.clone(),
            winner: best.seat,
            piles_won,
            piles,
            next_leader: best.seat,
            until: pause(self.setup.pauses.turn_end_ms, now),
        })
    }

    fn score_round(&self) -> RoundScore {
        let declared = self.declared.map(Option::unwrap_or_default);
        RoundScore::new(self.round, self.multiplier, declared, self.piles, self.totals)
    }

    fn end_game(&self, now: Timestamp) -> Option<Vec<Event>> {
        let winners = winners(self.totals, self.target);
        if winners.is_empty() {
            return None;
        }
        let result = GameResult {
            winners,
            totals: self.totals,
            ranking: ranking(self.totals),
            rounds_played: self.round,
        };
        Some(vec![self.enter(Phase::GameOver, 0, now), Event::GameEnded(result)])
    }
}

/// The end of a display pause that begins now; a pause of no length is none.
fn pause(pause_ms: u64, now: Timestamp) -> Option<Timestamp> {
    (pause_ms > 0).then(|| now.plus_millis(pause_ms))
}
