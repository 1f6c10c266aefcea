//! What must follow a table's last commit.

use std::time::Duration;

use bytes::Bytes;
use metrics::counter;
use tracing::{debug, warn};

use super::tables::Worker;
use crate::catalog::Referee;
use crate::domain::StreamSeq;
use crate::protocol::envelope::{Marker, Message, VERSION};
use crate::protocol::subject::Address;

/// The longest wait between two tries.
pub(super) const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// The completion marker of a table whose last entry stands at `last`; nothing while it goes on.
pub(super) fn marker(address: &Address, referee: &dyn Referee, last: StreamSeq) -> Option<Bytes> {
    let marker = Marker {
        v: VERSION,
        table: address.table,
        kind: address.kind.clone(),
        rules: referee.rules(),
        last_seq: referee.last_seq(),
        last,
        summary: referee.summary()?.clone(),
        relayed: false,
    };
    Some(marker.encode())
}

/// Writes a marker, however long the log takes. A second one changes nothing, so whoever owns the table
/// after a crash does this again; until it is done, the table's alarm stays set.
pub(super) async fn complete(worker: Worker, address: Address, marker: Bytes) {
    let table = address.table;
    let mut backoff = Duration::from_millis(100);
    while let Err(error) = worker.bus.log.complete(&address, marker.clone()).await {
        warn!(table.id = %table, %error, "the marker of table {table} is not written yet");
        tokio::select! {
            biased;
            // Whoever adopts the table writes it.
            () = worker.stop.cancelled() => return,
            () = tokio::time::sleep(backoff) => {}
        }
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
    counter!("tablecast_worker_tables_completed_total").increment(1);
    worker.alarms.clear(&address);
    if let Err(error) = worker.bus.snapshots.forget(&address).await {
        debug!(table.id = %table, %error, "the snapshot of table {table} stays");
    }
}
