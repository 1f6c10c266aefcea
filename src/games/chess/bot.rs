//! A bot that is cheap and legal: it mates when it can, takes what it can, and else moves at random.

use cozy_chess::{Board, Color, Move, Piece};
use rand::seq::IndexedRandom;

use super::command::Command;
use super::event::Reason;
use super::notation;
use super::position::{Position, seat_of};
use super::view::View;
use crate::domain::{Dice, Seat};

/// What the bot in this seat does, if it is in turn.
pub(super) fn choose(view: &View, seat: Seat, dice: &mut Dice) -> Option<Command> {
    if !view.awaiting.contains(&seat) {
        return None;
    }
    let position = Position::from_fen(&view.fen).expect("a view shows a position");
    let board = position.board();
    let wants_draw = balance(board, seat) < 0;
    if wants_draw && view.draw_offer.is_some_and(|offerer| offerer != seat) {
        return Some(Command::AcceptDraw {});
    }
    if wants_draw && view.draw_claim.is_some() {
        return Some(Command::ClaimDraw {});
    }
    let moves = position.legal_moves();
    let ends = |legal: &Move| position.after(*legal).ending();
    let best = moves.iter().map(|legal| gain(board, *legal)).max()?;
    let mate = moves.iter().find(|legal| ends(legal) == Some(Reason::Checkmate));
    let greedy: Vec<Move> =
        moves.iter().copied().filter(|legal| gain(board, *legal) == best).collect();
    let played = mate.or_else(|| greedy.choose(dice))?;
    Some(Command::uci(notation::uci(board, *played)))
}

/// In pawns. A king cannot be taken, so it counts nothing.
fn worth(piece: Piece) -> i32 {
    match piece {
        Piece::Pawn => 1,
        Piece::Knight | Piece::Bishop => 3,
        Piece::Rook => 5,
        Piece::Queen => 9,
        Piece::King => 0,
    }
}

/// By how much this seat is ahead.
fn balance(board: &Board, seat: Seat) -> i32 {
    let of = |color: Color| -> i32 {
        let pieces = Piece::ALL.iter().map(|piece| (board.colored_pieces(color, *piece), *piece));
        pieces.map(|(squares, piece)| worth(piece) * squares.len().cast_signed()).sum()
    };
    let own = if seat_of(Color::White) == seat { Color::White } else { Color::Black };
    of(own) - of(!own)
}

/// What a move wins at once. Castling names the own rook's square, and wins nothing.
fn gain(board: &Board, legal: Move) -> i32 {
    let is_theirs = board.color_on(legal.to) == Some(!board.side_to_move());
    let taken = board.piece_on(legal.to).filter(|_| is_theirs).map_or(0, worth);
    taken + legal.promotion.map_or(0, worth)
}
