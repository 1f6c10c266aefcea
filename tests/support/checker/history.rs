//! What one client saw and sent, in the order in which it did.

use std::collections::HashMap;

use bytes::Bytes;
use tablecast::domain::TableId;

/// Something that a client saw of a table, or did about following it.
#[derive(Clone, Debug)]
pub(crate) enum Seen {
    /// It asked to follow the table, with this cursor.
    Subscribing { cursor: Option<u64> },
    /// It follows.
    Subscribed { seat: Option<u8>, recovered: bool },
    /// A commit, as it came.
    Commit { seq: u64, frame: Bytes },
    /// A snapshot, as it came.
    Snapshot { seq: u64, frame: Bytes },
    /// It does not follow any more.
    Unsubscribed { reason: String },
    /// Its connection is gone.
    Lost,
}

/// One line of a history.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// When, in milliseconds since 1970.
    pub(crate) at_ms: u64,
    pub(crate) seen: Seen,
}

/// A verdict that a client was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// In the log, as this commit.
    Accepted { seq: u64 },
    /// Not in the log, and never will be.
    Rejected { code: String },
    /// Not now.
    Later { code: String },
}

/// One wish of a player, however often it was sent.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    pub(crate) table: TableId,
    pub(crate) player: String,
    pub(crate) id: String,
    /// When it was sent first, and each time after that, in milliseconds since 1970.
    pub(crate) sent_ms: Vec<u64>,
    /// The connections it went through: more than one if one was lost before the verdict.
    pub(crate) connections: u32,
    /// How long the first final verdict took, in microseconds.
    pub(crate) took_us: Option<u64>,
    /// Every verdict, in the order they came.
    pub(crate) verdicts: Vec<(u64, Verdict)>,
}

impl Command {
    /// The commit that the client was told holds it.
    pub(crate) fn accepted(&self) -> Option<u64> {
        self.verdicts.iter().find_map(|(_, verdict)| match verdict {
            Verdict::Accepted { seq } => Some(*seq),
            Verdict::Rejected { .. } | Verdict::Later { .. } => None,
        })
    }

    /// Why the client was told that it was not obeyed, if it was.
    pub(crate) fn rejected(&self) -> Option<String> {
        self.verdicts.iter().find_map(|(_, verdict)| match verdict {
            Verdict::Rejected { code } => Some(code.clone()),
            Verdict::Accepted { .. } | Verdict::Later { .. } => None,
        })
    }
}

/// All of one client.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notebook {
    pub(crate) client: String,
    pub(crate) histories: HashMap<TableId, Vec<Line>>,
    pub(crate) commands: Vec<Command>,
    pub(crate) connections: u64,
    pub(crate) resumed: u64,
    pub(crate) not_recovered: u64,
}
