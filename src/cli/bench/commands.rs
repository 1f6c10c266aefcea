//! How long a command takes, beside the three hops it cannot avoid.

use std::time::Duration;

use anyhow::Context;
use async_nats::jetstream::stream;
use bytes::Bytes;
use clap::Args;
use futures_util::StreamExt;
use serde::Serialize;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::client::{Client, guest_token};
use super::counter::Counter;
use super::latencies::{Latencies, Percentiles};
use super::server::{Measured, ServerArgs};
use crate::bus::connect::{NatsConfig, connect};
use crate::bus::provision;
use crate::catalog::Catalog;
use crate::cli::{Role, print};
use crate::domain::TableId;
use crate::gateway::{self, GatewayConfig};
use crate::runtime::clock::Clock;
use crate::runtime::config::from_args;
use crate::runtime::entropy::Entropy;
use crate::worker::{self, WorkerConfig};

/// Rounds before the first one that counts.
const WARM_UP: usize = 500;
/// The size of the payload of the raw publish and the raw request: that of a small commit.
const PAYLOAD_BYTES: usize = 200;

/// The gateway's options: nothing is throttled, since that would be what is measured.
const GATEWAY: &[&str] = &[
    "--port=0",
    "--guest-tokens",
    "--token-secret=0123456789abcdef0123456789abcdef",
    "--inbound-rate=1000000",
    "--inbound-burst=1000000",
    "--player-rate=1000000",
    "--player-burst=1000000",
    "--outbound-bytes-rate=1000000000",
    "--outbound-bytes-burst=1000000000",
    "--outbound-rate=1000000",
    "--outbound-burst=1000000",
    "--outbound-table-rate=1000000",
    "--outbound-table-burst=1000000",
];

/// Options of `tablecast bench commands`.
#[derive(Args, Debug)]
pub(super) struct CommandsArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// How many commands are measured, each beside its three hops.
    #[arg(long, default_value_t = 5_000)]
    rounds: usize,
    /// One JSON value for programs.
    #[arg(long)]
    json: bool,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    streams: Measured,
    rounds: usize,
    websocket_echo: Percentiles,
    nats_request: Percentiles,
    jetstream_publish: Percentiles,
    /// The same into a stream with the settings of the event log: republished as it is stored.
    log_publish: Percentiles,
    /// Echo, request and plain publish.
    sum_of_hops: Percentiles,
    accepted: Percentiles,
    seen_by_another: Percentiles,
    accepted_to_hops_p50: f64,
    accepted_to_hops_p99: f64,
    /// With the publish into the log instead of the plain one.
    accepted_to_log_hops_p50: f64,
    seen_to_accepted_p50: f64,
    seen_to_accepted_p99: f64,
}

pub(super) async fn run(args: CommandsArgs, role: Role) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (server, nats) = args.server.start(dir.path()).await?;
    let mut roles = Roles::start(&nats, &role).await?;
    let measured = tokio::select! {
        measured = measure(&args, &server.url, &nats, &roles.address) => measured,
        () = role.stop.cancelled() => Err(anyhow::anyhow!("interrupted")),
    };
    roles.stop.cancel();
    while roles.tasks.join_next().await.is_some() {}
    server.stop().await;
    print_report(&measured?, args.json)
}

/// A worker and a gateway in this process, as `tablecast dev` has them.
struct Roles {
    address: String,
    stop: CancellationToken,
    tasks: JoinSet<anyhow::Result<()>>,
}

impl Roles {
    async fn start(nats: &NatsConfig, role: &Role) -> anyhow::Result<Self> {
        let catalog = Catalog::new().with::<Counter>();
        let stop = CancellationToken::new();
        let mut tasks: JoinSet<anyhow::Result<()>> = JoinSet::new();
        // A connection each, as two processes would have.
        let bus = connect(nats, "bench worker").await?;
        let time = (Clock::System, Entropy::from_os());
        let (worker_catalog, worker_stop) = (catalog.clone(), stop.clone());
        let config = from_args::<WorkerConfig>(&[])?;
        tasks.spawn(async move {
            Ok(worker::run(config, bus, worker_catalog, time, worker_stop).await?)
        });
        let config = from_args::<GatewayConfig>(GATEWAY)?;
        let listener = crate::cli::gateway::listen(&config)?;
        let address = listener.local_addr()?.to_string();
        let bus = connect(nats, "bench gateway").await?;
        let (metrics, gateway_stop) = (role.metrics.clone(), stop.clone());
        tasks.spawn(async move {
            let time = (Clock::System, Entropy::from_os());
            Ok(gateway::run(config, listener, bus, catalog, time, metrics, gateway_stop).await?)
        });
        Ok(Self { address, stop, tasks })
    }
}

/// Everything that takes turns in a round.
struct Bench {
    player: Client,
    viewer: Client,
    table: TableId,
    nats: async_nats::Client,
    jetstream: async_nats::jetstream::Context,
}

async fn measure(
    args: &CommandsArgs,
    url: &str,
    nats: &NatsConfig,
    address: &str,
) -> anyhow::Result<Report> {
    let mut bench = Bench::set_up(url, nats, address).await?;
    let streams = Measured::read(&bench.jetstream).await?;
    let _answering = bench.serve_raw_requests(url).await?;
    let mut latencies: [Latencies; 6] = Default::default();
    for round in 0..WARM_UP + args.rounds {
        let hops = [
            bench.echo(round).await?,
            bench.request().await?,
            bench.publish("bench.raw").await?,
            bench.publish("bench.log").await?,
        ];
        let command = bench.command(round).await?;
        if round >= WARM_UP {
            let measured = hops.into_iter().chain(command);
            latencies.iter_mut().zip(measured).for_each(|(all, latency)| all.record(latency));
        }
    }
    let [echo, request, publish, log_publish, accepted, seen] =
        latencies.map(Latencies::percentiles);
    let sum = Percentiles {
        p50_us: echo.p50_us + request.p50_us + publish.p50_us,
        p99_us: echo.p99_us + request.p99_us + publish.p99_us,
    };
    Ok(Report {
        streams,
        rounds: args.rounds,
        websocket_echo: echo,
        nats_request: request,
        jetstream_publish: publish,
        log_publish,
        sum_of_hops: sum,
        accepted,
        seen_by_another: seen,
        accepted_to_hops_p50: accepted.p50_us / sum.p50_us,
        accepted_to_hops_p99: accepted.p99_us / sum.p99_us,
        accepted_to_log_hops_p50: accepted.p50_us
            / (echo.p50_us + request.p50_us + log_publish.p50_us),
        seen_to_accepted_p50: seen.p50_us / accepted.p50_us,
        seen_to_accepted_p99: seen.p99_us / accepted.p99_us,
    })
}

impl Bench {
    async fn set_up(url: &str, config: &NatsConfig, address: &str) -> anyhow::Result<Self> {
        let token = guest_token(address, "Bench").await?;
        let mut player = Client::connect(address, Some(&token)).await?;
        let open = json!({
            "type": "open", "id": "open", "kind": "bench-counter", "options": {"start": "when_full"},
        });
        player.send(&open).await?;
        let opened = player.expect("opened").await?;
        let table = opened["table"].as_str().context("an opened table has an id")?.parse()?;
        let mut viewer = Client::connect(address, None).await?;
        viewer.subscribe(table).await?;
        let nats = async_nats::connect(url).await?;
        let jetstream = async_nats::jetstream::new(nats.clone());
        let plain = stream::Config {
            name: "BENCH_RAW".to_owned(),
            subjects: vec!["bench.raw".to_owned()],
            ..Default::default()
        };
        let definitions = provision::definitions(config);
        let events = definitions.into_iter().next().context("there is a stream of events")?;
        let like_the_log = stream::Config {
            name: "BENCH_LOG".to_owned(),
            subjects: vec!["bench.log".to_owned()],
            republish: Some(stream::Republish {
                source: "bench.log".to_owned(),
                destination: "bench.live".to_owned(),
                headers_only: false,
            }),
            ..events
        };
        jetstream.create_stream(plain).await?;
        jetstream.create_stream(like_the_log).await?;
        Ok(Self { player, viewer, table, nats, jetstream })
    }

    /// Answers raw requests from another connection, as a worker does.
    async fn serve_raw_requests(&self, url: &str) -> anyhow::Result<JoinSet<()>> {
        let served = async_nats::connect(url).await?;
        let mut requests = served.subscribe("bench.request").await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while let Some(request) = requests.next().await {
                if let Some(inbox) = request.reply {
                    served.publish(inbox, request.payload).await.ok();
                }
            }
        });
        // The other connection's interest is known to the server once a request is answered.
        while self.nats.request("bench.request", Bytes::new()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(tasks)
    }

    /// A frame to the gateway and back, no role behind it.
    async fn echo(&mut self, round: usize) -> anyhow::Result<Duration> {
        let started = Instant::now();
        self.player.send(&json!({"type": "ping", "data": round})).await?;
        self.player.expect("pong").await?;
        Ok(started.elapsed())
    }

    async fn request(&self) -> anyhow::Result<Duration> {
        let payload = Bytes::from_static(&[0; PAYLOAD_BYTES]);
        let started = Instant::now();
        self.nats.request("bench.request", payload).await?;
        Ok(started.elapsed())
    }

    async fn publish(&self, subject: &'static str) -> anyhow::Result<Duration> {
        let payload = Bytes::from_static(&[0; PAYLOAD_BYTES]);
        let started = Instant::now();
        self.jetstream.publish(subject, payload).await?.await?;
        Ok(started.elapsed())
    }

    /// A command: until its verdict, and until another viewer has its commit.
    async fn command(&mut self, round: usize) -> anyhow::Result<[Duration; 2]> {
        let id = format!("c{round}");
        let command = json!({"type": "raise"});
        let frame = json!({"type": "command", "id": id, "table": self.table, "command": command});
        let (player, viewer) = (&mut self.player, &mut self.viewer);
        let started = Instant::now();
        player.send(&frame).await?;
        let accepted = async {
            player.expect("accepted").await?;
            anyhow::Ok(started.elapsed())
        };
        let seen = async {
            viewer.expect("commit").await?;
            anyhow::Ok(started.elapsed())
        };
        let (accepted, seen) = tokio::try_join!(accepted, seen)?;
        Ok([accepted, seen])
    }
}

fn print_report(report: &Report, json: bool) -> anyhow::Result<()> {
    if json {
        return print::json(report);
    }
    let row = |name: &str, percentiles: Percentiles| {
        let Percentiles { p50_us, p99_us } = percentiles;
        vec![name.to_owned(), format!("{p50_us:.0}"), format!("{p99_us:.0}")]
    };
    let ratio = |name: &str, p50: f64, p99: f64| {
        vec![name.to_owned(), format!("{p50:.2}"), format!("{p99:.2}")]
    };
    print::line(&format!("{}; {} rounds", report.streams, report.rounds))?;
    print::columns(
        &["MICROSECONDS", "P50", "P99"],
        &[
            row("websocket echo", report.websocket_echo),
            row("nats request and reply", report.nats_request),
            row("jetstream publish, awaited", report.jetstream_publish),
            row("  with the log's settings", report.log_publish),
            row("sum of the three hops", report.sum_of_hops),
            row("command until accepted", report.accepted),
            row("command until seen by another", report.seen_by_another),
            ratio("accepted / hops", report.accepted_to_hops_p50, report.accepted_to_hops_p99),
            vec![
                "  with the log's settings".to_owned(),
                format!("{:.2}", report.accepted_to_log_hops_p50),
            ],
            ratio("seen / accepted", report.seen_to_accepted_p50, report.seen_to_accepted_p99),
        ],
    )
}
