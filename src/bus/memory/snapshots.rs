//! Snapshots in memory.

use std::collections::BTreeMap;
use std::sync::MutexGuard;

use async_trait::async_trait;
use bytes::Bytes;

use super::super::{AppendError, ReadError, Snapshots};
use super::{Connection, outage};
use crate::domain::TableId;
use crate::protocol::subject::{self, Address};

/// The largest snapshot that is kept, as in `nats/streams/snapshots.json`.
const SNAPSHOT_MAX: usize = 512 * 1024;

/// Snapshots, as one process sees them.
#[derive(Debug)]
pub(super) struct MemorySnapshots {
    connection: Connection,
}

impl MemorySnapshots {
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection }
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<TableId, Bytes>> {
        let kept = self.connection.network.snapshots.lock();
        kept.expect("nothing panics with the snapshots")
    }
}

#[async_trait]
impl Snapshots for MemorySnapshots {
    async fn save(&self, address: &Address, snapshot: Bytes) -> Result<(), AppendError> {
        let table = address.table;
        self.connection.arrive(table).await?;
        if snapshot.len() > SNAPSHOT_MAX {
            let reason = "message size exceeds maximum allowed".to_owned();
            return Err(AppendError::Refused { table, reason });
        }
        self.kept().insert(table, snapshot);
        Ok(())
    }

    async fn newest(&self, address: &Address) -> Result<Option<Bytes>, ReadError> {
        self.connection.faults.travel().await;
        if self.connection.faults.is_outage() {
            return Err(outage());
        }
        if address.shard >= self.connection.network.shards.get() {
            let stream = subject::snapshots_stream(address.shard);
            return Err(ReadError::NoStream { stream });
        }
        Ok(self.kept().get(&address.table).cloned())
    }

    async fn forget(&self, address: &Address) -> Result<(), AppendError> {
        self.connection.arrive(address.table).await?;
        self.kept().remove(&address.table);
        Ok(())
    }
}
