//! WebSocket frames: what clients write, what we write. JSON text or MessagePack binary, the same fields.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::request::Refusal;
use crate::domain::{
    CommandId, Kind, PlayerId, Seat, Status, TableId, TableOptions, TableSeq, Timestamp,
};

/// How deep a client's frame may nest: what `serde_json` takes, and the same for MessagePack.
const DEPTH_MAX: usize = 128;

/// How a connection's frames are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// JSON in text frames.
    Json,
    /// MessagePack with named fields in binary frames.
    MessagePack,
}

impl Format {
    /// Every format; the first is what a client that offers none gets.
    pub const ALL: [Self; 2] = [Self::Json, Self::MessagePack];

    /// Its WebSocket sub-protocol.
    pub fn subprotocol(self) -> &'static str {
        match self {
            Self::Json => "tablecast.v1.json",
            Self::MessagePack => "tablecast.v1.msgpack",
        }
    }

    /// For arrays with one entry per format.
    pub fn index(self) -> usize {
        match self {
            Self::Json => 0,
            Self::MessagePack => 1,
        }
    }

    /// Encodes a frame of ours.
    pub fn encode<T: Serialize>(self, frame: &T) -> Bytes {
        let mut out = Vec::new();
        self.write(frame, &mut out);
        out.into()
    }

    /// Appends a frame of ours.
    pub fn write<T: Serialize>(self, frame: &T, out: &mut Vec<u8>) {
        match self {
            Self::Json => {
                serde_json::to_writer(out, frame).expect("our own frames are plain data");
            }
            Self::MessagePack => {
                rmp_serde::encode::write_named(out, frame).expect("our own frames are plain data");
            }
        }
    }

    /// Decodes a client's frame.
    ///
    /// # Errors
    /// A sentence for the client: what was wrong, and where.
    pub fn decode(self, bytes: &[u8]) -> Result<ClientFrame, String> {
        match self {
            Self::Json => serde_json::from_slice(bytes).map_err(|error| error.to_string()),
            Self::MessagePack => {
                let mut decoder = rmp_serde::Deserializer::from_read_ref(bytes);
                decoder.set_max_depth(DEPTH_MAX);
                ClientFrame::deserialize(&mut decoder).map_err(|error| error.to_string())
            }
        }
    }
}

/// What a client writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum ClientFrame {
    /// Who I am. At most once, before anything that needs a player.
    Hello {
        /// A token that this gateway accepts.
        token: String,
    },
    /// Open a table with me in the host's seat.
    Open {
        /// Chosen by the client; the answer carries it.
        id: CommandId,
        /// Which game.
        kind: Kind,
        /// The game's own setup.
        #[serde(default = "empty_object")]
        setup: serde_json::Value,
        /// What the table does besides the rules.
        #[serde(default)]
        options: TableOptions,
        /// Who sits where: `me` once, else `bot` or `open`. Nothing: me, then bots if the game has them.
        #[serde(default)]
        seats: Option<Vec<SeatWish>>,
    },
    /// Follow a table.
    Subscribe {
        /// Which.
        table: TableId,
        /// The last `seq` I have; the commits after it follow if they can be had, else a snapshot.
        #[serde(default)]
        cursor: Option<TableSeq>,
        /// What to send.
        #[serde(default)]
        deliver: Deliver,
    },
    /// Stop following a table.
    Unsubscribe {
        /// Which.
        table: TableId,
    },
    /// Do something at a table.
    Command {
        /// Chosen by the client; a command sent again with its id gets its first verdict.
        id: CommandId,
        /// Where.
        table: TableId,
        /// An object with a `type`.
        command: serde_json::Value,
    },
    /// Send the list of tables, and again whenever it changes.
    WatchLobby,
    /// Stop sending the list of tables.
    UnwatchLobby,
    /// Answered with a pong: for round-trip times.
    Ping {
        /// Comes back as it is.
        #[serde(default)]
        data: u64,
    },
}

fn empty_object() -> serde_json::Value {
    serde_json::Value::Object(serde_json::Map::new())
}

/// Who is to sit in a seat of a new table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeatWish {
    /// The player that opens the table.
    Me,
    /// A bot of the game.
    Bot,
    /// Whoever comes.
    Open,
}

/// What a subscription is sent for each commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deliver {
    /// The commit: for clients that fold events themselves.
    #[default]
    Events,
    /// The commit, and after it a snapshot of the same `seq`: for clients that only draw.
    Views,
}

/// What we write, save for `commit` and `snapshot`, which [`CommitFrame`] and [`SnapshotFrame`] are.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerFrame {
    /// First frame of a connection, and again after `hello`.
    Welcome {
        /// The player that the token named.
        player: Option<PlayerId>,
        /// As shown to others.
        name: Option<String>,
        /// When the token stops to be good: say `hello` with another one before.
        #[serde(skip_serializing_if = "Option::is_none")]
        expires_at: Option<Timestamp>,
        /// The gateway's clock, to correct deadlines by.
        now: Timestamp,
        /// We send a WebSocket ping this often; a socket silent for three of them is closed.
        ping_interval_ms: u64,
        /// The largest frame we take, in bytes.
        frame_bytes_max: usize,
        /// How many tables one connection may follow.
        subscriptions_max: usize,
    },
    /// A table was opened.
    Opened {
        /// The client's id of the command.
        id: CommandId,
        /// The new table.
        table: TableId,
        /// Its first commit.
        seq: TableSeq,
    },
    /// A command is in the log.
    Accepted {
        /// The client's id of the command.
        id: CommandId,
        /// Where.
        table: TableId,
        /// The commit that holds it.
        seq: TableSeq,
    },
    /// A command was not accepted.
    Rejected {
        /// The client's id of the command.
        id: CommandId,
        /// Where, unless it was to open a table.
        table: Option<TableId>,
        /// Why.
        #[serde(flatten)]
        refusal: Refusal,
    },
    /// A table is being followed; a snapshot or commits come next.
    Subscribed {
        /// Which.
        table: TableId,
        /// Which game.
        kind: Kind,
        /// The viewer's own seat.
        seat: Option<Seat>,
        /// Whether every commit after the cursor follows; else a snapshot does.
        recovered: bool,
        /// The last commit at this moment.
        seq: TableSeq,
    },
    /// A table is not followed any more, or cannot be.
    Unsubscribed {
        /// Which.
        table: TableId,
        /// Why: `asked`, `unknown_table`, `unknown_kind`, `archived`, `too_many`, `unavailable`.
        reason: &'static str,
    },
    /// The tables that are open or running.
    Lobby {
        /// Newest first.
        tables: Vec<LobbyEntry>,
    },
    /// Answer to a ping.
    Pong {
        /// As it came.
        data: u64,
        /// The gateway's clock.
        now: Timestamp,
    },
    /// Whether this gateway reaches the bus has changed, or, after `welcome`: it does not.
    Status {
        /// Whether it does.
        bus: BusStatus,
        /// Since when, by the gateway's clock.
        since: Timestamp,
    },
    /// The last frame before a connection is closed because its gateway stops.
    Goodbye {
        /// When to connect again; another time for each connection, so that not all come at once.
        reconnect_after_ms: u64,
    },
    /// A frame was not understood, or cannot be obeyed.
    Error {
        /// A stable name for programs, in snake case.
        code: &'static str,
        /// What was wrong, and where.
        message: String,
        /// When it is worth sending again; nothing if never.
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
    },
}

/// Whether a gateway reaches the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BusStatus {
    /// It does.
    Ok,
    /// Nothing new can be seen, and no command be decided, until it does again.
    Unavailable,
}

/// One commit, as one audience may see it. A commit that is hidden from it has no events, but its `seq`.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "commit")]
pub struct CommitFrame<E> {
    /// Whose.
    pub table: TableId,
    /// Its number.
    pub seq: TableSeq,
    /// The owner's clock at the decision.
    pub at: Timestamp,
    /// What happened, in order.
    pub events: Vec<E>,
}

/// A table as one audience may see it, and the commit up to which that is true.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "snapshot")]
pub struct SnapshotFrame<V> {
    /// Whose.
    pub table: TableId,
    /// The last commit folded in.
    pub seq: TableSeq,
    /// What this audience may know.
    pub view: V,
}

/// One line of the list of tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LobbyEntry {
    /// Which table.
    pub table: TableId,
    /// Which game.
    pub kind: Kind,
    /// Whether it waits for players or is being played.
    pub status: LobbyStatus,
    /// Who sits where; empty names are open seats.
    pub seats: Vec<LobbySeat>,
}

/// Where a listed table is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LobbyStatus {
    /// A seat can be taken.
    Waiting,
    /// It can be watched.
    Running,
}

impl LobbyStatus {
    /// Nothing for a table that has ended: it leaves the list.
    pub fn of(status: Status) -> Option<Self> {
        match status {
            Status::Waiting => Some(Self::Waiting),
            Status::Running => Some(Self::Running),
            Status::Ended => None,
        }
    }
}

/// One seat in the list of tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LobbySeat {
    /// As shown to others; empty for an open seat.
    pub name: String,
    /// Whether a bot holds it.
    pub bot: bool,
}
