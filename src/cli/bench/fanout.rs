//! `tablecast bench fanout`: events to many viewers, at rising rates, until a server cannot go on.

mod report;
mod stall;
mod step;

use std::time::Duration;

use clap::Args;

use super::figures::Figure;
use super::machine::Cores;
use super::rounds::{Measured, Plan, RoundsArgs, apart, figure, rounds};
use super::source::{Input, Source};
use super::swarm::{Epoch, Joining, Swarm};
use super::target::{Outbox, Peer, Start, Target};
use crate::cli::Role;
use step::{Step, Stretch};

/// Deliveries per second of the steps: those of small rooms as others were measured, and on from there.
const LADDER: [u32; 15] = [
    8_000, 16_000, 32_000, 48_000, 64_000, 80_000, 112_000, 160_000, 224_000, 320_000, 450_000,
    640_000, 900_000, 1_280_000, 1_800_000,
];
/// A step with less than this share of what is due is the last one.
const DELIVERED_MIN: f64 = 0.95;
/// So is one with a p99 above this.
const P99_MAX_MS: f64 = 500.0;
/// What the highest rate that counts as smooth may have.
const SMOOTH_P99_MS: f64 = 100.0;

/// How many clients may be in setup at a time.
pub(super) const JOINING: Joining = Joining { at_once: 200, patience: Duration::from_secs(120) };

/// Options of `tablecast bench fanout`.
#[derive(Args, Clone, Debug)]
pub(super) struct FanoutArgs {
    #[command(flatten)]
    rounds: RoundsArgs,
    /// How many tables there are.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    tables: u32,
    /// How many spectators follow each.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    viewers: u32,
    /// Events per second of all tables, for each step [default: 8,000 to 1,800,000 deliveries per second]
    #[arg(long, value_delimiter = ',', value_parser = rate)]
    rates: Vec<f64>,
    /// How long a step is measured.
    #[arg(long, default_value_t = 2.5, value_parser = rate)]
    seconds: f64,
    /// How long a step goes on before that.
    #[arg(long, default_value_t = 0.5, value_parser = rate)]
    warm_up: f64,
    /// How events come in.
    #[arg(long, value_enum, default_value_t = Input::Stream)]
    input: Input,
    /// Instead of a ladder: the first rate (or 100 events/s) without and with so many clients that read nothing.
    #[arg(long, value_name = "CLIENTS", default_value_t = 0)]
    stall: usize,
}

/// A rate, or seconds.
pub(super) fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.001..=1e9).contains(&rate) => Ok(rate),
        Ok(_) | Err(_) => Err("a number above zero".to_owned()),
    }
}

pub(super) async fn run(args: FanoutArgs, role: Role) -> anyhow::Result<()> {
    apart(&role, move || measure(&args)).await
}

fn measure(args: &FanoutArgs) -> anyhow::Result<()> {
    if args.stall > 0 {
        return stall::measure(args);
    }
    let report =
        rounds(&args.rounds, &args.plan(Outbox::Patient), |peer, start| ladder(args, peer, start))?;
    report.write_json(args.rounds.json())?;
    report::print(&report)
}

impl FanoutArgs {
    fn plan(&self, outbox: Outbox) -> Plan {
        let Self { tables, viewers, input, .. } = self;
        Plan {
            workload: format!("fanout: {tables} tables x {viewers} spectators, input: {input}"),
            clients: self.clients(),
            outbox,
            baseline: Duration::from_secs_f64(self.seconds / 2.5),
        }
    }

    fn clients(&self) -> usize {
        (self.tables * self.viewers) as usize
    }

    /// Events per second of each step.
    fn rates(&self) -> Vec<f64> {
        if self.rates.is_empty() {
            LADDER.iter().map(|rate| f64::from(*rate) / f64::from(self.viewers)).collect()
        } else {
            self.rates.clone()
        }
    }

    fn stretch(&self, rate: f64) -> Stretch {
        Stretch {
            rate,
            warm_up: Duration::from_secs_f64(self.warm_up),
            measured: Duration::from_secs_f64(self.seconds),
            viewers: u64::from(self.viewers),
            stalled: 0,
        }
    }
}

/// A server with its tables and everybody who follows them.
struct Stage {
    target: Target,
    source: Source,
    swarm: Swarm,
    epoch: Epoch,
    cores: Cores,
}

impl Stage {
    fn set(args: &FanoutArgs, peer: Peer, start: &Start<'_>) -> anyhow::Result<Self> {
        let (target, epoch) = (Target::start(peer, start)?, Epoch::start());
        let tables = args.tables as usize;
        let source = Source::open((peer, target.nats), args.input, (tables, 1), epoch)?;
        let follows = (0..args.clients()).map(|client| Some(client % tables));
        let server = (target.language(), target.websocket);
        let mut swarm = Swarm::new(server, source.topics(), follows, epoch)?;
        swarm.join(JOINING)?;
        Ok(Self { target, source, swarm, epoch, cores: start.cores })
    }
}

fn ladder(args: &FanoutArgs, peer: Peer, start: &Start<'_>) -> anyhow::Result<Measured<Step>> {
    let mut stage = Stage::set(args, peer, start)?;
    let mut steps = Vec::new();
    for rate in args.rates() {
        let step = step::run(&mut stage, &args.stretch(rate))?;
        let is_last = step.of_due < DELIVERED_MIN || step.p99_ms > P99_MAX_MS;
        steps.push(step);
        if is_last {
            break;
        }
    }
    Ok((figures(&steps), steps))
}

fn figures(steps: &[Step]) -> Vec<Figure> {
    let held = |step: &&Step| step.of_due >= DELIVERED_MIN;
    let smooth = steps.iter().filter(held).filter(|step| step.p99_ms < SMOOTH_P99_MS);
    let smooth = smooth.map(|step| step.deliveries_per_second).fold(0.0, f64::max);
    let peak =
        steps.iter().max_by(|a, b| a.deliveries_per_second.total_cmp(&b.deliveries_per_second));
    let mut figures = vec![figure("deliveries/s with p99 < 100 ms", smooth)];
    if let Some(peak) = peak {
        figures.push(figure("peak deliveries/s", peak.deliveries_per_second));
        figures.push(figure("CPU s per million at peak", peak.cpu_seconds_per_million));
    }
    if let Some(first) = steps.first() {
        figures.push(figure("lowest rate: p50 ms", first.p50_ms));
        figures.push(figure("lowest rate: p99 ms", first.p99_ms));
        figures.push(figure("lowest rate: CPU s per million", first.cpu_seconds_per_million));
    }
    let sum = |count: fn(&Step) -> u64| steps.iter().map(count).sum::<u64>() as f64;
    figures.push(figure("events lost", sum(|step| step.lost)));
    figures.push(figure("events repeated or out of order", sum(|step| step.disordered)));
    figures.push(figure("events conflated", sum(|step| step.conflated)));
    figures.push(figure("clients not up to date in the end", sum(|step| step.behind)));
    figures
}
