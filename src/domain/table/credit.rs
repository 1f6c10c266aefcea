//! Giving time back: nobody's clock runs while nobody can act.

use super::super::{Commit, CreditReason, Game, Lifecycle, Seat, Timestamp, TurnContext};
use super::draft::Draft;
use super::seats::Presence;
use super::{Status, Table};
use crate::domain::Cause;

impl<G: Game> Table<G> {
    /// Since when the clocks stand still, because the gateway of a player who owes a decision is gone.
    pub(super) fn clocks_stand_since(&self) -> Option<Timestamp> {
        let lost = self.humans_awaited().into_iter().filter_map(|seat| self.gateway_lost_at(seat));
        lost.min()
    }

    /// Whether the clocks of the game run.
    pub(super) fn clocks_run(&self) -> bool {
        self.rematch.is_none() && self.clocks_stand_since().is_none()
    }

    fn gateway_lost_at(&self, seat: Seat) -> Option<Timestamp> {
        match self.seats.get(seat.index())?.presence {
            Presence::Away { gateway_lost_at, .. } => gateway_lost_at,
            Presence::Here | Presence::Left => None,
        }
    }

    /// Whether a clock runs that time could be given back to.
    fn has_clock(&self) -> bool {
        let is_away =
            |seat: &super::seats::SeatState| matches!(seat.presence, Presence::Away { .. });
        self.status == Status::Running
            && (self.rematch.is_some()
                || self.game.deadline().is_some()
                // Even while a bot is to decide: its player may come back to the same turn.
                || self.options.turn_limit_ms.is_some()
                || self.deserted_at.is_some()
                || self.seats.iter().any(is_away))
    }

    /// Gives the time since then back; nothing if no clock ran.
    pub fn give_back(
        &self,
        since: Timestamp,
        reason: CreditReason,
        cx: &TurnContext,
    ) -> Option<Commit<G::Event>> {
        let mut draft = Draft::of(self, cx);
        draft.credit(since, reason);
        draft.commit(Cause::Clock)
    }
}

impl<G: Game> Draft<'_, G> {
    /// Nobody pays for the time without an owner, nor for what the owner before still owed.
    pub(super) fn credit_claim(&mut self, owned_until: Option<Timestamp>) {
        // It was alive at its last commit, whoever heard what.
        let alive = owned_until.map_or(self.table.last_at, |until| until.max(self.table.last_at));
        let since = self.table.clocks_stand_since().map_or(alive, |stood| stood.min(alive));
        self.credit(since, CreditReason::NoOwner);
    }

    /// Gives back what clocks that stand have lost up to now.
    pub(super) fn credit_standing(&mut self) {
        if let Some(since) = self.table.clocks_stand_since() {
            self.credit(since, CreditReason::GatewayLost);
        }
    }

    /// A player whose gateway was gone is back, or counts as having left: the clocks go on.
    pub(super) fn credit_return(&mut self, seat: Seat) {
        let Some(lost_at) = self.table.gateway_lost_at(seat) else {
            return;
        };
        if self.table.humans_awaited().contains(&seat) {
            self.credit(lost_at, CreditReason::GatewayLost);
        }
    }

    /// Gives the time since then back, but none before the running turn, and none twice.
    fn credit(&mut self, since: Timestamp, reason: CreditReason) {
        let since = since.max(self.table.moved_at).max(self.table.credited_to);
        let ms = self.cx.now.millis_since(since);
        if ms > 0 && self.table.has_clock() {
            self.lifecycle(Lifecycle::Credited { ms, reason });
        }
    }
}
