//! A worker that stops gives its tables to others.

use std::time::Duration;

use metrics::counter;
use tracing::{debug, info};

use super::table_actor::TableActor;
use super::tables::Worker;
use crate::bus::RequestError;
use crate::domain::{Kind, WorkerId};
use crate::protocol::request::{AdoptRequest, Adoption, Handover, Refusal, decode, encode};
use crate::protocol::subject;

/// How long the next owner has for its claim. Players wait meanwhile: a table that is left is adopted in less.
const PATIENCE: Duration = Duration::from_millis(500);
/// Between two offers, if those who were asked had no room.
const PAUSE: Duration = Duration::from_millis(50);
const OFFERS: u32 = 20;

/// Offers the table to other workers, and lets it go. Commands that come meanwhile wait, and are told to ask
/// again when the table has its next owner.
pub(super) async fn hand_over(actor: TableActor) {
    let worker = actor.desk.worker.clone();
    let offer = offer(worker.clone(), actor.desk.address.kind.clone(), request(&actor));
    let taken = tokio::select! {
        biased;
        () = worker.overdue.cancelled() => None,
        taken = offer => taken,
    };
    let (table, next) = (actor.desk.address.table, taken.as_ref());
    let outcome = if next.is_some() { "taken" } else { "left" };
    counter!("tablecast_worker_handovers_total", "outcome" => outcome).increment(1);
    match next {
        Some(owner) => debug!(table.id = %table, worker.id = %owner, "table {table} handed over"),
        None => info!(table.id = %table, "table {table} is left: nobody took it"),
    }
    let stopping = actor.stopping();
    actor.desk.leave(&stopping).await;
}

fn request(actor: &TableActor) -> AdoptRequest {
    let desk = &actor.desk;
    let handover = Handover {
        last: desk.last,
        rules: actor.referee.rules(),
        owned_until: desk.worker.clock.now(),
        state: actor.referee.state(),
    };
    AdoptRequest { table: desk.address.table, handover: Some(handover) }
}

async fn offer(worker: Worker, kind: Kind, request: AdoptRequest) -> Option<WorkerId> {
    let _turn = worker.handovers_at_once.acquire().await.ok()?;
    let request = encode(&request);
    for _ in 0..OFFERS {
        let subject = subject::adopt(&kind);
        let answer = worker.bus.mail.request(subject, request.clone(), PATIENCE).await;
        match answer.map(|answer| decode(&answer)) {
            Ok(Ok(Adoption::Owned { worker })) => return Some(worker),
            Ok(Ok(Adoption::Declined(Refusal { retry_after_ms: Some(_), .. }))) => {}
            Ok(Ok(Adoption::Declined(refusal))) => {
                debug!(%kind, rejection = refusal.code, "a table offered is declined");
                return None;
            }
            // Nobody else is there, or can be reached.
            Err(RequestError::NoResponders | RequestError::Unreachable) => return None,
            // Taken or not: the log will tell.
            Ok(Err(_)) | Err(RequestError::Timeout) => return None,
        }
        tokio::time::sleep(PAUSE).await;
    }
    None
}
