//! How a table comes to this worker: opened here, or left by another.

use metrics::counter;
use tracing::{error, info};

use super::finish;
use super::table_actor::TableActor;
use super::tables::Worker;
use crate::bus::{Append, AppendError, Entry, ReadError, Stored};
use crate::catalog::{Drafted, FoldError, Referee};
use crate::domain::{Cause, CommandId, Kind, Opening, Status, StreamSeq, TableId, TableSeq};
use crate::protocol::envelope::{Envelope, Message};
use crate::protocol::request::{AdoptRequest, Adoption, OpenRequest, Refusal, Verdict, decode};
use crate::protocol::subject::Address;

/// When a refused client may try again, if trying again can help.
const RETRY_AFTER_MS: u64 = 250;

/// Opens a table. The answer comes when its first commit is in the log and its owner listens.
pub(super) async fn open(worker: &Worker, kind: &Kind, payload: &[u8]) -> Verdict {
    match try_open(worker, kind, payload).await {
        Ok(seq) => Verdict::Accepted { seq },
        Err(refusal) => Verdict::Rejected(refusal),
    }
}

async fn try_open(worker: &Worker, kind: &Kind, payload: &[u8]) -> Result<TableSeq, Refusal> {
    let request: OpenRequest = decode(payload).map_err(|error| malformed(&error))?;
    let rules = worker
        .catalog
        .get(kind)
        .expect("only kinds of the catalog are served");
    let address = Address::new(request.table, kind.clone(), worker.bus.log.shards());
    let Some(place) = worker.take_place(request.table) else {
        return already_open(worker, &address, &request).await;
    };
    let opening = Opening {
        kind: kind.clone(),
        rules: rules.rules_version(),
        setup: request.setup.clone(),
        options: request.options,
        seats: request.seats.clone(),
        host: request.host,
    };
    let cause = Cause::Command {
        player: request.by.player.clone(),
        id: request.id.clone(),
    };
    let (referee, draft) = rules.open(request.table, opening, cause, &worker.turn())?;
    let id = Some(request.id.clone());
    match append(worker, &address, StreamSeq::ZERO, &draft, id).await {
        Ok(at) => {
            counter!("tablecast_worker_tables_opened_total").increment(1);
            TableActor::start(worker, place, address, (referee, at), Some(draft)).await?;
            Ok(TableSeq::ZERO.next())
        }
        Err(AppendError::Fenced { .. }) => already_open(worker, &address, &request).await,
        Err(error) => Err(unavailable(&error)),
    }
}

/// The table exists, or there is no room. Asked again with the id that opened it, the answer is the first one.
async fn already_open(
    worker: &Worker,
    address: &Address,
    request: &OpenRequest,
) -> Result<TableSeq, Refusal> {
    let entries = worker.bus.log.read(address.table, StreamSeq::ZERO).await;
    let entries = entries.map_err(|error| unreadable(&error))?;
    let Some(first) = entries.first() else {
        return Err(at_capacity());
    };
    let opened_by_this = Envelope::<serde_json::Value>::decode(&first.payload, address.table)
        .is_ok_and(|first| {
            first.commit.cause
                == Cause::Command {
                    player: request.by.player.clone(),
                    id: request.id.clone(),
                }
        });
    if opened_by_this {
        return Ok(TableSeq::ZERO.next());
    }
    Err(Refusal::new(
        "table_exists",
        format!("table {} is already open", address.table),
    ))
}

/// Takes over a table that nobody owns. Asked about a table it owns, it says so.
pub(super) async fn adopt(worker: &Worker, kind: &Kind, payload: &[u8]) -> Adoption {
    let request: AdoptRequest = match decode(payload) {
        Ok(request) => request,
        Err(error) => return Adoption::Declined(malformed(&error)),
    };
    match try_adopt(worker, kind, request.table).await {
        Ok(()) => Adoption::Owned {
            worker: worker.id.clone(),
        },
        Err(refusal) => Adoption::Declined(refusal),
    }
}

async fn try_adopt(worker: &Worker, kind: &Kind, table: TableId) -> Result<(), Refusal> {
    if worker.owns(table) {
        return Ok(());
    }
    let Some(place) = worker.take_place(table) else {
        // Either full, or it is being taken right now.
        return if worker.owns(table) {
            Ok(())
        } else {
            Err(at_capacity())
        };
    };
    let address = Address::new(table, kind.clone(), worker.bus.log.shards());
    let (mut referee, last) = load(worker, &address).await?;
    if referee.status() == Status::Ended {
        // Its former owner may have died before it wrote the marker.
        finish::complete(worker, &address, &*referee, last).await;
        worker.lobby.set(table, None);
        return Err(Refusal::new("game_over", "the game is over"));
    }
    let draft = referee.claim(worker.id.clone(), &worker.turn());
    let at = match append(worker, &address, last, &draft, None).await {
        Ok(at) => at,
        Err(AppendError::Fenced { .. }) => {
            return Err(Refusal::new("moved", "another worker is taking this table")
                .retry_after_ms(RETRY_AFTER_MS));
        }
        Err(error) => return Err(unavailable(&error)),
    };
    info!(table.id = %table, worker.id = %worker.id, seq = draft.seq.get(), "table {table} adopted");
    counter!("tablecast_worker_tables_adopted_total").increment(1);
    TableActor::start(worker, place, address, (referee, at), Some(draft)).await
}

/// Folds a table from the log. Messages that are no commits of it are set aside and skipped.
async fn load(
    worker: &Worker,
    address: &Address,
) -> Result<(Box<dyn Referee>, StreamSeq), Refusal> {
    let entries = worker.bus.log.read(address.table, StreamSeq::ZERO).await;
    let entries = entries.map_err(|error| unreadable(&error))?;
    let rules = worker
        .catalog
        .get(&address.kind)
        .expect("only kinds of the catalog are served");
    let mut referee: Option<Box<dyn Referee>> = None;
    let mut last = StreamSeq::ZERO;
    for entry in &entries {
        last = entry.seq;
        if entry.what == Stored::Tombstone {
            return Err(Refusal::new(
                "archived",
                "the game is over and in the archive",
            ));
        }
        let folded = match &mut referee {
            Some(referee) => referee.fold(&entry.payload),
            None => rules.referee(address.table, &entry.payload).map(|first| {
                referee = Some(first);
            }),
        };
        if let Err(reason) = folded {
            set_aside(worker, entry, &reason).await;
        }
    }
    let referee = referee.ok_or_else(|| {
        Refusal::new(
            "unknown_table",
            format!("there is no {} table {}", address.kind, address.table),
        )
    })?;
    if referee.rules() != rules.rules_version() {
        let (pinned, ours) = (referee.rules(), rules.rules_version());
        return Err(Refusal::new(
            "rules_version",
            format!("the table plays by version {pinned} of its rules, this worker has {ours}"),
        )
        .retry_after_ms(RETRY_AFTER_MS));
    }
    Ok((referee, last))
}

async fn set_aside(worker: &Worker, entry: &Entry, reason: &FoldError) {
    let (table, seq) = (entry.address.table, entry.seq.get());
    counter!("tablecast_worker_poison_total").increment(1);
    error!(
        table.id = %table, stream_seq = seq, %reason,
        "message {seq} is no commit of table {table}: set aside and skipped"
    );
    let aside = worker
        .bus
        .log
        .set_aside(entry.address.shard, entry, &reason.to_string())
        .await;
    if let Err(error) = aside {
        error!(stream_seq = seq, %error, "message {seq} could not be copied, it stays where it is");
    }
}

/// Appends a drafted commit.
pub(super) async fn append(
    worker: &Worker,
    address: &Address,
    after: StreamSeq,
    draft: &Drafted,
    command: Option<CommandId>,
) -> Result<StreamSeq, AppendError> {
    // Unlike any other: a commit drafted anew by the same worker for the same place is another one.
    let nonce = u64::from_le_bytes(worker.entropy.bytes());
    let id = format!(
        "{}:{}:{}:{nonce:016x}",
        address.table,
        draft.seq.get(),
        worker.id
    );
    let (address, worker_id) = (address.clone(), worker.id.clone());
    let (types, payload) = (draft.types.clone(), draft.payload.clone());
    let append = Append {
        address,
        after,
        id,
        types,
        worker: worker_id,
        command,
        payload,
    };
    worker.bus.log.append(append).await
}

fn malformed(error: &dyn std::error::Error) -> Refusal {
    counter!("tablecast_worker_malformed_total").increment(1);
    Refusal::new("malformed", error.to_string())
}

/// Whether the append is in the log is not known: the same command sent again will tell.
pub(super) fn unavailable(error: &AppendError) -> Refusal {
    let retry = matches!(
        error,
        AppendError::Unavailable { .. } | AppendError::Fenced { .. }
    );
    let refusal = Refusal::new("unavailable", error.to_string());
    if retry {
        refusal.retry_after_ms(RETRY_AFTER_MS)
    } else {
        refusal
    }
}

fn unreadable(error: &ReadError) -> Refusal {
    Refusal::new("unavailable", error.to_string()).retry_after_ms(RETRY_AFTER_MS)
}

fn at_capacity() -> Refusal {
    counter!("tablecast_worker_declined_total").increment(1);
    Refusal::new("at_capacity", "this worker has no room for another table")
        .retry_after_ms(RETRY_AFTER_MS)
}
