//! What a table does by itself, and when: deadlines and bots. Reads no clock.

use std::time::Duration;

use tokio::time::Instant;

use crate::domain::{Seat, Timestamp};

/// After a deadline was asked about, or the log refused a commit, and nothing has moved: the time to the
/// next try. A game whose deadline brings nothing about must not spin, nor hold other deadlines up.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The longest sleep: a deadline may lie beyond what an [`Instant`] can hold, and the clock may be set.
const SLEEP_MAX: Duration = Duration::from_secs(3600);

/// This moment, by the clock that deadlines use and by the one that timers use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Now {
    pub(super) clock: Timestamp,
    pub(super) timer: Instant,
}

impl Now {
    /// The moment at which the clock will show this.
    pub(super) fn at(self, clock: Timestamp) -> Instant {
        let wait = Duration::from_millis(clock.millis_since(self.clock));
        self.timer + wait.min(SLEEP_MAX)
    }
}

/// When a table acts by itself.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    /// The deadline that was asked about last, and when.
    asked: Option<(Timestamp, Instant)>,
    /// The bot that is awaited, and when it acts.
    bot: Option<(Seat, Instant)>,
}

impl Agenda {
    /// Whether the table is to be asked what this deadline brings about. Asked once, then again after a pause.
    pub(super) fn take_deadline(&mut self, due: Option<Timestamp>, now: Now) -> bool {
        let Some(due) = due.filter(|due| self.deadline_at(*due, now) <= now.timer) else {
            return false;
        };
        self.asked = Some((due, now.timer));
        true
    }

    /// The bot that acts at this moment. It is not asked again before it is scheduled again.
    pub(super) fn take_bot(&mut self, now: Now) -> Option<Seat> {
        let (seat, _) = self.bot.take_if(|(_, at)| *at <= now.timer)?;
        Some(seat)
    }

    /// Schedules the bot in this seat. One that waits already goes on waiting, so that other players'
    /// commits do not hold it up.
    pub(super) fn schedule_bot(
        &mut self,
        seat: Option<Seat>,
        delay: impl FnOnce() -> Duration,
        now: Now,
    ) {
        let waits = self.bot.is_some_and(|(waiting, _)| Some(waiting) == seat);
        if !waits {
            self.bot = seat.map(|seat| (seat, now.timer + delay()));
        }
    }

    /// The log took nothing: the bot tries again later.
    pub(super) fn schedule_bot_again(&mut self, seat: Option<Seat>, now: Now) {
        self.bot = seat.map(|seat| (seat, now.timer + ASK_AGAIN));
    }

    /// When something is due by itself.
    pub(super) fn next_wake(&self, due: Option<Timestamp>, now: Now) -> Option<Instant> {
        let deadline = due.map(|due| self.deadline_at(due, now));
        let bot = self.bot.map(|(_, at)| at);
        deadline.into_iter().chain(bot).min()
    }

    fn deadline_at(&self, due: Timestamp, now: Now) -> Instant {
        let at = now.at(due);
        match self.asked {
            Some((asked, when)) if asked == due => at.max(when + ASK_AGAIN),
            Some(_) | None => at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64, start: Instant) -> Now {
        Now { clock: Timestamp::from_millis(millis), timer: start + Duration::from_millis(millis) }
    }

    const DUE: Option<Timestamp> = Some(Timestamp::from_millis(50));

    #[test]
    fn a_deadline_that_brings_nothing_about_does_not_spin_and_hides_no_other() {
        let start = Instant::now();
        let mut agenda = Agenda::default();
        assert!(!agenda.take_deadline(DUE, at(49, start)));
        assert!(agenda.take_deadline(DUE, at(50, start)));
        assert!(!agenda.take_deadline(DUE, at(51, start)));
        let next = agenda.next_wake(DUE, at(51, start)).unwrap();
        assert_eq!(next, start + Duration::from_millis(1050));
        assert!(agenda.take_deadline(DUE, at(1050, start)));
        let earlier = Some(Timestamp::from_millis(40));
        assert!(agenda.take_deadline(earlier, at(1051, start)));
    }

    #[test]
    fn a_deadline_at_the_end_of_time_is_slept_for_in_parts() {
        let start = Instant::now();
        let never = Some(Timestamp::from_millis(u64::MAX));
        let wake = Agenda::default().next_wake(never, at(0, start));
        assert_eq!(wake, Some(start + SLEEP_MAX));
    }

    #[test]
    fn commits_of_others_do_not_put_a_waiting_bot_off() {
        let start = Instant::now();
        let mut agenda = Agenda::default();
        let delay = || Duration::from_millis(100);
        agenda.schedule_bot(Some(Seat(1)), delay, at(0, start));
        agenda.schedule_bot(Some(Seat(1)), delay, at(90, start));
        assert_eq!(agenda.take_bot(at(100, start)), Some(Seat(1)));
        assert_eq!(agenda.take_bot(at(100, start)), None);
        agenda.schedule_bot(Some(Seat(2)), delay, at(100, start));
        agenda.schedule_bot(None, delay, at(101, start));
        assert_eq!(agenda.next_wake(None, at(101, start)), None);
    }
}
