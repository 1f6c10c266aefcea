//! What goes into a session and what comes out of it: plain values.

use super::commands::Wish;
use crate::domain::{CommandId, Identity, TableId, TableSeq};
use crate::protocol::close::CloseCode;
use crate::protocol::frame::{Deliver, ServerFrame};

/// One WebSocket message of a client.
#[derive(Clone, Copy, Debug)]
pub(super) enum Incoming<'a> {
    /// A text frame.
    Text(&'a [u8]),
    /// A binary frame.
    Binary(&'a [u8]),
    /// A ping or a pong of the WebSocket protocol itself.
    Control,
}

/// A command on its way to a worker.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Ask {
    /// Open a table.
    Open {
        /// The client's id of the command.
        id: CommandId,
        /// Who.
        by: Identity,
        /// What.
        wish: Wish,
    },
    /// Do something at a table.
    Command {
        /// The client's id of the command.
        id: CommandId,
        /// Who.
        by: Identity,
        /// Where.
        table: TableId,
        /// What.
        command: serde_json::Value,
    },
}

impl Ask {
    /// Who asks.
    pub(super) fn by(&self) -> &Identity {
        match self {
            Self::Open { by, .. } | Self::Command { by, .. } => by,
        }
    }

    /// The table whose order it keeps; nothing for an opening.
    pub(super) fn table(&self) -> Option<TableId> {
        match self {
            Self::Open { .. } => None,
            Self::Command { table, .. } => Some(*table),
        }
    }
}

/// What the connection is to do.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    /// Send this.
    Reply(ServerFrame),
    /// Follow a table, or follow it anew.
    Follow {
        /// Which.
        table: TableId,
        /// The last commit the client has.
        cursor: Option<TableSeq>,
        /// What it wants of each commit.
        deliver: Deliver,
    },
    /// Stop following a table.
    Unfollow {
        /// Which.
        table: TableId,
    },
    /// Send the list of tables, now and when it changes.
    WatchLobby,
    /// Stop that.
    UnwatchLobby,
    /// Take this to a worker, and come back with [`Session::on_answered`].
    Ask(Ask),
    /// Look for the key of this token, and come back with [`Session::on_found`].
    FindKey(String),
    /// Send a ping of the WebSocket protocol.
    Ping,
    /// Close the socket.
    Close(CloseCode),
}
