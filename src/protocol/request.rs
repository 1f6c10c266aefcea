//! Requests and notices between roles, on core NATS: MessagePack with named fields and a version.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::envelope::SavedState;
use crate::domain::{
    CommandId, Identity, PlayerId, PresenceChange, Seating, StreamSeq, TableId, TableOptions,
    TableSeq, Timestamp, WorkerId,
};

/// The version of every message below. A reader refuses a higher one.
const VERSION: u8 = 1;

/// `tc.open.<kind>`: open a table. Answered with a [`Verdict`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenRequest {
    /// The new table's id, chosen by whoever asks, so that asking again opens nothing new.
    pub table: TableId,
    /// Who opens it.
    pub by: Identity,
    /// The client's id of the command.
    pub id: CommandId,
    /// The game's own setup, as an object.
    pub setup: serde_json::Value,
    /// What the table does besides the rules.
    pub options: TableOptions,
    /// Who sits where at first.
    pub seats: Vec<Seating>,
    /// The host's seat; none for a table of the house.
    pub host: Option<crate::domain::Seat>,
    /// As in [`CommandRequest::request`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
}

/// `tc.cmd.<table>`: something for the table's owner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum TableRequest {
    /// Answered with a [`Verdict`].
    Command(CommandRequest),
    /// Whose is the table? Answered with an [`Adoption`].
    Who,
}

/// A player's command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CommandRequest {
    /// Who sends it, as the gateway has checked.
    pub by: Identity,
    /// The client's id of the command.
    pub id: CommandId,
    /// The command, as an object with a `type`.
    pub command: serde_json::Value,
    /// The gateway that it came by: there its player is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// The name of the HTTP request that opened the socket it came by, which finds it again in every log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Verdict {
    /// It is in the log.
    Accepted {
        /// The commit that holds it; of a command that changed nothing, the last one before it.
        seq: TableSeq,
    },
    /// It is not in the log and never will be.
    Rejected(Refusal),
}

/// Code of a refusal by a worker that does not own the table any more: whoever owns it now will decide.
/// Between a gateway and workers only; no client sees it.
pub const MOVED: &str = "moved";

/// Code of a refusal by a worker that has no room for another table: one that has may take it.
pub const AT_CAPACITY: &str = "at_capacity";

/// Code of a refusal by a gateway: the table is not ours to change, only to show.
pub const RELAYED: &str = "relayed";

/// Why a command was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// A stable name for programs, in snake case.
    pub code: String,
    /// The rule, for people.
    pub message: String,
    /// When it is worth sending again; nothing if never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl Refusal {
    /// A refusal that will be the same next time.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), retry_after_ms: None }
    }

    /// A refusal that may pass.
    #[must_use]
    pub fn retry_after_ms(self, millis: u64) -> Self {
        Self { retry_after_ms: Some(millis), ..self }
    }
}

/// `tc.adopt.<kind>`: nobody owns this table, take it. Answered with an [`Adoption`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdoptRequest {
    /// Which.
    pub table: TableId,
    /// From an owner that stops: then nobody need be asked who owns it, and nothing read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handover: Option<Handover>,
}

impl AdoptRequest {
    /// For a table that seems to have no owner.
    pub fn new(table: TableId) -> Self {
        Self { table, handover: None }
    }
}

/// What an owner that stops gives to the next one. It holds everything secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    /// The log's position of the last commit. The claim follows it, so an old hand-over comes to nothing.
    pub last: StreamSeq,
    /// Version of the rules that the table was opened with.
    pub rules: u32,
    /// Up to when the owner served the table.
    pub owned_until: Timestamp,
    /// The table's state.
    pub state: SavedState,
}

/// Who owns a table, or why nobody does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Adoption {
    /// The table has an owner that listens on `tc.cmd`.
    Owned {
        /// Who.
        worker: WorkerId,
    },
    /// This worker did not take it.
    Declined(Refusal),
}

/// `tc.seat.<table>`: a player's first connection came to a gateway, or its last one went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresenceNotice {
    /// At which table.
    pub table: TableId,
    /// Who.
    pub player: PlayerId,
    /// At which gateway: a player may be at two.
    pub gateway: String,
    /// Came or went.
    pub change: PresenceChange,
}

/// `tc.gate.<gateway>`: a gateway is alive. When it is not, its players are gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayBeat {
    /// Which, as in [`PresenceNotice::gateway`].
    pub gateway: String,
    /// The last beat of a clean stop.
    pub goodbye: bool,
}

/// `tc.beat.<worker>`: a worker is alive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// Who.
    pub worker: WorkerId,
    /// How many tables it owns.
    pub tables: u32,
    /// Whether it takes no more tables at the moment.
    #[serde(default)]
    pub full: bool,
    /// How often it says so, in milliseconds; 0 if it does not tell.
    #[serde(default)]
    pub interval_ms: u32,
    /// When it said so, by its own clock; 0 if it does not tell.
    #[serde(default)]
    pub at: Timestamp,
    /// The last beat of a clean stop.
    pub goodbye: bool,
}

#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    v: u8,
    body: T,
}

/// Any of the messages above, as bytes.
pub fn encode<T: Serialize>(body: &T) -> Bytes {
    let bytes = rmp_serde::to_vec_named(&Versioned { v: VERSION, body });
    bytes.expect("our own messages have no shape that MessagePack lacks").into()
}

/// Reads one of the messages above.
///
/// # Errors
/// If the bytes are not that message, or of a version this binary does not know.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, super::envelope::DecodeError> {
    let Versioned { v, body } = super::from_msgpack::<Versioned<T>>(bytes)?;
    if v > VERSION {
        return Err(super::envelope::DecodeError::Version { found: v });
    }
    Ok(body)
}
