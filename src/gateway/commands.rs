//! Takes players' commands to the workers, and their verdicts back. The verdict is always a worker's.

mod opening;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, warn};

use super::action::Ask;
use super::beats::Room;
use super::breaker::Breaker;
use super::hedge::{self, Pauses, Rhythm};
use super::hub::{Hub, Known};
use super::lobby::Board;
use super::metrics;
use super::owners::{For, Owners};
use super::players::Players;
use crate::bus::{Bus, RequestError};
use crate::catalog::Catalog;
use crate::domain::{CommandId, Kind, TableId, TableSeq};
use crate::protocol::frame::ServerFrame;
use crate::protocol::request::{
    self, AT_CAPACITY, AdoptRequest, Adoption, CommandRequest, MOVED, RELAYED, Refusal,
    TableRequest, Verdict,
};
use crate::protocol::subject;
use crate::runtime::clock::Clock;
use crate::runtime::entropy::Entropy;

pub(super) use opening::Wish;

/// How long a command is tried before its sender is told to come back.
const PATIENCE: Duration = Duration::from_secs(10);
/// Workers answer within a few milliseconds; one that died does not, and is found out by the next request.
const COMMAND_RHYTHM: Rhythm =
    Rhythm { first: Duration::from_millis(100), longest: Duration::from_millis(800) };
/// Opening and adopting take reads and appends, and each request may go to another worker.
const TAKING_RHYTHM: Rhythm =
    Rhythm { first: Duration::from_millis(400), longest: Duration::from_millis(1600) };
/// How long an adopter has, which first looks for an owner that may hang.
const ADOPT_PATIENCE: Duration = Duration::from_secs(3);
/// An owner that is silent for this long may hang: another is asked to look.
const HUNG_AFTER: Duration = Duration::from_secs(1);
/// A table that moves has an owner again in milliseconds.
const MOVED_PAUSE: Duration = Duration::from_millis(10);
const MOVED_PAUSE_MAX: Duration = Duration::from_millis(40);
/// A table without an owner for which nobody has time: they are all busy, or not there.
const ORPHAN_PAUSE: Duration = Duration::from_millis(20);
const ORPHAN_PAUSE_MAX: Duration = Duration::from_millis(500);
/// How often a table is offered to workers that have no room.
const OFFERS: u32 = 5;
const KIND_PATIENCE: Duration = Duration::from_secs(2);
/// Nobody knows what became of it, or will.
const UNAVAILABLE: &str = "unavailable";
/// When it is worth sending again what no worker answered.
const RETRY_AFTER_MS: u64 = 1_000;
/// When it is worth sending again what found too many before it.
const SHED_RETRY_MS: u64 = 500;

/// Takes commands to the workers.
#[derive(Debug)]
pub(super) struct Dispatcher {
    /// This process, for owners who want to know where a player is.
    pub gateway: Arc<str>,
    /// The mail.
    pub bus: Bus,
    /// The games, for the seats of a new table.
    pub catalog: Catalog,
    /// Where a table's kind is looked up.
    pub hub: Arc<Hub>,
    /// Who gets a table another owner if its own may hang.
    pub owners: Arc<Owners>,
    /// Whether there is any use in asking.
    pub breaker: Arc<Breaker>,
    /// What one player may do.
    pub players: Arc<Players>,
    /// Which tables are not over.
    pub board: Arc<Board>,
    /// For the ids of new tables.
    pub clock: Clock,
    /// For ids and pauses.
    pub entropy: Entropy,
    /// Commands that wait for a verdict, of all connections.
    pub room: Semaphore,
}

/// What came of offering a table to the workers.
enum Offered {
    /// It has an owner.
    Owned,
    /// Nobody has taken it, or nobody has said so.
    NotYet,
    /// They have no room.
    Full(Refusal),
    /// A worker's final word on the table.
    Never(Refusal),
}

impl Dispatcher {
    /// Takes one command to its end: the frame for whoever sent it.
    pub(super) async fn ask(&self, ask: Ask, request: Arc<str>) -> ServerFrame {
        let started = Instant::now();
        let (id, table, is_open) = match &ask {
            Ask::Open { id, .. } => (id.clone(), self.entropy.table_id(self.clock.now()), true),
            Ask::Command { id, table, .. } => (id.clone(), *table, false),
        };
        let player = ask.by().player.clone();
        let opens = is_open.then_some(table);
        let is_listed = |table| self.board.lists(table);
        let verdict = match self.players.admit(&player, opens, started, is_listed) {
            Ok(()) => self.verdict(table, ask, &request).await,
            Err(refusal) => Verdict::Rejected(refusal),
        };
        if is_open && is_not_opened(&verdict) {
            self.players.not_opened(&player, table);
        }
        metrics::commanded(&verdict, started.elapsed());
        frame_of(id, table, is_open, verdict)
    }

    async fn verdict(&self, table: TableId, ask: Ask, request: &str) -> Verdict {
        let Ok(_room) = self.room.try_acquire() else {
            metrics::command_shed();
            let message = "too many commands wait at this gateway";
            let refusal = Refusal::new("busy", message).retry_after_ms(SHED_RETRY_MS);
            return Verdict::Rejected(refusal);
        };
        let _counted = CountedUntilDropped::new();
        let decided = async {
            match ask {
                Ask::Open { id, by, wish } => self.open(table, by, id, wish, request).await,
                Ask::Command { id, by, command, .. } => {
                    let gateway = Some(self.gateway.as_ref().to_owned());
                    let request = Some(request.to_owned());
                    let request = CommandRequest { by, id, command, gateway, request };
                    self.command(table, TableRequest::Command(request)).await
                }
            }
        };
        tokio::select! {
            // The breaker before a new request: while it is open, nothing is sent. Before a verdict, too, but
            // none has come yet when it opens.
            biased;
            () = self.breaker.opened() => unavailable("the game servers cannot be reached"),
            decided = timeout(PATIENCE, decided) => decided.unwrap_or_else(|_elapsed| {
                unavailable("nobody could be found to decide; send it again with the same id")
            }),
        }
    }

    /// No responders means no owner: the table is offered for adoption and the same bytes sent again.
    async fn command(&self, table: TableId, command: TableRequest) -> Verdict {
        let (subject, payload) = (subject::cmd(table), request::encode(&command));
        let mut moved = Pauses::new(&self.entropy, MOVED_PAUSE, MOVED_PAUSE_MAX);
        let mut orphaned = Pauses::new(&self.entropy, ORPHAN_PAUSE, ORPHAN_PAUSE_MAX);
        let mut kind: Option<Kind> = None;
        let mut full = 0;
        loop {
            let answer = tokio::select! {
                biased;
                answer = self.request(&subject, &payload, COMMAND_RHYTHM) => answer,
                never = self.suspect(table) => match never {},
            };
            match answer {
                // The new owner, or the next one to be, gets the same bytes.
                Ok(Some(Verdict::Rejected(refusal))) if refusal.code == MOVED => moved.wait().await,
                Ok(Some(verdict)) => return verdict,
                Ok(None) | Err(RequestError::Timeout | RequestError::Unreachable) => {
                    orphaned.wait().await;
                }
                Err(RequestError::NoResponders) => match self.offer(table, &mut kind).await {
                    Offered::Owned => moved.wait().await,
                    Offered::NotYet => orphaned.wait().await,
                    Offered::Never(refusal) => return Verdict::Rejected(refusal),
                    Offered::Full(refusal) => {
                        full += 1;
                        if full == OFFERS {
                            return Verdict::Rejected(refusal);
                        }
                        orphaned.wait().await;
                    }
                },
            }
        }
    }

    /// Has somebody look at the owner of a table, once, if nothing is heard of it for long.
    async fn suspect(&self, table: TableId) -> Infallible {
        sleep(HUNG_AFTER).await;
        if let Ok(Some(kind)) = self.kind_of(table).await {
            debug!(table.id = %table, "the owner of table {table} does not answer");
            self.owners.look_after(table, kind, For::Command);
        }
        std::future::pending().await
    }

    /// Nothing while the log cannot be read.
    async fn kind_of(&self, table: TableId) -> Result<Option<Kind>, Refusal> {
        match timeout(KIND_PATIENCE, self.hub.kind_of(table)).await {
            Ok(Ok(Known::Table(kind))) => {
                let rules = self.catalog.get(&kind);
                match rules.is_some_and(|rules| rules.is_relayed()) {
                    // Nobody owns it, and nobody is to be asked to.
                    true => Err(relayed(&kind)),
                    false => Ok(Some(kind)),
                }
            }
            Ok(Ok(Known::Archived(_))) => {
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

    /// Offers a table without an owner to the workers.
    async fn offer(&self, table: TableId, kind: &mut Option<Kind>) -> Offered {
        if kind.is_none() {
            *kind = match self.kind_of(table).await {
                Ok(kind) => kind,
                Err(refusal) => return Offered::Never(refusal),
            };
        }
        let Some(kind) = kind else { return Offered::NotYet };
        metrics::adoption_asked();
        let payload = request::encode(&AdoptRequest::new(table));
        let (mail, subject) = (&*self.bus.mail, subject::adopt(kind));
        match hedge::ask(mail, &subject, &payload, TAKING_RHYTHM, ADOPT_PATIENCE).await {
            Ok(answer) => offered(table, &answer),
            Err(RequestError::NoResponders) => match self.owners.room() {
                Room::Full => Offered::Full(at_capacity()),
                Room::Some | Room::Nobody => Offered::NotYet,
            },
            Err(RequestError::Timeout | RequestError::Unreachable) => Offered::NotYet,
        }
    }

    /// Nothing if the answer is not a verdict: then nobody knows what became of the request.
    async fn request(
        &self,
        subject: &str,
        payload: &Bytes,
        rhythm: Rhythm,
    ) -> Result<Option<Verdict>, RequestError> {
        let answer = hedge::ask(&*self.bus.mail, subject, payload, rhythm, PATIENCE).await;
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

fn offered(table: TableId, answer: &[u8]) -> Offered {
    match request::decode::<Adoption>(answer) {
        Ok(Adoption::Owned { .. }) => Offered::Owned,
        Ok(Adoption::Declined(refusal)) if refusal.code == AT_CAPACITY => Offered::Full(refusal),
        Ok(Adoption::Declined(refusal)) if refusal.retry_after_ms.is_none() => {
            Offered::Never(refusal)
        }
        Ok(Adoption::Declined(_)) => Offered::NotYet,
        Err(error) => {
            warn!(table.id = %table, %error, "the answer to an adoption does not decode");
            Offered::NotYet
        }
    }
}

struct CountedUntilDropped;

impl CountedUntilDropped {
    fn new() -> Self {
        metrics::command_waits();
        Self
    }
}

impl Drop for CountedUntilDropped {
    fn drop(&mut self) {
        metrics::command_waited();
    }
}

/// Whether it is sure that an opening has led to nothing.
fn is_not_opened(verdict: &Verdict) -> bool {
    match verdict {
        Verdict::Accepted { .. } => false,
        Verdict::Rejected(refusal) => refusal.code != UNAVAILABLE,
    }
}

fn unavailable(message: &str) -> Verdict {
    Verdict::Rejected(Refusal::new(UNAVAILABLE, message).retry_after_ms(RETRY_AFTER_MS))
}

fn relayed(kind: &Kind) -> Refusal {
    let message = format!("tables of {kind} are only shown here: their own server takes commands");
    Refusal::new(RELAYED, message)
}

fn at_capacity() -> Refusal {
    let message = "all game servers are full at the moment";
    Refusal::new(AT_CAPACITY, message).retry_after_ms(RETRY_AFTER_MS)
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
