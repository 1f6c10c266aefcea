//! The messages that the event log stores: commits, completion markers, tombstones.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::domain::{Commit, Kind, StreamSeq, Summary, TableId, TableSeq, Timestamp, WorkerId};

/// The version of every message below. A reader refuses a higher one, and still reads all lower ones: an event
/// that it does not know must stop it, not be skipped.
///
/// 2: time is given back (`table.credited`), a player's gateway may be lost.
pub const VERSION: u8 = 2;

/// `Content-Type` of every payload on the bus.
pub const CONTENT_TYPE: &str = "application/msgpack";

/// Header names beside those of NATS.
pub mod header {
    /// What a message holds, for people: the event types of a commit, `table.done` or `table.archived`.
    pub const TYPE: &str = "Tc-Type";
    /// Which worker wrote it.
    pub const WORKER: &str = "Tc-Worker";
    /// The client's id of the command that a commit answers.
    pub const COMMAND: &str = "Tc-Command";
    /// The name of the HTTP request by which the command's sender is connected.
    pub const REQUEST: &str = "Tc-Request";
}

/// `Tc-Type` of a completion marker.
pub const TYPE_DONE: &str = "table.done";
/// `Tc-Type` of a tombstone.
pub const TYPE_ARCHIVED: &str = "table.archived";

/// Why a stored message cannot be read. It will not become readable: such a message is poison.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not MessagePack, or not of the expected shape.
    #[error("the message is not what its subject promises")]
    Malformed(#[from] rmp_serde::decode::Error),
    /// Written by something newer.
    #[error("the message has version {found}, this binary reads up to {VERSION}")]
    Version {
        /// What the message says.
        found: u8,
    },
    /// On the subject of another table.
    #[error("the message belongs to table {found}")]
    OtherTable {
        /// What the message says.
        found: TableId,
    },
}

/// One message on `tc.evt`: a commit and where it belongs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Envelope<E> {
    /// [`VERSION`].
    pub v: u8,
    /// Whose.
    pub table: TableId,
    /// Which rules.
    pub kind: Kind,
    /// What happened.
    pub commit: Commit<E>,
}

/// One message on `tc.done`: this table has ended and waits for the archiver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Marker {
    /// [`VERSION`].
    pub v: u8,
    /// Whose.
    pub table: TableId,
    /// Which rules.
    pub kind: Kind,
    /// Version of the rules.
    pub rules: u32,
    /// Number of the last commit, which is how many there are.
    pub last_seq: TableSeq,
    /// The log's position of the last commit: what the tombstone follows.
    pub last: StreamSeq,
    /// How it ended.
    pub summary: Summary,
    /// Whether its commits are those of a relayed table.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub relayed: bool,
}

/// What replaces a table's commits on `tc.evt` once they are in the archive. Expires by itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tombstone {
    /// [`VERSION`].
    pub v: u8,
    /// Whose.
    pub table: TableId,
    /// Which rules.
    pub kind: Kind,
    /// Number of the last commit.
    pub last_seq: TableSeq,
    /// The object that holds the table now.
    pub object: String,
    /// When it was written.
    pub at: Timestamp,
}

/// A table's state as bytes, and what it takes to read them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedState {
    /// Version of the table's own part.
    pub table_version: u32,
    /// Version of the game's part.
    pub game_version: u32,
    /// MessagePack.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}

/// One message on `tc.snap`: a table's state, so that its commits up to then need not be folded. Holds
/// everything secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// [`VERSION`].
    pub v: u8,
    /// Whose.
    pub table: TableId,
    /// Which rules.
    pub kind: Kind,
    /// Version of the rules that the table was opened with.
    pub rules: u32,
    /// The log's position of the last commit in it.
    pub last: StreamSeq,
    /// Who owned the table then.
    pub worker: WorkerId,
    /// The state.
    pub state: SavedState,
}

/// Any of the messages above.
pub trait Message: Serialize + DeserializeOwned {
    /// The table that the message says it belongs to.
    fn table(&self) -> TableId;

    /// As MessagePack with named fields.
    fn encode(&self) -> Bytes {
        let bytes = rmp_serde::to_vec_named(self);
        bytes.expect("our own messages have no shape that MessagePack lacks").into()
    }

    /// Reads a message that was found on a subject of `table`.
    ///
    /// # Errors
    /// If it is poison.
    fn decode(payload: &[u8], table: TableId) -> Result<Self, DecodeError> {
        #[derive(Deserialize)]
        struct Head {
            v: u8,
        }
        // The version first: what is newer need not have the shape we know.
        let Head { v } = super::from_msgpack(payload)?;
        if v > VERSION {
            return Err(DecodeError::Version { found: v });
        }
        let message: Self = super::from_msgpack(payload)?;
        if message.table() != table {
            return Err(DecodeError::OtherTable { found: message.table() });
        }
        Ok(message)
    }
}

/// The number of the commit in a message, whatever its events are. Nothing if it is no commit of `table`.
pub fn commit_seq(payload: &[u8], table: TableId) -> Option<TableSeq> {
    #[derive(Deserialize)]
    struct Head {
        table: TableId,
        commit: Numbered,
    }
    #[derive(Deserialize)]
    struct Numbered {
        seq: TableSeq,
    }
    let head: Head = super::from_msgpack(payload).ok()?;
    (head.table == table).then_some(head.commit.seq)
}

impl<E: Serialize + DeserializeOwned> Message for Envelope<E> {
    fn table(&self) -> TableId {
        self.table
    }
}

impl Message for Marker {
    fn table(&self) -> TableId {
        self.table
    }
}

impl Message for Snapshot {
    fn table(&self) -> TableId {
        self.table
    }
}

impl Message for Tombstone {
    fn table(&self) -> TableId {
        self.table
    }
}
