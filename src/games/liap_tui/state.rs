//! The full, secret state, and how each event changes it.

use serde::{Deserialize, Serialize};

use super::event::{Event, GameResult, Phase};
use super::piece::{Hands, without};
use super::play::Play;
use super::scoring::RoundScore;
use super::setup::Setup;
use super::view::{CompletedTurn, Starter};
use crate::domain::{Seat, Timestamp};

/// The whole state of one game. It leaves the process only through its views.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LiapTui {
    pub(super) setup: Setup,
    pub(super) stage: Stage,
    /// End of the display pause the table is in.
    pub(super) pause_until: Option<Timestamp>,
    pub(super) target: i64,

    // Of the round; reset by `RoundStarted`.
    pub(super) round: u32,
    pub(super) deal: u32,
    pub(super) multiplier: u32,
    /// Who asked for the latest redeal.
    pub(super) requester: Option<Seat>,
    pub(super) starter: Option<Starter>,
    pub(super) hands: Hands,
    pub(super) declared: [Option<u8>; 4],
    pub(super) piles: [u8; 4],
    pub(super) turns: Vec<CompletedTurn>,

    // Of the turn; reset by `TurnStarted`.
    pub(super) turn: u32,
    pub(super) leader: Option<Seat>,
    pub(super) plays: Vec<Play>,

    // Of the game.
    pub(super) last_turn_winner: Option<Seat>,
    pub(super) zero_streaks: [u8; 4],
    pub(super) totals: [i64; 4],
    pub(super) scores: Vec<RoundScore>,
    pub(super) result: Option<GameResult>,
}

/// A phase, divided further where different things can follow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Stage {
    Waiting,
    /// Hands are about to be dealt.
    Dealing,
    /// Hands are dealt and have not been looked at.
    Dealt,
    /// The weak seats decide on a redeal.
    Deciding(RedealDecisions),
    /// The hands will be played.
    Kept,
    RoundStart,
    Declaring,
    Playing,
    /// The turn's plays are public and its winner is known.
    TurnDone,
    TurnResults,
    Scoring,
    GameOver,
}

impl Stage {
    pub(super) fn phase(&self) -> Phase {
        match self {
            Self::Waiting => Phase::Waiting,
            Self::Dealing | Self::Dealt | Self::Deciding(_) | Self::Kept => Phase::Preparation,
            Self::RoundStart => Phase::RoundStart,
            Self::Declaring => Phase::Declaration,
            Self::Playing | Self::TurnDone => Phase::Turn,
            Self::TurnResults => Phase::TurnResults,
            Self::Scoring => Phase::Scoring,
            Self::GameOver => Phase::GameOver,
        }
    }

    fn at_entry(phase: Phase) -> Self {
        match phase {
            Phase::Waiting => Self::Waiting,
            Phase::Preparation => Self::Dealing,
            Phase::RoundStart => Self::RoundStart,
            Phase::Declaration => Self::Declaring,
            Phase::Turn => Self::Playing,
            Phase::TurnResults => Self::TurnResults,
            Phase::Scoring => Self::Scoring,
            Phase::GameOver => Self::GameOver,
        }
    }
}

/// What the weak seats have said to a redeal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct RedealDecisions {
    pub(super) weak: Vec<Seat>,
    /// By seat: whether it accepted.
    pub(super) accepted: [Option<bool>; 4],
    pub(super) deadline: Timestamp,
}

impl RedealDecisions {
    pub(super) fn undecided(&self) -> impl Iterator<Item = Seat> {
        self.weak.iter().copied().filter(|seat| self.accepted[seat.index()].is_none())
    }

    pub(super) fn who_said(&self, accepted: bool) -> Vec<Seat> {
        let said = |seat: &Seat| self.accepted[seat.index()] == Some(accepted);
        self.weak.iter().copied().filter(said).collect()
    }
}

/// The four seats in play order from this one.
pub(super) fn order_from(first: Seat) -> [Seat; 4] {
    [0, 1, 2, 3].map(|step| Seat((first.0 + step) % 4))
}

impl LiapTui {
    pub(super) fn waiting(setup: Setup) -> Self {
        Self {
            target: setup.target,
            setup,
            stage: Stage::Waiting,
            pause_until: None,
            round: 0,
            deal: 0,
            multiplier: 1,
            requester: None,
            starter: None,
            hands: Hands::default(),
            declared: [None; 4],
            piles: [0; 4],
            turns: Vec::new(),
            turn: 0,
            leader: None,
            plays: Vec::new(),
            last_turn_winner: None,
            zero_streaks: [0; 4],
            totals: [0; 4],
            scores: Vec::new(),
            result: None,
        }
    }

    /// The redeal that weak seats are deciding on.
    pub(super) fn redeal_decisions(&self) -> Option<&RedealDecisions> {
        if let Stage::Deciding(decisions) = &self.stage { Some(decisions) } else { None }
    }

    /// The seat whose declaration or play is due.
    pub(super) fn seat_in_turn(&self) -> Option<Seat> {
        let (first, done) = if self.stage == Stage::Declaring {
            (self.starter.as_ref()?.seat, self.declared_so_far().len())
        } else if self.stage == Stage::Playing {
            (self.leader?, self.plays.len())
        } else {
            return None;
        };
        order_from(first).get(done).copied()
    }

    /// The numbers declared this round. By seat, which is as good as play order: only sum and count matter.
    pub(super) fn declared_so_far(&self) -> Vec<u8> {
        self.declared.into_iter().flatten().collect()
    }

    /// How many pieces each seat plays in this turn, once the leader has said so.
    pub(super) fn required(&self) -> Option<usize> {
        self.plays.first().map(|play| play.pieces.len())
    }

    /// `evolve`: takes every event at its word.
    #[expect(
        clippy::too_many_lines,
        reason = "one arm per event, in one place, so that none is forgotten"
    )]
    pub(super) fn apply(&mut self, event: &Event) {
        match event {
            Event::GameStarted { target } => self.target = *target,
            Event::RoundStarted { round, multiplier } => self.reset_round(*round, *multiplier),
            Event::PiecesDealt { deal, hands, .. } => {
                self.deal = *deal;
                self.hands = hands.clone();
                self.hands.iter_mut().for_each(|hand| hand.sort_unstable());
                self.stage = Stage::Dealt;
            }
            Event::WeakHandsFound { seats, deadline, .. } => {
                let (weak, accepted) = (seats.clone(), [None; 4]);
                self.stage =
                    Stage::Deciding(RedealDecisions { weak, accepted, deadline: *deadline });
            }
            Event::RedealDecisionMade { seat, accepted, .. } => {
                if let Stage::Deciding(decisions) = &mut self.stage {
                    decisions.accepted[seat.index()] = Some(*accepted);
                }
            }
            Event::RedealExecuted { requester, multiplier, .. } => {
                self.requester = Some(*requester);
                self.multiplier = *multiplier;
                self.hands = Hands::default();
                self.stage = Stage::Dealing;
            }
            Event::HandsKept { until, .. } => {
                self.stage = Stage::Kept;
                self.pause_until = *until;
            }
            Event::StarterChosen { seat, reason, order } => {
                self.starter = Some(Starter { seat: *seat, reason: *reason, order: *order });
            }
            Event::DeclarationMade { seat, value, zero_streak, .. } => {
                self.declared[seat.index()] = Some(*value);
                self.zero_streaks[seat.index()] = *zero_streak;
            }
            Event::TurnStarted { turn, leader, .. } => {
                self.turn = *turn;
                self.leader = Some(*leader);
                self.plays.clear();
            }
            Event::PiecesPlayed { seat, count: _, pieces, play_type, strength } => {
                let hand = &mut self.hands[seat.index()];
                // A play that was judged is in the hand.
                if let Some(rest) = without(hand, pieces) {
                    *hand = rest;
                }
                let (pieces, play_type, strength) = (pieces.clone(), *play_type, *strength);
                self.plays.push(Play { seat: *seat, pieces, play_type, strength });
            }
            Event::TurnCompleted { turn, plays, winner, piles_won, piles, until, .. } => {
                self.piles = *piles;
                self.last_turn_winner = Some(*winner);
                self.turns.push(CompletedTurn {
                    turn: *turn,
                    plays: plays.clone(),
                    winner: *winner,
                    piles_won: *piles_won,
                });
                self.plays.clear();
                self.stage = Stage::TurnDone;
                self.pause_until = *until;
            }
            Event::RoundScored(score) => {
                self.totals = score.totals;
                self.scores.push(score.clone());
            }
            Event::GameEnded(result) => self.result = Some(result.clone()),
            Event::PhaseChanged { to, until, .. } => {
                self.stage = Stage::at_entry(*to);
                self.pause_until = *until;
            }
        }
    }

    fn reset_round(&mut self, round: u32, multiplier: u32) {
        self.round = round;
        self.multiplier = multiplier;
        self.deal = 0;
        self.requester = None;
        self.starter = None;
        self.hands = Hands::default();
        self.declared = [None; 4];
        self.piles = [0; 4];
        self.turns.clear();
        self.turn = 0;
        self.leader = None;
        self.plays.clear();
    }
}
