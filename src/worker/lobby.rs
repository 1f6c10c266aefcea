//! Keeps the list of tables up to date without ever holding a table up.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::bus::Lobby;
use crate::domain::TableId;
use crate::protocol::frame::LobbyEntry;

/// Lines waiting to be written. A newer line of a table replaces the one that waits, so it holds at most
/// one for each table of this worker.
#[derive(Clone, Debug, Default)]
pub(super) struct LobbyLines {
    waiting: Arc<Mutex<HashMap<TableId, Option<LobbyEntry>>>>,
    written: Arc<Notify>,
}

impl LobbyLines {
    /// Changes a table's line, or takes it off the list.
    pub(super) fn set(&self, table: TableId, line: Option<LobbyEntry>) {
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(table, line);
        self.written.notify_one();
    }

    /// Writes lines until stopped, then those that still wait.
    pub(super) async fn write_to(self, lobby: Arc<dyn Lobby>, stop: CancellationToken) {
        while !stop.is_cancelled() {
            tokio::select! {
                () = self.written.notified() => {}
                () = stop.cancelled() => {}
            }
            self.write_waiting(&*lobby).await;
        }
    }

    async fn write_waiting(&self, lobby: &dyn Lobby) {
        let lines =
            std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        for (table, line) in lines {
            let written = match &line {
                Some(entry) => lobby.put(entry).await,
                None => lobby.remove(table).await,
            };
            if let Err(error) = written {
                debug!(table.id = %table, %error, "the line of table {table} could not be written");
                self.wait_again(table, line);
                tokio::time::sleep(Duration::from_millis(200)).await;
                self.written.notify_one();
            }
        }
    }

    /// The line waits once more, unless a newer one does.
    fn wait_again(&self, table: TableId, line: Option<LobbyEntry>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.entry(table).or_insert(line);
    }
}
