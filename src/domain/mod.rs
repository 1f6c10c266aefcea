//! Words and contracts: ids, the `Game` trait, a table's lifecycle. Pure: no clock, no dice, no I/O.
#![warn(missing_docs)]

mod commit;
mod game;
mod ids;
mod lifecycle;
mod table;
mod view;

pub use commit::{Cause, Commit, FollowUp, TableEvent};
pub use game::{Decision, Dice, Game, Outcome, Rejection, TurnContext};
pub use ids::{
    CommandId, IdError, Kind, PlayerId, Seat, StreamSeq, TableId, TableSeq, Timestamp, Viewer,
    WorkerId,
};
pub use lifecycle::{
    Closing, CreditReason, Lifecycle, Opening, Seating, StartRule, Summary, SummarySeat,
    TableOptions,
};
pub use table::{
    Decided, Identity, OpeningError, PresenceChange, Refused, SeatCommand, Status,
    TABLE_STATE_VERSION, Table, TableCommand, TableRule,
};
pub use view::{
    Holder, LifecycleView, RematchView, ResultView, SeatView, TableEventView, TableView,
};
