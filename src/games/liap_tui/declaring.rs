//! Which numbers of piles a seat may declare.

use super::command::Rejection;

/// The most a seat can take, and what a turn's piles sum to over a round.
pub const PILES: u8 = 8;

/// A seat that declared 0 this many times in a row may not do so again.
pub const ZERO_STREAK_MAX: u8 = 2;

/// Judges one declaration.
///
/// `previous` are the numbers declared so far this round, `zero_streak` is that of the seat.
///
/// # Errors
/// The limit that forbids it.
pub fn check(previous: &[u8], zero_streak: u8, value: i64) -> Result<u8, Rejection> {
    let Ok(value) = u8::try_from(value) else {
        return Err(Rejection::ValueOutOfRange);
    };
    if value > PILES {
        return Err(Rejection::ValueOutOfRange);
    }
    if value == 0 && zero_streak >= ZERO_STREAK_MAX {
        return Err(Rejection::ThirdZero);
    }
    // Only the last of the four decides the sum, so only the last is limited by it.
    if previous.len() == 3 && previous.iter().sum::<u8>() + value == PILES {
        return Err(Rejection::TotalOfEight);
    }
    Ok(value)
}

/// The numbers a seat may declare, rising.
pub fn legal(previous: &[u8], zero_streak: u8) -> Vec<u8> {
    (0..=PILES).filter(|value| check(previous, zero_streak, i64::from(*value)).is_ok()).collect()
}

/// A seat's zero streak once it has declared.
pub fn streak_after(zero_streak: u8, value: u8) -> u8 {
    if value == 0 { zero_streak + 1 } else { 0 }
}
