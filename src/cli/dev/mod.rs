//! `tablecast dev`: every role in one process, a nats-server child, files as object store, and bots.

mod house;
pub(super) mod nats_server;

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use futures_util::TryStreamExt;
use object_store::ObjectStore;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::info;

use house::House;
use nats_server::NatsServer;

use super::gateway::listen;
use super::relay::RelayArgs;
use super::{Role, print};
use crate::archive::{Purpose, Reader, StoreConfig};
use crate::archiver::{self, ArchiverConfig};
use crate::bus::connect::{NatsConfig, connect};
use crate::bus::durability::Durability;
use crate::domain::{TableId, TableSeq};
use crate::gateway::{self, GatewayConfig};
use crate::protocol::archive::ArchivedEvent;
use crate::runtime::clock::Clock;
use crate::runtime::config::from_args;
use crate::runtime::entropy::Entropy;
use crate::worker::{self, WorkerConfig};

/// How long archiving may take after the last game.
const ARCHIVE_MAX: Duration = Duration::from_secs(120);

/// Options of `tablecast dev`.
#[derive(Args, Debug)]
pub(super) struct DevArgs {
    /// Where the event log, the archive and the token secret are kept between runs.
    #[arg(long, env = "TABLECAST_DATA_DIR", default_value = "data")]
    data_dir: PathBuf,
    /// Use this running NATS server instead of a child process.
    #[arg(long, env = "TABLECAST_NATS_URL", conflicts_with = "nats_server")]
    nats_url: Option<String>,
    /// The nats-server to start. Without it: the one on PATH, then .tools/bin/nats-server.
    #[arg(long, env = "TABLECAST_NATS_SERVER")]
    nats_server: Option<PathBuf>,
    /// How fast bots play and pauses pass: 1 as the rules have it, smaller is faster, 0 does not wait.
    #[arg(long, default_value_t = 0.5, value_parser = pace)]
    pace: f64,
    /// How many tables of bots are kept running, or run at once with --games.
    #[arg(long, default_value_t = 4)]
    tables: usize,
    /// Play so many games with bots, archive them, print one line of JSON, and end.
    #[arg(long)]
    games: Option<NonZeroUsize>,
    #[command(flatten)]
    relay: RelayArgs,
    #[command(flatten)]
    listen: ListenArgs,
}

/// Where the page is served.
#[derive(Args, Debug)]
struct ListenArgs {
    /// The address the page is served on.
    #[arg(long, default_value = "127.0.0.1")]
    bind: std::net::IpAddr,
    /// The port the page is served on; 0 takes a free one.
    #[arg(long, default_value_t = 8420)]
    port: u16,
}

fn pace(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(pace) if (0.0..=10.0).contains(&pace) => Ok(pace),
        Ok(_) | Err(_) => Err("a number from 0 to 10".to_owned()),
    }
}

/// What `--games` prints.
#[derive(Debug, Default, Serialize)]
struct Report {
    games: usize,
    commits: u64,
    commands: usize,
    duration_ms: u128,
    archived_objects: usize,
}

pub(super) async fn run(args: DevArgs, role: Role) -> anyhow::Result<()> {
    let data_dir = data_dir(&args.data_dir)?;
    let nats_dir = data_dir.join("nats");
    let server = match &args.nats_url {
        Some(_) => None,
        None => {
            let binary = args.nats_server.as_deref();
            Some(NatsServer::start(binary, &nats_dir, Durability::Dev).await?)
        }
    };
    let url = server.as_ref().map(|server| server.url.clone()).or(args.nats_url.clone());
    let url = url.expect("there is a server of ours, or the url of another");
    let result = match Roles::start(&args, &data_dir, &url, &role).await {
        Ok(roles) => roles.play_until_stopped(&args, &role.stop).await,
        Err(error) => Err(error),
    };
    if let Some(server) = server {
        server.stop().await;
    }
    result
}

/// Every role, in this process.
struct Roles {
    house: House,
    store: Arc<dyn ObjectStore>,
    page: String,
    stop: CancellationToken,
    tasks: JoinSet<anyhow::Result<()>>,
}

impl Roles {
    async fn start(
        args: &DevArgs,
        data_dir: &Path,
        url: &str,
        role: &Role,
    ) -> anyhow::Result<Self> {
        let gateway = gateway_config(args, data_dir)?;
        let listener = listen(&gateway)?;
        let page = format!("http://{}/", listener.local_addr()?);
        let nats = if args.nats_url.is_some() { nats_at(url)? } else { own_nats_at(url)? };
        let bus = connect(&nats, "tablecast dev").await?;
        let store = StoreConfig::directory(archive_dir(data_dir)).open(Purpose::Write)?;
        let entropy = Entropy::from_os();
        let stop = CancellationToken::new();
        let mut tasks: JoinSet<anyhow::Result<()>> = JoinSet::new();

        let worker = {
            let time = (Clock::System, entropy.clone());
            let config = from_args::<WorkerConfig>(&[])?;
            worker::run(config, bus.clone(), role.catalog.clone(), time, stop.clone())
        };
        tasks.spawn(async move { Ok(worker.await?) });

        // Somebody waits for these games.
        let mut config = from_args::<ArchiverConfig>(&["--batch-age", "2s"])?;
        config.relay_kind.clone_from(&args.relay.relay_kind);
        let archiver =
            archiver::run(config, bus.clone(), Arc::clone(&store), Clock::System, stop.clone());
        tasks.spawn(async move { Ok(archiver.await?) });

        // Only shown here, so neither the worker nor the house knows them.
        let catalog = args.relay.add_to(role.catalog.clone())?;
        let metrics = role.metrics.clone();
        let (bus_of_gateway, stop_gateway) = (bus.clone(), stop.clone());
        let time = (Clock::System, entropy.clone());
        tasks.spawn(async move {
            let bus = bus_of_gateway;
            Ok(gateway::run(gateway, listener, bus, catalog, time, metrics, stop_gateway).await?)
        });

        let house = House { bus, catalog: role.catalog.clone(), entropy, pace: args.pace };
        Ok(Self { house, store, page, stop, tasks })
    }

    async fn play_until_stopped(
        mut self,
        args: &DevArgs,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        let result = tokio::select! {
            result = play(args, &self.house, &self.store, &self.page) => result,
            () = stop.cancelled() => Ok(()),
            Some(ended) = self.tasks.join_next() => match ended? {
                Ok(()) => Err(anyhow::anyhow!("a role has stopped by itself")),
                Err(error) => Err(error),
            },
        };
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        result
    }
}

fn data_dir(dir: &Path) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(dir)
        .and_then(|()| dir.canonicalize())
        .with_context(|| format!("cannot write under {}: choose another --data-dir", dir.display()))
}

fn archive_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("archive")
}

async fn play(
    args: &DevArgs,
    house: &House,
    store: &Arc<dyn ObjectStore>,
    page: &str,
) -> anyhow::Result<()> {
    let Some(games) = args.games else {
        print::line(&format!("page: {page}"))?;
        return house.keep_open(args.tables).await;
    };
    info!("page: {page}");
    let objects_before = count_objects(store).await?;
    let started = Instant::now();
    let played = house.play(games.get(), args.tables.max(1)).await?;
    let mut report = archived(store, &played).await?;
    report.duration_ms = started.elapsed().as_millis();
    report.archived_objects = count_objects(store).await? - objects_before;
    print::json(&report)
}

/// Waits until every game is in the archive, reads each of them back by its id, and adds them up.
async fn archived(store: &Arc<dyn ObjectStore>, played: &[TableId]) -> anyhow::Result<Report> {
    let reader = Reader::new(Arc::clone(store));
    let mut report = Report::default();
    let until = Instant::now() + ARCHIVE_MAX;
    for table in played {
        let archived = loop {
            if let Some(archived) = reader.get(*table).await? {
                break archived;
            }
            if Instant::now() > until {
                bail!("table {table} is not in the archive after {} s", ARCHIVE_MAX.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        report.games += 1;
        report.commits += archived.commits;
        // A decision of a player or a bot is one commit, whatever number of events it holds.
        let decided = |event: &&ArchivedEvent| {
            event.actor.starts_with("player:") || event.actor.starts_with("bot:")
        };
        let decisions: BTreeSet<TableSeq> =
            archived.events.iter().filter(decided).map(|event| event.seq).collect();
        report.commands += decisions.len();
    }
    Ok(report)
}

async fn count_objects(store: &Arc<dyn ObjectStore>) -> anyhow::Result<usize> {
    let objects = store
        .list(None)
        .try_filter(|object| std::future::ready(object.location.as_ref().ends_with(".parquet")));
    Ok(objects.try_fold(0, |count, _| std::future::ready(Ok(count + 1))).await?)
}

fn gateway_config(args: &DevArgs, data_dir: &Path) -> anyhow::Result<GatewayConfig> {
    let secret = token_secret(&data_dir.join("token-secret"))?;
    let (bind, port) = (args.listen.bind.to_string(), args.listen.port.to_string());
    let archive = archive_dir(data_dir).display().to_string();
    let mut options = vec!["--bind", &bind, "--port", &port, "--token-secret", &secret];
    options.extend(["--guest-tokens", "--archive-url", &archive]);
    Ok(from_args::<GatewayConfig>(&options)?)
}

/// The options for a server at this address.
pub(super) fn nats_at(url: &str) -> anyhow::Result<NatsConfig> {
    Ok(from_args(&["--nats-url", url])?)
}

/// The same for the server that we started, whatever the environment asks of other servers.
fn own_nats_at(url: &str) -> anyhow::Result<NatsConfig> {
    let options = ["--nats-url", url, "--durability=dev", "--replicas=1", "--shards=1"];
    Ok(from_args(&options)?)
}

/// The secret of an earlier run, so that players keep their seats; or a new one that only we may read.
fn token_secret(path: &Path) -> anyhow::Result<String> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    if let Ok(secret) = std::fs::read_to_string(path) {
        return Ok(secret);
    }
    let bytes: [u8; 32] = Entropy::from_os().bytes();
    let secret: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(secret.as_bytes())?;
    Ok(secret)
}
