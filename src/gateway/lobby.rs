//! The list of tables, for those connections that watch it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::mailbox::{ConnectionId, Mailbox};
use super::wire::{Frame, Wire};
use crate::bus::{Bus, LobbyChange, MailError};
use crate::domain::TableId;
use crate::protocol::frame::{LobbyEntry, ServerFrame};
use crate::runtime::health::Readiness;

/// How many tables a `lobby` frame lists: what a person can look through.
pub(super) const FRAME_TABLES_MAX: usize = 200;
/// The list goes out at most this often: it changes with every table, and nobody reads faster.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(250);
const AGAIN: Duration = Duration::from_millis(500);

/// The list of tables as this gateway knows it.
#[derive(Debug, Default)]
pub(super) struct Board {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    tables: BTreeMap<TableId, LobbyEntry>,
    /// The newest `lobby` frame, by wire; made when first asked for.
    frames: [Option<Frame>; Wire::ALL.len()],
    has_changed: bool,
    watchers: BTreeMap<ConnectionId, Arc<Mailbox>>,
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells a connection now, and whenever the list has changed.
    pub(super) fn watch(&self, mailbox: &Arc<Mailbox>) {
        self.lock().watchers.insert(mailbox.connection, Arc::clone(mailbox));
        mailbox.push_lobby();
    }

    /// Stops that.
    pub(super) fn unwatch(&self, mailbox: &Mailbox) {
        self.lock().watchers.remove(&mailbox.connection);
        mailbox.lock().drop_lobby();
    }

    /// The newest list as a frame. Encoded once for each change.
    pub(super) fn frame(&self, wire: Wire) -> Frame {
        let mut state = self.lock();
        let State { tables, frames, .. } = &mut *state;
        frames[wire as usize]
            .get_or_insert_with(|| {
                let tables = newest_first(tables).take(FRAME_TABLES_MAX).collect();
                Frame::of(wire, &ServerFrame::Lobby { tables })
            })
            .clone()
    }

    /// Whether a table is on the list: those that are not over are.
    pub(super) fn lists(&self, table: TableId) -> bool {
        self.lock().tables.contains_key(&table)
    }

    /// The whole list, newest first.
    pub(super) fn tables(&self) -> Vec<LobbyEntry> {
        newest_first(&self.lock().tables).collect()
    }

    fn replace(&self, entries: Vec<LobbyEntry>) {
        let mut state = self.lock();
        state.tables = entries.into_iter().map(|entry| (entry.table, entry)).collect();
        state.has_changed = true;
    }

    fn apply(&self, change: LobbyChange) {
        let mut state = self.lock();
        match change {
            LobbyChange::Put(entry) => {
                let table = entry.table;
                let is_same = state.tables.get(&table) == Some(&entry);
                state.tables.insert(table, entry);
                state.has_changed |= !is_same;
            }
            LobbyChange::Removed(table) => {
                state.has_changed |= state.tables.remove(&table).is_some();
            }
        }
    }

    fn publish(&self) {
        let mut state = self.lock();
        if std::mem::take(&mut state.has_changed) {
            state.frames = Default::default();
            for mailbox in state.watchers.values() {
                mailbox.push_lobby();
            }
        }
    }
}

/// Ids begin with the time, so their order is that of opening.
fn newest_first(tables: &BTreeMap<TableId, LobbyEntry>) -> impl Iterator<Item = LobbyEntry> {
    tables.values().rev().cloned()
}

/// Keeps the list until told to stop. While it can, the gateway counts as ready.
pub(super) async fn run(
    board: Arc<Board>,
    bus: Bus,
    readiness: Readiness,
    shutdown: CancellationToken,
) {
    let mut tick = interval(PUBLISH_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !shutdown.is_cancelled() {
        // Watch first, list then: what leaves the list between the two is seen to leave.
        let started = async {
            let changes = bus.lobby.watch().await?;
            board.replace(bus.lobby.list().await?);
            Ok(changes)
        };
        let mut changes = match started.await {
            Ok(changes) => changes,
            Err(MailError { reason }) => {
                warn!(reason, "the list of tables cannot be watched");
                readiness.set_unready("the list of tables cannot be watched");
                sleep(AGAIN).await;
                continue;
            }
        };
        readiness.set_ready();
        loop {
            tokio::select! {
                // The tick before changes: a list that changes all the time must still go out.
                biased;
                () = shutdown.cancelled() => return,
                _ = tick.tick() => board.publish(),
                change = changes.next() => match change {
                    Some(change) => board.apply(change),
                    None => break,
                },
            }
        }
        // A watch that ends at once must not become a busy loop.
        sleep(AGAIN).await;
    }
}
