//! Takes players' commands to the workers, and their verdicts back. The verdict is always a worker's.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, warn};

use super::action::Ask;
use super::hub::{Hub, Known};
use super::metrics;
use crate::bus::{Bus, RequestError};
use crate::catalog::Catalog;
use crate::domain::{CommandId, Identity, Kind, Seat, Seating, TableId, TableOptions, TableSeq};
use crate::protocol::frame::{SeatWish, ServerFrame};
use crate::protocol::request::{
    self, AdoptRequest, Adoption, CommandRequest, OpenRequest, Refusal, TableRequest, Verdict,
};
use crate::protocol::subject;
use crate::runtime::clock::Clock;

/// How long a worker has for one answer.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a command is tried again before its sender is told to come back.
const PATIENCE: Duration = Duration::from_secs(10);
const BACKOFF_MIN: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// When it is worth sending again what no worker answered.
const RETRY_AFTER_MS: u64 = 1_000;

/// Takes commands to the workers.
#[derive(Clone, Debug)]
pub(super) struct Dispatcher {
    /// The mail.
    pub bus: Bus,
    /// The games, for the seats of a new table.
    pub catalog: Catalog,
    /// Where a table's kind is looked up.
    pub hub: Arc<Hub>,
    /// For the ids of new tables.
    pub clock: Clock,
}

/// An opening, as the client wrote it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wish {
    /// Which game.
    pub kind: Kind,
    /// The game's own setup.
    pub setup: serde_json::Value,
    /// What the table does besides the rules.
    pub options: TableOptions,
    /// Who sits where.
    pub seats: Option<Vec<SeatWish>>,
}

impl Dispatcher {
    /// Takes one command to its end: the frame for whoever sent it.
    pub(super) async fn ask(&self, ask: Ask) -> ServerFrame {
        let started = Instant::now();
        let (id, table, is_open, verdict) = match ask {
            Ask::Open { id, by, wish } => {
                let table = TableId::new(self.clock.now(), rand::random());
                let verdict = self.open(table, by, id.clone(), wish).await;
                (id, table, true, verdict)
            }
            Ask::Command { id, by, table, command } => {
                let request = CommandRequest { by, id: id.clone(), command };
                let verdict = self.command(table, TableRequest::Command(request)).await;
                (id, table, false, verdict)
            }
        };
        metrics::commanded(&verdict, started.elapsed());
        frame_of(id, table, is_open, verdict)
    }

    async fn open(&self, table: TableId, by: Identity, id: CommandId, wish: Wish) -> Verdict {
        let request = match self.opening(table, by, id, wish.clone()) {
            Ok(request) => request::encode(&request),
            Err(refusal) => return Verdict::Rejected(refusal),
        };
        let give_up = Instant::now() + PATIENCE;
        let mut backoff = BACKOFF_MIN;
        loop {
            // The same bytes name the same table: asking again opens nothing new.
            match self.request(subject::open(&wish.kind), request.clone()).await {
                Ok(Some(verdict)) => return verdict,
                Err(RequestError::NoResponders) => {
                    return unavailable("no worker plays this game at the moment");
                }
                Ok(None) | Err(RequestError::Timeout | RequestError::Unreachable) => {}
            }
            if Instant::now() + backoff >= give_up {
                return unavailable("no worker answered");
            }
            wait(&mut backoff).await;
        }
    }

    fn opening(
        &self,
        table: TableId,
        by: Identity,
        id: CommandId,
        wish: Wish,
    ) -> Result<OpenRequest, Refusal> {
        let Wish { kind, setup, options, seats } = wish;
        let rules = self
            .catalog
            .get(&kind)
            .ok_or_else(|| Refusal::new("unknown_kind", format!("no game is called {kind}")))?;
        let wishes = match seats {
            Some(wishes) => wishes,
            None => {
                let others = if rules.has_bots() { SeatWish::Bot } else { SeatWish::Open };
                let mut wishes = vec![others; usize::from(rules.seats(&setup)?)];
                if let Some(first) = wishes.first_mut() {
                    *first = SeatWish::Me;
                }
                wishes
            }
        };
        let own: Vec<usize> =
            (0..wishes.len()).filter(|seat| wishes[*seat] == SeatWish::Me).collect();
        let &[host] = own.as_slice() else {
            return Err(Refusal::new("bad_opening", "seats: `me` stands there once"));
        };
        let host = u8::try_from(host)
            .map_err(|_too_many| Refusal::new("bad_opening", "seats: no game has this many"))?;
        let seats = wishes.iter().map(|wish| seating(*wish, &by)).collect();
        Ok(OpenRequest { table, by, id, setup, options, seats, host: Some(Seat(host)) })
    }

    /// No responders means no owner: the table is offered for adoption and the same bytes sent again.
    async fn command(&self, table: TableId, command: TableRequest) -> Verdict {
        let payload = request::encode(&command);
        let give_up = Instant::now() + PATIENCE;
        let mut backoff = BACKOFF_MIN;
        let mut kind: Option<Kind> = None;
        loop {
            match self.request(subject::cmd(table), payload.clone()).await {
                // The new owner, or the next one to be, gets the same bytes.
                Ok(Some(Verdict::Rejected(refusal))) if refusal.code == request::MOVED => {}
                Ok(Some(verdict)) => return verdict,
                Ok(None) | Err(RequestError::Timeout | RequestError::Unreachable) => {}
                Err(RequestError::NoResponders) => {
                    if kind.is_none() {
                        kind = match self.kind_of(table).await {
                            Ok(kind) => kind,
                            Err(refusal) => return Verdict::Rejected(refusal),
                        };
                    }
                    if let Some(kind) = &kind
                        && let Err(refusal) = self.adopt(table, kind).await
                    {
                        return Verdict::Rejected(refusal);
                    }
                }
            }
            if Instant::now() + backoff >= give_up {
                return unavailable(
                    "nobody could be found to decide; send it again with the same id",
                );
            }
            wait(&mut backoff).await;
        }
    }

    /// Nothing while the log cannot be read.
    async fn kind_of(&self, table: TableId) -> Result<Option<Kind>, Refusal> {
        match timeout(ASK_TIMEOUT, self.hub.kind_of(table)).await {
            Ok(Ok(Known::Table(kind))) => Ok(Some(kind)),
            Ok(Ok(Known::Archived)) => {
                Err(Refusal::new("archived", "the table is over and in the archive"))
            }
            Ok(Ok(Known::Unknown)) => Err(Refusal::new("unknown_table", "there is no such table")),
            Ok(Err(error)) => {
                warn!(table.id = %table, %error, "the kind of table {table} cannot be looked up");
                Ok(None)
            }
            Err(_elapsed) => Ok(None),
        }
    }

    /// An error is a worker's final word on the table; anything else is worth another try.
    async fn adopt(&self, table: TableId, kind: &Kind) -> Result<(), Refusal> {
        metrics::adoption_asked();
        let payload = request::encode(&AdoptRequest::new(table));
        let subject = subject::adopt(kind);
        let answer = self.bus.mail.request(subject, payload, ASK_TIMEOUT).await;
        let Ok(answer) = answer else {
            return Ok(());
        };
        match request::decode::<Adoption>(&answer) {
            Ok(Adoption::Declined(refusal)) if refusal.retry_after_ms.is_none() => Err(refusal),
            Ok(Adoption::Owned { .. } | Adoption::Declined(_)) => Ok(()),
            Err(error) => {
                warn!(table.id = %table, %error, "the answer to an adoption does not decode");
                Ok(())
            }
        }
    }

    /// Nothing if the answer is not a verdict: then nobody knows what became of the request.
    async fn request(
        &self,
        subject: String,
        payload: Bytes,
    ) -> Result<Option<Verdict>, RequestError> {
        let answer = self.bus.mail.request(subject, payload, ASK_TIMEOUT).await;
        let answer = answer.inspect_err(|error| debug!(%error, "a request has no answer"))?;
        match request::decode(&answer) {
            Ok(verdict) => Ok(Some(verdict)),
            Err(error) => {
                warn!(%error, "the answer to a command does not decode");
                Ok(None)
            }
        }
    }
}

fn seating(wish: SeatWish, by: &Identity) -> Seating {
    match wish {
        SeatWish::Me => Seating::Human { player: by.player.clone(), name: by.name.clone() },
        SeatWish::Bot => Seating::Bot,
        SeatWish::Open => Seating::Open,
    }
}

fn unavailable(message: &str) -> Verdict {
    Verdict::Rejected(Refusal::new("unavailable", message).retry_after_ms(RETRY_AFTER_MS))
}

/// Doubling, and anywhere up to it: those who wait for the same thing do not all come back at once.
async fn wait(backoff: &mut Duration) {
    sleep(backoff.mul_f64(rand::random_range(0.5..1.0))).await;
    *backoff = (*backoff * 2).min(BACKOFF_MAX);
}

fn frame_of(id: CommandId, table: TableId, is_open: bool, verdict: Verdict) -> ServerFrame {
    let accepted = |id: CommandId, seq: TableSeq| {
        if is_open {
            ServerFrame::Opened { id, table, seq }
        } else {
            ServerFrame::Accepted { id, table, seq }
        }
    };
    match verdict {
        Verdict::Accepted { seq } => accepted(id, seq),
        Verdict::Rejected(refusal) => {
            ServerFrame::Rejected { id, table: (!is_open).then_some(table), refusal }
        }
    }
}
