//! A table at which nothing happens is put to sleep: its state leaves memory, and comes back from the log with
//! the next command. Its owner stays its owner.

use std::time::Duration;

use futures_util::StreamExt;
use metrics::{counter, histogram};
use tokio::time::Instant;
use tracing::debug;

use super::answer::moved;
use super::desk::{Desk, Waiting};
use super::load::{self, load};
use super::table_actor::{TableActor, until};
use crate::bus::{Reply, Request};
use crate::domain::{PlayerId, Timestamp};
use crate::protocol::envelope::Message;
use crate::protocol::request::{Adoption, Refusal, TableRequest, decode, encode};

/// How often a table is loaded again when the log does not answer, before its owner gives it up.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_millis(100);

/// What wakes a table.
enum Wakened {
    /// Something to do, already on the desk.
    Work,
    /// Players whose gateway is lost.
    Lost(Vec<(PlayerId, Timestamp)>),
    /// It is not to wake here: what those who wait are told.
    Leave(Refusal),
}

/// Sleeps until there is something to do. Nothing if the table has left this worker meanwhile.
pub(super) async fn sleep(actor: TableActor) -> Option<TableActor> {
    let TableActor { mut desk, referee, agenda, switch, listed, unsaved, .. } = actor;
    let (table, due) = (desk.address.table, referee.next_due());
    if unsaved > 0 {
        let snapshot = load::snapshot(&desk.worker, &desk.address, &*referee, desk.last).encode();
        let turn = desk.worker.snapshots_at_once.acquire().await;
        // Without one, waking reads more.
        desk.worker.bus.snapshots.save(&desk.address, snapshot).await.unwrap_or_else(|error| {
            debug!(table.id = %table, %error, "table {table} sleeps without a snapshot");
        });
        drop(turn);
    }
    drop(referee);
    counter!("tablecast_worker_sleeps_total").increment(1);
    let asleep = desk.place.sleep();
    let lost = match wait(&mut desk, due).await {
        Wakened::Work => Vec::new(),
        Wakened::Lost(players) => players,
        Wakened::Leave(refusal) => {
            desk.leave(&refusal).await;
            return None;
        }
    };
    let woken = Instant::now();
    let referee = match wake(&mut desk).await {
        Ok(referee) => referee,
        Err(refusal) => {
            desk.leave(&refusal).await;
            return None;
        }
    };
    drop(asleep);
    histogram!("tablecast_worker_wake_seconds").record(woken.elapsed());
    Some(TableActor::awake(desk, referee, agenda, switch, listed, lost))
}

/// Waits for something to do. Who owns the table is said without waking.
async fn wait(desk: &mut Desk, due: Option<Timestamp>) -> Wakened {
    let due = due.map(|due| desk.worker.now().at(due));
    loop {
        tokio::select! {
            biased;
            () = desk.worker.stop.cancelled() => return Wakened::Leave(stopping(desk)),
            notice = desk.place.news.next() => {
                desk.place.news.push(notice);
                return Wakened::Work;
            }
            Ok(()) = desk.losses.changed() => {
                let lost = desk.take_lost();
                if !lost.is_empty() {
                    return Wakened::Lost(lost);
                }
            }
            request = desk.commands.next() => {
                let Some(Request { payload, reply }) = request else {
                    return Wakened::Leave(stopping(desk));
                };
                if !matches!(decode(&payload), Ok(TableRequest::Who)) {
                    desk.waiting.push_back(Waiting { payload, replies: vec![reply] });
                    return Wakened::Work;
                }
                if let Some(refusal) = say_who(desk, reply).await {
                    return Wakened::Leave(refusal);
                }
            }
            () = until(due) => return Wakened::Work,
        }
    }
}

/// Says who owns the table; or that somebody else does.
async fn say_who(desk: &mut Desk, reply: Reply) -> Option<Refusal> {
    let newest = desk.is_newest().await;
    let (adoption, lost) = match newest {
        Ok(true) => (Adoption::Owned { worker: desk.worker.id.clone() }, None),
        Ok(false) => {
            let refusal = desk.fenced();
            (Adoption::Declined(refusal.clone()), Some(refusal))
        }
        Err(refusal) => (Adoption::Declined(refusal), None),
    };
    reply.send(encode(&adoption)).await;
    lost
}

async fn wake(desk: &mut Desk) -> Result<Box<dyn crate::catalog::Referee>, Refusal> {
    let mut tries = 0;
    loop {
        tries += 1;
        match load(&desk.worker, &desk.address).await {
            Ok(loaded) if loaded.last == desk.last => return Ok(loaded.referee),
            // A replica that lags has less than this owner has stored itself.
            Ok(loaded) if loaded.last < desk.last && tries < TRIES => {}
            Ok(_) => return Err(desk.fenced()),
            Err(refusal) if refusal.retry_after_ms.is_none() || tries >= TRIES => {
                return Err(refusal);
            }
            Err(_) => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn stopping(desk: &Desk) -> Refusal {
    moved(format!("the owner of table {} stops", desk.address.table))
}
