//! Tables that are over and in the archive: read once for everyone who asks at about the same time, and folded.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OnceCell, Semaphore};
use tracing::{debug, warn};

use super::live_table::{LiveTable, Loaded};
use super::metrics;
use crate::archive::{ObjectError, Reader};
use crate::bus::{Entry, Stored};
use crate::catalog::Catalog;
use crate::domain::{StreamSeq, TableId};
use crate::protocol::archive::{ArchivedTable, ObjectKey};
use crate::protocol::envelope::{Message, Tombstone};

/// How many games are read at once. Each takes a whole object into memory for a moment.
const READS_AT_ONCE: usize = 4;
/// How many games are remembered, each of at most so many bytes of events: some 16 MB.
const REMEMBERED: usize = 64;
const BYTES_MAX: usize = 256 * 1024;

/// A game, once somebody has read it. Nothing: the archive does not have all of it.
type Game = Arc<OnceCell<Option<Arc<ArchivedTable>>>>;

/// The archive, as far as this gateway may read it.
#[derive(Debug)]
pub(super) struct Archived {
    reader: Reader,
    reads: Semaphore,
    /// The games asked for last, newest last.
    games: Mutex<VecDeque<(TableId, Game)>>,
}

impl Archived {
    pub(super) fn new(reader: Reader) -> Self {
        Self { reader, reads: Semaphore::new(READS_AT_ONCE), games: Mutex::default() }
    }

    /// The table behind a tombstone, with all its commits. Nothing if it cannot be shown: the archive does not have
    /// all of it, or this binary plays by other rules.
    pub(super) async fn load(
        &self,
        catalog: &Catalog,
        tombstone: &Entry,
    ) -> Result<Option<Box<LiveTable>>, ObjectError> {
        let game = self.game(tombstone.address.table);
        let read = game.get_or_try_init(|| self.read(tombstone)).await;
        let is_kept = read.as_ref().is_ok_and(|read| read.as_deref().is_some_and(is_small));
        if !is_kept {
            self.forget(&game);
        }
        let Some(archived) = read? else {
            return Ok(None);
        };
        let live = replay(catalog, archived, tombstone);
        if live.is_none() {
            let table = archived.table_id;
            debug!(table.id = %table, "table {table} of the archive cannot be shown by these rules");
        }
        Ok(live)
    }

    /// Whoever asks first reads; the others wait for it.
    fn game(&self, table: TableId) -> Game {
        let mut games = self.games.lock().unwrap_or_else(PoisonError::into_inner);
        let known = games.iter().position(|(other, _)| *other == table);
        let found = known.and_then(|at| games.remove(at)).map(|(_, game)| game);
        let game = found.unwrap_or_default();
        if games.len() >= REMEMBERED {
            games.pop_front();
        }
        games.push_back((table, Arc::clone(&game)));
        game
    }

    fn forget(&self, game: &Game) {
        let mut games = self.games.lock().unwrap_or_else(PoisonError::into_inner);
        games.retain(|(_, other)| !Arc::ptr_eq(game, other));
    }

    async fn read(&self, tombstone: &Entry) -> Result<Option<Arc<ArchivedTable>>, ObjectError> {
        // Closed never: a permit that cannot be had changes nothing but the order.
        let _permit = self.reads.acquire().await;
        let table = tombstone.address.table;
        let object = Tombstone::decode(&tombstone.payload, table).ok().map(|found| found.object);
        let read = match object.and_then(|object| ObjectKey::parse(&object)) {
            Some(key) => self.reader.get_from(&key, table).await,
            None => self.reader.get(table).await,
        };
        metrics::archive_read(match &read {
            Ok(Some(_)) => "found",
            Ok(None) => "missing",
            Err(_) => "failed",
        });
        if let Err(error) = &read {
            warn!(table.id = %table, %error, "table {table} cannot be read from the archive");
        }
        Ok(read?.map(Arc::new))
    }
}

fn is_small(archived: &ArchivedTable) -> bool {
    archived.events.iter().map(|event| event.data.len()).sum::<usize>() <= BYTES_MAX
}

/// Folds a game as if its commits were in the log.
fn replay(
    catalog: &Catalog,
    archived: &ArchivedTable,
    tombstone: &Entry,
) -> Option<Box<LiveTable>> {
    let rules = catalog.get(&archived.kind)?;
    if rules.is_relayed() || rules.rules_version() != archived.rules_version {
        return None;
    }
    let mut previous = StreamSeq::ZERO;
    let entries = archived.envelopes()?.into_iter().map(|envelope| {
        let entry = Entry {
            address: tombstone.address.clone(),
            // Positions in an imagined log of this table alone.
            seq: previous.next(),
            previous,
            id: None,
            worker: None,
            what: Stored::Commit,
            stored_at: envelope.commit.at,
            payload: envelope.encode(),
        };
        previous = entry.seq;
        entry
    });
    let entries: Vec<Entry> = entries.collect();
    match LiveTable::load(catalog, archived.table_id, &entries, entries.len().max(1)) {
        (Loaded::Live(live), poison) if poison.is_empty() && live.has_ended() => {
            Some(Box::new(live.into_archived()))
        }
        _ => None,
    }
}
