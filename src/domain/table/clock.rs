//! What time and connections bring about at a table.

use serde::{Deserialize, Serialize};

use super::super::{Cause, Closing, Commit, Game, Lifecycle, Outcome, PlayerId, Seat, TurnContext};
use super::draft::Draft;
use super::seats::Presence;
use super::{Status, Table};
use crate::domain::Timestamp;

/// A connection that drops before the start may come back within this, whatever the grace of the game.
const WAITING_GRACE_MS: u32 = 30_000;

/// How long a player whose gateway is gone has at least to come back by another one.
const GATEWAY_LOST_GRACE_MS: u32 = 10_000;

/// Whether a player's last connection to a table has gone, or its first one has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PresenceChange {
    /// A connection is there.
    Came,
    /// None is left.
    Went,
}

impl<G: Game> Table<G> {
    /// When [`Table::on_time`] is to be asked next, if ever.
    pub fn next_due(&self) -> Option<Timestamp> {
        let absences = self.seats.iter().filter_map(|state| match state.presence {
            Presence::Away { until, .. } => Some(until),
            Presence::Here | Presence::Left => None,
        });
        match self.status {
            Status::Ended => None,
            Status::Waiting => absences.min(),
            Status::Running => {
                let rematch = self.rematch.as_ref().map(|rematch| rematch.until);
                let table = self.abandoned_at().into_iter().chain(rematch);
                absences.chain(self.player_deadlines()).chain(table).min()
            }
        }
    }

    /// The deadlines that run out on players. None while the clocks stand still.
    fn player_deadlines(&self) -> impl Iterator<Item = Timestamp> {
        let runs = self.clocks_run();
        self.game.deadline().into_iter().chain(self.decide_by()).filter(move |_| runs)
    }

    /// When the decisions that players owe are made for them.
    pub(in crate::domain) fn decide_by(&self) -> Option<Timestamp> {
        let limit = self.options.turn_limit_ms?;
        if self.status != Status::Running || self.humans_awaited().is_empty() {
            return None;
        }
        Some(self.moved_at.plus_millis(u64::from(limit) + self.credited_ms))
    }

    fn abandoned_at(&self) -> Option<Timestamp> {
        Some(self.deserted_at?.plus_millis(u64::from(self.options.abandon_ms)))
    }

    pub(super) fn humans_awaited(&self) -> Vec<Seat> {
        let bots = self.bots_to_act();
        if self.rematch.is_some() {
            return Vec::new();
        }
        let mut seats = self.game.awaiting();
        seats.retain(|seat| !bots.contains(seat));
        seats
    }

    /// What has become due by now: absences, desertion, the game's own deadline, a limit on thinking, the end
    /// of the time for a rematch.
    pub fn on_time(&self, cx: &TurnContext) -> Option<Commit<G::Event>> {
        let mut draft = Draft::of(self, cx);
        draft.absences();
        draft.desertion();
        draft.deadline();
        draft.thinking();
        draft.rematch_over();
        draft.commit(Cause::Clock)
    }

    /// A player's connection came or went.
    pub fn on_presence(
        &self,
        player: &PlayerId,
        change: PresenceChange,
        cx: &TurnContext,
    ) -> Option<Commit<G::Event>> {
        let seat = self.seat_of(player)?;
        let mut draft = Draft::of(self, cx);
        match (change, self.status) {
            (_, Status::Ended) => {}
            (PresenceChange::Came, _) => draft.return_to(seat),
            (PresenceChange::Went, Status::Waiting) => draft.away(seat, WAITING_GRACE_MS, None),
            (PresenceChange::Went, Status::Running) => match self.grace_ms() {
                0 => draft.give_up(seat),
                grace => draft.away(seat, grace, None),
            },
        }
        draft.commit(Cause::Presence)
    }

    /// A player's gateway is gone, last heard at this time. The player has not chosen to go: its clocks stand
    /// still, and there is time to find another gateway.
    pub fn on_gateway_lost(
        &self,
        player: &PlayerId,
        heard_at: Timestamp,
        cx: &TurnContext,
    ) -> Option<Commit<G::Event>> {
        let seat = self.seat_of(player)?;
        let grace = match self.status {
            Status::Ended => return None,
            Status::Waiting => WAITING_GRACE_MS,
            Status::Running => self.grace_ms().max(GATEWAY_LOST_GRACE_MS),
        };
        let mut draft = Draft::of(self, cx);
        draft.away(seat, grace, Some(heard_at));
        draft.commit(Cause::Presence)
    }

    fn grace_ms(&self) -> u32 {
        self.options.grace_ms.unwrap_or(G::GRACE_MS)
    }
}

impl<G: Game> Draft<'_, G> {
    fn away(&mut self, seat: Seat, grace_ms: u32, gateway_lost_at: Option<Timestamp>) {
        if self.table.seats[seat.index()].presence == Presence::Here {
            let until = self.cx.now.plus_millis(u64::from(grace_ms));
            self.lifecycle(Lifecycle::PlayerAway { seat, until, gateway_lost_at });
        }
    }

    fn absences(&mut self) {
        let is_due =
            |presence| matches!(presence, Presence::Away { until, .. } if until <= self.cx.now);
        let due: Vec<Seat> = self
            .table
            .numbered()
            .filter(|(_, state)| is_due(state.presence))
            .map(|(seat, _)| seat)
            .collect();
        for seat in due {
            self.give_up(seat);
        }
    }

    fn desertion(&mut self) {
        let is_due = self.table.abandoned_at().is_some_and(|at| at <= self.cx.now);
        if self.table.status == Status::Running && is_due {
            self.end(Closing::Abandoned, Outcome { winners: Vec::new(), scores: Vec::new() });
        }
    }

    fn deadline(&mut self) {
        let is_due = self.table.game.deadline().is_some_and(|at| at <= self.cx.now);
        let runs = self.table.clocks_run();
        if self.table.status == Status::Running && is_due && runs {
            self.game(self.table.game.on_deadline(self.cx));
        }
    }

    fn thinking(&mut self) {
        if !self.table.clocks_run() || self.table.decide_by().is_none_or(|at| at > self.cx.now) {
            return;
        }
        for seat in self.table.humans_awaited() {
            // The rules judge a bot's choice too. One that they refuse changes nothing, and the seat
            // stays awaited: the next limit tries again.
            if self.bot_choice(seat).is_err() {
                break;
            }
        }
    }
}
