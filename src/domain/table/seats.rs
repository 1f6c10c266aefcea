//! Who sits where, who is here, and who makes a seat's decisions.

use serde::{Deserialize, Serialize};

use super::super::view::{Holder, SeatView, bot_name};
use super::super::{Game, PlayerId, Seat, Seating, SummarySeat, Timestamp};
use super::Table;

/// One seat of a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct SeatState {
    pub(super) seating: Seating,
    pub(super) presence: Presence,
}

/// Whether the player of a seat is here. Bots always are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Presence {
    Here,
    /// The connection is gone.
    Away {
        /// When the player counts as having left.
        until: Timestamp,
        /// When its gateway was last heard, if that is gone.
        gateway_lost_at: Option<Timestamp>,
    },
    /// A bot plays until the player returns.
    Left,
}

impl SeatState {
    pub(super) fn new(seating: &Seating) -> Self {
        Self { seating: seating.clone(), presence: Presence::Here }
    }

    pub(super) fn player(&self) -> Option<&PlayerId> {
        match &self.seating {
            Seating::Human { player, .. } => Some(player),
            Seating::Open | Seating::Bot => None,
        }
    }

    pub(super) fn is_human(&self) -> bool {
        matches!(self.seating, Seating::Human { .. })
    }

    pub(super) fn human_is_here(&self) -> bool {
        self.is_human() && self.presence == Presence::Here
    }

    /// Whether there is a player who has not left.
    pub(super) fn has_player(&self) -> bool {
        self.is_human() && self.presence != Presence::Left
    }

    fn bot_plays(&self) -> bool {
        match self.seating {
            Seating::Bot => true,
            Seating::Human { .. } => self.presence == Presence::Left,
            Seating::Open => false,
        }
    }
}

impl<G: Game> Table<G> {
    /// The seat that a player holds.
    pub fn seat_of(&self, player: &PlayerId) -> Option<Seat> {
        self.numbered().find(|(_, state)| state.player() == Some(player)).map(|(seat, _)| seat)
    }

    /// Players whose connection counts as there.
    pub fn players_here(&self) -> Vec<PlayerId> {
        let here = self.seats.iter().filter(|state| state.human_is_here());
        here.filter_map(|state| state.player().cloned()).collect()
    }

    /// Players who owe a decision.
    pub fn players_awaited(&self) -> Vec<PlayerId> {
        let seats = self.humans_awaited().into_iter();
        seats.filter_map(|seat| self.seats.get(seat.index())?.player().cloned()).collect()
    }

    /// The seats that a bot is to decide for at this moment, rising.
    pub fn bots_to_act(&self) -> Vec<Seat> {
        if self.status != super::Status::Running || self.rematch.is_some() {
            return Vec::new();
        }
        let mut seats = self.game.awaiting();
        seats.retain(|seat| self.seats.get(seat.index()).is_some_and(SeatState::bot_plays));
        seats
    }

    /// Every seat, as anyone may see it.
    pub fn seat_views(&self) -> Vec<SeatView> {
        self.numbered()
            .map(|(seat, state)| {
                let shown = state.seating.view(seat);
                let here = shown.present && state.presence == Presence::Here;
                SeatView { present: here, bot_plays: state.bot_plays(), ..shown }
            })
            .collect()
    }

    pub(super) fn numbered(&self) -> impl Iterator<Item = (Seat, &SeatState)> {
        (0u8..).map(Seat).zip(&self.seats)
    }

    pub(super) fn seat_mut(&mut self, seat: Seat) -> &mut SeatState {
        self.seats.get_mut(seat.index()).expect("events name seats of their own table")
    }

    pub(super) fn first_seat(&self, is_wanted: impl Fn(&SeatState) -> bool) -> Option<Seat> {
        self.numbered().find(|(_, state)| is_wanted(state)).map(|(seat, _)| seat)
    }

    pub(super) fn summary_seats(&self) -> Vec<SummarySeat> {
        self.numbered()
            .map(|(seat, state)| {
                let (player, name) = match &state.seating {
                    Seating::Open => (None, String::new()),
                    Seating::Bot => (None, bot_name(seat)),
                    Seating::Human { player, name } => (Some(player.clone()), name.clone()),
                };
                SummarySeat { seat, player, name }
            })
            .collect()
    }

    /// How many seats are filled, and how many there are.
    pub fn filled(&self) -> (usize, usize) {
        let open = self.seat_views().iter().filter(|seat| seat.holder == Holder::Open).count();
        (self.seats.len() - open, self.seats.len())
    }
}
