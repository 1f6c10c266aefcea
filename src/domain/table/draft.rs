//! A decision in the making: events are tried on a copy, so that each one is judged after those before it.

use super::super::{
    Closing, Commit, Game, Lifecycle, Outcome, Seat, Summary, TableEvent, TurnContext,
};
use super::Table;
use crate::domain::Cause;

/// A copy of the table with the events of one decision so far.
pub(super) struct Draft<'cx, G: Game> {
    pub(super) table: Table<G>,
    pub(super) cx: &'cx TurnContext,
    events: Vec<TableEvent<G::Event>>,
}

impl<'cx, G: Game> Draft<'cx, G> {
    pub(super) fn of(table: &Table<G>, cx: &'cx TurnContext) -> Self {
        Self { table: table.clone(), cx, events: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    pub(super) fn lifecycle(&mut self, event: Lifecycle) {
        self.push(TableEvent::Lifecycle(event));
    }

    pub(super) fn game(&mut self, events: Vec<G::Event>) {
        for event in events {
            self.push(TableEvent::Game(event));
        }
    }

    fn push(&mut self, event: TableEvent<G::Event>) {
        self.table.evolve_event(&event, self.cx.now);
        self.events.push(event);
    }

    pub(super) fn start(&mut self) {
        self.lifecycle(Lifecycle::Started);
        self.game(self.table.game.start(self.cx));
    }

    /// A bot plays on in this seat, and the host's rights go to a player who is here.
    pub(super) fn seat_taken_by_bot(&mut self, seat: Seat) {
        self.credit_return(seat);
        self.lifecycle(Lifecycle::SeatTakenByBot { seat });
        if self.table.rematch.is_none() {
            self.game(self.table.game.on_player_left(seat, self.cx));
        }
        if self.table.host == Some(seat) {
            let heir = self.table.first_seat(super::seats::SeatState::human_is_here);
            if let Some(to) = heir {
                self.lifecycle(Lifecycle::HostChanged { to });
            }
        }
    }

    pub(super) fn end(&mut self, closing: Closing, outcome: Outcome) {
        let summary = Summary {
            closing,
            players: self.table.summary_seats(),
            winners: outcome.winners,
            scores: outcome.scores,
            started_at: self.table.started_at,
            ended_at: match closing {
                Closing::Finished => self.table.moved_at,
                Closing::Abandoned | Closing::Closed => self.cx.now,
            },
        };
        self.lifecycle(Lifecycle::Completed(summary));
    }

    /// The commit that writes these events down; nothing if there are none.
    pub(super) fn commit(mut self, cause: Cause) -> Option<Commit<G::Event>> {
        if self.events.is_empty() {
            return None;
        }
        self.finish();
        Some(Commit {
            seq: self.table.last_seq.next(),
            at: self.cx.now,
            cause,
            events: self.events,
            follow_up: self.table.owed(),
        })
    }
}
