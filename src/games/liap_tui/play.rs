//! What a set of pieces is worth as a play, and which of two plays is stronger.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::piece::{Name, Piece, points, without};
use crate::domain::Seat;

/// The largest play: a double straight.
pub const PLAY_SIZE_MAX: usize = 6;

/// The nine valid types of play, and the rest. The types have no order among themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PlayType {
    Single,
    Pair,
    ThreeOfAKind,
    Straight,
    FourOfAKind,
    ExtendedStraight,
    FiveOfAKind,
    #[serde(rename = "EXTENDED_STRAIGHT_5")]
    ExtendedStraight5,
    DoubleStraight,
    /// Beats nothing; only followers may play it.
    Invalid,
}

/// The names of which a straight takes one each.
const FAMILY_A: [Name; 3] = [Name::General, Name::Advisor, Name::Elephant];
const FAMILY_B: [Name; 3] = [Name::Chariot, Name::Horse, Name::Cannon];

impl PlayType {
    /// The type of a set of pieces, in whatever order they are named.
    pub fn of(pieces: &[Piece]) -> Self {
        let Some(first) = pieces.first() else {
            return Self::Invalid;
        };
        if pieces.iter().all(|piece| piece == first) {
            return Self::of_one_kind(*first, pieces.len());
        }
        if pieces.iter().any(|piece| piece.colour() != first.colour()) {
            return Self::Invalid;
        }
        for family in [FAMILY_A, FAMILY_B] {
            let copies = family.map(|name| pieces.iter().filter(|p| p.name() == name).count());
            if copies.iter().sum::<usize>() == pieces.len() {
                return Self::of_one_family(copies);
            }
        }
        Self::Invalid
    }

    fn of_one_kind(kind: Piece, copies: usize) -> Self {
        match (kind.name(), copies) {
            (_, 1) => Self::Single,
            (_, 2) => Self::Pair,
            (Name::Soldier, 3) => Self::ThreeOfAKind,
            (Name::Soldier, 4) => Self::FourOfAKind,
            (Name::Soldier, 5) => Self::FiveOfAKind,
            (_, _) => Self::Invalid,
        }
    }

    fn of_one_family(mut copies: [usize; 3]) -> Self {
        copies.sort_unstable();
        match copies {
            [1, 1, 1] => Self::Straight,
            [1, 1, 2] => Self::ExtendedStraight,
            [1, 2, 2] => Self::ExtendedStraight5,
            // Only family B has two of each; there is but one General of a colour.
            [2, 2, 2] => Self::DoubleStraight,
            _ => Self::Invalid,
        }
    }

    /// What plays of this type are compared by. Not defined across types.
    pub fn strength(self, pieces: &[Piece]) -> u32 {
        match self {
            Self::ExtendedStraight | Self::ExtendedStraight5 => {
                let mut core = pieces.to_vec();
                core.sort_unstable();
                core.dedup();
                points(&core)
            }
            Self::Invalid => 0,
            Self::Single
            | Self::Pair
            | Self::ThreeOfAKind
            | Self::Straight
            | Self::FourOfAKind
            | Self::FiveOfAKind
            | Self::DoubleStraight => points(pieces),
        }
    }
}

/// What one seat put down in a turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Play {
    pub seat: Seat,
    pub pieces: Vec<Piece>,
    pub play_type: PlayType,
    pub strength: u32,
}

impl Play {
    pub fn new(seat: Seat, mut pieces: Vec<Piece>) -> Self {
        pieces.sort_unstable();
        let play_type = PlayType::of(&pieces);
        let strength = play_type.strength(&pieces);
        Self { seat, pieces, play_type, strength }
    }

    /// Whether this play takes the lead from an earlier one. A tie does not.
    pub fn beats(&self, other: &Self) -> bool {
        self.play_type != PlayType::Invalid
            && self.play_type == other.play_type
            && self.strength > other.strength
    }
}

/// The best of a turn's plays, given in play order with the leader's first.
pub fn best(plays: &[Play]) -> Option<&Play> {
    plays.iter().reduce(|best, play| if play.beats(best) { play } else { best })
}

/// The 56 distinct sets that are valid plays.
pub static VALID_SETS: LazyLock<Vec<Vec<Piece>>> = LazyLock::new(|| {
    let mut sets: Vec<_> = Piece::KINDS.iter().map(|kind| vec![*kind]).collect();
    for kind in Piece::KINDS {
        sets.extend((2..=kind.copies()).map(|copies| vec![kind; copies]));
    }
    // By falling points the kinds alternate in colour: family A is 0 to 5, family B is 6 to 11.
    for top in [0, 1, 6, 7] {
        let kinds = [top, top + 2, top + 4].map(|place| Piece::KINDS[place]);
        for extra in 0..8_u8 {
            let mut set = kinds.to_vec();
            set.extend((0..3).filter(|bit| extra >> bit & 1 == 1).map(|bit: usize| kinds[bit]));
            set.sort_unstable();
            if set.iter().all(|p| set.iter().filter(|q| *q == p).count() <= p.copies()) {
                sets.push(set);
            }
        }
    }
    sets
});

/// Every distinct valid play that can be made from these pieces.
pub fn valid_plays(pieces: &[Piece]) -> impl Iterator<Item = &'static [Piece]> {
    VALID_SETS.iter().map(Vec::as_slice).filter(|set| without(pieces, set).is_some())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn multisets(kinds: &[Piece], size: usize) -> Vec<Vec<Piece>> {
        let Some((kind, rest)) = kinds.split_first() else {
            return if size == 0 { vec![vec![]] } else { vec![] };
        };
        (0..=kind.copies().min(size))
            .flat_map(|copies| {
                multisets(rest, size - copies).into_iter().map(move |mut set| {
                    set.extend(std::iter::repeat_n(*kind, copies));
                    set.sort_unstable();
                    set
                })
            })
            .collect()
    }

    #[test]
    fn exactly_the_listed_sets_are_valid() {
        let mut valid: Vec<_> = (0..=8)
            .flat_map(|size| multisets(&Piece::KINDS, size))
            .filter(|set| PlayType::of(set) != PlayType::Invalid)
            .collect();
        let mut listed = VALID_SETS.clone();
        valid.sort_unstable();
        listed.sort_unstable();
        assert_eq!(valid, listed);
    }

    #[test]
    fn there_are_56_valid_sets() {
        let mut counts = BTreeMap::new();
        for set in VALID_SETS.iter() {
            *counts.entry(format!("{:?}", PlayType::of(set))).or_insert(0) += 1;
        }
        let expected = [
            ("DoubleStraight", 2),
            ("ExtendedStraight", 10),
            ("ExtendedStraight5", 8),
            ("FiveOfAKind", 2),
            ("FourOfAKind", 2),
            ("Pair", 12),
            ("Single", 14),
            ("Straight", 4),
            ("ThreeOfAKind", 2),
        ];
        assert_eq!(counts, expected.map(|(name, count)| (name.to_owned(), count)).into());
    }

    #[test]
    fn the_earlier_of_two_equal_plays_keeps_the_lead() {
        let plays = [2, 3].map(|seat| Play::new(Seat(seat), vec![Piece::SoldierRed; 2]));
        assert_eq!(best(&plays).map(|play| play.seat), Some(Seat(2)));
    }

    #[test]
    fn a_spare_piece_adds_no_strength_to_an_extended_straight() {
        use Piece::{CannonBlack, CannonRed, ChariotBlack, ChariotRed, HorseBlack, HorseRed};
        let red = Play::new(Seat(0), vec![ChariotRed, HorseRed, CannonRed, CannonRed]);
        let black = Play::new(Seat(1), vec![ChariotBlack, ChariotBlack, HorseBlack, CannonBlack]);
        assert_eq!(points(&red.pieces), points(&black.pieces));
        assert!(red.beats(&black) && !black.beats(&red));
    }
}
