//! An open loop: work that is due at a rate, whatever becomes of it.

use std::time::Duration;

use super::swarm::Epoch;

/// What is done at once, at most: all that is due when the loop was held up would be one long silence.
const BATCH: u64 = 256;

/// Calls `act` with how many are due, from a time until another. Says how late it was at worst.
pub(super) fn paced(
    (rate, from): (f64, u64),
    until: u64,
    epoch: Epoch,
    mut act: impl FnMut(u64) -> anyhow::Result<()>,
) -> anyhow::Result<Duration> {
    let (mut done, mut late) = (0_u64, 0);
    loop {
        let now = epoch.now();
        if now >= until {
            return Ok(Duration::from_nanos(late));
        }
        let next_at = from + whole(done as f64 / rate * 1e9);
        if next_at > now {
            std::thread::sleep(Duration::from_nanos((next_at - now).min(until - now)));
            continue;
        }
        late = late.max(now - next_at);
        let due = whole((now - from) as f64 * rate / 1e9) + 1;
        let count = due.saturating_sub(done).clamp(1, BATCH);
        act(count)?;
        done += count;
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "nanoseconds and events of one run"
)]
fn whole(number: f64) -> u64 {
    number as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_is_done_however_late_it_gets() {
        let (epoch, mut done) = (Epoch::start(), 0);
        let act = |count| {
            done += count;
            Ok(())
        };
        paced((10_000.0, 0), 20_000_000, epoch, act).unwrap();
        // Held up for the whole time, it may still have done only a batch.
        assert!((1..=201).contains(&done), "{done}");
    }
}
