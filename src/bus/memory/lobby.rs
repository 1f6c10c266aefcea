//! The list of tables in memory.

use std::collections::BTreeMap;
use std::sync::MutexGuard;

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::sync::mpsc;

use super::super::{Lobby, LobbyChange, MailError};
use super::{Connection, SUBSCRIPTION_CAPACITY, arrivals};
use crate::domain::TableId;
use crate::protocol::frame::LobbyEntry;

/// The list, and who watches it.
#[derive(Debug, Default)]
pub(super) struct Lines {
    by_table: BTreeMap<TableId, LobbyEntry>,
    watchers: Vec<mpsc::Sender<LobbyChange>>,
}

impl Lines {
    /// A watcher that falls behind is let go: it begins again with the list as it is.
    fn tell(&mut self, change: &LobbyChange) {
        self.watchers.retain(|watcher| watcher.try_send(change.clone()).is_ok());
    }
}

/// The list of tables, as one process sees it.
#[derive(Debug)]
pub(super) struct MemoryLobby {
    connection: Connection,
}

impl MemoryLobby {
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection }
    }

    async fn lines(&self) -> Result<MutexGuard<'_, Lines>, MailError> {
        self.connection.faults.travel().await;
        if self.connection.faults.is_outage() {
            return Err(MailError { reason: "there is an outage".to_owned() });
        }
        let lines = self.connection.network.lobby.lock();
        Ok(lines.expect("nothing panics with the list"))
    }
}

#[async_trait]
impl Lobby for MemoryLobby {
    async fn put(&self, entry: &LobbyEntry) -> Result<(), MailError> {
        let mut lines = self.lines().await?;
        lines.by_table.insert(entry.table, entry.clone());
        lines.tell(&LobbyChange::Put(entry.clone()));
        Ok(())
    }

    async fn remove(&self, table: TableId) -> Result<(), MailError> {
        let mut lines = self.lines().await?;
        lines.by_table.remove(&table);
        lines.tell(&LobbyChange::Removed(table));
        Ok(())
    }

    async fn list(&self) -> Result<Vec<LobbyEntry>, MailError> {
        Ok(self.lines().await?.by_table.values().cloned().collect())
    }

    async fn watch(&self) -> Result<BoxStream<'static, LobbyChange>, MailError> {
        let mut lines = self.lines().await?;
        let (watcher, changes) = mpsc::channel(SUBSCRIPTION_CAPACITY);
        lines.watchers.push(watcher);
        let current: Vec<LobbyChange> =
            lines.by_table.values().cloned().map(LobbyChange::Put).collect();
        Ok(stream::iter(current).chain(arrivals(changes)).boxed())
    }
}
