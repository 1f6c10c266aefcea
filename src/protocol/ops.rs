//! Questions of operators to all processes of a role, on core NATS, encoded as in [`super::request`].

use serde::{Deserialize, Serialize};

/// `tc.ops.connections`: how do your connections stand? Each gateway answers once, with a [`ConnectionsReport`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionsRequest {
    /// The answers go to [`super::subject::ops_answer`] of this: letters and digits.
    pub answer_to: String,
    /// How many connections are listed.
    pub limit: u32,
    /// Those of this player only, however well they stand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub player: Option<String>,
}

/// How the connections of one gateway stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionsReport {
    /// Which gateway.
    pub gateway: String,
    /// How many connections it has.
    pub connections: u64,
    /// How many of them are behind.
    pub behind: u64,
    /// Frames that wait for them.
    pub frames: u64,
    /// Bytes that wait for them.
    pub bytes: u64,
    /// Frames that gave way to newer snapshots, of these connections.
    pub conflated: u64,
    /// Frames of theirs that were answered with `throttled`.
    pub throttled_in: u64,
    /// How often their frames had to wait for a token.
    pub throttled_out: u64,
    /// Those that stand worst, worst first. Without a player asked for: those with something to say.
    pub worst: Vec<ConnectionLine>,
}

/// How one connection stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionLine {
    /// Its number at its gateway.
    pub connection: u64,
    /// Whose it is, if it has said so.
    pub player: Option<String>,
    /// Where its socket leads to.
    pub address: Option<String>,
    /// How many tables it follows.
    pub tables: u64,
    /// Frames that wait for it.
    pub frames: u64,
    /// Bytes that wait for it.
    pub bytes: u64,
    /// Frames that gave way to newer snapshots.
    pub conflated: u32,
    /// Frames of its own that were answered with `throttled`.
    pub throttled_in: u32,
    /// How often its frames had to wait for a token.
    pub throttled_out: u32,
    /// For how long it has been behind without a break, in milliseconds.
    pub behind_ms: Option<u64>,
    /// For how long its socket has taken nothing, in milliseconds.
    pub blocked_ms: Option<u64>,
    /// What holds it up: `socket`, `table_rate`, `frame_rate`, `byte_rate`.
    pub why: Option<String>,
}

/// Whether answers may be sent to this: nothing that would be another subject.
pub fn is_answer_token(token: &str) -> bool {
    (1..=64).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

impl ConnectionLine {
    /// By how badly it stands: the larger, the worse.
    pub fn badness(&self) -> impl Ord + use<> {
        let ever = u64::from(self.conflated) + u64::from(self.throttled_out);
        (self.behind_ms, self.bytes, self.frames, ever, self.throttled_in)
    }

    /// Whether there is anything to say of it.
    pub fn is_noteworthy(&self) -> bool {
        let ever = [self.conflated, self.throttled_in, self.throttled_out];
        self.behind_ms.is_some() || self.frames > 0 || ever.into_iter().any(|count| count > 0)
    }
}
