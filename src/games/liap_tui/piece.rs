//! The 32 pieces, their values, and hands of them.

use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::domain::Dice;

/// A kind of piece. Copies of one kind are interchangeable, so nothing ever tells two of them apart.
///
/// Declared by falling points, so that a sorted hand has its best pieces first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Piece {
    GeneralRed,
    GeneralBlack,
    AdvisorRed,
    AdvisorBlack,
    ElephantRed,
    ElephantBlack,
    ChariotRed,
    ChariotBlack,
    HorseRed,
    HorseBlack,
    CannonRed,
    CannonBlack,
    SoldierRed,
    SoldierBlack,
}

/// What a piece shares with its counterpart of the other colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    General,
    Advisor,
    Elephant,
    Chariot,
    Horse,
    Cannon,
    Soldier,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    Red,
    Black,
}

/// The pieces of each seat, by seat number.
pub type Hands = [Vec<Piece>; 4];

/// Pieces dealt to each seat.
pub const HAND_SIZE: usize = 8;

/// A hand without a piece of more points than this is weak.
const WEAK_MAX: u32 = 9;

impl Piece {
    /// Every kind, by falling points.
    pub const KINDS: [Self; 14] = [
        Self::GeneralRed,
        Self::GeneralBlack,
        Self::AdvisorRed,
        Self::AdvisorBlack,
        Self::ElephantRed,
        Self::ElephantBlack,
        Self::ChariotRed,
        Self::ChariotBlack,
        Self::HorseRed,
        Self::HorseBlack,
        Self::CannonRed,
        Self::CannonBlack,
        Self::SoldierRed,
        Self::SoldierBlack,
    ];

    /// 14 for the best piece down to 1 for the least; no two kinds are worth the same.
    pub fn points(self) -> u32 {
        14 - self as u32
    }

    pub fn name(self) -> Name {
        match self {
            Self::GeneralRed | Self::GeneralBlack => Name::General,
            Self::AdvisorRed | Self::AdvisorBlack => Name::Advisor,
            Self::ElephantRed | Self::ElephantBlack => Name::Elephant,
            Self::ChariotRed | Self::ChariotBlack => Name::Chariot,
            Self::HorseRed | Self::HorseBlack => Name::Horse,
            Self::CannonRed | Self::CannonBlack => Name::Cannon,
            Self::SoldierRed | Self::SoldierBlack => Name::Soldier,
        }
    }

    pub fn colour(self) -> Colour {
        // Red of a name is always one point above black of that name.
        if self.points().is_multiple_of(2) { Colour::Red } else { Colour::Black }
    }

    /// How many of this kind are in the deck.
    pub fn copies(self) -> usize {
        match self.name() {
            Name::General => 1,
            Name::Advisor | Name::Elephant | Name::Chariot | Name::Horse | Name::Cannon => 2,
            Name::Soldier => 5,
        }
    }
}

/// All 32 pieces, in no player's order.
pub fn deck() -> Vec<Piece> {
    Piece::KINDS.into_iter().flat_map(|kind| std::iter::repeat_n(kind, kind.copies())).collect()
}

/// A fair deal of the whole deck.
pub fn deal(dice: &mut Dice) -> Hands {
    let mut deck = deck();
    deck.shuffle(dice);
    std::array::from_fn(|seat| {
        let mut hand = deck[seat * HAND_SIZE..(seat + 1) * HAND_SIZE].to_vec();
        hand.sort_unstable();
        hand
    })
}

/// Whether a hand gives its seat a say in a redeal.
pub fn is_weak(hand: &[Piece]) -> bool {
    hand.iter().all(|piece| piece.points() <= WEAK_MAX)
}

/// What stays in a hand when these pieces leave it; nothing if it does not hold them all.
pub fn without(hand: &[Piece], pieces: &[Piece]) -> Option<Vec<Piece>> {
    let mut rest = hand.to_vec();
    for piece in pieces {
        let place = rest.iter().position(|held| held == piece)?;
        rest.remove(place);
    }
    Some(rest)
}

pub fn points(pieces: &[Piece]) -> u32 {
    pieces.iter().map(|piece| piece.points()).sum()
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    #[test]
    fn the_deck_is_that_of_the_rules() {
        assert_eq!(deck().len(), 32);
        assert_eq!(points(&deck()), 192);
        assert_eq!(deck().iter().filter(|piece| piece.points() > WEAK_MAX).count(), 8);
        for pair in Piece::KINDS.chunks(2) {
            assert_eq!((pair[0].colour(), pair[1].colour()), (Colour::Red, Colour::Black));
            assert_eq!(pair[0].name(), pair[1].name());
            assert_eq!(pair[0].points(), pair[1].points() + 1);
        }
    }

    #[test]
    fn a_deal_leaves_nothing_over() {
        let hands = deal(&mut Dice::from_seed([3; 32]));
        let mut all = hands.concat();
        all.sort_unstable();
        assert_eq!(all, deck());
        assert!(hands.iter().all(|hand| hand.len() == HAND_SIZE));
    }

    #[test]
    fn a_hand_gives_only_what_it_holds() {
        let hand = [Piece::AdvisorRed, Piece::SoldierRed, Piece::SoldierRed];
        assert_eq!(without(&hand, &[Piece::SoldierRed; 2]), Some(vec![Piece::AdvisorRed]));
        assert_eq!(without(&hand, &[Piece::SoldierRed; 3]), None);
        assert_eq!(without(&hand, &[Piece::AdvisorRed; 2]), None);
    }
}
