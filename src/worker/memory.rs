//! How much memory this process holds, and what follows from holding too much.

use std::time::Duration;

use metrics::gauge;
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use super::tables::Worker;

const LOOK: Duration = Duration::from_secs(1);

/// Memory is taken again only below this share of the limit: else the worker would swing around it.
const ENOUGH: f64 = 0.9;

/// Looks at the process's memory until no table is left.
pub(super) async fn watch(worker: &Worker) {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_full = false;
    loop {
        tokio::select! {
            biased;
            () = worker.gone.cancelled() => return,
            _ = looks.tick() => {}
        }
        // Where the system does not say, tables alone are limited.
        let Some(resident) = resident_bytes() else {
            continue;
        };
        let was_full = is_full;
        is_full = exceeds(resident, worker.config.memory_max.as_u64(), was_full);
        if is_full && !was_full {
            warn!(
                resident_bytes = resident,
                memory_max = worker.config.memory_max.as_u64(),
                "this worker holds too much memory: idle tables sleep, and no table is taken"
            );
        }
        worker.set_memory_full(is_full);
    }
}

#[expect(clippy::cast_precision_loss, reason = "sizes of memory, for people and a threshold")]
fn exceeds(resident: u64, limit: u64, was_full: bool) -> bool {
    gauge!("tablecast_worker_resident_bytes").set(resident as f64);
    let limit = limit as f64;
    resident as f64 > if was_full { limit * ENOUGH } else { limit }
}

/// The resident set of this process, as Linux has it in `/proc/self/status`.
fn resident_bytes() -> Option<u64> {
    // The kernel writes this page from memory: no disk is read, and a thread for it would cost more than it does.
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_holds_some_memory() {
        assert!(resident_bytes().is_some_and(|bytes| bytes > 1_000_000));
    }

    #[test]
    fn memory_counts_as_full_until_it_is_well_below_the_limit() {
        assert!(!exceeds(100, 100, false));
        assert!(exceeds(101, 100, false));
        assert!(exceeds(95, 100, true));
        assert!(!exceeds(90, 100, true));
    }
}
