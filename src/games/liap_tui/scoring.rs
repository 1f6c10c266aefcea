//! What a round is worth, and who has won.

use serde::{Deserialize, Serialize};

use crate::domain::Seat;

/// A scored round; every array is by seat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoundScore {
    pub round: u32,
    pub multiplier: u32,
    pub declared: [u8; 4],
    pub taken: [u8; 4],
    pub base: [i64; 4],
    /// `base` times `multiplier`; losses are multiplied too.
    pub score: [i64; 4],
    /// After this round.
    pub totals: [i64; 4],
    /// Declared more than nothing and took exactly that. A statistic, never a score.
    pub perfect: [bool; 4],
}

impl RoundScore {
    pub fn new(
        round: u32,
        multiplier: u32,
        declared: [u8; 4],
        taken: [u8; 4],
        totals_before: [i64; 4],
    ) -> Self {
        let base = std::array::from_fn(|seat| base_score(declared[seat], taken[seat]));
        let score = base.map(|base| base * i64::from(multiplier));
        Self {
            round,
            multiplier,
            declared,
            taken,
            base,
            score,
            totals: std::array::from_fn(|seat| totals_before[seat] + score[seat]),
            perfect: std::array::from_fn(|seat| {
                declared[seat] > 0 && declared[seat] == taken[seat]
            }),
        }
    }
}

/// What one seat's round is worth before the multiplier.
pub fn base_score(declared: u8, taken: u8) -> i64 {
    let (declared, taken) = (i64::from(declared), i64::from(taken));
    match declared {
        0 if taken == 0 => 3,
        _ if declared == taken => declared + 5,
        _ => -(declared - taken).abs(),
    }
}

/// The seats with the highest total among those that reached the target, rising; none if none did.
pub fn winners(totals: [i64; 4], target: i64) -> Vec<Seat> {
    let top = totals.into_iter().max().unwrap_or_default();
    let won = |seat: &Seat| top >= target && totals[seat.index()] == top;
    (0..4).map(Seat).filter(won).collect()
}

/// The seats by falling total, equal totals by seat number. For display: the winners may share the top.
pub fn ranking(totals: [i64; 4]) -> [Seat; 4] {
    let mut seats = [0, 1, 2, 3].map(Seat);
    seats.sort_by_key(|seat| std::cmp::Reverse(totals[seat.index()]));
    seats
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_top_total_wins_together() {
        assert_eq!(winners([60, 52, 60, -3], 50), [Seat(0), Seat(2)]);
        assert_eq!(winners([49, 49, 0, 0], 50), []);
    }

    #[test]
    fn equal_totals_rank_by_seat() {
        assert_eq!(ranking([5, 50, 5, 60]), [3, 1, 0, 2].map(Seat));
    }
}
