//! What one player may do over all its connections of this gateway: how fast it sends commands, how many tables it
//! keeps open. Reads no clock.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::metrics;
use super::throttle::{Bucket, BucketTime, Rate};
use crate::domain::{PlayerId, TableId};
use crate::protocol::request::Refusal;

/// The limits of one player.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlayerLimits {
    /// How fast it may send commands, openings included.
    pub rate: Rate,
    /// How many tables that it has opened here may be open.
    pub tables_max: usize,
    /// How many players are kept in mind.
    pub players_max: usize,
}

/// How long a new table may take to get on the list; after that, one that is not there is over.
const LISTED_WITHIN: Duration = Duration::from_secs(10);
/// How often it is looked for players who need not be kept in mind.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// When it is worth sending a command again that found too many players before it.
const FULL_RETRY_MS: u64 = 1_000;

/// The players who have sent a command lately, or have a table open that they opened here.
///
/// At most so many are kept in mind. While all those are needed, commands of others are rejected as `busy`: not to
/// count them would let everybody past the limits who comes with enough names.
#[derive(Debug)]
pub(super) struct Players {
    limits: PlayerLimits,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    time: BucketTime,
    players: HashMap<PlayerId, Player>,
    swept_at: Instant,
}

#[derive(Debug)]
struct Player {
    bucket: Bucket,
    used_at: Instant,
    /// Those it has opened, each with the time when.
    tables: Vec<(TableId, Instant)>,
}

impl Player {
    fn forget_closed(&mut self, now: Instant, is_listed: &impl Fn(TableId) -> bool) {
        self.tables.retain(|(table, since)| {
            now.saturating_duration_since(*since) < LISTED_WITHIN || is_listed(*table)
        });
    }
}

impl Players {
    /// Nobody has sent anything.
    pub(super) fn new(limits: PlayerLimits, now: Instant) -> Self {
        let time = BucketTime::starting_at(now);
        let state = State { time, players: HashMap::new(), swept_at: now };
        Self { limits, state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A player sends a command; `opens` is the table that it would open by it. `is_listed` says whether a table is
    /// on the list of those that are not over.
    pub(super) fn admit(
        &self,
        player: &PlayerId,
        opens: Option<TableId>,
        now: Instant,
        is_listed: impl Fn(TableId) -> bool,
    ) -> Result<(), Refusal> {
        let mut state = self.lock();
        if !state.players.contains_key(player) {
            if state.players.len() >= self.limits.players_max {
                self.sweep(&mut state, now, &is_listed);
            }
            if state.players.len() >= self.limits.players_max {
                metrics::players_full();
                let message = "too many players are busy at this gateway";
                return Err(Refusal::new("busy", message).retry_after_ms(FULL_RETRY_MS));
            }
            state.time.set(now);
            let bucket = Bucket::full(self.limits.rate, &state.time);
            let new = Player { bucket, used_at: now, tables: Vec::new() };
            state.players.insert(player.clone(), new);
            metrics::players(state.players.len());
        }
        let kept = state.players.get_mut(player).expect("it is there now");
        kept.used_at = now;
        if let Err(wait) = kept.bucket.try_take(now) {
            metrics::player_throttled();
            let message =
                "you send commands faster than this gateway takes, over all your connections";
            // At least 1: "come back at once" would be answered in the same way.
            let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
            return Err(Refusal::new("throttled", message).retry_after_ms(wait_ms));
        }
        let Some(table) = opens else { return Ok(()) };
        if kept.tables.len() >= self.limits.tables_max {
            kept.forget_closed(now, &is_listed);
        }
        if kept.tables.len() >= self.limits.tables_max {
            let max = self.limits.tables_max;
            let message = format!(
                "{max} tables that you have opened are still open: end one, or leave it, before you open another"
            );
            return Err(Refusal::new("too_many_tables", message));
        }
        kept.tables.push((table, now));
        Ok(())
    }

    /// A table was not opened after all.
    pub(super) fn not_opened(&self, player: &PlayerId, table: TableId) {
        if let Some(player) = self.lock().players.get_mut(player) {
            player.tables.retain(|(other, _)| *other != table);
        }
    }

    /// Forgets players whose buckets are full again and who have no table open.
    pub(super) fn tidy(&self, now: Instant, is_listed: impl Fn(TableId) -> bool) {
        self.sweep(&mut self.lock(), now, &is_listed);
    }

    fn sweep(&self, state: &mut State, now: Instant, is_listed: &impl Fn(TableId) -> bool) {
        if now.saturating_duration_since(state.swept_at) < SWEEP_INTERVAL {
            return;
        }
        state.swept_at = now;
        let refill = self.limits.rate.refill();
        state.players.retain(|_, player| {
            player.forget_closed(now, is_listed);
            !player.tables.is_empty() || now.saturating_duration_since(player.used_at) < refill
        });
        if state.players.len() < state.players.capacity() / 4 {
            state.players.shrink_to_fit();
        }
        metrics::players(state.players.len());
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::domain::Timestamp;

    fn players(tables_max: usize, players_max: usize, now: Instant) -> Players {
        let number = |number| NonZeroU32::new(number).unwrap();
        let rate = Rate::per_second(number(3), number(2));
        Players::new(PlayerLimits { rate, tables_max, players_max }, now)
    }

    fn id(name: &str) -> PlayerId {
        name.parse().unwrap()
    }

    fn table(number: u8) -> TableId {
        TableId::new(Timestamp::from_millis(1), [number; 10])
    }

    const NO_LIST: fn(TableId) -> bool = |_| false;
    const ALL_LISTED: fn(TableId) -> bool = |_| true;

    #[test]
    fn a_player_has_one_bucket_and_is_told_when_to_come_again() {
        let now = Instant::now();
        let players = players(5, 5, now);
        for _ in 0..3 {
            players.admit(&id("nok"), None, now, NO_LIST).unwrap();
        }
        let refused = players.admit(&id("nok"), None, now, NO_LIST).unwrap_err();
        assert_eq!((refused.code.as_str(), refused.retry_after_ms), ("throttled", Some(500)));
        players.admit(&id("somchai"), None, now, NO_LIST).unwrap();
        let then = now + Duration::from_millis(500);
        players.admit(&id("nok"), None, then, NO_LIST).unwrap();
    }

    #[test]
    fn a_table_too_many_is_refused_until_one_is_over() {
        let mut now = Instant::now();
        let players = players(2, 5, now);
        for number in 1..=2 {
            players.admit(&id("nok"), Some(table(number)), now, NO_LIST).unwrap();
        }
        // Not on the list yet, which may be slow.
        let refused = players.admit(&id("nok"), Some(table(3)), now, NO_LIST).unwrap_err();
        assert_eq!((refused.code.as_str(), refused.retry_after_ms), ("too_many_tables", None));
        now += LISTED_WITHIN;
        let refused = players.admit(&id("nok"), Some(table(3)), now, ALL_LISTED).unwrap_err();
        assert_eq!(refused.code, "too_many_tables");
        // Other commands go on.
        players.admit(&id("nok"), None, now, ALL_LISTED).unwrap();
        let is_second = |listed| listed == table(2);
        players.admit(&id("nok"), Some(table(3)), now, is_second).unwrap();
        now += LISTED_WITHIN;
        let refused = players.admit(&id("nok"), Some(table(4)), now, ALL_LISTED).unwrap_err();
        assert_eq!(refused.code, "too_many_tables");
        players.not_opened(&id("nok"), table(3));
        players.admit(&id("nok"), Some(table(4)), now, ALL_LISTED).unwrap();
    }

    #[test]
    fn players_beyond_those_kept_in_mind_are_busy_until_somebody_is_forgotten() {
        let mut now = Instant::now();
        let players = players(2, 2, now);
        now += SWEEP_INTERVAL;
        players.admit(&id("nok"), Some(table(1)), now, NO_LIST).unwrap();
        players.admit(&id("somchai"), None, now, NO_LIST).unwrap();
        let refused = players.admit(&id("malee"), None, now, NO_LIST).unwrap_err();
        assert_eq!((refused.code.as_str(), refused.retry_after_ms), ("busy", Some(1000)));
        // Whoever is kept in mind goes on.
        players.admit(&id("nok"), None, now, NO_LIST).unwrap();
        // Somchai's bucket is full again, Nok has a table open.
        now += LISTED_WITHIN;
        players.admit(&id("malee"), None, now, ALL_LISTED).unwrap();
        assert!(players.lock().players.contains_key(&id("nok")));
        assert!(!players.lock().players.contains_key(&id("somchai")));
        now += LISTED_WITHIN;
        players.tidy(now, NO_LIST);
        assert!(players.lock().players.is_empty());
    }
}
