//! What an owner does by itself, and when: deadlines, absences, the dead man's switch, sleep, saved states.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use metrics::counter;
use tokio::time::Instant;

use super::agenda::Now;
use super::deadman::Move;
use super::desk::Desk;
use super::load;
use super::presence::{Became, Connection};
use super::table_actor::{ROLL_CALL, TableActor, UnderWay};
use crate::domain::Timestamp;
use crate::protocol::envelope::Message;

/// How soon a deadline is looked at again that may run out on a player whose gateway may be gone.
const HOLD: Duration = Duration::from_millis(100);
/// How long nothing must have happened at a table before it sleeps, when memory is short.
const DOZE: Duration = Duration::from_secs(1);

impl TableActor {
    /// What is to be done before anything else. The absence of players first: it stops their clocks.
    pub(super) fn overdue(&mut self, now: Now) -> Option<UnderWay> {
        self.acts_again_at.take_if(|at| *at <= now.timer);
        while self.acts_again_at.is_none()
            && let Some(connection) = self.unwritten.pop_front()
        {
            let (player, cx) = (&connection.player, self.turn());
            let draft = match connection.became {
                Became::Said(change) => self.referee.on_presence(player, change, &cx),
                Became::Lost(heard_at) => self.referee.on_gateway_lost(player, heard_at, &cx),
            };
            if let Some(draft) = draft {
                let under_way = self.begin(draft, None);
                return Some(UnderWay { connection: Some(connection), ..under_way });
            }
        }
        if self.is_held(now) || !self.agenda.take_deadline(self.referee.next_due(), now) {
            return None;
        }
        let draft = self.referee.on_time(&self.turn());
        draft.map(|draft| self.begin(draft, None))
    }

    /// Whether a deadline must not run out now: the gateway of a player who owes a decision is silent, and it
    /// is not known yet whether it is gone.
    fn is_held(&self, now: Now) -> bool {
        let is_due = self.referee.next_due().is_some_and(|due| due <= now.clock);
        let peers = &self.desk.worker.peers;
        let is_cut_off = |player| {
            self.desk.presences.may_be_cut_off(player, |gateway| peers.is_quiet(gateway, now.timer))
        };
        is_due && self.referee.players_awaited().iter().any(is_cut_off)
    }

    pub(super) fn next_wake(&self, now: Now) -> Option<Instant> {
        if self.is_held(now) {
            return Some(now.timer + HOLD);
        }
        let act = self.agenda.next_wake(self.referee.next_due(), now);
        let look = self.switch.look_at().map(|at| now.at(at));
        let sleep = self.busy_at + self.sleep_after();
        let rest =
            [self.roll_call_at, self.acts_again_at, look, Some(sleep).filter(|at| *at > now.timer)];
        act.into_iter().chain(rest.into_iter().flatten()).min()
    }

    fn sleep_after(&self) -> Duration {
        let worker = &self.desk.worker;
        let is_short = self.desk.room.get().memory_full;
        if is_short { DOZE.min(worker.config.sleep_after) } else { worker.config.sleep_after }
    }

    /// Whether nothing has happened for a while, and nothing will for another while.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        let sleep_after = self.sleep_after();
        let worker = &self.desk.worker;
        now.duration_since(self.busy_at) >= sleep_after
            && self.unwritten.is_empty()
            && self.desk.waiting.is_empty()
            && self.roll_call_at.is_none()
            && !self.refused
            && self.referee.bots_to_act().is_empty()
            && self.referee.next_due().is_none_or(|due| {
                let left = due.millis_since(worker.clock.now());
                Duration::from_millis(left) >= sleep_after
            })
    }

    /// A new owner knows of nobody's connection: whoever no gateway has spoken for by now has gone, or has lost
    /// its gateway together with its table's owner.
    pub(super) fn call_the_roll(&mut self, now: Now) {
        if let Some(called_at) = self.roll_call_at.take_if(|at| *at <= now.timer) {
            let waited = now.timer.duration_since(called_at) + ROLL_CALL;
            let waited_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
            let since = now.clock.as_millis().saturating_sub(waited_ms);
            let here = self.referee.players_here().into_iter();
            let gone = here.filter(|player| !self.desk.presences.knows(player));
            let since = Became::Lost(Timestamp::from_millis(since));
            self.unwritten.extend(gone.map(|player| Connection { player, became: since }));
        }
    }

    /// Keeps the table's alarm somewhat behind what it has to do next.
    pub(super) fn move_switch(&mut self, now: Timestamp) {
        let due =
            if self.referee.bots_to_act().is_empty() { self.referee.next_due() } else { Some(now) };
        let Desk { worker, address, .. } = &self.desk;
        match self.switch.moved(due, now) {
            Some(Move::Set(at)) => worker.alarms.set(address, at),
            Some(Move::Clear) => worker.alarms.clear(address),
            None => {}
        }
    }

    /// Saves the state beside the log in the background. If too many are on their way, a later commit does.
    pub(super) fn save_state(&mut self) {
        let Desk { worker, address, last, .. } = &self.desk;
        let Ok(turn) = Arc::clone(&worker.snapshots_at_once).try_acquire_owned() else {
            return;
        };
        self.unsaved = 0;
        let snapshot: Bytes = load::snapshot(worker, address, &*self.referee, *last).encode();
        let (worker, address) = (worker.clone(), address.clone());
        worker.clone().spawn(async move {
            let saved = worker.bus.snapshots.save(&address, snapshot).await;
            let outcome = if saved.is_ok() { "saved" } else { "failed" };
            counter!("tablecast_worker_snapshots_total", "outcome" => outcome).increment(1);
            drop(turn);
        });
    }
}
