//! When a table's dead man's switch is moved: seldom, and never too late. Reads no clock.

use crate::domain::Timestamp;

/// How far behind the next deadline the switch stands: an owner that is alive has acted by then.
const BEHIND_MS: u64 = 20_000;
/// A switch this near to its time is moved: another worker would ask who owns the table.
const NEAR_MS: u64 = 5_000;
/// A switch that stands this much later than it should is moved, too.
const LATE_MS: u64 = 60_000;

/// A change of a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Move {
    /// It rings at this time instead.
    Set(Timestamp),
    /// It does not ring.
    Clear,
}

/// One table's switch, as this worker has set it last.
#[derive(Debug, Default)]
pub(super) struct DeadMan {
    rings_at: Option<Timestamp>,
}

impl DeadMan {
    /// The switch of a table that is opened now, and when it rings: before anybody knows what the table has
    /// to do.
    pub(super) fn first(now: Timestamp) -> (Self, Timestamp) {
        let rings_at = now.plus_millis(BEHIND_MS);
        (Self { rings_at: Some(rings_at) }, rings_at)
    }

    /// What is to be done with the switch of a table that has something to do at `due`, or nothing by itself.
    pub(super) fn moved(&mut self, due: Option<Timestamp>, now: Timestamp) -> Option<Move> {
        let is_near = |rings_at: Timestamp| rings_at <= now.plus_millis(NEAR_MS);
        let Some(due) = due else {
            // Taken away late: the table may soon have something to do again.
            return self.rings_at.take_if(|rings_at| is_near(*rings_at)).map(|_| Move::Clear);
        };
        let wanted = due.max(now).plus_millis(BEHIND_MS);
        let stands = self
            .rings_at
            .is_some_and(|rings_at| !is_near(rings_at) && rings_at <= wanted.plus_millis(LATE_MS));
        if stands {
            return None;
        }
        self.rings_at = Some(wanted);
        Some(Move::Set(wanted))
    }

    /// When [`DeadMan::moved`] is to be asked again, whatever happens at the table.
    pub(super) fn look_at(&self) -> Option<Timestamp> {
        let rings_at = self.rings_at?.as_millis();
        Some(Timestamp::from_millis(rings_at.saturating_sub(NEAR_MS)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn a_busy_table_moves_its_switch_once_in_a_while() {
        let mut switch = DeadMan::default();
        let mut moves = 0;
        for second in 0..60 {
            let now = at(second * 1_000);
            moves += u32::from(switch.moved(Some(now.plus_millis(1_000)), now).is_some());
            assert!(switch.rings_at.is_some_and(|rings| rings > now.plus_millis(NEAR_MS)));
        }
        assert!(moves <= 5, "{moves} moves in a minute");
    }

    #[test]
    fn a_switch_rings_behind_the_deadline_and_not_long_after() {
        let mut switch = DeadMan::default();
        assert_eq!(switch.moved(Some(at(600_000)), at(0)), Some(Move::Set(at(620_000))));
        assert_eq!(switch.moved(Some(at(590_000)), at(0)), None, "near enough");
        assert_eq!(switch.moved(Some(at(10_000)), at(0)), Some(Move::Set(at(30_000))));
        assert_eq!(switch.look_at(), Some(at(25_000)));
        // What is overdue is overdue from now.
        assert_eq!(switch.moved(Some(at(0)), at(26_000)), Some(Move::Set(at(46_000))));
    }

    #[test]
    fn a_table_with_nothing_to_do_needs_no_switch() {
        assert_eq!(DeadMan::default().moved(None, at(5)), None);
        let (mut switch, rings_at) = DeadMan::first(at(0));
        assert_eq!(switch.moved(None, at(5)), None, "it may soon have something to do");
        assert_eq!(switch.moved(None, rings_at), Some(Move::Clear));
        assert_eq!(switch.moved(None, rings_at), None);
    }
}
