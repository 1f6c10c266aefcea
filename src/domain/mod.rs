//! Words and contracts: ids, the `Game` trait, a table's lifecycle. Pure: no clock, no dice, no I/O.
#![warn(missing_docs)]

mod game;
mod ids;

pub use game::{Decision, Dice, Game, Outcome, Rejection, TurnContext};
pub use ids::{
    CommandId, IdError, Kind, PlayerId, Seat, StreamSeq, TableId, TableSeq, Timestamp, Viewer,
    WorkerId,
};
