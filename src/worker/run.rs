//! The worker role: takes tables that are opened or left, and says that it is alive.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use metrics::counter;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::WorkerConfig;
use super::adoption::{adopt, open};
use super::tables::Worker;
use crate::bus::{Bus, MailError};
use crate::catalog::Catalog;
use crate::domain::Kind;
use crate::protocol::request::{Adoption, Beat, Refusal, Verdict, encode};
use crate::protocol::subject;
use crate::runtime::clock::Clock;
use crate::runtime::entropy::Entropy;

/// Why a worker stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// It cannot listen for work.
    #[error("this worker cannot listen for work")]
    Mail(#[from] MailError),
    /// Nothing will come any more.
    #[error("the connection to the bus is closed for good")]
    Closed,
}

/// How many tables may be opened or adopted at the same time: each reads the log and appends.
const TAKING_AT_ONCE: usize = 64;

/// How long a worker waits for its own goodbye.
const GOODBYE_MAX: Duration = Duration::from_secs(1);

/// Runs until `stop` is cancelled, then until every append that is under way has been answered.
///
/// # Errors
/// If the bus is closed for good.
pub async fn run(
    config: WorkerConfig,
    bus: Bus,
    catalog: Catalog,
    time: (Clock, Entropy),
    stop: CancellationToken,
) -> Result<(), WorkerError> {
    // A token of its own, so that a worker that cannot go on stops its tables, too.
    let worker = Worker::new(config, bus, catalog, time, stop.child_token());
    let kinds: Vec<Kind> = worker.catalog.kinds().cloned().collect();
    info!(worker.id = %worker.id, ?kinds, "worker {} takes tables", worker.id);
    let lobby_stop = CancellationToken::new();
    let lines = worker.lobby.clone().write_to(Arc::clone(&worker.bus.lobby), lobby_stop.clone());
    let work = async {
        let taking = async {
            let takers = kinds.into_iter().map(|kind| take_tables(worker.clone(), kind));
            let taken = futures_util::future::try_join_all(takers).await;
            let result = match taken {
                Ok(_) if !stop.is_cancelled() => Err(WorkerError::Closed),
                Ok(_) => Ok(()),
                Err(error) => Err(error),
            };
            worker.stop.cancel();
            result
        };
        let (result, ()) = tokio::join!(taking, beat(&worker));
        worker.actors.close();
        worker.actors.wait().await;
        say_goodbye(&worker).await;
        info!(worker.id = %worker.id, "worker {} has stopped", worker.id);
        lobby_stop.cancel();
        result
    };
    let mail = Arc::clone(&worker.bus.mail);
    let gateways = worker.gateways.clone().watch(mail, worker.id.clone(), worker.stop.clone());
    let (result, (), ()) = tokio::join!(work, lines, gateways);
    result
}

/// Opens and adopts tables of one kind, until stopped.
async fn take_tables(worker: Worker, kind: Kind) -> Result<(), WorkerError> {
    let mail = &worker.bus.mail;
    let opens = mail.serve(subject::open(&kind), Some(subject::WORKERS)).await?;
    let adoptions = mail.serve(subject::adopt(&kind), Some(subject::WORKERS)).await?;
    let opens = opens.take_until(worker.stop.clone().cancelled_owned());
    let adoptions = adoptions.take_until(worker.stop.clone().cancelled_owned());
    let opened = opens.for_each_concurrent(TAKING_AT_ONCE, |request| {
        let (worker, kind) = (worker.clone(), kind.clone());
        async move {
            let opened = AssertUnwindSafe(open(&worker, &kind, &request.payload)).catch_unwind();
            let verdict = opened.await.unwrap_or_else(|_| Verdict::Rejected(fault()));
            request.reply.send(encode(&verdict)).await;
        }
    });
    let adopted = adoptions.for_each_concurrent(TAKING_AT_ONCE, |request| {
        let (worker, kind) = (worker.clone(), kind.clone());
        async move {
            let adopted = AssertUnwindSafe(adopt(&worker, &kind, &request.payload)).catch_unwind();
            let adoption = adopted.await.unwrap_or_else(|_| Adoption::Declined(fault()));
            request.reply.send(encode(&adoption)).await;
        }
    });
    tokio::join!(opened, adopted);
    Ok(())
}

/// The rules of a game panicked, over a commit that they cannot have written. One table's trouble: the
/// worker goes on.
fn fault() -> Refusal {
    counter!("tablecast_worker_faults_total").increment(1);
    Refusal::new("internal", "the table cannot be played: see the worker's log")
}

/// Says that this worker is alive, until stopped.
async fn beat(worker: &Worker) {
    let mut beats =
        tokio::time::interval(worker.config.beat_interval.max(Duration::from_millis(10)));
    loop {
        tokio::select! {
            _ = beats.tick() => say(worker, false).await,
            () = worker.stop.cancelled() => return,
        }
    }
}

/// Says that this worker stops, and waits until that is out: then every answer before it is out as well.
async fn say_goodbye(worker: &Worker) {
    let heard = worker.bus.mail.listen(subject::beat(&worker.id)).await;
    say(worker, true).await;
    if let Ok(mut heard) = heard {
        tokio::time::timeout(GOODBYE_MAX, heard.next()).await.ok();
    }
}

async fn say(worker: &Worker, goodbye: bool) {
    let tables = u32::try_from(worker.tables()).unwrap_or(u32::MAX);
    let beat: Bytes = encode(&Beat { worker: worker.id.clone(), tables, goodbye });
    if let Err(error) = worker.bus.mail.notify(subject::beat(&worker.id), beat).await {
        warn!(worker.id = %worker.id, %error, "worker {} cannot say that it is alive", worker.id);
    }
}
