//! Replaces an archived table's commits by a tombstone.

use std::time::Duration;

use tracing::{error, warn};

use super::shard::Fault;
use crate::bus::{AppendError, Entry, EventLog, Stored};
use crate::domain::{StreamSeq, Timestamp};
use crate::protocol::archive::{FooterTable, ObjectKey};
use crate::protocol::envelope::{Message, Tombstone, VERSION};
use crate::protocol::subject::Address;

/// A reader that lags behind the log's leader has caught up after so many waits, or it never will.
const TRIES: u32 = 6;
const WAIT: Duration = Duration::from_millis(250);

/// What every tombstone of an object has in common.
#[derive(Debug)]
pub(super) struct Burial<'a> {
    pub(super) log: &'a dyn EventLog,
    pub(super) key: &'a ObjectKey,
    pub(super) ttl: Duration,
    pub(super) now: Timestamp,
}

impl Burial<'_> {
    /// Buries one table that is listed in an object seen in the store. Harmless when repeated.
    pub(super) async fn bury(&self, table: &FooterTable) -> Result<(), Fault> {
        let address = Address { shard: self.key.shard, kind: table.kind.clone(), table: table.id };
        let tombstone = Tombstone {
            v: VERSION,
            table: table.id,
            kind: table.kind.clone(),
            last_seq: table.last_seq,
            object: self.key.to_string(),
            at: self.now,
        }
        .encode();
        let mut after = table.last;
        for _ in 0..TRIES {
            let burial = self.log.bury(&address, after, tombstone.clone(), self.ttl).await;
            match burial {
                Ok(_) => return Ok(()),
                Err(AppendError::Fenced { .. }) => {}
                Err(error @ (AppendError::Refused { .. } | AppendError::Unavailable { .. })) => {
                    return Err(Fault::Append(error));
                }
            }
            // Fenced: the commits are gone, or something follows the last one.
            match self.late(table, after).await? {
                Late::Gone => return Ok(()),
                Late::Nothing => tokio::time::sleep(WAIT).await,
                Late::Until(last) => after = last,
            }
        }
        warn!(table.id = %table.id, "the commits of archived table {} could not be replaced; they stay in the log", table.id);
        Ok(())
    }

    /// Looks for messages after the table's last commit and keeps copies of them: the archive has none.
    async fn late(&self, table: &FooterTable, after: StreamSeq) -> Result<Late, Fault> {
        let entries = self.log.read(table.id, StreamSeq::ZERO).await?;
        let is_commit = |entry: &&Entry| entry.what == Stored::Commit;
        if !entries.iter().any(|entry| is_commit(&entry)) {
            return Ok(Late::Gone);
        }
        let mut last = None;
        let commits = entries.iter().filter(is_commit);
        for entry in commits.filter(|entry| entry.seq > after) {
            error!(table.id = %table.id, stream_seq = entry.seq.get(), "table {} has a commit after its end, at {}: set aside", table.id, entry.seq.get());
            let reason = "appended after the table had ended";
            self.log.set_aside(self.key.shard, entry, reason).await?;
            last = Some(entry.seq);
        }
        Ok(last.map_or(Late::Nothing, Late::Until))
    }
}

/// What stands after a table's last commit.
enum Late {
    /// There are no commits at all: somebody else has buried them, and the tombstone may have expired.
    Gone,
    /// Nothing that this reader sees.
    Nothing,
    /// Messages, up to this one.
    Until(StreamSeq),
}
