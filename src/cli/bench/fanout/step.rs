//! One rate for a while.

use std::time::Duration;

use serde::Serialize;

use super::Stage;
use crate::cli::bench::machine::{Part, busy_of_machine, cpu_of_thread};
use crate::cli::bench::source::Sent;
use crate::cli::bench::swarm::{Tally, nanos};

/// From the decision to begin until the first event is due.
const RUN_UP: Duration = Duration::from_millis(20);
/// How long everything that is on its way may take to arrive after the last event.
const DRAIN: Duration = Duration::from_secs(15);

/// What is to be done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch {
    /// Events per second.
    pub(super) rate: f64,
    pub(super) warm_up: Duration,
    pub(super) measured: Duration,
    /// Deliveries of one event.
    pub(super) viewers: u64,
    /// So many of the clients, the first ones, read nothing and are not waited for.
    pub(super) stalled: usize,
}

/// What came of it. Within the measured window, unless it says otherwise.
#[derive(Clone, Debug, Serialize)]
pub(in crate::cli::bench) struct Step {
    pub(super) events_per_second: f64,
    pub(super) published: u64,
    pub(super) delivered: u64,
    /// Deliveries for each that was due at this rate.
    pub(super) of_due: f64,
    pub(super) deliveries_per_second: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) max_ms: f64,
    pub(super) cpu_seconds_per_million: f64,
    /// Share of a core.
    pub(super) server_core: f64,
    pub(super) client_core: f64,
    /// Nothing for a server that is the broker itself.
    pub(super) broker_core: f64,
    pub(super) publisher_core: f64,
    /// What processes used that have nothing to do with the measurement.
    pub(super) others_core: f64,
    pub(super) reads_per_delivery: f64,
    /// How late the publisher was with an event, at worst.
    pub(super) publisher_late_ms: f64,
    /// Appends that the stream refused until now.
    pub(super) refused: u64,
    /// Appends that it acknowledged until now.
    pub(super) acknowledged: u64,
    /// From the beginning of the step until everything had come.
    pub(super) lost: u64,
    pub(super) disordered: u64,
    pub(super) conflated: u64,
    /// Clients that did not have the newest event then.
    pub(super) behind: u64,
}

pub(super) fn run(stage: &mut Stage, stretch: &Stretch) -> anyhow::Result<Step> {
    let Stage { target, source, swarm, epoch, cores } = stage;
    let (epoch, cores) = (*epoch, *cores);
    let from = epoch.now() + nanos(RUN_UP);
    let begins = from + nanos(stretch.warm_up);
    let window = begins..begins + nanos(stretch.measured);
    swarm.take_tally();
    let (sent, measured) = std::thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            cores.take(Part::Rest)?;
            source.run(stretch.rate, from, &window)
        });
        let measured = (|| {
            swarm.run_until(window.start)?;
            let warm_up = swarm.take_tally();
            let used = || {
                let machine = busy_of_machine()?;
                anyhow::Ok((target.cpu()?, cpu_of_thread()?, target.broker_cpu()?, machine))
            };
            let (began, before) = (epoch.now(), used()?);
            swarm.run_until(window.end)?;
            let (ended, after) = (epoch.now(), used()?);
            let used = Used {
                wall: Duration::from_nanos(ended - began),
                server: after.0 - before.0,
                client: after.1 - before.1,
                broker: after.2 - before.2,
                machine: after.3.saturating_sub(before.3),
            };
            anyhow::Ok((warm_up, swarm.take_tally(), used))
        })();
        (publisher.join(), measured)
    });
    let sent = sent.map_err(|_panic| anyhow::anyhow!("the publisher has panicked"))??;
    let (warm_up, tally, used) = measured?;
    let is_behind =
        |(topic, last): (Option<usize>, u64)| topic.is_some_and(|topic| last < source.count(topic));
    let until = epoch.now() + nanos(DRAIN);
    while swarm.last().skip(stretch.stalled).any(is_behind) && epoch.now() < until {
        swarm.run_until(epoch.now() + nanos(Duration::from_millis(20)))?;
    }
    let behind = swarm.last().skip(stretch.stalled).filter(|last| is_behind(*last)).count() as u64;
    let rest = swarm.take_tally();
    let mut all = Tally::default();
    for part in [&warm_up, &tally, &rest] {
        all.lost += part.lost;
        all.disordered += part.disordered;
        all.conflated += part.conflated;
    }
    Ok(step(stretch, &sent, (&tally, &used), (&all, behind)))
}

struct Used {
    wall: Duration,
    server: Duration,
    client: Duration,
    broker: Duration,
    machine: Duration,
}

fn step(
    stretch: &Stretch,
    sent: &Sent,
    (tally, used): (&Tally, &Used),
    (all, behind): (&Tally, u64),
) -> Step {
    // By the rate, not by what was published: a server must not look better for holding up its publisher.
    let due = stretch.rate * stretch.measured.as_secs_f64() * stretch.viewers as f64;
    let (wall, delivered) = (used.wall.as_secs_f64(), tally.deliveries as f64);
    let per_delivery = |amount: f64| if delivered > 0.0 { amount / delivered } else { 0.0 };
    let millis = |duration: Duration| duration.as_secs_f64() * 1e3;
    let publishing = (stretch.warm_up + stretch.measured).as_secs_f64();
    let publisher = sent.cpu.as_secs_f64() / publishing;
    let ours = (used.server + used.client + used.broker).as_secs_f64() / wall + publisher;
    Step {
        events_per_second: stretch.rate,
        published: sent.in_window,
        delivered: tally.deliveries,
        of_due: delivered / due,
        deliveries_per_second: delivered / wall,
        p50_ms: millis(tally.latencies.percentile(50.0)),
        p99_ms: millis(tally.latencies.percentile(99.0)),
        max_ms: millis(tally.latencies.longest()),
        cpu_seconds_per_million: per_delivery(used.server.as_secs_f64() * 1e6),
        server_core: used.server.as_secs_f64() / wall,
        client_core: used.client.as_secs_f64() / wall,
        broker_core: used.broker.as_secs_f64() / wall,
        publisher_core: publisher,
        others_core: (used.machine.as_secs_f64() / wall - ours).max(0.0),
        reads_per_delivery: per_delivery(tally.reads as f64),
        publisher_late_ms: millis(sent.late),
        refused: sent.refused,
        acknowledged: sent.acknowledged,
        lost: all.lost,
        disordered: all.disordered,
        conflated: all.conflated,
        behind,
    }
}
