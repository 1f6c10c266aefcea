//! The worker role: takes tables that are opened or left, and says that it is alive.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use metrics::counter;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::WorkerConfig;
use super::adoption::{adopt, open};
use super::answer::SOON_MS;
use super::tables::{Room, Worker};
use super::{alarms, memory, peers};
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

/// How long what is abandoned may take to end.
const ABANDON_MAX: Duration = Duration::from_secs(1);

/// How long a worker waits for its own goodbye.
const GOODBYE_MAX: Duration = Duration::from_secs(1);

/// Runs until `stop` is cancelled, then until every table has been handed over, or `drain_timeout` is over.
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
    let work = async {
        let takers = kinds.into_iter().map(|kind| take_tables(worker.clone(), kind));
        let taken = futures_util::future::try_join_all(takers).await;
        let result = match taken {
            Ok(_) if !stop.is_cancelled() => Err(WorkerError::Closed),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        worker.stop.cancel();
        drain(&worker).await;
        say_goodbye(&worker).await;
        info!(worker.id = %worker.id, "worker {} has stopped", worker.id);
        worker.gone.cancel();
        result
    };
    let lines = worker.lobby.clone().write_to(Arc::clone(&worker.bus.lobby), worker.gone.clone());
    let alarms =
        worker.alarms.clone().write_to(Arc::clone(&worker.bus.timers), worker.gone.clone());
    let shards = 0..worker.bus.log.shards().get();
    let wakes = futures_util::future::join_all(shards.map(|shard| alarms::answer(&worker, shard)));
    let upkeep =
        async { tokio::join!(beat(&worker), peers::watch(&worker), memory::watch(&worker), wakes) };
    let (result, (), (), _) = tokio::join!(work, lines, alarms, upkeep);
    result
}

/// Waits until every table has been handed over or let go, but not for ever.
async fn drain(worker: &Worker) {
    worker.actors.close();
    let tables = worker.tables();
    let patience = worker.config.drain_timeout;
    if tokio::time::timeout(patience, worker.actors.wait()).await.is_ok() {
        info!(worker.id = %worker.id, tables, "worker {} has let go of {tables} tables", worker.id);
        return;
    }
    let left = worker.tables();
    warn!(worker.id = %worker.id, left, "{left} tables could not be handed over in time");
    // What is under way is abandoned: whoever takes the table next reads what came of it.
    worker.overdue.cancel();
    tokio::time::timeout(ABANDON_MAX, worker.actors.wait()).await.ok();
}

/// Opens and adopts tables of one kind, until stopped. A worker without room does not listen, so that others
/// are asked.
async fn take_tables(worker: Worker, kind: Kind) -> Result<(), WorkerError> {
    let mut room = worker.room();
    tokio::select! {
        biased;
        () = worker.stop.cancelled() => return Ok(()),
        () = worker.peers.are_heard() => {}
    }
    loop {
        tokio::select! {
            biased;
            () = worker.stop.cancelled() => return Ok(()),
            () = room.until(|room| !room.is_full()) => {}
        }
        take_until_full(&worker, &kind).await?;
        if worker.stop.is_cancelled() || !room.get().is_full() {
            return Ok(());
        }
        info!(worker.id = %worker.id, %kind, "worker {} has no room for more {kind}", worker.id);
    }
}

async fn take_until_full(worker: &Worker, kind: &Kind) -> Result<(), WorkerError> {
    let mail = &worker.bus.mail;
    let mut opens = mail.serve(subject::open(kind), Some(subject::WORKERS)).await?;
    let mut adoptions = mail.serve(subject::adopt(kind), Some(subject::WORKERS)).await?;
    let opened =
        (&mut opens).take_until(no_more(worker)).for_each_concurrent(TAKING_AT_ONCE, |request| {
            let (worker, kind) = (worker.clone(), kind.clone());
            async move {
                let opened =
                    AssertUnwindSafe(open(&worker, &kind, &request.payload)).catch_unwind();
                let verdict = opened.await.unwrap_or_else(|_| Verdict::Rejected(fault()));
                request.reply.send(encode(&verdict)).await;
            }
        });
    let adopted = (&mut adoptions).take_until(no_more(worker)).for_each_concurrent(
        TAKING_AT_ONCE,
        |request| {
            let (worker, kind) = (worker.clone(), kind.clone());
            async move {
                let adopted = AssertUnwindSafe(adopt(&worker, &kind, &request.payload));
                let adoption = adopted.catch_unwind().await;
                let adoption = adoption.unwrap_or_else(|_| Adoption::Declined(fault()));
                request.reply.send(encode(&adoption)).await;
            }
        },
    );
    tokio::join!(opened, adopted);
    // Whoever has asked already would wait for nobody.
    while let Some(Some(request)) = opens.next().now_or_never() {
        request.reply.send(encode(&Verdict::Rejected(no_more_work()))).await;
    }
    while let Some(Some(request)) = adoptions.next().now_or_never() {
        request.reply.send(encode(&Adoption::Declined(no_more_work()))).await;
    }
    Ok(())
}

fn no_more_work() -> Refusal {
    Refusal::new("at_capacity", "this worker takes no more tables").retry_after_ms(SOON_MS)
}

/// Returns when the worker stops or has no room left.
fn no_more(worker: &Worker) -> BoxFuture<'static, ()> {
    let (stop, mut room) = (worker.stop.clone(), worker.room());
    async move {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = room.until(Room::is_full) => {}
        }
    }
    .boxed()
}

/// The rules of a game panicked, over a commit that they cannot have written. One table's trouble: the
/// worker goes on.
fn fault() -> Refusal {
    counter!("tablecast_worker_faults_total").increment(1);
    Refusal::new("internal", "the table cannot be played: see the worker's log")
}

/// Says that this worker is alive, as long as it has tables.
async fn beat(worker: &Worker) {
    let mut beats =
        tokio::time::interval(worker.config.beat_interval.max(Duration::from_millis(10)));
    loop {
        tokio::select! {
            biased;
            () = worker.gone.cancelled() => return,
            _ = beats.tick() => say(worker, false).await,
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
    let full = worker.room().get().is_full() || worker.stop.is_cancelled();
    let interval_ms = u32::try_from(worker.config.beat_interval.as_millis()).unwrap_or(u32::MAX);
    let at = worker.clock.now();
    let beat: Bytes =
        encode(&Beat { worker: worker.id.clone(), tables, full, interval_ms, at, goodbye });
    if let Err(error) = worker.bus.mail.notify(subject::beat(&worker.id), beat).await {
        warn!(worker.id = %worker.id, %error, "worker {} cannot say that it is alive", worker.id);
    }
}
