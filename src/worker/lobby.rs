//! Keeps the list of tables up to date without ever holding a table up.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::bus::Lobby;
use crate::domain::TableId;
use crate::protocol::frame::LobbyEntry;

/// Between two tries to write.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Lines waiting to be written. A newer line of a table replaces the one that waits, so it holds at most
/// one for each table of this worker.
#[derive(Clone, Debug, Default)]
pub(super) struct LobbyLines {
    waiting: Arc<Mutex<BTreeMap<TableId, Option<LobbyEntry>>>>,
    written: Arc<Notify>,
}

impl LobbyLines {
    /// Changes a table's line, or takes it off the list.
    pub(super) fn set(&self, table: TableId, line: Option<LobbyEntry>) {
        self.waiting().insert(table, line);
        self.written.notify_one();
    }

    /// Writes lines until stopped, then those that still wait, if the list can be written at all.
    pub(super) async fn write_to(self, lobby: Arc<dyn Lobby>, stop: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = self.written.notified() => {}
            }
            if !self.write_waiting(&*lobby).await {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => break,
                    () = tokio::time::sleep(RETRY_PAUSE) => self.written.notify_one(),
                }
            }
        }
        self.write_waiting(&*lobby).await;
    }

    /// Whether all lines could be written. After the first that could not, the others wait, too.
    async fn write_waiting(&self, lobby: &dyn Lobby) -> bool {
        let mut lines = std::mem::take(&mut *self.waiting()).into_iter();
        while let Some((table, line)) = lines.next() {
            let written = match &line {
                Some(entry) => lobby.put(entry).await,
                None => lobby.remove(table).await,
            };
            if let Err(error) = written {
                debug!(table.id = %table, %error, "the line of table {table} could not be written");
                let mut waiting = self.waiting();
                for (table, line) in std::iter::once((table, line)).chain(lines) {
                    // Unless a newer one waits.
                    waiting.entry(table).or_insert(line);
                }
                return false;
            }
        }
        true
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<TableId, Option<LobbyEntry>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
