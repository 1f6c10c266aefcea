//! Playing again: a game that is over may wait for its players' wish, and their next table is opened as this one.

use rand_chacha::rand_core::Rng;
use serde::{Deserialize, Serialize};

use super::super::view::{RematchView, ResultView};
use super::super::{
    Closing, Game, Lifecycle, Opening, Seat, Seating, StartRule, TableId, TableOptions, Timestamp,
};
use super::draft::Draft;
use super::seats::SeatState;
use super::{Identity, Status, Table, TableRule};

/// The game is over, and the table waits for its players.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::domain) struct Rematch {
    /// When it ends without another game.
    pub(super) until: Timestamp,
    /// Whose players want one, rising.
    wanted: Vec<Seat>,
}

impl Rematch {
    pub(super) fn until(until: Timestamp) -> Self {
        Self { until, wanted: Vec::new() }
    }
}

impl From<&Rematch> for RematchView {
    fn from(rematch: &Rematch) -> Self {
        Self { until: rematch.until, wanted: rematch.wanted.clone() }
    }
}

impl<G: Game> Table<G> {
    /// The table at which the players go on, and how it is opened; nothing if they do not.
    ///
    /// A function of the state, so that whoever owns this table after a crash opens the same one.
    pub fn successor(&self) -> Option<(TableId, Opening)> {
        let (table, setup) = (self.successor?, self.setup.clone()?);
        let seats: Vec<Seating> = self.seats.iter().map(next_seating::<G>).collect();
        let has_open = seats.contains(&Seating::Open);
        let start = if has_open { self.options.start } else { StartRule::WhenFull };
        let opening = Opening {
            kind: Self::kind(),
            rules: self.rules,
            setup,
            options: TableOptions { start, ..self.options },
            seats,
            host: self.host.and_then(|host| self.next_host(host)),
        };
        Some((table, opening))
    }

    /// The table at which the players go on, if they do.
    pub fn successor_id(&self) -> Option<TableId> {
        self.successor
    }

    pub(in crate::domain) fn rematch(&self) -> Option<&Rematch> {
        self.rematch.as_ref()
    }

    /// How the game ended, once it has, be the table over or not.
    pub(in crate::domain) fn result(&self) -> Option<ResultView> {
        if self.rematch.is_none() {
            return self.summary.as_ref().map(ResultView::from);
        }
        let outcome = self.game.outcome()?;
        Some(ResultView {
            closing: Closing::Finished,
            winners: outcome.winners,
            scores: outcome.scores,
            ended_at: self.moved_at,
        })
    }

    /// The host, if it plays on, else the first player who does.
    fn next_host(&self, host: Seat) -> Option<Seat> {
        let stays = self.seats.get(host.index()).is_some_and(SeatState::has_player);
        if stays { Some(host) } else { self.first_seat(SeatState::has_player) }
    }

    pub(super) fn want_rematch(&mut self, seat: Seat, wants: bool) {
        if let Some(Rematch { wanted, .. }) = &mut self.rematch {
            wanted.retain(|other| *other != seat);
            if wants {
                wanted.push(seat);
                wanted.sort_unstable();
            }
        }
    }
}

/// Who has left does not come along.
fn next_seating<G: Game>(state: &SeatState) -> Seating {
    if !state.is_human() || state.has_player() {
        return state.seating.clone();
    }
    if G::HAS_BOTS { Seating::Bot } else { Seating::Open }
}

impl<G: Game> Draft<'_, G> {
    /// A game that is over ends its table, unless there are players who may still want another one.
    pub(super) fn finish(&mut self) {
        if self.table.status != Status::Running {
            return;
        }
        let Some(outcome) = self.table.game.outcome() else {
            return;
        };
        let players = self.table.numbered().filter(|(_, state)| state.has_player());
        let players: Vec<Seat> = players.map(|(seat, _)| seat).collect();
        let window_ms = self.table.options.rematch_ms;
        match &self.table.rematch {
            None if window_ms > 0 && !players.is_empty() => {
                let until = self.cx.now.plus_millis(u64::from(window_ms));
                return self.lifecycle(Lifecycle::RematchOffered { until });
            }
            Some(rematch) if !players.iter().all(|seat| rematch.wanted.contains(seat)) => return,
            Some(_) if !players.is_empty() => {
                self.lifecycle(Lifecycle::Succeeded { table: self.new_table() });
            }
            None | Some(_) => {}
        }
        self.end(Closing::Finished, outcome);
    }

    /// Nobody waits for ever: the time for a rematch is over.
    pub(super) fn rematch_over(&mut self) {
        let rematch = self.table.rematch.as_ref();
        let is_over = rematch.is_some_and(|rematch| rematch.until <= self.cx.now);
        if is_over && let Some(outcome) = self.table.game.outcome() {
            self.end(Closing::Finished, outcome);
        }
    }

    /// A player wants another game.
    pub(super) fn rematch(&mut self, by: &Identity) -> Result<(), TableRule> {
        let seat = self.table.seat_of(&by.player).ok_or(TableRule::NotSeated)?;
        let rematch = self.table.rematch.as_ref().filter(|rematch| self.cx.now < rematch.until);
        let is_new = !rematch.ok_or(TableRule::NoRematch)?.wanted.contains(&seat);
        self.return_to(seat);
        if is_new {
            self.lifecycle(Lifecycle::RematchWanted { seat });
        }
        Ok(())
    }

    fn new_table(&self) -> TableId {
        // A stream of its own: everybody sees the id, and it says nothing of what the game draws.
        let mut dice = self.cx.dice();
        dice.set_stream(2);
        let mut random = [0; 10];
        dice.fill_bytes(&mut random);
        TableId::new(self.cx.now, random)
    }
}
