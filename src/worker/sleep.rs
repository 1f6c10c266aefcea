//! A table at which nothing happens is put to sleep: its state leaves memory, and comes back from the log with
//! the next command. Its owner stays its owner.

use std::time::Duration;

use futures_util::StreamExt;
use metrics::{counter, histogram};
use tokio::time::Instant;
use tracing::debug;

use super::agenda::Agenda;
use super::answer::moved;
use super::deadman::DeadMan;
use super::desk::{Desk, Waiting};
use super::load::{self, load};
use super::presence::Connection;
use super::table_actor::{TableActor, until};
use super::tables::Asleep;
use crate::bus::{Reply, Request};
use crate::catalog::Referee;
use crate::domain::Timestamp;
use crate::protocol::envelope::Message;
use crate::protocol::frame::LobbyEntry;
use crate::protocol::request::{Adoption, Refusal, TableRequest, decode, encode};

/// How often a table is loaded again when the log does not answer, before its owner gives it up.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_millis(100);

/// What wakes a table.
enum Wakened {
    /// Something to do, already on the desk.
    Work,
    /// Players whose gateway is lost.
    Lost(Vec<Connection>),
    /// It is not to wake here: what those who wait are told.
    Leave(Refusal),
}

/// A table whose state is not in memory.
struct Sleeper {
    desk: Desk,
    agenda: Agenda,
    switch: DeadMan,
    listed: Option<LobbyEntry>,
    due: Option<Timestamp>,
}

/// Saves the table's state, drops it, and leaves a sleeper in its place.
pub(super) async fn fall_asleep(actor: TableActor) {
    let TableActor { desk, referee, agenda, switch, listed, unsaved, .. } = actor;
    let due = referee.next_due();
    let worker = desk.worker.clone();
    if unsaved > 0 {
        let table = desk.address.table;
        let snapshot = load::snapshot(&worker, &desk.address, &*referee, desk.last).encode();
        let turn = worker.snapshots_at_once.acquire().await;
        // Without one, waking reads more.
        worker.bus.snapshots.save(&desk.address, snapshot).await.unwrap_or_else(|error| {
            debug!(table.id = %table, %error, "table {table} sleeps without a snapshot");
        });
        drop(turn);
    }
    drop(referee);
    counter!("tablecast_worker_sleeps_total").increment(1);
    // A task of its own, far smaller than that of a table which is awake.
    let sleeper = Sleeper { desk, agenda, switch, listed, due };
    worker.spawn(sleep(sleeper));
}

/// Sleeps until there is something to do, or the table has left this worker.
async fn sleep(mut sleeper: Sleeper) {
    let asleep = sleeper.desk.place.sleep();
    let wakened = wait(&mut sleeper.desk, sleeper.due).await;
    Box::pin(wake(sleeper, asleep, wakened)).await;
}

async fn wake(sleeper: Sleeper, asleep: Asleep, wakened: Wakened) {
    let Sleeper { mut desk, agenda, switch, listed, .. } = sleeper;
    let lost = match wakened {
        Wakened::Work => Vec::new(),
        Wakened::Lost(players) => players,
        Wakened::Leave(refusal) => return desk.leave(&refusal).await,
    };
    let woken = Instant::now();
    match load_again(&mut desk).await {
        Ok(referee) => {
            drop(asleep);
            histogram!("tablecast_worker_wake_seconds").record(woken.elapsed());
            let worker = desk.worker.clone();
            let actor = TableActor::awake(desk, referee, agenda, switch, listed, lost);
            worker.spawn(actor.run(Vec::new()));
        }
        Err(refusal) => desk.leave(&refusal).await,
    }
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
            () = desk.losses.changed() => {
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
                if let Some(refusal) = Box::pin(say_who(desk, reply)).await {
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

async fn load_again(desk: &mut Desk) -> Result<Box<dyn Referee>, Refusal> {
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
