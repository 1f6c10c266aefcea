//! The servers that are measured: our gateway with its broker, and peers in its place.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::machine::{Cores, Part, cpu_of, resident_of};
use super::swarm::Language;
use crate::cli::dev::nats_server::{dies_with_us, find};

/// How long a server may take to be there.
const START_MAX: Duration = Duration::from_secs(20);

/// The kind of the tables that are measured: their commits come from us.
pub(super) const KIND: &str = "bench";

/// Nothing of the gateway's own throttles: they would be what is measured.
const UNTHROTTLED: &[&str] = &[
    "--inbound-rate=100000000",
    "--inbound-burst=100000000",
    "--player-rate=100000000",
    "--player-burst=100000000",
    "--outbound-bytes-rate=1000000000",
    "--outbound-bytes-burst=1000000000",
    "--outbound-rate=100000000",
    "--outbound-burst=100000000",
    "--outbound-table-rate=100000000",
    "--outbound-table-burst=100000000",
    "--connections-max=1000000",
    "--connections-per-address-max=1000000",
    "--slow-timeout=60s",
];
/// What may wait for a client, as much as the peer allows (64 MiB), and as long.
const PATIENT: &[&str] =
    &["--outbox-frames=1000000", "--outbox-bytes=67108864", "--outbox-age=60s"];

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Peer {
    /// This gateway.
    #[value(skip)]
    Tablecast,
    /// The WebSocket listener of nats-server: its core NATS subscribers, in the same process as the broker.
    NatsWs,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tablecast => "tablecast",
            Self::NatsWs => "nats-ws",
        })
    }
}

/// How much may wait in the gateway for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outbox {
    /// What the gateway does when nobody tells it otherwise.
    Default,
    /// As much as the peer lets wait.
    Patient,
}

/// What a target is started from.
#[derive(Clone, Debug)]
pub(super) struct Start<'a> {
    pub(super) nats_server: &'a Path,
    /// Where servers keep files; a directory of its own for each start.
    pub(super) dir: &'a Path,
    pub(super) cores: Cores,
    pub(super) outbox: Outbox,
    /// More options of the gateway.
    pub(super) gateway_options: &'a [String],
}

/// A measured server, with what it needs beside it.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) peer: Peer,
    /// Where clients connect.
    pub(super) websocket: SocketAddr,
    /// Where events are published.
    pub(super) nats: SocketAddr,
    /// Before the broker, which outlives it.
    measured: Running,
    broker: Option<Running>,
}

impl Target {
    pub(super) fn start(peer: Peer, start: &Start<'_>) -> anyhow::Result<Self> {
        match peer {
            Peer::Tablecast => {
                let (broker, ports) = start_nats(start, Part::Rest)?;
                let nats = Ports::address(&ports.nats)?;
                let (measured, websocket) = start_gateway(start, nats)?;
                Ok(Self { peer, websocket, nats, measured, broker: Some(broker) })
            }
            Peer::NatsWs => {
                let (measured, ports) = start_nats(start, Part::Server)?;
                let websocket = Ports::address(&ports.websocket)?;
                let nats = Ports::address(&ports.nats)?;
                Ok(Self { peer, websocket, nats, measured, broker: None })
            }
        }
    }

    pub(super) fn language(&self) -> Language {
        match self.peer {
            Peer::Tablecast => Language::Tablecast,
            Peer::NatsWs => Language::Nats,
        }
    }

    /// Processor time of the measured server.
    pub(super) fn cpu(&self) -> anyhow::Result<Duration> {
        cpu_of(self.measured.0.id())
    }

    /// Processor time of the broker, if it is a process of its own.
    pub(super) fn broker_cpu(&self) -> anyhow::Result<Duration> {
        self.broker.as_ref().map_or(Ok(Duration::ZERO), |broker| cpu_of(broker.0.id()))
    }

    /// Memory of the measured server, in bytes.
    pub(super) fn resident(&self) -> anyhow::Result<u64> {
        resident_of(self.measured.0.id())
    }
}

/// A child that is killed when it is dropped. Its files are temporary, so nothing is lost.
#[derive(Debug)]
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// What the server writes about its ports.
#[derive(Debug, Default, Deserialize)]
struct Ports {
    nats: Vec<String>,
    #[serde(default)]
    websocket: Vec<String>,
}

impl Ports {
    fn address(urls: &[String]) -> anyhow::Result<SocketAddr> {
        let url = urls.first().context("nats-server has such a port")?;
        let (_, address) = url.rsplit_once('/').context("a URL has slashes")?;
        Ok(address.parse()?)
    }
}

/// Both roles that a nats-server has here are the same program with the same settings: broker, and peer. How much
/// disk is free is no concern of theirs: little is written, and the streams reserve far more.
fn start_nats(start: &Start<'_>, part: Part) -> anyhow::Result<(Running, Ports)> {
    let settings = start.dir.join("bench.conf");
    let text = format!(
        "listen: \"127.0.0.1:-1\"\nping_interval: \"10m\"\nmax_connections: 1000000\n\
         ports_file_dir: \"{dir}\"\nlog_file: \"{dir}/nats-server.log\"\n\
         jetstream {{ store_dir: \"{dir}\", max_file_store: 64GB }}\n\
         websocket {{ listen: \"127.0.0.1:-1\", no_tls: true }}\n",
        dir = start.dir.display()
    );
    std::fs::write(&settings, text)?;
    let mut command = dies_with_us(start.nats_server).into_std();
    command.arg("-c").arg(&settings);
    let mut running = start.cores.on(part, || spawn(&mut command))?;
    let ports = wait_for_ports(&mut running.0, start.dir)
        .with_context(|| format!("nats-server has not started: see {}", start.dir.display()))?;
    Ok((running, ports))
}

fn wait_for_ports(child: &mut Child, dir: &Path) -> anyhow::Result<Ports> {
    let until = Instant::now() + START_MAX;
    while Instant::now() < until {
        if let Some(status) = child.try_wait()? {
            bail!("it ended with {status}");
        }
        for file in std::fs::read_dir(dir)? {
            let path = file?.path();
            if path.extension().is_some_and(|extension| extension == "ports") {
                // A file that is still being written does not parse yet.
                if let Ok(ports) = serde_json::from_slice::<Ports>(&std::fs::read(path)?) {
                    return Ok(ports);
                }
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    bail!("no port after {} s", START_MAX.as_secs())
}

fn start_gateway(start: &Start<'_>, nats: SocketAddr) -> anyhow::Result<(Running, SocketAddr)> {
    let mut command = dies_with_us(&binary()?).into_std();
    command
        .args(["--log", "error", "gateway", "--port=0", "--nats-url", &format!("nats://{nats}")])
        .args(["--token-secret", "a-secret-of-this-measurement-only", "--relay-kind", KIND])
        .args(UNTHROTTLED)
        .args(if start.outbox == Outbox::Patient { PATIENT } else { &[] })
        .args(start.gateway_options)
        .stdout(Stdio::piped());
    let mut running = start.cores.on(Part::Server, || spawn(&mut command))?;
    let stdout = running.0.stdout.take().context("its output is ours")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    let address =
        line.trim().strip_prefix("page: http://").context("the gateway has not started")?;
    Ok((running, address.trim_end_matches('/').parse()?))
}

fn spawn(command: &mut Command) -> anyhow::Result<Running> {
    let program = PathBuf::from(command.get_program());
    let child = command
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    Ok(Running(child))
}

fn binary() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("this binary cannot be found")
}

/// The nats-server to start, as [`find`] has it.
pub(super) fn nats_server(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    find(named)?.canonicalize().context("the nats-server cannot be found")
}

/// Which options of the gateway a measurement stands on, for the report.
pub(super) fn gateway_options(outbox: Outbox, more: &[String]) -> String {
    let patient = if outbox == Outbox::Patient { PATIENT } else { &[] };
    let all = UNTHROTTLED.iter().chain(patient).copied();
    all.chain(more.iter().map(String::as_str)).collect::<Vec<_>>().join(" ")
}
