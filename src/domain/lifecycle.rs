//! What all games share: opening a table, its seats, its end.

use serde::{Deserialize, Serialize};

use super::{Kind, PlayerId, Seat, TableId, Timestamp, WorkerId};

/// An event of a table's lifecycle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum Lifecycle {
    /// Always the first event of a table, and only there.
    #[serde(rename = "table.opened")]
    Opened(Opening),
    /// A worker took the table over from one that is gone. From here on the former owner is fenced.
    #[serde(rename = "table.claimed")]
    Claimed {
        /// The new owner.
        worker: WorkerId,
    },
    /// A player sat down, before the start.
    #[serde(rename = "table.seat_taken")]
    SeatTaken {
        /// Where.
        seat: Seat,
        /// Who.
        player: PlayerId,
        /// As shown to others.
        name: String,
    },
    /// A seat became empty, before the start.
    #[serde(rename = "table.seat_freed")]
    SeatFreed {
        /// Which.
        seat: Seat,
    },
    /// A bot sat down, before the start.
    #[serde(rename = "table.bot_seated")]
    BotSeated {
        /// Where.
        seat: Seat,
    },
    /// All seats are filled and play begins.
    #[serde(rename = "table.started")]
    Started,
    /// A player's connection is gone.
    #[serde(rename = "table.player_away")]
    PlayerAway {
        /// Whose.
        seat: Seat,
        /// When the player counts as having left.
        until: Timestamp,
        /// When the gateway it was connected to was last heard, if that gateway is gone: the player's
        /// clocks stand still from then on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gateway_lost_at: Option<Timestamp>,
    },
    /// A player's connection is back, before it counted as having left.
    #[serde(rename = "table.player_back")]
    PlayerBack {
        /// Whose.
        seat: Seat,
    },
    /// A bot plays for a player who left after the start.
    #[serde(rename = "table.seat_taken_by_bot")]
    SeatTakenByBot {
        /// Which seat.
        seat: Seat,
    },
    /// The player is back and plays again.
    #[serde(rename = "table.seat_returned")]
    SeatReturned {
        /// Which seat.
        seat: Seat,
    },
    /// Time during which nobody could act is given back to whoever's clock ran.
    #[serde(rename = "table.credited")]
    Credited {
        /// How much, in milliseconds.
        ms: u64,
        /// Why.
        reason: CreditReason,
    },
    /// Another player may now do what only the host may.
    #[serde(rename = "table.host_changed")]
    HostChanged {
        /// The new host.
        to: Seat,
    },
    /// The game is over, and its players have some time to say that they want another one.
    #[serde(rename = "table.rematch_offered")]
    RematchOffered {
        /// When the table ends without one.
        until: Timestamp,
    },
    /// A player wants another game.
    #[serde(rename = "table.rematch_wanted")]
    RematchWanted {
        /// Whose seat.
        seat: Seat,
    },
    /// All players want another game: they go on at another table, opened with the same seats.
    #[serde(rename = "table.succeeded")]
    Succeeded {
        /// The other table.
        table: TableId,
    },
    /// Always the last event of a table.
    #[serde(rename = "table.completed")]
    Completed(Summary),
}

/// Why time was given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CreditReason {
    /// The table had no live owner.
    NoOwner,
    /// The gateway of the player in turn was gone.
    GatewayLost,
    /// The log took long to store the commit before.
    LogSlow,
}

/// How a table begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Opening {
    /// Which rules.
    pub kind: Kind,
    /// Their version: pins what a replay must use.
    pub rules: u32,
    /// The game's own setup, as an object.
    pub setup: serde_json::Value,
    /// What the table does besides the rules.
    pub options: TableOptions,
    /// Who sits where at first.
    pub seats: Vec<Seating>,
    /// Who may start the game and change seats; nobody at a table of the house.
    pub host: Option<Seat>,
}

/// What a table does besides the rules of its game.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TableOptions {
    /// When play begins.
    pub start: StartRule,
    /// A bot waits between these two before it acts, in milliseconds.
    pub bot_delay_ms: (u32, u32),
    /// How long a player's connection may be gone before a bot plays on, in milliseconds.
    /// Nothing: what the game says.
    pub grace_ms: Option<u32>,
    /// How long a player may think about one decision before the seat's bot makes it, in milliseconds.
    /// Nothing: for ever, unless the rules say otherwise.
    pub turn_limit_ms: Option<u32>,
    /// How long a running game goes on after its last player left, in milliseconds.
    pub abandon_ms: u32,
    /// How long the players have to agree on another game once this one is over, in milliseconds.
    /// 0: the table ends with its game.
    #[serde(skip_serializing_if = "is_zero")]
    pub rematch_ms: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_zero(millis: &u32) -> bool {
    *millis == 0
}

impl Default for TableOptions {
    fn default() -> Self {
        Self {
            start: StartRule::Host,
            bot_delay_ms: (500, 1500),
            grace_ms: None,
            turn_limit_ms: None,
            abandon_ms: 30_000,
            rematch_ms: 0,
        }
    }
}

/// When play begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartRule {
    /// When the host says so.
    Host,
    /// With the last seat filled.
    WhenFull,
}

/// Who sits in a seat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Seating {
    /// Nobody yet.
    Open,
    /// A bot of the game.
    Bot,
    /// A player.
    Human {
        /// Who.
        player: PlayerId,
        /// As shown to others.
        name: String,
    },
}

/// Why a table ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Closing {
    /// Played to its end by the rules.
    Finished,
    /// Every player left for good after the start.
    Abandoned,
    /// The host left before the start.
    Closed,
}

/// What the archive and a list of results show of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Why it ended.
    pub closing: Closing,
    /// Who played, by seat.
    pub players: Vec<SummarySeat>,
    /// Who won, rising; none if nobody did.
    pub winners: Vec<Seat>,
    /// Final score by seat; empty unless finished.
    pub scores: Vec<i64>,
    /// When play began, if it did.
    pub started_at: Option<Timestamp>,
    /// When the game ended; without a game to its end, when the table did.
    pub ended_at: Timestamp,
}

/// One seat of a summary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SummarySeat {
    /// Which.
    pub seat: Seat,
    /// Whose account, if a human held it.
    pub player: Option<PlayerId>,
    /// As shown to others.
    pub name: String,
}
