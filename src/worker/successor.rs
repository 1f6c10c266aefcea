//! Where the players of a table go on: opened by whoever owns the table that they leave, and only once.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use metrics::counter;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use super::adoption::{append, set_alarm};
use super::answer::unavailable;
use super::deadman::DeadMan;
use super::finish::BACKOFF_MAX;
use super::load::unreadable;
use super::table_actor::{ROLL_CALL, TableActor};
use super::tables::Worker;
use crate::bus::AppendError;
use crate::domain::{Cause, Opening, StreamSeq, TableId};
use crate::protocol::request::{AdoptRequest, Refusal, encode};
use crate::protocol::subject::{self, Address};

/// How long some worker has to take a successor that this one cannot keep. Beyond that, its alarm rings.
const ADOPTION_PATIENCE: Duration = Duration::from_secs(5);

/// Opens the successor of a table, however long the log takes. One that is open already stays as it is, so
/// whoever owns the table after a crash does this again.
///
/// Answers whether that is done: not if the worker stops.
pub(super) fn open(
    worker: Worker,
    from: TableId,
    (table, opening): (TableId, Opening),
) -> BoxFuture<'static, bool> {
    // Boxed, since the owner that it starts may come here again.
    async move {
        let mut backoff = Duration::from_millis(100);
        while let Err(refusal) = try_open(&worker, from, table, opening.clone()).await {
            warn!(table.id = %from, %table, rejection = refusal.code, "{table} does not follow {from} yet");
            tokio::select! {
                biased;
                // Whoever adopts the table opens it.
                () = worker.stop.cancelled() => return false,
                () = tokio::time::sleep(backoff) => {}
            }
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
        true
    }
    .boxed()
}

async fn try_open(
    worker: &Worker,
    from: TableId,
    table: TableId,
    opening: Opening,
) -> Result<(), Refusal> {
    let address = Address::new(table, opening.kind.clone(), worker.bus.log.shards());
    // Before anything is touched: it may have an owner, and be long under way.
    let last = worker.bus.log.last(&address).await.map_err(|error| unreadable(&error))?;
    if last != StreamSeq::ZERO {
        find_owner(worker, address);
        return Ok(());
    }
    let rules = worker.catalog.get(&address.kind).expect("only kinds of the catalog are served");
    let cause = Cause::Rematch { from };
    let (referee, draft) = match rules.open(table, opening, cause, &worker.turn()) {
        Ok(opened) => opened,
        Err(refusal) => {
            // The same was played before. Whatever is wrong, it does not keep the table from its end.
            error!(table.id = %from, rejection = refusal.code, "no table can follow {from}");
            return Ok(());
        }
    };
    let (switch, rings_at) = DeadMan::first(worker.clock.now());
    // The alarm first: this worker may die with the append, and nobody waits for an answer.
    set_alarm(worker, &address, rings_at).await;
    let place = worker.take_place(table);
    match append(worker, &address, StreamSeq::ZERO, &draft, None).await {
        Ok(at) => {
            info!(table.id = %table, %from, "table {table} follows {from}");
            counter!("tablecast_worker_tables_opened_total").increment(1);
            let Ok(place) = place else {
                find_owner(worker, address);
                return Ok(());
            };
            // Players come by themselves, or not: who is not there after a while has gone.
            let roll_call_at = Some(Instant::now() + ROLL_CALL);
            let place = (place, address);
            let started =
                TableActor::start(worker, place, (referee, at), draft, switch, roll_call_at).await;
            if let Err(refusal) = started {
                debug!(table.id = %table, rejection = refusal.code, "table {table} waits for an owner");
            }
            Ok(())
        }
        // Another worker was here meanwhile, or this one, and the log did not say so.
        Err(AppendError::Fenced { .. }) => {
            drop(place);
            find_owner(worker, address);
            Ok(())
        }
        Err(error) => Err(unavailable(&error)),
    }
}

/// Has some worker take a table that may have no owner, without waiting for it.
fn find_owner(worker: &Worker, address: Address) {
    let mail = Arc::clone(&worker.bus.mail);
    worker.spawn(async move {
        let (table, request) = (address.table, encode(&AdoptRequest::new(address.table)));
        let asked = mail.request(subject::adopt(&address.kind), request, ADOPTION_PATIENCE).await;
        if let Err(error) = asked {
            debug!(table.id = %table, %error, "nobody took table {table}: its alarm will ring");
        }
    });
}
