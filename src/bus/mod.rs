//! The event log, requests between roles, the list of tables, snapshots and alarms: a trait each, on NATS and in
//! memory.

pub mod connect;
pub mod durability;
pub mod jetstream;
pub mod lobby;
pub mod mail;
pub mod memory;
pub mod provision;
pub mod way_back;

use std::fmt::Debug;
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::jetstream::AckKind;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use tracing::debug;

use crate::domain::{CommandId, Kind, StreamSeq, TableId, Timestamp, WorkerId};
use crate::protocol::frame::LobbyEntry;
use crate::protocol::subject::Address;

/// What a role needs of the outside.
#[derive(Clone, Debug)]
pub struct Bus {
    /// The truth.
    pub log: Arc<dyn EventLog>,
    /// Requests and notices: at most once.
    pub mail: Arc<dyn Mail>,
    /// The list of tables: a convenience, not the truth.
    pub lobby: Arc<dyn Lobby>,
    /// States of long tables: a short cut, not the truth.
    pub snapshots: Arc<dyn Snapshots>,
    /// What wakes tables that nobody holds.
    pub timers: Arc<dyn Timers>,
}

/// The event log. Appends are acknowledged once stored as the deployment's durability class says.
#[async_trait]
pub trait EventLog: Debug + Send + Sync {
    /// Over how many streams tables are spread.
    fn shards(&self) -> NonZeroU16;

    /// Appends one commit after the position its writer knows.
    ///
    /// Retries by itself while the result is unknown, with the same bytes, so that a commit is stored at
    /// most once; comes back with [`AppendError::Unavailable`] only when that took too long.
    async fn append(&self, append: Append) -> Result<StreamSeq, AppendError>;

    /// All stored entries of a table at or after `from`, in order. Of an unknown table: none; of a buried
    /// one: its tombstone, alone.
    ///
    /// May come from a replica that lags: a writer learns of what it missed when its append is refused.
    async fn read(&self, table: TableId, from: StreamSeq) -> Result<Vec<Entry>, ReadError>;

    /// The last entry at an address. May come from a replica that lags.
    ///
    /// With [`EventLog::entry`] the way back from the last entry: quick for a short way, however many other
    /// tables' entries lie between, which [`EventLog::read`] has to pass.
    async fn newest(&self, address: &Address) -> Result<Option<Entry>, ReadError> {
        let mut entries = self.read(address.table, StreamSeq::ZERO).await?;
        entries.retain(|entry| entry.address == *address);
        Ok(entries.pop())
    }

    /// The last entry of a table, for readers who know only the id. May come from a replica that lags.
    async fn newest_of(&self, table: TableId) -> Result<Option<Entry>, ReadError> {
        Ok(self.read(table, StreamSeq::ZERO).await?.pop())
    }

    /// The table's entry at a position, if it is there. May be asked of a replica that lags.
    async fn entry(&self, address: &Address, at: StreamSeq) -> Result<Option<Entry>, ReadError> {
        // From the first on, since only what comes after another entry tells which that is.
        let entries = self.read(address.table, StreamSeq::ZERO).await?;
        Ok(entries.into_iter().find(|entry| entry.seq == at && entry.address == *address))
    }

    /// Position of the last entry at an address, from the leader: nothing that is stored is missed.
    /// [`StreamSeq::ZERO`] if there is none.
    async fn last(&self, address: &Address) -> Result<StreamSeq, ReadError>;

    /// Follows a table. Entries stored after this returns arrive in order, each at most once: a gap shows
    /// as an [`Entry::previous`] that is not the last entry's position, and is read from the log. Outlives
    /// a lost connection, as a gap.
    async fn follow(&self, table: TableId) -> Result<BoxStream<'static, Entry>, ReadError>;

    /// Writes a table's completion marker. A second one changes nothing and is no error.
    async fn complete(&self, address: &Address, marker: Bytes) -> Result<(), AppendError>;

    /// The completion markers of a shard at or after `from`, in order, then those to come.
    ///
    /// The stream ends with an error when the connection to the log is lost; the reader starts again
    /// after the last marker it had.
    async fn markers(
        &self,
        shard: u16,
        from: StreamSeq,
    ) -> Result<BoxStream<'static, Result<Entry, ReadError>>, ReadError>;

    /// The commits of a shard's tables of one kind at or after `from`, in order, then those to come. Ends as
    /// [`EventLog::markers`] does.
    async fn commits(
        &self,
        shard: u16,
        kind: &Kind,
        from: StreamSeq,
    ) -> Result<BoxStream<'static, Result<Entry, ReadError>>, ReadError>;

    /// Replaces all entries of a table by one tombstone that expires after `ttl`, if nothing was appended
    /// after `after`; then takes its completion marker away. Doing it again changes nothing.
    ///
    /// While the tombstone is there, the table can be neither begun anew nor completed again. Works on a
    /// full log, too.
    async fn bury(
        &self,
        address: &Address,
        after: StreamSeq,
        tombstone: Bytes,
        ttl: Duration,
    ) -> Result<StreamSeq, AppendError>;

    /// Keeps a copy of an entry that cannot be read, once, for the operator. The entry stays.
    async fn set_aside(&self, shard: u16, entry: &Entry, reason: &str) -> Result<(), AppendError>;

    /// When a shard's stream was created: tells two streams of one name apart.
    async fn created_at(&self, shard: u16) -> Result<Timestamp, ReadError>;
}

/// One commit on its way into the log.
#[derive(Clone, Debug)]
pub struct Append {
    /// Whose.
    pub address: Address,
    /// The position of the table's entry before this one; [`StreamSeq::ZERO`] for the first.
    pub after: StreamSeq,
    /// Unlike any other append's of any table: what tells "stored already" from "fenced".
    pub id: String,
    /// The event types, for operators.
    pub types: String,
    /// Who appends.
    pub worker: WorkerId,
    /// The command that the commit answers, for operators.
    pub command: Option<Origin>,
    /// The envelope.
    pub payload: Bytes,
}

/// Where a command came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The client's id of the command.
    pub command: CommandId,
    /// The HTTP request by which its sender is connected, if a gateway said so.
    pub request: Option<String>,
}

/// One stored message of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where the table's messages are.
    pub address: Address,
    /// Its position.
    pub seq: StreamSeq,
    /// The position of the entry before it on the same subject; [`StreamSeq::ZERO`] if none, if it is the
    /// first of a [`EventLog::read`], which does not look further back, or if its writer did not say.
    pub previous: StreamSeq,
    /// The append's id, if it came with one.
    pub id: Option<String>,
    /// The worker that appended it, if one did.
    pub worker: Option<WorkerId>,
    /// Commit or tombstone.
    pub what: Stored,
    /// When the log stored it.
    pub stored_at: Timestamp,
    /// The bytes.
    pub payload: Bytes,
}

/// What a stored message claims to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// A commit, or something foreign on its subject.
    Commit,
    /// A completion marker.
    Marker,
    /// The table is in the archive.
    Tombstone,
}

/// Why an append is not in the log.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Somebody else has appended to this table: whoever appended here has lost it.
    #[error("table {table} has moved on: another worker owns it")]
    Fenced {
        /// Which.
        table: TableId,
    },
    /// The stream is full, or the message too large for it.
    #[error("the log refuses to store more for table {table}: {reason}")]
    Refused {
        /// Which.
        table: TableId,
        /// In the server's words.
        reason: String,
    },
    /// No answer for too long. The append may be stored or not.
    #[error("append to table {table} was not acknowledged")]
    Unavailable {
        /// Which.
        table: TableId,
    },
}

/// Why the log could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No answer, or an answer that means "not now".
    #[error("the event log cannot be read now: {reason}")]
    Unavailable {
        /// In the client's or the server's words.
        reason: String,
    },
    /// The stream does not exist.
    #[error("there is no stream {stream}: has it been provisioned?")]
    NoStream {
        /// Which.
        stream: String,
    },
}

/// Requests and notices between roles. At most once, and nothing is stored.
#[async_trait]
pub trait Mail: Debug + Send + Sync {
    /// Asks whoever serves a subject.
    async fn request(
        &self,
        subject: String,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, RequestError>;

    /// Serves a subject: shared with everyone of the same group, or, without one, beside everyone else who
    /// serves it, and the asker takes the first answer. Served from when this returns until the stream is
    /// dropped; for askers at other servers of a cluster, from a moment later: until then they find no
    /// responders.
    async fn serve(
        &self,
        subject: String,
        group: Option<&'static str>,
    ) -> Result<BoxStream<'static, Request>, MailError>;

    /// Tells whoever listens.
    async fn notify(&self, subject: String, payload: Bytes) -> Result<(), MailError>;

    /// Hears everything on a subject, wildcards included.
    async fn listen(&self, subject: String) -> Result<BoxStream<'static, Bytes>, MailError>;

    /// How often the connection has been made. When it has gone up, anything at all may have been missed on
    /// every subscription.
    fn connects(&self) -> u64;
}

/// A request to be answered.
#[derive(Debug)]
pub struct Request {
    /// What is asked.
    pub payload: Bytes,
    /// Where the answer goes.
    pub reply: Reply,
}

/// Where one answer goes. Dropped unused, the asker times out.
#[derive(Debug)]
pub struct Reply(pub(crate) ReplyTo);

/// The two kinds of bus.
#[derive(Debug)]
pub(crate) enum ReplyTo {
    /// An inbox.
    Nats {
        /// The connection to answer on.
        client: async_nats::Client,
        /// The inbox; none if the asker wants no answer.
        inbox: Option<async_nats::Subject>,
    },
    /// A waiting future. Everyone who was asked may answer; the first does.
    Memory(Arc<Mutex<Option<tokio::sync::oneshot::Sender<Bytes>>>>),
}

impl Reply {
    /// Answers.
    pub async fn send(self, payload: Bytes) {
        match self.0 {
            ReplyTo::Nats { client, inbox: Some(inbox) } => {
                // Fails only when the connection is closed for good; the asker's timeout covers it.
                client.publish(inbox, payload).await.ok();
            }
            ReplyTo::Nats { inbox: None, .. } => {}
            ReplyTo::Memory(sender) => {
                let sender = sender.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(sender) = sender {
                    sender.send(payload).ok();
                }
            }
        }
    }
}

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Nobody serves the subject: the request was not seen.
    #[error("nobody serves the subject")]
    NoResponders,
    /// No answer in time: the request may have been obeyed.
    #[error("no answer in time")]
    Timeout,
    /// The connection is down: the request was not sent.
    #[error("the bus is not reachable")]
    Unreachable,
}

/// Why a subject cannot be served, told or heard.
#[derive(Debug, thiserror::Error)]
#[error("the bus is not reachable: {reason}")]
pub struct MailError {
    /// In the client's words.
    pub reason: String,
}

/// States of tables, so that a long one need not be folded from its first commit. At most the newest of each
/// table is kept, and none is needed: what is lost here is read from the log.
#[async_trait]
pub trait Snapshots: Debug + Send + Sync {
    /// Keeps a table's snapshot instead of the one before.
    async fn save(&self, address: &Address, snapshot: Bytes) -> Result<(), AppendError>;

    /// The newest snapshot of a table. May come from a replica that lags.
    async fn newest(&self, address: &Address) -> Result<Option<Bytes>, ReadError>;

    /// Drops a table's snapshot.
    async fn forget(&self, address: &Address) -> Result<(), AppendError>;
}

/// One durable alarm for each table: its dead man's switch.
///
/// Late by up to some 250 ms, never early. It only wakes orphans; no clock of a game depends on it.
#[async_trait]
pub trait Timers: Debug + Send + Sync {
    /// Sets a table's alarm, instead of the one before. In the past: it rings at once.
    async fn arm(&self, address: &Address, at: Timestamp) -> Result<(), AppendError>;

    /// Takes a table's alarm away. One that has rung already is not taken back.
    async fn disarm(&self, address: &Address) -> Result<(), AppendError>;

    /// The alarms of a shard that ring, shared with everyone who listens to them. One that is not settled
    /// rings again for somebody. Ends when it cannot go on, as when the connection is lost: listen again.
    async fn wakes(&self, shard: u16) -> Result<BoxStream<'static, Wake>, ReadError>;
}

/// An alarm that rang.
#[derive(Debug)]
pub struct Wake {
    /// Whose.
    pub address: Address,
    /// How it is settled. Dropped unused, it rings again after a while.
    pub settle: Settle,
}

/// How one alarm is settled.
#[derive(Debug)]
pub struct Settle(pub(crate) SettleBy);

/// The two kinds of bus.
#[derive(Debug)]
pub(crate) enum SettleBy {
    /// A message to acknowledge.
    Nats(Box<async_nats::jetstream::Message>),
    /// A ring of an alarm.
    Memory(memory::Ring),
}

impl Settle {
    /// It is seen to: it does not ring again.
    pub async fn done(self) {
        match self.0 {
            SettleBy::Nats(message) => acknowledge(&message, AckKind::Ack).await,
            SettleBy::Memory(ring) => ring.done(),
        }
    }

    /// It rings again after this, for whoever has time then.
    pub async fn later(self, wait: Duration) {
        match self.0 {
            SettleBy::Nats(message) => acknowledge(&message, AckKind::Nak(Some(wait))).await,
            SettleBy::Memory(ring) => ring.later(wait),
        }
    }
}

/// Once, since a lost acknowledgement only makes the alarm ring again.
async fn acknowledge(message: &async_nats::jetstream::Message, how: AckKind) {
    if let Err(error) = message.ack_with(how).await {
        debug!(%error, "an alarm is not settled");
    }
}

/// The list of open and running tables. May be a little behind the truth.
#[async_trait]
pub trait Lobby: Debug + Send + Sync {
    /// Lists a table, or changes its line.
    async fn put(&self, entry: &LobbyEntry) -> Result<(), MailError>;

    /// Takes a table off the list.
    async fn remove(&self, table: TableId) -> Result<(), MailError>;

    /// The list as it is, in no particular order.
    async fn list(&self) -> Result<Vec<LobbyEntry>, MailError>;

    /// The list as it is, line by line, then its changes. Ends when it cannot go on without a gap: watch
    /// again.
    async fn watch(&self) -> Result<BoxStream<'static, LobbyChange>, MailError>;
}

/// A change of the list of tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LobbyChange {
    /// A new or changed line.
    Put(LobbyEntry),
    /// A line less.
    Removed(TableId),
}
