//! What the log holds: commits, each all the events of one decision.

use serde::{Deserialize, Serialize};

use super::{CommandId, Lifecycle, PlayerId, Seat, TableId, TableSeq, Timestamp};

/// All events of one decision. One commit is one message, so a decision is in the log whole or not at all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Commit<E> {
    /// Its number at this table.
    pub seq: TableSeq,
    /// The owner's clock at the decision.
    pub at: Timestamp,
    /// What the decision answered.
    pub cause: Cause,
    /// What happened, in order.
    pub events: Vec<TableEvent<E>>,
    /// What the owner must still do, idempotently, before this table can rest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub follow_up: Vec<FollowUp>,
}

/// What a decision answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Cause {
    /// A player's command, by its id.
    Command {
        /// Who sent it.
        player: PlayerId,
        /// The id that the player's client chose.
        id: CommandId,
    },
    /// The choice of the bot in a seat.
    Bot {
        /// The seat it plays.
        seat: Seat,
    },
    /// A deadline passed.
    Clock,
    /// A player's connection came or went.
    Presence,
    /// A worker took the table over.
    Claim,
    /// The players of another table wanted to play again.
    Rematch {
        /// Which table.
        from: TableId,
    },
}

/// A duty that is stated in the commit it follows from, so that whoever owns the table after a crash does it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FollowUp {
    /// Open the table at which this one's players go on: see [`super::Table::successor`]. Before the marker,
    /// after which nobody looks at this table any more.
    OpenSuccessor,
    /// Write the table's completion marker.
    Complete,
}

/// A fact of the table's lifecycle, or of the game played at it.
///
/// Both are objects with a `type`; those of the lifecycle begin with `table.`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TableEvent<E> {
    /// Common to all games.
    Lifecycle(Lifecycle),
    /// By the rules of the game.
    Game(E),
}
