//! The only place where a subject is written or parsed.

use std::fmt;
use std::num::NonZeroU16;

use crate::domain::{Kind, TableId, WorkerId};

/// Where a table's messages are on the bus.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// Which stream.
    pub shard: u16,
    /// Which rules.
    pub kind: Kind,
    /// Which table.
    pub table: TableId,
}

impl Address {
    /// The address of a table in a deployment of so many shards.
    pub fn new(table: TableId, kind: Kind, shards: NonZeroU16) -> Self {
        Self { shard: table.shard(shards), kind, table }
    }

    /// Its commits.
    pub fn evt(&self) -> String {
        format!("tc.evt.{self}")
    }

    /// Its completion marker.
    pub fn done(&self) -> String {
        format!("tc.done.{self}")
    }

    /// Its worker's newest snapshot.
    pub fn snap(&self) -> String {
        format!("tc.snap.{self}")
    }

    /// Its alarm, until it rings.
    pub fn timer(&self) -> String {
        format!("tc.timer.{self}")
    }

    /// Its alarm, when it rings.
    pub fn wake(&self) -> String {
        format!("tc.wake.{self}")
    }

    /// Reads `tc.evt.<s>.<k>.<t>`, and the same under `tc.done`, `tc.live` and `tc.wake`.
    pub fn parse(subject: &str) -> Option<Self> {
        let mut tokens = subject.split('.');
        let (Some("tc"), Some("evt" | "done" | "live" | "wake")) = (tokens.next(), tokens.next())
        else {
            return None;
        };
        let address = Self {
            shard: tokens.next()?.parse().ok()?,
            kind: tokens.next()?.parse().ok()?,
            table: tokens.next()?.parse().ok()?,
        };
        tokens.next().is_none().then_some(address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.shard, self.kind, self.table)
    }
}

/// The stream of a shard.
pub fn events_stream(shard: u16) -> String {
    format!("EVENTS_{shard}")
}

/// The stream of a shard's snapshots.
pub fn snapshots_stream(shard: u16) -> String {
    format!("SNAPSHOTS_{shard}")
}

/// The stream of a shard's alarms.
pub fn timers_stream(shard: u16) -> String {
    format!("TIMERS_{shard}")
}

/// A table's commits, whatever its kind: for readers who know only the id.
pub fn evt_of_any_kind(table: TableId, shards: NonZeroU16) -> String {
    format!("tc.evt.{}.*.{table}", table.shard(shards))
}

/// The republished copies of a table's commits, whatever its kind.
pub fn live_of_any_kind(table: TableId, shards: NonZeroU16) -> String {
    format!("tc.live.{}.*.{table}", table.shard(shards))
}

/// The commits of all tables of a kind in a shard.
pub fn evt_of_kind(shard: u16, kind: &Kind) -> String {
    format!("tc.evt.{shard}.{kind}.*")
}

/// All completion markers of a shard.
pub fn done_of_shard(shard: u16) -> String {
    format!("tc.done.{shard}.>")
}

/// Requests to open a table.
pub fn open(kind: &Kind) -> String {
    format!("tc.open.{kind}")
}

/// Commands for a table; only its owner listens.
pub fn cmd(table: TableId) -> String {
    format!("tc.cmd.{table}")
}

/// Requests to take over a table that nobody owns.
pub fn adopt(kind: &Kind) -> String {
    format!("tc.adopt.{kind}")
}

/// News of the players of a table, for its owner.
pub fn seat(table: TableId) -> String {
    format!("tc.seat.{table}")
}

/// News of the players of all tables.
pub const SEATS: &str = "tc.seat.*";

/// A worker's sign of life.
pub fn beat(worker: &WorkerId) -> String {
    format!("tc.beat.{worker}")
}

/// All workers' signs of life.
pub const BEATS: &str = "tc.beat.*";

/// A gateway's sign of life.
pub fn gate(gateway: &str) -> String {
    format!("tc.gate.{gateway}")
}

/// All gateways' signs of life.
pub const GATES: &str = "tc.gate.*";

/// Operators ask all gateways how their connections stand.
pub const OPS_CONNECTIONS: &str = "tc.ops.connections";

/// Where an operator's question is answered.
pub fn ops_answer(token: &str) -> String {
    format!("tc.ops.answer.{token}")
}

/// Nobody serves it, so that a bus that can be reached answers at once that nobody does.
pub const PROBE: &str = "tc.probe";

/// Copies of messages that cannot be read, by the stream they stand in.
pub fn dead(stream: &str) -> String {
    format!("tc.dead.{stream}")
}

/// The queue group of workers on `tc.open` and `tc.adopt`.
pub const WORKERS: &str = "workers";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;

    #[test]
    fn an_address_survives_its_subjects() {
        let kind: Kind = "liap-tui".parse().expect("a kind");
        let table = TableId::new(Timestamp::from_millis(5), [9; 10]);
        let shards = NonZeroU16::new(4).expect("four");
        let address = Address::new(table, kind, shards);
        assert_eq!(Address::parse(&address.evt()), Some(address.clone()));
        assert_eq!(Address::parse(&address.wake()), Some(address.clone()));
        assert_eq!(Address::parse(&address.done()), Some(address));
    }

    #[test]
    fn a_foreign_subject_has_no_address() {
        for subject in ["tc.evt.0.chess", "tc.evt.0.chess.42", "tc.cmd.x", "tc.evt.x.y.z.w", ""] {
            assert_eq!(Address::parse(subject), None, "{subject}");
        }
    }
}
