//! What one viewer may know of a game.

use serde::{Deserialize, Serialize};

use super::declaring;
use super::event::{GameResult, Phase, PlayView, StarterReason};
use super::piece::Piece;
use super::play::Play;
use super::scoring::{RoundScore, ranking};
use super::state::{LiapTui, RedealDecisions, Stage};
use crate::domain::{Game, Seat, Timestamp, Viewer};

/// Everything a client needs to draw the table. Arrays of four are by seat.
///
/// The fields that differ between viewers are `seat`, `hand`, `redeal.own_decision` and the faces in
/// `plays`; all else is the same for everyone.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct View {
    /// Whose view this is; none for a spectator.
    pub seat: Option<Seat>,
    pub phase: Phase,
    /// From 1; 0 before the start.
    pub round: u32,
    /// From 1 in each round; 0 before its first turn.
    pub turn: u32,
    pub target: i64,
    pub multiplier: u32,
    /// The end of the display pause or of the time to decide on a redeal.
    pub until: Option<Timestamp>,
    /// The seats that owe a decision. Empty in pauses.
    pub awaiting: Vec<Seat>,

    /// The viewer's own pieces, best first.
    pub hand: Option<Vec<Piece>>,
    pub hand_sizes: [usize; 4],
    /// How many times the round has been dealt.
    pub deal: u32,
    /// While weak seats decide on a redeal.
    pub redeal: Option<RedealView>,
    /// Who asked for the latest redeal of the round.
    pub requester: Option<Seat>,
    pub starter: Option<Starter>,

    pub declared: [Option<u8>; 4],
    pub zero_streaks: [u8; 4],
    /// What the seat in turn may declare; empty unless a declaration is due.
    pub legal_declarations: Vec<u8>,

    pub leader: Option<Seat>,
    /// How many pieces each seat plays in this turn, once the leader has played.
    pub required: Option<usize>,
    /// The turn in progress, in play order.
    pub plays: Vec<PlayView>,
    /// The last complete turn of the round.
    pub last_turn: Option<CompletedTurn>,
    /// All pieces of the complete turns of the round, best first.
    pub pieces_out: Vec<Piece>,
    pub piles: [u8; 4],

    pub totals: [i64; 4],
    /// One entry per scored round.
    pub scores: Vec<RoundScore>,
    pub perfect_rounds: [usize; 4],
    /// By falling total, as it stands.
    pub ranking: [Seat; 4],
    pub result: Option<GameResult>,
}

/// The state of a redeal decision. What others have said stays hidden until all have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RedealView {
    pub weak: Vec<Seat>,
    pub decided: Vec<Seat>,
    pub deadline: Timestamp,
    /// Whether the viewer accepted, once it has decided.
    pub own_decision: Option<bool>,
}

/// Who starts the round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Starter {
    pub seat: Seat,
    pub reason: StarterReason,
    pub order: [Seat; 4],
}

/// A turn with its four plays face up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompletedTurn {
    pub turn: u32,
    pub plays: Vec<Play>,
    pub winner: Seat,
    pub piles_won: u8,
}

impl View {
    pub(super) fn new(game: &LiapTui, viewer: Viewer) -> Self {
        // A seat that does not exist sees what spectators see.
        let seat = viewer.seat().filter(|seat| seat.index() < game.hands.len());
        Self {
            seat,
            phase: game.stage.phase(),
            round: game.round,
            turn: game.turn,
            target: game.target,
            multiplier: game.multiplier,
            until: game.deadline(),
            awaiting: game.awaiting(),
            hand: seat.map(|seat| game.hands[seat.index()].clone()),
            hand_sizes: game.hands.each_ref().map(Vec::len),
            deal: game.deal,
            redeal: game.redeal_decisions().map(|decisions| RedealView::new(decisions, seat)),
            requester: game.requester,
            starter: game.starter.clone(),
            declared: game.declared,
            zero_streaks: game.zero_streaks,
            legal_declarations: match game.seat_in_turn() {
                Some(seat) if game.stage == Stage::Declaring => {
                    declaring::legal(&game.declared_so_far(), game.zero_streaks[seat.index()])
                }
                _ => Vec::new(),
            },
            leader: game.leader,
            required: game.required(),
            plays: game.plays.iter().map(|play| PlayView::new(play, viewer)).collect(),
            last_turn: game.turns.last().cloned(),
            pieces_out: pieces_out(&game.turns),
            piles: game.piles,
            totals: game.totals,
            scores: game.scores.clone(),
            perfect_rounds: std::array::from_fn(|seat| {
                game.scores.iter().filter(|score| score.perfect[seat]).count()
            }),
            ranking: ranking(game.totals),
            result: game.result.clone(),
        }
    }
}

impl RedealView {
    fn new(decisions: &RedealDecisions, seat: Option<Seat>) -> Self {
        let has_decided = |seat: &Seat| decisions.accepted[seat.index()].is_some();
        Self {
            weak: decisions.weak.clone(),
            decided: decisions.weak.iter().copied().filter(has_decided).collect(),
            deadline: decisions.deadline,
            own_decision: seat.and_then(|seat| decisions.accepted[seat.index()]),
        }
    }
}

fn pieces_out(turns: &[CompletedTurn]) -> Vec<Piece> {
    let plays = turns.iter().flat_map(|turn| &turn.plays);
    let mut pieces: Vec<_> = plays.flat_map(|play| &play.pieces).copied().collect();
    pieces.sort_unstable();
    pieces
}
