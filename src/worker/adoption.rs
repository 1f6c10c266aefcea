//! How a table comes to this worker: opened here, or left by another.

use std::time::Duration;

use metrics::counter;
use tracing::{error, info};

use super::answer::{LATER_MS, SOON_MS, moved, unavailable};
use super::finish;
use super::table_actor::{TableActor, Taking};
use super::tables::{NoPlace, Worker};
use crate::bus::{Append, AppendError, Entry, ReadError, RequestError, Stored};
use crate::catalog::{Drafted, FoldError, Referee};
use crate::domain::{
    Cause, CommandId, Kind, Opening, OpeningError, StreamSeq, TableId, TableSeq, WorkerId,
};
use crate::protocol::envelope::{DecodeError, Envelope, Message};
use crate::protocol::request::{
    AdoptRequest, Adoption, OpenRequest, Refusal, TableRequest, Verdict, decode, encode,
};
use crate::protocol::subject::{self, Address};

/// How long an owner has to show that it is there, and how often it is asked to.
const OWNER_PATIENCE: Duration = Duration::from_millis(500);
const OWNER_TRIES: u32 = 3;

/// Opens a table. The answer comes when its first commit is in the log and its owner listens.
pub(super) async fn open(worker: &Worker, kind: &Kind, payload: &[u8]) -> Verdict {
    match try_open(worker, kind, payload).await {
        Ok(seq) => Verdict::Accepted { seq },
        Err(refusal) => Verdict::Rejected(refusal),
    }
}

async fn try_open(worker: &Worker, kind: &Kind, payload: &[u8]) -> Result<TableSeq, Refusal> {
    let request: OpenRequest = decode(payload).map_err(|error| malformed(&error))?;
    let rules = worker.catalog.get(kind).expect("only kinds of the catalog are served");
    let address = Address::new(request.table, kind.clone(), worker.bus.log.shards());
    let place = match worker.take_place(request.table) {
        Ok(place) => place,
        Err(reason) => {
            return match already_open(worker, &address, &request).await? {
                Some(seq) => Ok(seq),
                None => Err(no_place(reason)),
            };
        }
    };
    let opening = Opening {
        kind: kind.clone(),
        rules: rules.rules_version(),
        setup: request.setup.clone(),
        options: request.options,
        seats: request.seats.clone(),
        host: request.host,
    };
    let cause = Cause::Command { player: request.by.player.clone(), id: request.id.clone() };
    let (referee, draft) = rules.open(request.table, opening, cause, &worker.turn())?;
    let id = Some(request.id.clone());
    let taking = Taking::begin(worker, place, address.clone()).await?;
    match append(worker, &address, StreamSeq::ZERO, &draft, id).await {
        Ok(at) => {
            counter!("tablecast_worker_tables_opened_total").increment(1);
            TableActor::start(worker, taking, (referee, at), draft).await?;
            Ok(TableSeq::ZERO.next())
        }
        Err(error @ AppendError::Fenced { .. }) => {
            let opened = already_open(worker, &address, &request).await?;
            opened.ok_or_else(|| unavailable(&error))
        }
        Err(error) => Err(unavailable(&error)),
    }
}

/// Of a table that exists: asked again with the id that opened it, the answer is the first one.
async fn already_open(
    worker: &Worker,
    address: &Address,
    request: &OpenRequest,
) -> Result<Option<TableSeq>, Refusal> {
    let entries = worker.bus.log.read(address.table, StreamSeq::ZERO).await;
    let entries = entries.map_err(|error| unreadable(&error))?;
    let Some(first) = entries.iter().find(|entry| entry.address == *address) else {
        return Ok(None);
    };
    let opened_by_this = Envelope::<serde_json::Value>::decode(&first.payload, address.table)
        .is_ok_and(|first| {
            first.commit.cause
                == Cause::Command { player: request.by.player.clone(), id: request.id.clone() }
        });
    if opened_by_this {
        return Ok(Some(TableSeq::ZERO.next()));
    }
    Err(Refusal::new("table_exists", format!("table {} is already open", address.table)))
}

/// Takes over a table that nobody owns. Of a table that has an owner, it says who that is.
pub(super) async fn adopt(worker: &Worker, kind: &Kind, payload: &[u8]) -> Adoption {
    let request: AdoptRequest = match decode(payload) {
        Ok(request) => request,
        Err(error) => return Adoption::Declined(malformed(&error)),
    };
    match try_adopt(worker, kind, request.table).await {
        Ok(owner) => Adoption::Owned { worker: owner },
        Err(refusal) => Adoption::Declined(refusal),
    }
}

async fn try_adopt(worker: &Worker, kind: &Kind, table: TableId) -> Result<WorkerId, Refusal> {
    if let Some(owner) = owner_of(worker, table).await {
        return Ok(owner);
    }
    let place = worker.take_place(table).map_err(no_place)?;
    let address = Address::new(table, kind.clone(), worker.bus.log.shards());
    let (mut referee, last) = load(worker, &address).await?;
    if let Some(marker) = finish::marker(&address, &*referee, last) {
        // Its former owner may have died before it wrote the marker.
        let listed = worker.lobby.clone();
        let completed = finish::complete(worker.clone(), address, marker);
        worker.actors.spawn(async move {
            completed.await;
            listed.set(table, None);
            drop(place);
        });
        return Err(Refusal::new("game_over", "the game is over"));
    }
    let draft = referee.claim(worker.id.clone(), None, &worker.turn());
    let taking = Taking::begin(worker, place, address.clone()).await?;
    let at = match append(worker, &address, last, &draft, None).await {
        Ok(at) => at,
        Err(AppendError::Fenced { .. }) => {
            return Err(moved("another worker is taking this table"));
        }
        Err(error) => return Err(unavailable(&error)),
    };
    info!(table.id = %table, worker.id = %worker.id, seq = draft.seq.get(), "table {table} adopted");
    counter!("tablecast_worker_tables_adopted_total").increment(1);
    TableActor::start(worker, taking, (referee, at), draft).await?;
    Ok(worker.id.clone())
}

/// Who answers for a table; nobody if none does however often it is asked. A former owner may still get
/// some of the requests: one that hangs is passed over, one that says so has left.
async fn owner_of(worker: &Worker, table: TableId) -> Option<WorkerId> {
    let who = encode(&TableRequest::Who);
    for _ in 0..OWNER_TRIES {
        let mail = &worker.bus.mail;
        let answer = mail.request(subject::cmd(table), who.clone(), OWNER_PATIENCE).await;
        match answer.map(|answer| decode(&answer)) {
            Ok(Ok(Adoption::Owned { worker })) => return Some(worker),
            Err(RequestError::NoResponders) => return None,
            Ok(Ok(Adoption::Declined(_)) | Err(_)) => {
                tokio::time::sleep(Duration::from_millis(SOON_MS)).await;
            }
            Err(RequestError::Timeout | RequestError::Unreachable) => {}
        }
    }
    None
}

/// Folds a table from the log. Messages that are no commits of it are set aside and skipped.
async fn load(
    worker: &Worker,
    address: &Address,
) -> Result<(Box<dyn Referee>, StreamSeq), Refusal> {
    let entries = worker.bus.log.read(address.table, StreamSeq::ZERO).await;
    let mut entries = entries.map_err(|error| unreadable(&error))?;
    // Somebody may have written under the table's id on the subject of another kind.
    entries.retain(|entry| entry.address == *address);
    if entries.iter().any(|entry| entry.what == Stored::Tombstone) {
        worker.lobby.set(address.table, None);
        let message = "the game is over and in the archive";
        return Err(Refusal::new("archived", message));
    }
    let rules = worker.catalog.get(&address.kind).expect("only kinds of the catalog are served");
    let mut referee: Option<Box<dyn Referee>> = None;
    for entry in &entries {
        let folded = match &mut referee {
            Some(referee) => referee.fold(&entry.payload),
            None => rules.referee(address.table, &entry.payload).map(|first| {
                referee = Some(first);
            }),
        };
        if let Err(reason) = folded {
            refuse_if_newer(&reason)?;
            set_aside(worker, entry, &reason).await;
        }
        if let Some(referee) = &referee {
            refuse_other_rules(referee.rules(), rules.rules_version())?;
        }
    }
    match (referee, entries.last()) {
        (Some(referee), Some(last)) => Ok((referee, last.seq)),
        _ => Err(Refusal::new(
            "unknown_table",
            format!("there is no {} table {}", address.kind, address.table),
        )),
    }
}

/// What this binary cannot read yet is no poison: skipping it would write over it.
fn refuse_if_newer(reason: &FoldError) -> Result<(), Refusal> {
    let is_newer = match reason {
        FoldError::Decode(DecodeError::Version { .. })
        | FoldError::Opening(OpeningError::Setup { .. }) => true,
        FoldError::Decode(DecodeError::Malformed(_) | DecodeError::OtherTable { .. })
        | FoldError::Opening(OpeningError::OtherKind { .. })
        | FoldError::OutOfOrder { .. }
        | FoldError::NotOpened => false,
    };
    if !is_newer {
        return Ok(());
    }
    Err(Refusal::new("newer_version", reason.to_string()).retry_after_ms(LATER_MS))
}

/// Events of other rules need not decode here, so this is asked before they are folded.
fn refuse_other_rules(pinned: u32, ours: u32) -> Result<(), Refusal> {
    if pinned == ours {
        return Ok(());
    }
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
    let id = format!("{}:{}:{}:{nonce:016x}", address.table, draft.seq.get(), worker.id);
    let (address, worker_id) = (address.clone(), worker.id.clone());
    let (types, payload) = (draft.types.clone(), draft.payload.clone());
    let append = Append { address, after, id, types, worker: worker_id, command, payload };
    worker.bus.log.append(append).await
}

fn malformed(error: &dyn std::error::Error) -> Refusal {
    counter!("tablecast_worker_malformed_total").increment(1);
    Refusal::new("malformed", error.to_string())
}

fn unreadable(error: &ReadError) -> Refusal {
    Refusal::new("unavailable", error.to_string()).retry_after_ms(LATER_MS)
}

fn no_place(reason: NoPlace) -> Refusal {
    match reason {
        NoPlace::Full => {
            counter!("tablecast_worker_declined_total").increment(1);
            Refusal::new("at_capacity", "this worker has no room for another table")
                .retry_after_ms(LATER_MS)
        }
        NoPlace::Held => moved("this worker is just taking the table"),
    }
}
