//! `tablecast bench idle`: what connections cost that follow a table and are sent nothing.

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::figures::Figure;
use super::rounds::{Measured, Plan, RoundsArgs, apart, figure, rounds};
use super::source::{Input, Source};
use super::swarm::{Epoch, Joining, Swarm, nanos};
use super::target::{Outbox, Peer, Start, Target};
use crate::cli::Role;
use crate::runtime::entropy::Entropy;

const JOINING: Joining = Joining { at_once: 200, patience: Duration::from_secs(300) };
/// From one client's system port range to one address.
const CLIENTS_MAX: u32 = 25_000;

/// Options of `tablecast bench idle`.
#[derive(Args, Clone, Debug)]
pub(super) struct IdleArgs {
    #[command(flatten)]
    rounds: RoundsArgs,
    /// At how many connections memory is read, in rising order.
    #[arg(long, value_delimiter = ',', default_value = "2000,10000", value_parser = clap::value_parser!(u32).range(1..=i64::from(CLIENTS_MAX)))]
    connections: Vec<u32>,
    /// How many connections follow the same table.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    viewers: u32,
    /// How long memory has to come to rest before it is read.
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    settling: Duration,
    /// Afterwards, close and reopen connections at random for so long.
    #[arg(long, value_parser = humantime::parse_duration)]
    churn: Option<Duration>,
    /// Connections that are closed and reopened at a time, while they are churned.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    churn_batch: u32,
}

/// Memory while connections come and go.
#[derive(Clone, Copy, Debug, Serialize)]
struct Lap {
    seconds: f64,
    reopened: usize,
    resident_bytes: u64,
}

pub(super) async fn run(args: IdleArgs, role: Role) -> anyhow::Result<()> {
    apart(&role, move || measure(&args)).await
}

fn measure(args: &IdleArgs) -> anyhow::Result<()> {
    let most = args.most();
    let plan = Plan {
        workload: format!("idle: {most} connections, {} of them follow each table", args.viewers),
        clients: most,
        outbox: Outbox::Default,
        baseline: Duration::from_millis(500),
    };
    let report = rounds(&args.rounds, &plan, |peer, start| one(args, peer, start))?;
    report.write_json(args.rounds.json())?;
    report.print_head()?;
    report.print_figures()
}

impl IdleArgs {
    fn most(&self) -> usize {
        self.connections.iter().max().map_or(0, |most| *most as usize)
    }
}

fn one(args: &IdleArgs, peer: Peer, start: &Start<'_>) -> anyhow::Result<Measured<Lap>> {
    let (target, epoch) = (Target::start(peer, start)?, Epoch::start());
    let most = args.most();
    let tables = most.div_ceil(args.viewers as usize);
    let source = Source::open((peer, target.nats), Input::Stream, (tables, 1), epoch)?;
    let follows = (0..most).map(|client| Some(client / args.viewers as usize));
    let server = (target.language(), target.websocket);
    let mut swarm = Swarm::new(server, source.topics(), follows, epoch)?;
    swarm.run_until(epoch.now() + nanos(args.settling))?;
    let empty = target.resident()?;
    let mut figures = vec![figure("empty, MiB", empty as f64 / 1024.0 / 1024.0)];
    let (mut joined, mut spent, mut used) = (0, Duration::ZERO, Duration::ZERO);
    for &connections in &args.connections {
        let more: Vec<usize> = (joined..connections as usize).collect();
        let (began, cpu) = (epoch.now(), target.cpu()?);
        swarm.join_these(&more, JOINING)?;
        spent += Duration::from_nanos(epoch.now() - began);
        used += target.cpu()? - cpu;
        joined += more.len();
        swarm.run_until(epoch.now() + nanos(args.settling))?;
        let grown = target.resident()?.saturating_sub(empty) as f64;
        let name = format!("KiB a connection at {connections}");
        figures.push(figure(&name, grown / 1024.0 / f64::from(connections)));
    }
    figures.push(figure("set up per second", joined as f64 / spent.as_secs_f64()));
    figures.push(figure("CPU us a set-up", used.as_secs_f64() * 1e6 / joined as f64));
    let laps = match args.churn {
        Some(length) => churn(args, length, (&mut swarm, &target, epoch))?,
        None => Vec::new(),
    };
    figures.extend(growth(&laps, joined));
    figures.push(figure("connections lost", swarm.tally().gone as f64));
    Ok((figures, laps))
}

/// Closes and reopens random connections. Every lap has closed about as many as there are.
fn churn(
    args: &IdleArgs,
    length: Duration,
    (swarm, target, epoch): (&mut Swarm, &Target, Epoch),
) -> anyhow::Result<Vec<Lap>> {
    let (entropy, began) = (Entropy::from_os(), epoch.now());
    let (mut laps, mut reopened, mut lap_at) = (Vec::new(), 0, swarm.len());
    while epoch.now() - began < nanos(length) {
        let mut these: Vec<usize> = (0..args.churn_batch)
            .map(|_| u32::from_le_bytes(entropy.bytes()) as usize % swarm.len())
            .collect();
        these.sort_unstable();
        these.dedup();
        swarm.reset(&these)?;
        swarm.join_these(&these, JOINING)?;
        reopened += these.len();
        if reopened >= lap_at {
            lap_at += swarm.len();
            laps.push(Lap {
                seconds: Duration::from_nanos(epoch.now() - began).as_secs_f64(),
                reopened,
                resident_bytes: target.resident()?,
            });
        }
    }
    Ok(laps)
}

/// From the end of the first lap, when every connection is a second one, to the end of the last.
fn growth(laps: &[Lap], connections: usize) -> Vec<Figure> {
    let [first, .., last] = laps else { return Vec::new() };
    let grown = last.resident_bytes as f64 - first.resident_bytes as f64;
    vec![
        figure("churn: reopened", last.reopened as f64),
        figure("churn: KiB a connection grown", grown / 1024.0 / connections as f64),
    ]
}
