//! What an owner keeps of a table whether the table is awake or asleep: its queue, and who is there.

use std::collections::VecDeque;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};
use metrics::counter;
use tracing::info;

use super::answer::{LATER_MS, answer, busy, moved};
use super::presence::{Connection, Presences};
use super::tables::{Place, Room, Worker};
use crate::bus::{Reply, Request};
use crate::domain::StreamSeq;
use crate::protocol::request::Refusal;
use crate::protocol::subject::Address;
use crate::runtime::watched::Watcher;

/// How many wait for the answer to the same bytes at most. A gateway asks again while it waits; beyond this the
/// oldest has long been given up.
const REPLIES_MAX: usize = 8;

/// One table's desk.
pub(super) struct Desk {
    pub(super) worker: Worker,
    pub(super) address: Address,
    /// The log's position of the last commit: what the next one follows.
    pub(super) last: StreamSeq,
    pub(super) commands: BoxStream<'static, Request>,
    pub(super) waiting: VecDeque<Waiting>,
    pub(super) presences: Presences,
    /// Changes when a gateway is lost.
    pub(super) losses: Watcher<()>,
    /// Changes when memory becomes short.
    pub(super) room: Watcher<Room>,
    pub(super) place: Place,
}

/// A request that waits for its turn, and everyone who sent it.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) payload: Bytes,
    pub(super) replies: Vec<Reply>,
}

impl Waiting {
    /// One more who sent the same bytes.
    pub(super) fn attach(&mut self, reply: Reply) {
        if self.replies.len() >= REPLIES_MAX {
            self.replies.remove(0);
        }
        self.replies.push(reply);
    }
}

/// The request that has waited longest, else the next to come; nothing once none can come.
pub(super) async fn next_request(
    waiting: &mut VecDeque<Waiting>,
    commands: &mut BoxStream<'static, Request>,
) -> Option<Waiting> {
    match waiting.pop_front() {
        Some(waiting) => Some(waiting),
        None => {
            let Request { payload, reply } = commands.next().await?;
            Some(Waiting { payload, replies: vec![reply] })
        }
    }
}

impl Desk {
    /// Queues a request behind those that wait, unless it waits already.
    pub(super) async fn enqueue(&mut self, Request { payload, reply }: Request) {
        if let Some(same) = self.waiting.iter_mut().find(|waiting| waiting.payload == payload) {
            same.attach(reply);
        } else if self.waiting.len() < self.worker.config.commands_waiting_max {
            self.waiting.push_back(Waiting { payload, replies: vec![reply] });
        } else {
            answer(vec![reply], Err(busy())).await;
        }
    }

    /// Players whose gateways are lost.
    pub(super) fn take_lost(&mut self) -> Vec<Connection> {
        let peers = &self.worker.peers;
        self.presences.take_lost(|gateway| peers.gateway_lost_at(gateway))
    }

    /// Whether nothing has been appended that this owner does not know, asked of the log's leader.
    pub(super) async fn is_newest(&mut self) -> Result<bool, Refusal> {
        let last = self.worker.bus.log.last(&self.address).await;
        last.map(|last| last == self.last).map_err(|error| {
            Refusal::new("unavailable", error.to_string()).retry_after_ms(LATER_MS)
        })
    }

    /// Said once for each table that is lost.
    pub(super) fn fenced(&self) -> Refusal {
        let table = self.address.table;
        info!(table.id = %table, "table {table} has another owner: this worker was fenced");
        counter!("tablecast_worker_fenced_total").increment(1);
        moved(format!("table {table} has moved on: another worker owns it"))
    }

    /// Forgets the table. Whoever still waits is told so, after commands have stopped coming here.
    pub(super) async fn leave(mut self, refusal: &Refusal) {
        let mut commands = std::mem::replace(&mut self.commands, stream::empty().boxed());
        while let Some(Some(request)) = commands.next().now_or_never() {
            self.enqueue(request).await;
        }
        drop(commands);
        for waiting in self.waiting.drain(..) {
            answer(waiting.replies, Err(refusal.clone())).await;
        }
    }
}
