//! `tablecast bench storm`: everybody is cut off at once, and wants to be back at once.

use std::time::Duration;

use clap::Args;

use super::nats_line::{Came, NatsLine};
use super::rounds::{Measured, Plan, RoundsArgs, apart, figure, rounds};
use super::source::{Input, Source};
use super::swarm::{Epoch, Joining, Swarm, nanos};
use super::target::{Outbox, Peer, Start, Target};
use crate::cli::Role;

/// Events of each table: with 200 bytes each, a snapshot that holds them all is some 1 KB.
const EVENTS: usize = 4;
/// How long everything is left alone before the cut.
const CALM: Duration = Duration::from_secs(1);
/// Every request to a stream, reads among them.
const REQUESTS: &str = "$JS.API.>";
/// Reads of a message, of all of a subject, of a leader's.
const READS: [&str; 2] = ["$JS.API.DIRECT.GET.", "$JS.API.STREAM.MSG.GET."];

/// Options of `tablecast bench storm`.
#[derive(Args, Clone, Debug)]
pub(super) struct StormArgs {
    #[command(flatten)]
    rounds: RoundsArgs,
    /// How many clients are cut off.
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..=25_000))]
    clients: u32,
    /// How many tables they follow.
    #[arg(long, default_value_t = 1250, value_parser = clap::value_parser!(u32).range(1..))]
    tables: u32,
    /// How many clients may be between connecting and having their state.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    at_once: u32,
}

pub(super) async fn run(args: StormArgs, role: Role) -> anyhow::Result<()> {
    apart(&role, move || measure(&args)).await
}

fn measure(args: &StormArgs) -> anyhow::Result<()> {
    let StormArgs { clients, tables, at_once, .. } = args;
    let plan = Plan {
        workload: format!(
            "storm: {clients} clients at {tables} tables are reset, {at_once} in setup at a time; \
             state: a snapshot with {EVENTS} events (nats-ws: none)"
        ),
        clients: *clients as usize,
        outbox: Outbox::Default,
        baseline: Duration::from_millis(500),
    };
    let report = rounds(&args.rounds, &plan, |peer, start| one(args, peer, start))?;
    report.write_json(args.rounds.json())?;
    report.print_head()?;
    report.print_figures()
}

fn one(args: &StormArgs, peer: Peer, start: &Start<'_>) -> anyhow::Result<Measured<()>> {
    let (target, epoch) = (Target::start(peer, start)?, Epoch::start());
    let tables = args.tables as usize;
    let source = Source::open((peer, target.nats), Input::Stream, (tables, EVENTS), epoch)?;
    let follows = (0..args.clients as usize).map(|client| Some(client % tables));
    let server = (target.language(), target.websocket);
    let mut swarm = Swarm::new(server, source.topics(), follows, epoch)?;
    let joining = Joining { at_once: args.at_once as usize, patience: Duration::from_secs(120) };
    swarm.join(joining)?;
    swarm.run_until(epoch.now() + nanos(CALM))?;
    // Requests to the stream are messages like any other: whoever listens can count them.
    let mut requests = NatsLine::connect(target.nats, Some(REQUESTS))?;
    let (everybody, cpu): (Vec<usize>, _) = ((0..swarm.len()).collect(), target.cpu()?);
    swarm.take_tally();
    swarm.reset(&everybody)?;
    let mut joined = swarm.join_these(&everybody, joining)?;
    let cpu = target.cpu()? - cpu;
    let (mut all, mut reads) = (0_u32, 0_u32);
    requests.settle(|came| {
        let Came::Message { subject, .. } = came else { return };
        all += 1;
        reads += u32::from(READS.iter().any(|read| subject.starts_with(read.as_bytes())));
    })?;
    joined.ready_after.sort_unstable();
    let at = |percent: usize| {
        let last = joined.ready_after.len() - 1;
        Duration::from_nanos(joined.ready_after[last * percent / 100]).as_secs_f64()
    };
    let figures = vec![
        figure("all back, s", at(100)),
        figure("p50 s", at(50)),
        figure("p99 s", at(99)),
        figure("server CPU s", cpu.as_secs_f64()),
        figure("reads of streams", f64::from(reads)),
        figure("all requests to JetStream", f64::from(all)),
        figure("refused", joined.refused as f64),
        figure("clients refused twice", joined.refused_again as f64),
        figure("frames that were errors", swarm.tally().errors as f64),
    ];
    Ok((figures, Vec::new()))
}
