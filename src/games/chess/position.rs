//! A position with what the rules must remember of the way to it. The rest of chess goes through here.

use std::fmt;

use cozy_chess::{BitBoard, Board, Color, FenParseError, File, Move, Piece, Rank, Square};
use serde::{Deserialize, Serialize};

use super::event::Reason;
use crate::domain::Seat;

/// Half moves without a capture or a pawn move after which a draw may be claimed (9.3).
const FIFTY_MOVES: u16 = 100;
/// The same, after which the game is drawn (9.6.2).
const SEVENTY_FIVE_MOVES: u16 = 150;

/// A board, whose turn it is, and which positions can come back.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub(super) struct Position {
    /// Its own count of quiet half moves stops at 100.
    board: Board,
    /// Half moves since the last capture or pawn move.
    quiet: u16,
    /// This position and those before it, back to the last capture or pawn move: earlier ones cannot
    /// come back. Written out in full, so that two are the same exactly if the rules say so.
    seen: Vec<String>,
}

/// As it stands in a snapshot.
#[derive(Serialize, Deserialize)]
struct Written {
    fen: String,
    seen: Vec<String>,
}

impl From<Position> for Written {
    fn from(position: Position) -> Self {
        Self { fen: position.fen(), seen: position.seen }
    }
}

impl TryFrom<Written> for Position {
    type Error = String;

    fn try_from(Written { fen, seen }: Written) -> Result<Self, String> {
        Ok(Self { seen, ..Self::from_fen(&fen)? })
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Position").field("fen", &self.fen()).field("seen", &self.seen).finish()
    }
}

impl Position {
    /// The position that a game begins from, unless another was asked for.
    pub(super) fn usual() -> Self {
        Self::at(Board::default(), 0)
    }

    fn at(board: Board, quiet: u16) -> Self {
        let seen = vec![name_of(&board)];
        Self { board, quiet, seen }
    }

    /// # Errors
    /// Which of the six fields cannot be, for whoever wrote them.
    pub(super) fn from_fen(fen: &str) -> Result<Self, String> {
        let fields: Vec<&str> = fen.split(' ').collect();
        let [ranks, side, castling, en_passant, quiet, number] = fields[..] else {
            return Err("has six fields with one space between them".to_owned());
        };
        if ranks.split('/').count() != 8 {
            return Err("the board has eight ranks".to_owned());
        }
        let counted = "the last two fields count half moves and moves".to_owned();
        let quiet: u16 = quiet.parse().map_err(|_not_a_number| counted.clone())?;
        let capped = quiet.min(FIFTY_MOVES);
        let fen = format!("{ranks} {side} {castling} {en_passant} {capped} {number}");
        let board = Board::from_fen(&fen, false).map_err(|error| match error {
            FenParseError::InvalidBoard => "the board cannot be a position of chess".to_owned(),
            FenParseError::InvalidSideToMove => "the side to move is w or b".to_owned(),
            FenParseError::InvalidCastlingRights => CASTLING.to_owned(),
            FenParseError::InvalidEnPassant => {
                "the en passant square is not behind a pawn that has just moved".to_owned()
            }
            FenParseError::InvalidHalfMoveClock
            | FenParseError::InvalidFullmoveNumber
            | FenParseError::MissingField
            | FenParseError::TooManyFields => counted,
        })?;
        // The crate also plays Chess960, where kings castle from anywhere.
        let may_castle = |color| *board.castle_rights(color) != cozy_chess::CastleRights::EMPTY;
        if Color::ALL.iter().any(|c| may_castle(*c) && board.king(*c).file() != File::E) {
            return Err(CASTLING.to_owned());
        }
        Ok(Self::at(board, quiet))
    }

    pub(super) fn fen(&self) -> String {
        let fen = self.board.to_string();
        let mut fields: Vec<&str> = fen.split(' ').collect();
        let quiet = self.quiet.to_string();
        fields[4] = &quiet;
        fields.join(" ")
    }

    pub(super) fn board(&self) -> &Board {
        &self.board
    }

    pub(super) fn turn(&self) -> Seat {
        seat_of(self.board.side_to_move())
    }

    pub(super) fn is_check(&self) -> bool {
        !self.board.checkers().is_empty()
    }

    pub(super) fn legal_moves(&self) -> Vec<Move> {
        let mut moves = Vec::new();
        self.board.generate_moves(|of_piece| {
            moves.extend(of_piece);
            false
        });
        moves
    }

    /// The position after a legal move.
    pub(super) fn after(&self, legal: Move) -> Self {
        let mut next = self.clone();
        let is_pawn = next.board.piece_on(legal.from) == Some(Piece::Pawn);
        let pieces = next.board.occupied().len();
        next.board.play(legal);
        if is_pawn || next.board.occupied().len() < pieces {
            next.quiet = 0;
            next.seen.clear();
        } else {
            next.quiet = next.quiet.saturating_add(1);
        }
        next.seen.push(name_of(&next.board));
        next
    }

    /// What has ended the game in this position, if anything.
    pub(super) fn ending(&self) -> Option<Reason> {
        if !self.board.generate_moves(|_| true) {
            return Some(if self.is_check() { Reason::Checkmate } else { Reason::Stalemate });
        }
        if !Color::ALL.iter().any(|color| can_mate(&self.board, *color)) {
            return Some(Reason::InsufficientMaterial);
        }
        if self.occurrences() >= 5 {
            return Some(Reason::FivefoldRepetition);
        }
        (self.quiet >= SEVENTY_FIVE_MOVES).then_some(Reason::SeventyFiveMoves)
    }

    /// The draw that the player to move may claim.
    pub(super) fn claim(&self) -> Option<Reason> {
        if self.occurrences() >= 3 {
            return Some(Reason::ThreefoldRepetition);
        }
        (self.quiet >= FIFTY_MOVES).then_some(Reason::FiftyMoves)
    }

    fn occurrences(&self) -> usize {
        self.seen.iter().filter(|seen| self.seen.last() == Some(seen)).count()
    }

    /// Whether some series of legal moves could end in a mate by this seat.
    pub(super) fn can_mate(&self, seat: Seat) -> bool {
        can_mate(&self.board, color_of(seat))
    }
}

const CASTLING: &str = "a castling right needs king and rook on their squares";

pub(super) fn seat_of(color: Color) -> Seat {
    match color {
        Color::White => Seat(0),
        Color::Black => Seat(1),
    }
}

fn color_of(seat: Seat) -> Color {
    if seat == Seat(0) { Color::White } else { Color::Black }
}

/// What makes two positions the same (9.2.3): pieces, side to move, castling rights, and en passant only if
/// a pawn can really capture so.
fn name_of(board: &Board) -> String {
    let fen = board.to_string();
    let mut fields: Vec<&str> = fen.split(' ').take(4).collect();
    if !can_capture_en_passant(board) {
        fields[3] = "-";
    }
    fields.join(" ")
}

fn can_capture_en_passant(board: &Board) -> bool {
    let Some(file) = board.en_passant() else {
        return false;
    };
    let behind = Square::new(file, Rank::Sixth.relative_to(board.side_to_move()));
    // No pawn gets there by a push: the one to be captured is in the way.
    let pawns = board.colored_pieces(board.side_to_move(), Piece::Pawn);
    board.generate_moves_for(pawns, |of_pawn| of_pawn.to.has(behind))
}

/// By material alone, as arbiters do it: a blocked position in which nobody can mate is not recognised.
fn can_mate(board: &Board, color: Color) -> bool {
    let own = board.colors(color);
    let theirs = board.colors(!color);
    let [pawns, knights, bishops, rooks, queens] =
        [Piece::Pawn, Piece::Knight, Piece::Bishop, Piece::Rook, Piece::Queen]
            .map(|piece| board.pieces(piece));
    if !(own & (pawns | rooks | queens)).is_empty() {
        return true;
    }
    let own_knights = (own & knights).len();
    if own_knights + (own & bishops).len() == 0 {
        return false;
    }
    if own_knights > 0 {
        // Two pieces mate a helpful king; one knight needs a piece of theirs that takes a square away, and
        // a queen never has to stand in the way.
        let blockers = theirs & (pawns | knights | bishops | rooks);
        return own.len() > 2 || !blockers.is_empty();
    }
    // Bishops of one colour of squares leave the king the other, unless something of theirs stands there.
    let one_colour = (bishops & BitBoard::DARK_SQUARES).is_empty()
        || (bishops & BitBoard::LIGHT_SQUARES).is_empty();
    !one_colour || !(pawns | knights).is_empty()
}
