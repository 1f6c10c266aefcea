//! How a table comes to this worker: opened here, or left by another.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use metrics::counter;
use tokio::time::{Instant, timeout};
use tracing::info;

use super::answer::{LATER_MS, SOON_MS, moved, unavailable};
use super::deadman::DeadMan;
use super::load::{Loaded, load, refuse_other_rules, unreadable};
use super::table_actor::{ROLL_CALL, TableActor};
use super::tables::{NoPlace, Place, Worker};
use crate::bus::{Append, AppendError, Origin, RequestError};
use crate::catalog::{Drafted, Referee};
use crate::domain::{
    Cause, Kind, Opening, Status, StreamSeq, TableId, TableSeq, Timestamp, WorkerId,
};
use crate::protocol::envelope::{Envelope, Message};
use crate::protocol::request::{
    AdoptRequest, Adoption, Handover, OpenRequest, Refusal, TableRequest, Verdict, decode, encode,
};
use crate::protocol::subject::{self, Address};

/// How long an owner has to show that it is there, and how often it is asked to.
const OWNER_PATIENCE: Duration = Duration::from_millis(300);
const OWNER_TRIES: u32 = 3;

/// How often, and how quickly again, a worker tries to get a table back that it had to give up. Beyond that,
/// the table's alarm rings.
const TAKES: u32 = 20;
const TAKE_PAUSE: Duration = Duration::from_secs(1);

/// How long the alarm of a new table may take to be set. A table without one is looked after by its owner, and
/// by whoever follows it.
const ALARM_PATIENCE: Duration = Duration::from_secs(1);

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
    let origin = Origin { command: request.id.clone(), request: request.request.clone() };
    let (switch, rings_at) = DeadMan::first(worker.clock.now());
    let appended = append(worker, &address, StreamSeq::ZERO, &draft, Some(origin));
    let (appended, ()) = tokio::join!(appended, set_alarm(worker, &address, rings_at));
    match appended {
        Ok(at) => {
            counter!("tablecast_worker_tables_opened_total").increment(1);
            let place = (place, address);
            TableActor::start(worker, place, (referee, at), draft, switch, None).await?;
            Ok(TableSeq::ZERO.next())
        }
        // A full log may refuse what it holds already, from the same request at another worker.
        Err(error @ (AppendError::Fenced { .. } | AppendError::Refused { .. })) => {
            let opened = already_open(worker, &address, &request).await?;
            opened.ok_or_else(|| unavailable(&error))
        }
        Err(error) => Err(unavailable(&error)),
    }
}

/// A new table is answered for only once its alarm is set: its owner may die with the answer.
pub(super) async fn set_alarm(worker: &Worker, address: &Address, at: Timestamp) {
    let set = timeout(ALARM_PATIENCE, worker.bus.timers.arm(address, at)).await;
    if !matches!(set, Ok(Ok(()))) {
        counter!("tablecast_worker_alarm_failures_total").increment(1);
        worker.alarms.set(address, at);
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
    match try_adopt(worker, kind, request, None).await {
        Ok(owner) => Adoption::Owned { worker: owner },
        Err(refusal) => Adoption::Declined(refusal),
    }
}

/// `served_until` is when the table was last served, for a caller that knows it better than the beats tell.
pub(super) async fn try_adopt(
    worker: &Worker,
    kind: &Kind,
    request: AdoptRequest,
    served_until: Option<Timestamp>,
) -> Result<WorkerId, Refusal> {
    let AdoptRequest { table, handover } = request;
    if handover.is_none()
        && let Some(owner) = owner_of(worker, table).await
    {
        return Ok(owner);
    }
    let place = worker.take_place(table).map_err(no_place)?;
    let address = Address::new(table, kind.clone(), worker.bus.log.shards());
    let (referee, last, served_until) = match handover {
        Some(handover) => {
            let referee = taken_over(worker, &address, &handover)?;
            (referee, handover.last, Some(handover.owned_until))
        }
        None => {
            let loaded = load(worker, &address).await?;
            // What its owner still owed for its last commit counts as time without one.
            let was_slow = loaded.was_slow();
            let Loaded { referee, last, owner, .. } = loaded;
            // What this worker says of itself tells nothing of an earlier process of its name.
            let owner = owner.filter(|owner| *owner != worker.id && !was_slow);
            let heard_at = owner.and_then(|owner| worker.peers.worker_heard_at(&owner));
            (referee, last, served_until.or(heard_at))
        }
    };
    if referee.status() == Status::Ended {
        // Its former owner may have died before it did what must follow, or before it answered.
        TableActor::start_ended(worker, (place, address), (referee, last)).await?;
        return Ok(worker.id.clone());
    }
    claim(worker, place, address, (referee, last), served_until).await
}

/// The state that a stopping owner gave.
fn taken_over(
    worker: &Worker,
    address: &Address,
    handover: &Handover,
) -> Result<Box<dyn Referee>, Refusal> {
    let rules = worker.catalog.get(&address.kind).expect("only kinds of the catalog are served");
    refuse_other_rules(address, handover.rules, rules.rules_version())?;
    rules.restore(address.table, &handover.state).ok_or_else(|| {
        // Another version of this binary: whoever asks next makes it read the log.
        Refusal::new("state_version", "this worker keeps tables in another form")
    })
}

async fn claim(
    worker: &Worker,
    place: Place,
    address: Address,
    (mut referee, last): (Box<dyn Referee>, StreamSeq),
    served_until: Option<Timestamp>,
) -> Result<WorkerId, Refusal> {
    let table = address.table;
    let draft = referee.claim(worker.id.clone(), served_until, &worker.turn());
    let at = match append(worker, &address, last, &draft, None).await {
        Ok(at) => at,
        Err(AppendError::Fenced { .. }) => {
            return Err(moved("another worker is taking this table"));
        }
        // Not of the table, but of the log: a full one has room again, and the table waits for it.
        Err(error) => return Err(unavailable(&error).retry_after_ms(LATER_MS)),
    };
    info!(table.id = %table, worker.id = %worker.id, seq = draft.seq.get(), "table {table} adopted");
    counter!("tablecast_worker_tables_adopted_total").increment(1);
    // Gateways say who is there once they see the claim.
    let roll_call_at = Some(Instant::now() + ROLL_CALL);
    let (place, switch) = ((place, address), DeadMan::default());
    TableActor::start(worker, place, (referee, at), draft, switch, roll_call_at).await?;
    Ok(worker.id.clone())
}

/// The log did not say in time whether it stored this worker's append. Nobody could play meanwhile, so the
/// table is taken anew, with the time since then given back.
pub(super) fn take_again(
    worker: Worker,
    address: Address,
    served_until: Timestamp,
) -> BoxFuture<'static, ()> {
    // Boxed, since the owner that it starts may come here again.
    async move {
        for _ in 0..TAKES {
            let request = AdoptRequest::new(address.table);
            match try_adopt(&worker, &address.kind, request, Some(served_until)).await {
                Err(Refusal { retry_after_ms: Some(_), .. }) if !worker.stop.is_cancelled() => {
                    tokio::time::sleep(TAKE_PAUSE).await;
                }
                Ok(_) | Err(_) => return,
            }
        }
    }
    .boxed()
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

/// Appends a drafted commit.
pub(super) async fn append(
    worker: &Worker,
    address: &Address,
    after: StreamSeq,
    draft: &Drafted,
    command: Option<Origin>,
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
