//! How long tables stand still when the worker that owns them all is killed, and what a table costs in memory.

mod report;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use futures_util::StreamExt;
use futures_util::stream::{self, TryStreamExt};
use serde_json::json;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use report::{Report, print_report};

use super::client::{Client, guest_token};
use super::latencies::Latencies;
use super::server::{Measured, ServerArgs};
use crate::bus::connect::{NatsConfig, client, connect};
use crate::bus::{Append, Bus, RequestError, provision};
use crate::cli::Role;
use crate::domain::{Identity, Kind, Seating, StartRule, TableId, TableOptions};
use crate::protocol::envelope::header;
use crate::protocol::request::{
    AdoptRequest, CommandRequest, OpenRequest, TableRequest, Verdict, decode, encode,
};
use crate::protocol::subject::{self, Address};
use crate::runtime::clock::Clock;
use crate::runtime::entropy::Entropy;

/// Requests under way at a time, in every phase.
const AT_ONCE: usize = 64;
/// What any phase may take before the measurement counts as broken.
const PHASE_MAX: Duration = Duration::from_secs(180);
/// Tables followed by one connection.
const PER_CONNECTION: usize = 1000;
/// How many sleeping tables are woken one after another.
const WAKES: usize = 500;
/// How long a new worker has to be heard by the others, and by gateways.
const HEARD: Duration = Duration::from_secs(2);

/// Options of `tablecast bench recovery`.
#[derive(Args, Debug)]
pub(super) struct RecoveryArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// How many tables of chess one worker owns when it is killed.
    #[arg(long, default_value = "10000")]
    tables: NonZeroUsize,
    /// How many moves have been made at each table by then.
    #[arg(long, default_value_t = 2, value_parser = moves)]
    moves: usize,
    /// One JSON value for programs.
    #[arg(long)]
    json: bool,
}

fn moves(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(moves) if (1..=MOVES_MAX).contains(&moves) => Ok(moves),
        Ok(_) | Err(_) => Err(format!("a number from 1 to {MOVES_MAX}")),
    }
}

pub(super) async fn run(args: RecoveryArgs, role: Role) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (server, nats) = args.server.start(dir.path()).await?;
    let measured = tokio::select! {
        measured = measure(&args, &nats, &server.url) => measured,
        () = role.stop.cancelled() => Err(anyhow::anyhow!("interrupted")),
    };
    server.stop().await;
    print_report(&measured?, args.json)
}

async fn measure(args: &RecoveryArgs, nats: &NatsConfig, url: &str) -> anyhow::Result<Report> {
    let bus = connect(nats, "bench recovery").await?;
    let raw = client(nats, "bench raw").await?;
    let streams = Measured::read(&provision::context(&raw)).await?;
    let bench = Bench { bus, raw, url: url.to_owned(), entropy: Entropy::from_os() };
    let tables = args.tables.get();

    let mut first = bench.worker("bench-a", &[])?;
    let opened = Instant::now();
    let ids = bench.open_all(tables).await?;
    let opened_per_second = tables as f64 / opened.elapsed().as_secs_f64();
    for number in 0..args.moves {
        bench.play_all(&ids, number).await?;
    }

    let mut second = bench.worker("bench-b", &[])?;
    let watched = bench.watched(&mut first, &ids).await?;

    let mut third = bench.worker("bench-c", &[])?;
    sleep(HEARD).await;
    let before = resident_bytes(&third)?;
    second.kill().await?;
    let played = Instant::now();
    let latencies = bench.play_all(&ids, args.moves).await?;
    let played_seconds = played.elapsed().as_secs_f64();
    let active = resident_bytes(&third)?;
    third.kill().await?;
    let (asleep, woken) = bench.asleep(&ids, args.moves + 1).await?;
    let bare = bench.bare(&ids).await?.as_secs_f64();

    let per_table = |bytes: u64| bytes as f64 / tables as f64;
    Ok(Report {
        streams,
        tables,
        moves: args.moves,
        opened_per_second,
        bare_seconds: bare,
        watched_seconds: watched.as_secs_f64(),
        watched_to_bare: watched.as_secs_f64() / bare,
        played_seconds,
        played_to_bare: played_seconds / bare,
        played: latencies.percentiles(),
        worker_bytes: before,
        bytes_per_active_table: per_table(active.saturating_sub(before)),
        bytes_per_sleeping_table: per_table(asleep),
        woken: woken.percentiles(),
    })
}

/// A fleet on one server, asked as gateways ask it.
struct Bench {
    bus: Bus,
    raw: async_nats::Client,
    url: String,
    entropy: Entropy,
}

/// The same game is played at every table: Morphy against two amateurs at the opera, Paris 1858.
#[rustfmt::skip]
const MOVES: [&str; 30] = [
    "e4", "e5", "Nf3", "d6", "d4", "Bg4", "dxe5", "Bxf3", "Qxf3", "dxe5",
    "Bc4", "Nf6", "Qb3", "Qe7", "Nc3", "c6", "Bg5", "b5", "Nxb5", "cxb5",
    "Bxb5+", "Nbd7", "O-O-O", "Rd8", "Rxd7", "Rxd7", "Rd1", "Qe6", "Bxd7+", "Nxd7",
];
/// So many of them can be made before the first kill: three come after it.
const MOVES_MAX: usize = MOVES.len() - 3;
/// In so many parts tables fall asleep: memory that a part has given back serves the next, so that what the worker
/// holds in the end is what sleeping tables need, and little more.
const PARTS: usize = 8;

impl Bench {
    /// This very binary, as a worker of its own.
    fn worker(&self, id: &str, more: &[&str]) -> anyhow::Result<Child> {
        let mut command = Command::new(binary()?);
        command.args(["--log", "error", "worker", "--nats-url", &self.url, "--worker-id", id]);
        command.args(["--tables-max", "1000000", "--memory-max", "64GiB"]).args(more);
        command
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("a worker cannot be started")
    }

    async fn open_all(&self, tables: usize) -> anyhow::Result<Vec<TableId>> {
        let ids: Vec<TableId> =
            (0..tables).map(|_| self.entropy.table_id(Clock::System.now())).collect();
        let opened = stream::iter(ids.iter().map(|id| Ok(*id)))
            .try_for_each_concurrent(AT_ONCE, |id| self.open(id));
        timeout(PHASE_MAX, opened).await.context("tables are opened in time")??;
        Ok(ids)
    }

    async fn open(&self, table: TableId) -> anyhow::Result<()> {
        let seat = |name: &str| -> anyhow::Result<Seating> {
            Ok(Seating::Human { player: name.parse()?, name: name.to_owned() })
        };
        let request = encode(&OpenRequest {
            table,
            by: player("white")?,
            id: "open".parse()?,
            setup: json!({ "initial_ms": 3_600_000 }),
            options: TableOptions {
                start: StartRule::WhenFull,
                // No gateway speaks for the players, and no bot is to play for them.
                grace_ms: Some(3_600_000),
                ..TableOptions::default()
            },
            seats: vec![seat("white")?, seat("black")?],
            host: None,
            request: None,
        });
        let subject = subject::open(&chess()?);
        loop {
            match self.ask(&subject, request.clone()).await {
                Ok(Verdict::Accepted { .. }) => return Ok(()),
                Ok(Verdict::Rejected(refusal)) => bail!("not opened: {}", refusal.message),
                // The worker has not started to listen yet.
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// The same move at every table, by whoever owns it or takes it.
    async fn play_all(&self, ids: &[TableId], number: usize) -> anyhow::Result<Latencies> {
        let played = stream::iter(ids)
            .map(|id| self.play(*id, number))
            .buffer_unordered(AT_ONCE)
            .try_collect::<Vec<Duration>>();
        let played = timeout(PHASE_MAX, played).await.context("moves are accepted in time")??;
        let mut latencies = Latencies::default();
        played.into_iter().for_each(|latency| latencies.record(latency));
        Ok(latencies)
    }

    async fn play(&self, table: TableId, number: usize) -> anyhow::Result<Duration> {
        let started = Instant::now();
        let by = if number.is_multiple_of(2) { "white" } else { "black" };
        let request = encode(&TableRequest::Command(CommandRequest {
            by: player(by)?,
            id: format!("m{number}").parse()?,
            command: json!({ "type": "move", "san": MOVES[number] }),
            gateway: None,
            request: None,
        }));
        let (cmd, adopt) = (subject::cmd(table), subject::adopt(&chess()?));
        loop {
            match self.ask(&cmd, request.clone()).await {
                Ok(Verdict::Accepted { .. }) => return Ok(started.elapsed()),
                Ok(Verdict::Rejected(refusal)) if refusal.retry_after_ms.is_none() => {
                    bail!("refused: {}", refusal.message);
                }
                Err(RequestError::NoResponders) => {
                    let request = encode(&AdoptRequest::new(table));
                    let mail = &self.bus.mail;
                    mail.request(adopt.clone(), request, Duration::from_secs(5)).await.ok();
                }
                Ok(Verdict::Rejected(_))
                | Err(RequestError::Timeout | RequestError::Unreachable) => {
                    sleep(Duration::from_millis(5)).await;
                }
            }
        }
    }

    /// One request. As a gateway does, it does not wait long for an answer that may never come.
    async fn ask(&self, subject: &str, request: bytes::Bytes) -> Result<Verdict, RequestError> {
        let patience = Duration::from_millis(500);
        let answer = self.bus.mail.request(subject.to_owned(), request, patience).await?;
        decode(&answer).map_err(|_not_a_verdict| RequestError::Unreachable)
    }

    /// Kills the owner of tables that a gateway's spectators follow, and waits for the next owner's claims.
    async fn watched(&self, owner: &mut Child, ids: &[TableId]) -> anyhow::Result<Duration> {
        let port = free_port()?;
        let mut gateway = self.gateway(port)?;
        let address = format!("127.0.0.1:{port}");
        let spectators = follow(&address, ids).await?;
        sleep(HEARD).await;
        let mut live = self.raw.subscribe("tc.live.>").await?;
        self.raw.flush().await?;
        owner.kill().await?;
        let killed = Instant::now();
        let mut missing: std::collections::BTreeSet<TableId> = ids.iter().copied().collect();
        let claims = async {
            while !missing.is_empty() {
                let message = live.next().await.context("the bus is there")?;
                let types = message.headers.as_ref().and_then(|headers| headers.get(header::TYPE));
                if types.is_some_and(|types| types.as_str().contains("table.claimed"))
                    && let Some(address) = Address::parse(&message.subject)
                {
                    missing.remove(&address.table);
                }
            }
            anyhow::Ok(killed.elapsed())
        };
        let took = timeout(PHASE_MAX, claims).await.context("every table is claimed in time")?;
        drop(spectators);
        gateway.kill().await?;
        took
    }

    fn gateway(&self, port: u16) -> anyhow::Result<Child> {
        let (port, per_connection) = (port.to_string(), PER_CONNECTION.to_string());
        let mut command = Command::new(binary()?);
        command.args(["--log", "error", "gateway", "--nats-url", &self.url, "--port", &port]);
        command.args(["--token-secret", "a-secret-of-this-measurement-only", "--guest-tokens"]);
        command.args(["--subscriptions-max", &per_connection]);
        command.args(["--inbound-rate", "100000", "--inbound-burst", "100000"]);
        command.args(["--player-rate", "100000", "--player-burst", "100000"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        command.spawn().context("no gateway can be started")
    }

    /// What a worker holds for tables that all sleep, and how long they take to wake.
    async fn asleep(&self, ids: &[TableId], number: usize) -> anyhow::Result<(u64, Latencies)> {
        let admin = free_port()?;
        let bind = format!("127.0.0.1:{admin}");
        let mut worker = self.worker("bench-d", &["--sleep-after", "1s", "--admin-bind", &bind])?;
        sleep(HEARD).await;
        let before = resident_bytes(&worker)?;
        let mut asleep = 0;
        for part in ids.chunks(ids.len().div_ceil(PARTS)) {
            self.play_all(part, number).await?;
            asleep += part.len();
            self.all_asleep(admin, asleep).await?;
        }
        let held = resident_bytes(&worker)?.saturating_sub(before);
        let woken = self.wake(ids, number + 1).await?;
        worker.kill().await?;
        Ok((held, woken))
    }

    /// Waits until the worker says that all its tables sleep.
    async fn all_asleep(&self, admin: u16, tables: usize) -> anyhow::Result<()> {
        let url = format!("http://127.0.0.1:{admin}/metrics");
        let asleep = async {
            loop {
                let metrics = reqwest::get(&url).await?.text().await?;
                let count = metrics.lines().find_map(|line| {
                    line.strip_prefix("tablecast_worker_tables_asleep ")?.parse::<f64>().ok()
                });
                if count.is_some_and(|count| count >= tables as f64) {
                    return anyhow::Ok(());
                }
                sleep(Duration::from_millis(200)).await;
            }
        };
        timeout(PHASE_MAX, asleep).await.context("tables fall asleep in time")?
    }

    async fn wake(&self, ids: &[TableId], number: usize) -> anyhow::Result<Latencies> {
        let mut latencies = Latencies::default();
        for id in ids.iter().take(WAKES) {
            latencies.record(self.play(*id, number).await?);
        }
        Ok(latencies)
    }

    /// What a recovery cannot do without: a read of every table's last commit, and one append to each.
    async fn bare(&self, ids: &[TableId]) -> anyhow::Result<Duration> {
        let started = Instant::now();
        stream::iter(ids.iter().map(anyhow::Ok))
            .try_for_each_concurrent(AT_ONCE, |table| async move {
                let address = Address::new(*table, chess()?, self.bus.log.shards());
                let last = self.bus.log.newest(&address).await?.context("a table has commits")?;
                let append = Append {
                    address,
                    after: last.seq,
                    id: format!("{table}:bare"),
                    types: "bench".to_owned(),
                    worker: "bench".parse()?,
                    command: None,
                    payload: last.payload,
                };
                self.bus.log.append(append).await?;
                Ok(())
            })
            .await?;
        Ok(started.elapsed())
    }
}

fn binary() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("this binary cannot be found")
}

fn chess() -> anyhow::Result<Kind> {
    Ok("chess".parse()?)
}

fn player(name: &str) -> anyhow::Result<Identity> {
    Ok(Identity { player: name.parse()?, name: name.to_owned() })
}

/// A port that was free a moment ago.
fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Spectators that follow all tables. They read nothing more: what counts is that the gateway follows.
async fn follow(address: &str, ids: &[TableId]) -> anyhow::Result<Vec<Client>> {
    let started = Instant::now();
    let token = loop {
        match guest_token(address, "Watcher").await {
            Ok(token) => break token,
            Err(_) if started.elapsed() < HEARD * 5 => sleep(Duration::from_millis(50)).await,
            Err(error) => return Err(error),
        }
    };
    let mut spectators = Vec::new();
    for tables in ids.chunks(PER_CONNECTION) {
        let mut spectator = Client::connect(address, Some(&token)).await?;
        for table in tables {
            spectator.subscribe(*table).await?;
        }
        spectators.push(spectator);
    }
    Ok(spectators)
}

/// The resident set of a child, as Linux has it.
fn resident_bytes(child: &Child) -> anyhow::Result<u64> {
    let pid = child.id().context("the worker runs")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix("kB"));
    let kibibytes: u64 = kibibytes.context("Linux says it")?.trim().parse()?;
    Ok(kibibytes * 1024)
}
