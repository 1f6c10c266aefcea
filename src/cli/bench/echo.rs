//! `tablecast bench echo`: a question and its answer, with nothing behind the gateway.

use std::io::Write;
use std::net::TcpStream;
use std::ops::Range;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::fanout::rate;
use super::figures::{Figure, shown};
use super::machine::{Part, cpu_of_thread};
use super::pace::paced;
use super::rounds::{Measured, Plan, RoundsArgs, apart, figure, rounds};
use super::swarm::{BINARY, Epoch, Joining, Language, Swarm, TEXT, nanos, put};
use super::target::{Outbox, Peer, Start, Target};
use crate::cli::{Role, print};

const JOINING: Joining = Joining { at_once: 200, patience: Duration::from_secs(60) };
const WARM_UP: Duration = Duration::from_millis(500);
/// How long answers may take to arrive after the last question.
const DRAIN: Duration = Duration::from_secs(2);

/// Options of `tablecast bench echo`.
#[derive(Args, Clone, Debug)]
pub(super) struct EchoArgs {
    #[command(flatten)]
    rounds: RoundsArgs,
    /// Connections that ask in turns.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// Questions per second of all connections, for each step.
    #[arg(long, value_delimiter = ',', default_value = "1000,10000,40000", value_parser = rate)]
    rates: Vec<f64>,
    /// How long a step is measured.
    #[arg(long, default_value_t = 2.5, value_parser = rate)]
    seconds: f64,
}

/// One rate for a while.
#[derive(Clone, Debug, Serialize)]
struct Step {
    questions_per_second: f64,
    answers_per_second: f64,
    of_asked: f64,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    cpu_seconds_per_million: f64,
    server_core: f64,
    client_core: f64,
}

pub(super) async fn run(args: EchoArgs, role: Role) -> anyhow::Result<()> {
    apart(&role, move || measure(&args)).await
}

fn measure(args: &EchoArgs) -> anyhow::Result<()> {
    let plan = Plan {
        workload: format!("echo: {} connections, the gateway's own ping frame", args.connections),
        clients: args.connections as usize * 2,
        outbox: Outbox::Patient,
        baseline: Duration::from_secs_f64(args.seconds / 2.5),
    };
    let report = rounds(&args.rounds, &plan, |peer, start| steps(args, peer, start))?;
    report.write_json(args.rounds.json())?;
    report.print_head()?;
    report.print_figures()?;
    let cores = |of: fn(&Step) -> f64| {
        shown(report.outcomes.iter().flat_map(|outcome| &outcome.steps).map(of))
    };
    print::line(&format!(
        "share of a core, all steps: servers {}, client {}",
        cores(|step| step.server_core),
        cores(|step| step.client_core)
    ))
}

fn steps(args: &EchoArgs, peer: Peer, start: &Start<'_>) -> anyhow::Result<Measured<Step>> {
    let (target, epoch) = (Target::start(peer, start)?, Epoch::start());
    let connections = args.connections as usize;
    // A client of NATS follows a subject of its own, and says to itself what it is to be answered.
    let (topics, follows): (Vec<String>, Vec<Option<usize>>) = match peer {
        Peer::Tablecast => (Vec::new(), vec![None; connections]),
        Peer::NatsWs => {
            ((0..connections).map(subject).collect(), (0..connections).map(Some).collect())
        }
    };
    let server = (target.language(), target.websocket);
    let mut swarm = Swarm::new(server, topics, follows.into_iter(), epoch)?;
    swarm.join(JOINING)?;
    let mut sockets = swarm.senders()?;
    let (mut figures, mut steps) = (Vec::new(), Vec::new());
    for &rate in &args.rates {
        let from = epoch.now() + nanos(Duration::from_millis(20));
        let window = from + nanos(WARM_UP)..from + nanos(WARM_UP) + nanos(secs(args.seconds));
        let step = std::thread::scope(|scope| {
            let asking = scope.spawn(|| {
                start.cores.take(Part::Rest)?;
                ask(&mut sockets, target.language(), (rate, from), &window, epoch)
            });
            let answered = answered(&mut swarm, &target, &window, epoch);
            let asked =
                asking.join().map_err(|_panic| anyhow::anyhow!("the asker has panicked"))??;
            answered.map(|step| step(rate, asked))
        })?;
        swarm.run_until(epoch.now() + nanos(DRAIN.min(secs(args.seconds))))?;
        figures.extend(figures_of(&step));
        steps.push(step);
    }
    Ok((figures, steps))
}

fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn subject(index: usize) -> String {
    format!("bench.echo.{index}")
}

/// Asks until the window ends, and says how many questions fell into it.
fn ask(
    sockets: &mut [TcpStream],
    language: Language,
    (rate, from): (f64, u64),
    window: &Range<u64>,
    epoch: Epoch,
) -> anyhow::Result<u64> {
    let (mut next, mut asked, mut frame) = (0, 0, Vec::new());
    paced((rate, from), window.end, epoch, |count| {
        for _ in 0..count {
            let stamp = epoch.now();
            frame.clear();
            match language {
                Language::Tablecast => {
                    let text = format!(r#"{{"type":"ping","data":{stamp}}}"#);
                    put(&mut frame, TEXT, text.as_bytes());
                }
                Language::Nats => {
                    let text = format!(r#"{{"type":"ping","t":{stamp}}}"#);
                    let line = format!("PUB {} {}\r\n{text}\r\n", subject(next), text.len());
                    put(&mut frame, BINARY, line.as_bytes());
                }
            }
            write_all(&mut sockets[next], &frame)?;
            next = (next + 1) % sockets.len();
            asked += u64::from(window.contains(&stamp));
        }
        Ok(())
    })?;
    Ok(asked)
}

/// The socket is shared with the client, which does not wait for it.
fn write_all(socket: &mut TcpStream, mut bytes: &[u8]) -> anyhow::Result<()> {
    while !bytes.is_empty() {
        match socket.write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_micros(200));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn answered(
    swarm: &mut Swarm,
    target: &Target,
    window: &Range<u64>,
    epoch: Epoch,
) -> anyhow::Result<impl FnOnce(f64, u64) -> Step + use<>> {
    swarm.run_until(window.start)?;
    swarm.take_tally();
    let (began, server, client) = (epoch.now(), target.cpu()?, cpu_of_thread()?);
    swarm.run_until(window.end)?;
    let wall = Duration::from_nanos(epoch.now() - began).as_secs_f64();
    let server = (target.cpu()? - server).as_secs_f64();
    let client = (cpu_of_thread()? - client).as_secs_f64();
    let tally = swarm.take_tally();
    Ok(move |rate, asked: u64| {
        let answers = tally.deliveries as f64;
        let millis = |percent| tally.latencies.percentile(percent).as_secs_f64() * 1e3;
        Step {
            questions_per_second: rate,
            answers_per_second: answers / wall,
            of_asked: answers / asked.max(1) as f64,
            p50_ms: millis(50.0),
            p99_ms: millis(99.0),
            max_ms: tally.latencies.longest().as_secs_f64() * 1e3,
            cpu_seconds_per_million: server * 1e6 / answers.max(1.0),
            server_core: server / wall,
            client_core: client / wall,
        }
    })
}

fn figures_of(step: &Step) -> Vec<Figure> {
    let asked = step.questions_per_second;
    vec![
        figure(&format!("{asked:.0}/s: p50 ms"), step.p50_ms),
        figure(&format!("{asked:.0}/s: p99 ms"), step.p99_ms),
        figure(&format!("{asked:.0}/s: CPU s per million"), step.cpu_seconds_per_million),
        figure(&format!("{asked:.0}/s: answered of asked"), step.of_asked),
    ]
}
