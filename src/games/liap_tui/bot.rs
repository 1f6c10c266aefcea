//! What a bot does: it counts the pieces it has not seen, and plays for exactly what it declared.
//!
//! Rounds of 2,000 seeded games of four bots: 10 % end within 10, half within 17, 90 % within 27, 99 % within
//! 37; the longest took 54. Measured by
//! `cargo test --lib distribution_of_bot_games -- --ignored --nocapture`.

use rand::RngExt;

use super::command::Command;
use super::event::Phase;
use super::piece::{Piece, deck, points, without};
use super::play::{PlayType, VALID_SETS, valid_plays};
use super::view::View;
use crate::domain::{Dice, Seat};

/// How often a seat that could beat a play does so; the rest are pieces saved and piles not wanted.
/// At 0.3 or 0.6 the games of bots take half as long again.
const EAGERNESS: f64 = 0.45;
/// A play less likely to win than this is not worth its pieces.
const WORTH_TRYING: f64 = 0.25;
/// A seat that wants no more piles takes this risk to be rid of a strong piece.
const RISK: f64 = 0.15;

/// A choice for a seat that owes one; it is always legal.
pub(super) fn choose(view: &View, seat: Seat, dice: &mut Dice) -> Option<Command> {
    if !view.awaiting.contains(&seat) {
        return None;
    }
    let hand = view.hand.as_deref()?;
    match view.phase {
        Phase::Preparation => Some(decide_redeal(view, seat, dice)),
        Phase::Declaration => {
            let value = nearest(&view.legal_declarations, estimate(view, seat, hand))?;
            Some(Command::Declare { value: i64::from(value) })
        }
        Phase::Turn => {
            let reckoning = Reckoning::new(view, hand);
            let declared = i64::from(view.declared[seat.index()]?);
            let wanted = declared - i64::from(view.piles[seat.index()]);
            let pieces = match view.required {
                None => lead(&reckoning, wanted)?,
                Some(count) => follow(&reckoning, wanted, count),
            };
            Some(Command::Play { pieces })
        }
        Phase::Waiting
        | Phase::RoundStart
        | Phase::TurnResults
        | Phase::Scoring
        | Phase::GameOver => None,
    }
}

/// Asks for a redeal with probability 0.8, and half as often when far in the lead in a long game.
fn decide_redeal(view: &View, seat: Seat, dice: &mut Dice) -> Command {
    let own = view.totals[seat.index()];
    let others = (0..4).filter(|other| *other != seat.index()).map(|other| view.totals[other]);
    let far_ahead = view.round > 10 && others.into_iter().all(|total| own - total > 10);
    if dice.random_bool(if far_ahead { 0.4 } else { 0.8 }) {
        Command::RedealAccept {}
    } else {
        Command::RedealDecline {}
    }
}

/// How many piles a hand is good for.
fn estimate(view: &View, seat: Seat, hand: &[Piece]) -> f64 {
    let reckoning = Reckoning::new(view, hand);
    let leads = view.starter.as_ref().is_some_and(|starter| starter.seat == seat);
    let mut rest = hand.to_vec();
    let mut piles = 0.0;
    // Sets first, the most promising each time: a set is worth more than its pieces one by one.
    while let Some((set, gain)) = best_set(&reckoning, &rest) {
        piles += gain;
        rest = without(&rest, set).expect("the set was made from these pieces");
    }
    // Sets only win for who has the lead; without it they depend on a single that takes it.
    let singles: f64 = rest.iter().map(|piece| reckoning.win_chance(&[*piece])).sum();
    let lead_chance = if leads { 1.0 } else { (0.3 + 0.5 * singles).min(1.0) };
    piles * lead_chance + singles
}

/// The set of two or more that adds most to what its pieces would win one by one.
fn best_set(reckoning: &Reckoning<'_>, pieces: &[Piece]) -> Option<(&'static [Piece], f64)> {
    let size =
        |set: &[Piece]| f64::from(u8::try_from(set.len()).expect("a set has at most 6 pieces"));
    valid_plays(pieces)
        .filter(|set| set.len() > 1)
        .map(|set| (set, reckoning.win_chance(set) * size(set)))
        .filter(|(set, gain)| *gain > set.iter().map(|piece| reckoning.win_chance(&[*piece])).sum())
        .max_by(|(_, gain), (_, other)| gain.total_cmp(other))
}

fn nearest(legal: &[u8], wish: f64) -> Option<u8> {
    let distance = |value: &u8| (f64::from(*value) - wish).abs();
    legal.iter().copied().min_by(|one, other| distance(one).total_cmp(&distance(other)))
}

/// The valid set to lead with.
fn lead(reckoning: &Reckoning<'_>, wanted: i64) -> Option<Vec<Piece>> {
    let sets = || valid_plays(reckoning.hand).map(|set| (set, reckoning.win_chance(set)));
    let wished = sets()
        .filter(|(set, chance)| fits(set.len(), wanted) && *chance >= WORTH_TRYING)
        .max_by(|(set, chance), (other, other_chance)| {
            set.len().cmp(&other.len()).then(chance.total_cmp(other_chance))
        });
    let (set, _) = wished.or_else(|| sets().min_by(|(_, one), (_, other)| one.total_cmp(other)))?;
    Some(set.to_vec())
}

/// Whatever serves best among the sets of this many pieces.
fn follow(reckoning: &Reckoning<'_>, wanted: i64, count: usize) -> Vec<Piece> {
    if fits(count, wanted) {
        let best = valid_plays(reckoning.hand)
            .filter(|set| set.len() == count)
            .map(|set| (set, reckoning.win_chance(set)))
            .max_by(|(_, one), (_, other)| one.total_cmp(other));
        if let Some((set, chance)) = best
            && chance >= WORTH_TRYING
        {
            return set.to_vec();
        }
    }
    duck(reckoning, wanted, count)
}

fn fits(count: usize, wanted: i64) -> bool {
    i64::try_from(count).is_ok_and(|count| count <= wanted)
}

/// Pieces that are not likely to win this turn: dangerous ones for a seat that is done, useless ones for
/// a seat that still wants piles.
fn duck(reckoning: &Reckoning<'_>, wanted: i64, count: usize) -> Vec<Piece> {
    let worth = |pieces: &[Piece]| {
        let points = f64::from(points(pieces));
        if wanted > 0 { -points } else { points }
    };
    // Safe choices before risky ones; among the risky the least so.
    let rank = |pieces: &[Piece]| match reckoning.win_chance(pieces) {
        chance if chance <= RISK => (1.0, worth(pieces)),
        chance => (-chance, worth(pieces)),
    };
    choices(reckoning.hand, count)
        .map(|pieces| (rank(&pieces), pieces))
        .max_by(|((safe, worth), _), ((other_safe, other_worth), _)| {
            safe.total_cmp(other_safe).then(worth.total_cmp(other_worth))
        })
        .map(|(_, pieces)| pieces)
        .expect("a follower has as many pieces as the leader played")
}

/// All choices of this many pieces of a hand.
fn choices(hand: &[Piece], count: usize) -> impl Iterator<Item = Vec<Piece>> {
    // Each is a number whose bits say which pieces are taken; a hand has at most eight.
    (0..1_u16 << hand.len()).filter(move |choice| choice.count_ones() as usize == count).map(
        |choice| {
            let taken = |place: &usize| choice >> place & 1 == 1;
            (0..hand.len()).filter(taken).map(|place| hand[place]).collect()
        },
    )
}

/// What a seat can work out from its view.
struct Reckoning<'a> {
    hand: &'a [Piece],
    /// The pieces that the other three hold or have face down.
    unseen: Vec<Piece>,
}

impl<'a> Reckoning<'a> {
    fn new(view: &View, hand: &'a [Piece]) -> Self {
        let seen = [hand, &view.pieces_out].concat();
        let unseen = without(&deck(), &seen).expect("what is seen is part of the deck");
        Self { hand, unseen }
    }

    /// About how likely these pieces are to win a turn; 0 if they are no valid set.
    fn win_chance(&self, pieces: &[Piece]) -> f64 {
        let play_type = PlayType::of(pieces);
        if play_type == PlayType::Invalid {
            return 0.0;
        }
        let strength = play_type.strength(pieces);
        VALID_SETS
            .iter()
            .filter(|set| set.len() == pieces.len())
            .filter(|set| PlayType::of(set) == play_type && play_type.strength(set) > strength)
            .map(|set| 1.0 - EAGERNESS * self.held_chance(set))
            .product()
    }

    /// About how likely one of the others holds this whole set.
    fn held_chance(&self, set: &[Piece]) -> f64 {
        let mut rest = self.unseen.clone();
        let mut chance = 3.0;
        for piece in set {
            let copies = rest.iter().filter(|held| *held == piece).count();
            let Some(place) = rest.iter().position(|held| held == piece) else {
                return 0.0;
            };
            // A third of what is unseen lies with each of the three.
            chance *= f64::from(u8::try_from(copies).expect("at most 5 copies")) / 3.0;
            rest.remove(place);
        }
        chance.min(1.0)
    }
}
