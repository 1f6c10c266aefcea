//! The facts of a game, and what of each a viewer may know.

use serde::{Deserialize, Serialize};

use super::piece::{Hands, Piece};
use super::play::{Play, PlayType};
use super::scoring::RoundScore;
use crate::domain::{Seat, Timestamp, Viewer};

/// Where in a game the table stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Waiting,
    Preparation,
    RoundStart,
    Declaration,
    Turn,
    TurnResults,
    Scoring,
    GameOver,
}

/// Why a seat starts a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StarterReason {
    AcceptedRedeal,
    HasGeneralRed,
    WonLastTurn,
}

/// A fact, with everything in it that a replay needs: nothing is judged or drawn a second time.
///
/// An `until` is the end of a display pause that begins with the fact; without one there is no pause.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    GameStarted {
        target: i64,
    },
    RoundStarted {
        round: u32,
        multiplier: u32,
    },
    /// Private per seat: `hands`.
    PiecesDealt {
        round: u32,
        /// From 1; each redeal of the round adds one.
        deal: u32,
        hands: Hands,
    },
    WeakHandsFound {
        round: u32,
        seats: Vec<Seat>,
        deadline: Timestamp,
    },
    /// Private until all have decided: `accepted`, and `by_timeout`, which gives it away.
    RedealDecisionMade {
        seat: Seat,
        accepted: bool,
        by_timeout: bool,
    },
    RedealExecuted {
        accepting: Vec<Seat>,
        declining: Vec<Seat>,
        requester: Seat,
        multiplier: u32,
    },
    /// The hands that the round is played with. `declining` is empty when no hand was weak.
    HandsKept {
        declining: Vec<Seat>,
        until: Option<Timestamp>,
    },
    StarterChosen {
        seat: Seat,
        reason: StarterReason,
        order: [Seat; 4],
    },
    DeclarationMade {
        seat: Seat,
        value: u8,
        running_total: u8,
        zero_streak: u8,
    },
    TurnStarted {
        turn: u32,
        leader: Seat,
        order: [Seat; 4],
    },
    /// Private until the turn is complete: `pieces`, `play_type` and `strength`.
    PiecesPlayed {
        seat: Seat,
        count: u8,
        pieces: Vec<Piece>,
        play_type: PlayType,
        strength: u32,
    },
    TurnCompleted {
        turn: u32,
        /// In play order.
        plays: Vec<Play>,
        winner: Seat,
        piles_won: u8,
        /// Of the round so far, by seat.
        piles: [u8; 4],
        next_leader: Seat,
        until: Option<Timestamp>,
    },
    RoundScored(RoundScore),
    GameEnded(GameResult),
    PhaseChanged {
        from: Phase,
        to: Phase,
        round: u32,
        turn: u32,
        until: Option<Timestamp>,
    },
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GameResult {
    pub winners: Vec<Seat>,
    /// By seat.
    pub totals: [i64; 4],
    /// By falling total; for display only.
    pub ranking: [Seat; 4],
    pub rounds_played: u32,
}

/// An event as one viewer may know it. What is hidden is absent.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EventView {
    PiecesDealt {
        round: u32,
        deal: u32,
        hand_sizes: [usize; 4],
        #[serde(skip_serializing_if = "Option::is_none")]
        hand: Option<Vec<Piece>>,
    },
    RedealDecisionMade {
        seat: Seat,
        #[serde(skip_serializing_if = "Option::is_none")]
        accepted: Option<bool>,
        #[serde(skip_serializing_if = "Option::is_none")]
        by_timeout: Option<bool>,
    },
    PiecesPlayed(PlayView),
    /// A fact without secrets, as it is.
    #[serde(untagged)]
    Public(Event),
}

/// A play of the turn in progress: face down for all but its own seat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlayView {
    pub seat: Seat,
    pub count: usize,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub face: Option<Face>,
}

/// What is on the hidden side of a play.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Face {
    pub pieces: Vec<Piece>,
    pub play_type: PlayType,
    pub strength: u32,
}

impl PlayView {
    pub(super) fn new(play: &Play, viewer: Viewer) -> Self {
        Self {
            seat: play.seat,
            count: play.pieces.len(),
            face: (viewer == Viewer::Seated(play.seat)).then(|| Face {
                pieces: play.pieces.clone(),
                play_type: play.play_type,
                strength: play.strength,
            }),
        }
    }
}

impl EventView {
    pub(super) fn new(event: &Event, viewer: Viewer) -> Self {
        match event {
            Event::PiecesDealt { round, deal, hands } => Self::PiecesDealt {
                round: *round,
                deal: *deal,
                hand_sizes: hands.each_ref().map(Vec::len),
                hand: viewer.seat().and_then(|seat| hands.get(seat.index())).cloned(),
            },
            Event::RedealDecisionMade { seat, accepted, by_timeout } => {
                let own = viewer == Viewer::Seated(*seat);
                Self::RedealDecisionMade {
                    seat: *seat,
                    accepted: own.then_some(*accepted),
                    by_timeout: own.then_some(*by_timeout),
                }
            }
            Event::PiecesPlayed { seat, count: _, pieces, play_type, strength } => {
                let play = Play {
                    seat: *seat,
                    pieces: pieces.clone(),
                    play_type: *play_type,
                    strength: *strength,
                };
                Self::PiecesPlayed(PlayView::new(&play, viewer))
            }
            // Every other fact is everyone's. Named one by one, so that a new one is thought about.
            Event::GameStarted { .. }
            | Event::RoundStarted { .. }
            | Event::WeakHandsFound { .. }
            | Event::RedealExecuted { .. }
            | Event::HandsKept { .. }
            | Event::StarterChosen { .. }
            | Event::DeclarationMade { .. }
            | Event::TurnStarted { .. }
            | Event::TurnCompleted { .. }
            | Event::RoundScored(_)
            | Event::GameEnded(_)
            | Event::PhaseChanged { .. } => Self::Public(event.clone()),
        }
    }
}
