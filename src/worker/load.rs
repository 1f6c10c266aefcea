//! A table's state from the log: from its newest snapshot and the commits since, else from all its commits.

use metrics::counter;
use tracing::{debug, error, info};

use super::answer::LATER_MS;
use super::tables::Worker;
use super::verdict::SLOW_MS;
use crate::bus::way_back::{WAY_BACK_MAX, way_back};
use crate::bus::{Entry, ReadError, Stored};
use crate::catalog::{FoldError, Referee, Rules};
use crate::domain::{OpeningError, StreamSeq, TableSeq, Timestamp, WorkerId};
use crate::protocol::envelope::{DecodeError, Message, Snapshot, VERSION};
use crate::protocol::request::Refusal;
use crate::protocol::subject::Address;

/// A table as the log has it.
pub(super) struct Loaded {
    pub(super) referee: Box<dyn Referee>,
    /// The log's position of its last commit.
    pub(super) last: StreamSeq,
    /// Who appended that.
    pub(super) owner: Option<WorkerId>,
    /// When the log stored that, unless it was not looked at.
    pub(super) stored_at: Option<Timestamp>,
}

impl Loaded {
    /// Whether the log took so long with the last commit that its writer owed its players that time.
    pub(super) fn was_slow(&self) -> bool {
        let slow = |at: Timestamp| at.millis_since(self.referee.last_at()) >= SLOW_MS;
        self.stored_at.is_some_and(slow)
    }
}

/// Loads a table. Messages that are no commits of it are set aside and skipped.
pub(super) async fn load(worker: &Worker, address: &Address) -> Result<Loaded, Refusal> {
    let rules = worker.catalog.get(&address.kind).expect("only kinds of the catalog are served");
    if let Some(snapshot) = newest_snapshot(worker, address).await {
        refuse_other_rules(address, snapshot.rules, rules.rules_version())?;
        if let Some(restored) = rules.restore(address.table, &snapshot.state) {
            let owner = Some(snapshot.worker);
            let loaded = Loaded { referee: restored, last: snapshot.last, owner, stored_at: None };
            if let Some(loaded) = with_tail(worker, address, loaded).await? {
                counter!("tablecast_worker_loads_total", "from" => "snapshot").increment(1);
                return Ok(loaded);
            }
        }
        // Of another version, or not of this log: it is a short cut, no more.
        counter!("tablecast_worker_snapshots_ignored_total").increment(1);
        debug!(table.id = %address.table, "the snapshot of table {} is ignored", address.table);
    }
    counter!("tablecast_worker_loads_total", "from" => "commits").increment(1);
    from_commits(worker, address, &**rules).await
}

/// A snapshot is never needed, so any trouble with it means that there is none.
async fn newest_snapshot(worker: &Worker, address: &Address) -> Option<Snapshot> {
    let bytes = worker.bus.snapshots.newest(address).await.ok()??;
    Snapshot::decode(&bytes, address.table).ok().filter(|found| found.kind == address.kind)
}

/// The restored state with what has been appended since. Nothing if that does not follow it.
async fn with_tail(
    worker: &Worker,
    address: &Address,
    mut loaded: Loaded,
) -> Result<Option<Loaded>, Refusal> {
    for entry in entries_after(worker, address, loaded.last, loaded.referee.last_seq()).await? {
        match loaded.referee.fold(&entry.payload) {
            Ok(()) => {}
            Err(FoldError::OutOfOrder { .. } | FoldError::NotOpened) => return Ok(None),
            Err(
                reason @ (FoldError::Decode(_)
                | FoldError::Opening(_)
                | FoldError::Rules { .. }
                | FoldError::Relayed(_)),
            ) => {
                refuse_if_unreadable(&reason)?;
                set_aside(worker, &entry, &reason).await;
            }
        }
        loaded.last = entry.seq;
        loaded.owner = entry.worker;
        loaded.stored_at = Some(entry.stored_at);
    }
    Ok(Some(loaded))
}

async fn from_commits(
    worker: &Worker,
    address: &Address,
    rules: &dyn Rules,
) -> Result<Loaded, Refusal> {
    let entries = entries_after(worker, address, StreamSeq::ZERO, TableSeq::ZERO).await?;
    let mut referee: Option<Box<dyn Referee>> = None;
    for entry in &entries {
        let folded = match &mut referee {
            Some(referee) => referee.fold(&entry.payload),
            None => rules.referee(address.table, &entry.payload).map(|first| {
                referee = Some(first);
            }),
        };
        if let Err(reason) = folded {
            refuse_if_unreadable(&reason)?;
            set_aside(worker, entry, &reason).await;
        }
        if let Some(referee) = &referee {
            refuse_other_rules(address, referee.rules(), rules.rules_version())?;
        }
    }
    match (referee, entries.last()) {
        (Some(referee), Some(last)) => {
            let (owner, stored_at) = (last.worker.clone(), Some(last.stored_at));
            Ok(Loaded { referee, last: last.seq, owner, stored_at })
        }
        _ => Err(Refusal::new(
            "unknown_table",
            format!("there is no {} table {}", address.kind, address.table),
        )),
    }
}

/// What stands at an address after a commit.
///
/// Few commits are found from the last one back, see [`way_back`].
async fn entries_after(
    worker: &Worker,
    address: &Address,
    after: StreamSeq,
    seq: TableSeq,
) -> Result<Vec<Entry>, Refusal> {
    let short_way = short_way(worker, address, after, seq).await;
    let entries = match short_way.map_err(|error| unreadable(&error))? {
        Some(entries) => entries,
        None => {
            let entries = worker.bus.log.read(address.table, after.next()).await;
            let mut entries = entries.map_err(|error| unreadable(&error))?;
            // Somebody may have written under the table's id on the subject of another kind.
            entries.retain(|entry| entry.address == *address);
            entries
        }
    };
    if entries.iter().any(|entry| entry.what == Stored::Tombstone) {
        worker.lobby.set(address.table, None);
        let message = "the game is over and in the archive";
        return Err(Refusal::new("archived", message));
    }
    Ok(entries)
}

/// The entries after a commit, found from the last one back. Nothing if that is a long way, or if something
/// on it does not lead further back.
async fn short_way(
    worker: &Worker,
    address: &Address,
    after: StreamSeq,
    seq: TableSeq,
) -> Result<Option<Vec<Entry>>, ReadError> {
    let log = &*worker.bus.log;
    let Some(newest) = log.newest(address).await? else {
        return Ok(None);
    };
    if newest.seq == after {
        return Ok(Some(Vec::new()));
    }
    if newest.what == Stored::Tombstone {
        return Ok(Some(vec![newest]));
    }
    let entries = way_back(log, address, newest, seq, WAY_BACK_MAX).await?;
    // Else it is another commit of this number than the one in the snapshot.
    let arrives =
        |entries: &Vec<Entry>| entries.first().is_some_and(|first| first.previous == after);
    Ok(entries.filter(arrives))
}

/// A table's state as it is kept for whoever loads it next.
pub(super) fn snapshot(
    worker: &Worker,
    address: &Address,
    referee: &dyn Referee,
    last: StreamSeq,
) -> Snapshot {
    Snapshot {
        v: VERSION,
        table: address.table,
        kind: address.kind.clone(),
        rules: referee.rules(),
        last,
        worker: worker.id.clone(),
        state: referee.state(),
    }
}

/// What this binary cannot read yet, or its rules cannot follow, is no poison: skipping it would write over it.
fn refuse_if_unreadable(reason: &FoldError) -> Result<(), Refusal> {
    let code = match reason {
        FoldError::Decode(DecodeError::Version { .. })
        | FoldError::Opening(OpeningError::Setup { .. }) => "newer_version",
        FoldError::Rules { .. } => "rules_failed",
        FoldError::Decode(DecodeError::Malformed(_) | DecodeError::OtherTable { .. })
        | FoldError::Opening(OpeningError::OtherKind { .. })
        | FoldError::OutOfOrder { .. }
        | FoldError::Relayed(_)
        | FoldError::NotOpened => return Ok(()),
    };
    Err(Refusal::new(code, reason.to_string()).retry_after_ms(LATER_MS))
}

/// Events of other rules need not decode here, so this is asked before they are folded.
pub(super) fn refuse_other_rules(address: &Address, pinned: u32, ours: u32) -> Result<(), Refusal> {
    if pinned == ours {
        return Ok(());
    }
    let (table, kind) = (address.table, &address.kind);
    counter!("tablecast_worker_rules_declined_total").increment(1);
    info!(
        table.id = %table, %kind, pinned, ours,
        "table {table} plays by version {pinned} of {kind}, this worker has {ours}: declined"
    );
    Err(Refusal::new(
        "rules_version",
        format!("the table plays by version {pinned} of its rules, this worker has {ours}"),
    )
    .retry_after_ms(LATER_MS))
}

async fn set_aside(worker: &Worker, entry: &Entry, reason: &FoldError) {
    let (table, seq) = (entry.address.table, entry.seq.get());
    counter!("tablecast_worker_poison_total").increment(1);
    error!(
        table.id = %table, stream_seq = seq, %reason,
        "message {seq} is no commit of table {table}: set aside and skipped"
    );
    let aside = worker.bus.log.set_aside(entry.address.shard, entry, &reason.to_string()).await;
    if let Err(error) = aside {
        error!(stream_seq = seq, %error, "message {seq} could not be copied, it stays where it is");
    }
}

pub(super) fn unreadable(error: &ReadError) -> Refusal {
    Refusal::new("unavailable", error.to_string()).retry_after_ms(LATER_MS)
}
