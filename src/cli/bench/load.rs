//! How long it takes to get one long table of many into memory, beside the bare read of its commits.

use std::num::NonZeroUsize;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use async_nats::Client;
use clap::Args;
use futures_util::StreamExt;
use futures_util::stream::{self, TryStreamExt};
use serde::Serialize;
use serde_json::json;
use tokio::time::{Instant, timeout};

use super::counter::Counter;
use super::latencies::{Latencies, Percentiles};
use super::server::{Measured, ServerArgs};
use crate::bus::connect::{NatsConfig, client, connect};
use crate::bus::{Append, Bus, provision};
use crate::catalog::{Catalog, Drafted, Referee, Rules};
use crate::cli::{Role, print};
use crate::domain::{
    Cause, CommandId, Identity, Opening, Seating, StartRule, StreamSeq, TableOptions, TableSeq,
    WorkerId,
};
use crate::protocol::envelope::SavedState;
use crate::protocol::subject::{self, Address};
use crate::runtime::clock::Clock;
use crate::runtime::entropy::Entropy;

/// Rounds before the first one that counts.
const WARM_UP: usize = 20;
/// Commits after a table's snapshot.
const TAIL: usize = 5;
/// Appends under way while the tables are made; each table has one at a time.
const APPENDS: usize = 64;
/// What one answer may take before the measurement counts as broken.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Options of `tablecast bench load`.
#[derive(Args, Debug)]
pub(super) struct LoadArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// How many tables stand in the log, their commits among each other's.
    #[arg(long, default_value = "200")]
    tables: NonZeroUsize,
    /// How many commits each table has.
    #[arg(long, default_value_t = 300, value_parser = commits())]
    commits: u64,
    /// How many loads are measured, each in every way.
    #[arg(long, default_value = "500")]
    rounds: NonZeroUsize,
    /// One JSON value for programs.
    #[arg(long)]
    json: bool,
}

/// A snapshot needs a table before it, and a batch ends with a thousand.
fn commits() -> clap::builder::RangedU64ValueParser<u64> {
    clap::value_parser!(u64).range(TAIL as u64 + 2..=1000)
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    streams: Measured,
    tables: usize,
    commits: u64,
    rounds: usize,
    /// One batched direct get by hand: nothing is looked at.
    raw_read: Percentiles,
    /// The same through the event log: checked and parsed.
    log_read: Percentiles,
    /// And folded into a worker's state.
    read_and_fold: Percentiles,
    /// A snapshot, restored, and the commits after it.
    snapshot_and_tail: Percentiles,
    log_read_to_raw_p50: f64,
    log_read_to_raw_p99: f64,
    read_and_fold_to_raw_p50: f64,
    read_and_fold_to_raw_p99: f64,
    snapshot_to_raw_p50: f64,
    snapshot_to_raw_p99: f64,
}

pub(super) async fn run(args: LoadArgs, role: Role) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (server, nats) = args.server.start(dir.path()).await?;
    let measured = tokio::select! {
        measured = measure(&args, &nats) => measured,
        () = role.stop.cancelled() => Err(anyhow::anyhow!("interrupted")),
    };
    server.stop().await;
    print_report(&measured?, args.json)
}

async fn measure(args: &LoadArgs, nats: &NatsConfig) -> anyhow::Result<Report> {
    let catalog = Catalog::new().with::<Counter>();
    let rules = catalog.rules().next().context("there is one game")?;
    let bus = connect(nats, "bench load").await?;
    let raw = client(nats, "bench raw").await?;
    let streams = Measured::read(&provision::context(&raw)).await?;
    let tables = make_tables(args, &bus, rules.as_ref()).await?;
    let bench = Bench { bus, raw, rules: rules.as_ref(), commits: args.commits };
    let mut latencies: [Latencies; 4] = Default::default();
    for (round, address) in tables.iter().cycle().take(WARM_UP + args.rounds.get()).enumerate() {
        let measured = [
            bench.raw_read(address).await?,
            bench.log_read(address).await?,
            bench.read_and_fold(address).await?,
            bench.snapshot_and_tail(address).await?,
        ];
        if round >= WARM_UP {
            latencies.iter_mut().zip(measured).for_each(|(all, latency)| all.record(latency));
        }
    }
    let [raw, log, fold, snapshot] = latencies.map(Latencies::percentiles);
    Ok(Report {
        streams,
        tables: args.tables.get(),
        commits: args.commits,
        rounds: args.rounds.get(),
        raw_read: raw,
        log_read: log,
        read_and_fold: fold,
        snapshot_and_tail: snapshot,
        log_read_to_raw_p50: log.p50_us / raw.p50_us,
        log_read_to_raw_p99: log.p99_us / raw.p99_us,
        read_and_fold_to_raw_p50: fold.p50_us / raw.p50_us,
        read_and_fold_to_raw_p99: fold.p99_us / raw.p99_us,
        snapshot_to_raw_p50: snapshot.p50_us / raw.p50_us,
        snapshot_to_raw_p99: snapshot.p99_us / raw.p99_us,
    })
}

/// A table that is being made.
struct Table {
    address: Address,
    referee: Box<dyn Referee>,
    last: StreamSeq,
}

/// Tables whose commits stand among each other's, as those of running games do, with a snapshot each.
async fn make_tables(
    args: &LoadArgs,
    bus: &Bus,
    rules: &dyn Rules,
) -> anyhow::Result<Vec<Address>> {
    let entropy = Entropy::from_os();
    let player = player()?;
    let mut tables = Vec::new();
    for _ in 0..args.tables.get() {
        tables.push(open(bus, rules, &entropy, &player).await?);
    }
    for seq in 2..=args.commits {
        stream::iter(tables.iter_mut().map(anyhow::Ok))
            .try_for_each_concurrent(APPENDS, |table| {
                let (entropy, player) = (&entropy, &player);
                async move {
                    let id: CommandId = format!("c{seq}").parse()?;
                    let turn = entropy.turn(Clock::System.now());
                    let raise = json!({"type": "raise"});
                    let drafted = table.referee.decide(player, id, raise, &turn);
                    let drafted = drafted.map_err(|refusal| anyhow::anyhow!("{refusal:?}"))?;
                    table.append(bus, drafted.context("a raise changes something")?).await?;
                    if seq == args.commits - TAIL as u64 {
                        table.save(bus).await?;
                    }
                    Ok(())
                }
            })
            .await?;
    }
    Ok(tables.into_iter().map(|table| table.address).collect())
}

fn player() -> anyhow::Result<Identity> {
    Ok(Identity { player: "bench".parse()?, name: "Bench".to_owned() })
}

async fn open(
    bus: &Bus,
    rules: &dyn Rules,
    entropy: &Entropy,
    player: &Identity,
) -> anyhow::Result<Table> {
    let now = Clock::System.now();
    let id = entropy.table_id(now);
    let Identity { player, name } = player.clone();
    let opening = Opening {
        kind: rules.kind().clone(),
        rules: rules.rules_version(),
        setup: json!({}),
        options: TableOptions { start: StartRule::WhenFull, ..TableOptions::default() },
        seats: vec![Seating::Human { player: player.clone(), name }],
        host: None,
    };
    let cause = Cause::Command { player, id: "open".parse()? };
    let opened = rules.open(id, opening, cause, &entropy.turn(now));
    let (referee, drafted) = opened.map_err(|refusal| anyhow::anyhow!("{refusal:?}"))?;
    let address = Address::new(id, rules.kind().clone(), bus.log.shards());
    let mut table = Table { address, referee, last: StreamSeq::ZERO };
    table.append(bus, drafted).await?;
    Ok(table)
}

impl Table {
    async fn append(&mut self, bus: &Bus, drafted: Drafted) -> anyhow::Result<()> {
        let worker: WorkerId = "bench".parse()?;
        let append = Append {
            address: self.address.clone(),
            after: self.last,
            id: format!("{}:{}", self.address.table, drafted.seq.get()),
            types: drafted.types,
            worker,
            command: None,
            payload: drafted.payload,
        };
        self.last = bus.log.append(append).await?;
        self.referee.confirm();
        Ok(())
    }

    async fn save(&self, bus: &Bus) -> anyhow::Result<()> {
        let snapshot = rmp_serde::to_vec_named(&(self.last.get(), self.referee.state()))?;
        Ok(bus.snapshots.save(&self.address, snapshot.into()).await?)
    }
}

/// The ways to get a table into memory.
struct Bench<'a> {
    bus: Bus,
    raw: Client,
    rules: &'a dyn Rules,
    commits: u64,
}

impl Bench<'_> {
    async fn raw_read(&self, address: &Address) -> anyhow::Result<Duration> {
        let stream = subject::events_stream(address.shard);
        let request = json!({"seq": 1, "batch": 1000, "next_by_subj": address.evt()}).to_string();
        let started = Instant::now();
        let inbox = self.raw.new_inbox();
        let mut answer = self.raw.subscribe(inbox.clone()).await?;
        let get = format!("$JS.API.DIRECT.GET.{stream}");
        self.raw.publish_with_reply(get, inbox, request.into()).await?;
        let mut messages = Vec::new();
        loop {
            let message =
                timeout(ANSWER_MAX, answer.next()).await?.context("an end comes first")?;
            match message.status.map(|status| status.as_u16()) {
                None => messages.push(message),
                Some(204) => break,
                Some(status) => bail!("the server answers {status}"),
            }
        }
        let took = started.elapsed();
        self.check(messages.len() as u64)?;
        Ok(took)
    }

    async fn log_read(&self, address: &Address) -> anyhow::Result<Duration> {
        let started = Instant::now();
        let entries = self.bus.log.read(address.table, StreamSeq::ZERO).await?;
        let took = started.elapsed();
        self.check(entries.len() as u64)?;
        Ok(took)
    }

    async fn read_and_fold(&self, address: &Address) -> anyhow::Result<Duration> {
        let started = Instant::now();
        let entries = self.bus.log.read(address.table, StreamSeq::ZERO).await?;
        let (first, rest) = entries.split_first().context("a table has a first commit")?;
        let mut referee = self.rules.referee(address.table, &first.payload)?;
        for entry in rest {
            referee.fold(&entry.payload)?;
        }
        let took = started.elapsed();
        self.check(referee.last_seq().get())?;
        Ok(took)
    }

    async fn snapshot_and_tail(&self, address: &Address) -> anyhow::Result<Duration> {
        let started = Instant::now();
        let snapshot = self.bus.snapshots.newest(address).await?.context("each has a snapshot")?;
        let (after, saved): (u64, SavedState) = rmp_serde::from_slice(&snapshot)?;
        let restored = self.rules.restore(address.table, &saved);
        let mut referee = restored.context("it was saved by this very binary")?;
        let before = referee.last_seq();
        let tail = self.bus.log.read(address.table, StreamSeq::new(after).next()).await?;
        for entry in &tail {
            referee.fold(&entry.payload)?;
        }
        let took = started.elapsed();
        ensure!(tail.len() == TAIL && before > TableSeq::ZERO, "the snapshot is not the one made");
        self.check(referee.last_seq().get())?;
        Ok(took)
    }

    fn check(&self, found: u64) -> anyhow::Result<()> {
        ensure!(found == self.commits, "{found} commits were read, not {}", self.commits);
        Ok(())
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
    let Report { streams, tables, commits, rounds, .. } = report;
    print::line(&format!("{streams}; {tables} tables of {commits} commits; {rounds} rounds"))?;
    let (fold_p50, fold_p99) = (report.read_and_fold_to_raw_p50, report.read_and_fold_to_raw_p99);
    print::columns(
        &["MICROSECONDS", "P50", "P99"],
        &[
            row("raw batched read", report.raw_read),
            row("read of the log", report.log_read),
            row("read and fold", report.read_and_fold),
            row(&format!("snapshot and {TAIL} commits"), report.snapshot_and_tail),
            ratio("read of the log / raw", report.log_read_to_raw_p50, report.log_read_to_raw_p99),
            ratio("read and fold / raw", fold_p50, fold_p99),
            ratio("snapshot / raw", report.snapshot_to_raw_p50, report.snapshot_to_raw_p99),
        ],
    )
}
