//! What clients that read nothing cost the others, and the gateway.

use std::time::Duration;

use super::step::{self, Step, Stretch};
use super::{FanoutArgs, Stage};
use crate::cli::bench::figures::Report;
use crate::cli::bench::rounds::{Measured, figure, rounds};
use crate::cli::bench::swarm::nanos;
use crate::cli::bench::target::{Outbox, Peer, Start};

/// Events per second, unless rates are named.
const RATE: f64 = 100.0;
/// How long a client that reads again may take to be up to date.
const CATCH_UP: Duration = Duration::from_secs(10);

pub(super) fn measure(args: &FanoutArgs) -> anyhow::Result<()> {
    let mut plan = args.plan(Outbox::Default);
    plan.workload = format!("{}; {} of the clients stall", plan.workload, args.stall);
    let report: Report<Step> =
        rounds(&args.rounds, &plan, |peer, start| with_and_without(args, peer, start))?;
    report.write_json(args.rounds.json())?;
    report.print_head()?;
    report.print_figures()
}

fn with_and_without(
    args: &FanoutArgs,
    peer: Peer,
    start: &Start<'_>,
) -> anyhow::Result<Measured<Step>> {
    let mut stage = Stage::set(args, peer, start)?;
    let rate = args.rates.first().copied().unwrap_or(RATE);
    let stretch = args.stretch(rate);
    let all = step::run(&mut stage, &stretch)?;
    let memory = stage.target.resident()?;
    let stalled = args.stall.min(stage.swarm.len());
    for client in 0..stalled {
        stage.swarm.stall(client)?;
    }
    let others = step::run(&mut stage, &Stretch { stalled, ..stretch })?;
    let grown = stage.target.resident()?.saturating_sub(memory);
    let lags: Vec<u64> =
        stage.swarm.last().take(stalled).map(|client| lag(&stage, client)).collect();
    // They go on where they stopped, and everybody else has everything.
    stage.swarm.take_tally();
    for client in 0..stalled {
        stage.swarm.go_on(client)?;
    }
    let until = stage.epoch.now() + nanos(CATCH_UP);
    while stage.swarm.last().any(|client| lag(&stage, client) > 0) && stage.epoch.now() < until {
        stage.swarm.run_until(stage.epoch.now() + nanos(Duration::from_millis(20)))?;
    }
    let late = stage.swarm.last().filter(|client| lag(&stage, *client) > 0).count();
    let tally = stage.swarm.tally();
    let figures = vec![
        figure("others' p99 ms, all read", all.p99_ms),
        figure("others' p99 ms, some stalled", others.p99_ms),
        figure("p99 stalled / p99 all read", others.p99_ms / all.p99_ms),
        figure("server memory grown, KiB a stalled client", grown as f64 / 1024.0 / stalled as f64),
        figure(
            "events a stalled client was behind",
            lags.iter().sum::<u64>() as f64 / stalled as f64,
        ),
        figure("of those conflated, all clients", tally.conflated as f64),
        figure("lost or out of order when it read again", (tally.lost + tally.disordered) as f64),
        figure("cut off", tally.gone as f64),
        figure("clients not up to date in the end", late as f64),
    ];
    Ok((figures, vec![all, others]))
}

/// How many events of its table a client does not have.
fn lag(stage: &Stage, (topic, last): (Option<usize>, u64)) -> u64 {
    topic.map_or(0, |topic| stage.source.count(topic).saturating_sub(last))
}
