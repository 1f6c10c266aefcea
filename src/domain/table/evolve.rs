//! Folding commits into a table. Cannot fail: what is in the log has happened.

use super::super::{Cause, Commit, Game, Lifecycle, Seating, TableEvent, Timestamp};
use super::seats::{Presence, SeatState};
use super::{RECENT_PER_SEAT, Rematch, Status, Table};

impl<G: Game> Table<G> {
    /// Applies one commit. The caller has checked that it is the one after [`Table::last_seq`].
    pub fn evolve(&mut self, commit: &Commit<G::Event>) {
        for event in &commit.events {
            self.evolve_event(event, commit.at);
        }
        self.last_seq = commit.seq;
        self.last_at = commit.at;
        if let Cause::Command { player, id } = &commit.cause {
            self.recent.push_back((player.clone(), id.clone(), commit.seq));
            while self.recent.len() > RECENT_PER_SEAT * self.seats.len() {
                self.recent.pop_front();
            }
        }
    }

    pub(super) fn evolve_event(&mut self, event: &TableEvent<G::Event>, at: Timestamp) {
        match event {
            TableEvent::Lifecycle(event) => self.evolve_lifecycle(event, at),
            TableEvent::Game(event) => {
                self.game.evolve(event);
                self.note_move(at);
            }
        }
    }

    fn evolve_lifecycle(&mut self, event: &Lifecycle, at: Timestamp) {
        match event {
            // `Table::new` has taken it in.
            Lifecycle::Opened(_) => {}
            Lifecycle::Claimed { worker } => self.owner = Some(worker.clone()),
            Lifecycle::SeatTaken { seat, player, name } => {
                let seating = Seating::Human { player: player.clone(), name: name.clone() };
                *self.seat_mut(*seat) = SeatState::new(&seating);
            }
            Lifecycle::SeatFreed { seat } => *self.seat_mut(*seat) = SeatState::new(&Seating::Open),
            Lifecycle::BotSeated { seat } => *self.seat_mut(*seat) = SeatState::new(&Seating::Bot),
            Lifecycle::Started => {
                self.status = Status::Running;
                self.started_at = Some(at);
                self.note_move(at);
            }
            Lifecycle::PlayerAway { seat, until, gateway_lost_at } => {
                let (until, gateway_lost_at) = (*until, *gateway_lost_at);
                self.seat_mut(*seat).presence = Presence::Away { until, gateway_lost_at };
            }
            Lifecycle::Credited { ms, .. } => self.credit(*ms, at),
            Lifecycle::PlayerBack { seat } | Lifecycle::SeatReturned { seat } => {
                self.seat_mut(*seat).presence = Presence::Here;
            }
            Lifecycle::SeatTakenByBot { seat } => {
                self.seat_mut(*seat).presence = Presence::Left;
                self.want_rematch(*seat, false);
            }
            Lifecycle::HostChanged { to } => self.host = Some(*to),
            Lifecycle::RematchOffered { until } => self.rematch = Some(Rematch::until(*until)),
            Lifecycle::RematchWanted { seat } => self.want_rematch(*seat, true),
            Lifecycle::Succeeded { table } => self.successor = Some(*table),
            Lifecycle::Completed(summary) => {
                self.rematch = None;
                self.status = Status::Ended;
                self.summary = Some(summary.clone());
            }
        }
        self.note_desertion(at);
    }

    fn note_move(&mut self, at: Timestamp) {
        self.moved_at = at;
        self.credited_ms = 0;
    }

    /// Every deadline that runs out on a player moves later.
    fn credit(&mut self, ms: u64, at: Timestamp) {
        match &mut self.rematch {
            Some(rematch) => rematch.until = rematch.until.plus_millis(ms),
            None => self.game.credit(ms),
        }
        self.credited_ms += ms;
        self.credited_to = at;
        self.deserted_at = self.deserted_at.map(|since| since.plus_millis(ms));
        for seat in &mut self.seats {
            if let Presence::Away { until, .. } = &mut seat.presence {
                *until = until.plus_millis(ms);
            }
        }
    }

    /// A running table that had players and has none left is deserted, from the moment the last one went.
    fn note_desertion(&mut self, at: Timestamp) {
        let had_players = self.seats.iter().any(SeatState::is_human);
        let has_players = self.seats.iter().any(SeatState::has_player);
        if self.status != Status::Running || !had_players || has_players {
            self.deserted_at = None;
        } else if self.deserted_at.is_none() {
            self.deserted_at = Some(at);
        }
    }
}
