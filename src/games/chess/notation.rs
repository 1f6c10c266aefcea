//! Moves as text: UCI, and the standard algebraic notation of players.

use cozy_chess::util::{display_san_move, display_uci_move, parse_san_move, parse_uci_move};
use cozy_chess::{Board, Move, Piece, Rank};

use super::command::Rejection;
use super::position::Position;

/// The legal move that this text names, if there is one.
pub(super) fn from_uci(position: &Position, text: &str) -> Result<Move, Rejection> {
    let board = position.board();
    let named = parse_uci_move(board, text).map_err(|_no_move| Rejection::BadUci)?;
    // The crate overlooks what follows a move, and calls castling the capture of one's own rook.
    if uci(board, named) != text {
        return Err(Rejection::BadUci);
    }
    if board.is_legal(named) {
        return Ok(named);
    }
    if board.color_on(named.from) != Some(board.side_to_move()) {
        return Err(Rejection::NotYourPiece);
    }
    let last_rank = Rank::Eighth.relative_to(board.side_to_move());
    let is_pawn = board.piece_on(named.from) == Some(Piece::Pawn);
    if is_pawn && named.to.rank() == last_rank && named.promotion.is_none() {
        return Err(Rejection::PromotionMissing);
    }
    Err(if position.is_check() { Rejection::InCheck } else { Rejection::IllegalMove })
}

/// The one legal move that is written so. Signs of check need not be right; zeros will do for castling.
pub(super) fn from_san(position: &Position, text: &str) -> Result<Move, Rejection> {
    let text = if text.starts_with("0-0") { text.replace('0', "O") } else { text.to_owned() };
    parse_san_move(position.board(), &text).map_err(|_none_or_several| Rejection::NoSuchSan)
}

pub(super) fn uci(board: &Board, played: Move) -> String {
    display_uci_move(board, played).to_string()
}

/// Of a legal move.
pub(super) fn san(board: &Board, legal: Move) -> String {
    display_san_move(board, legal).to_string()
}
