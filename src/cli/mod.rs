//! The command line: a subcommand per role, the same for every binary that brings its own games.

mod admin;
mod archive;
mod archiver;
mod bench;
mod connections;
mod dev;
mod gateway;
mod print;
mod relay;
mod streams;
mod tables;
mod token;
mod worker;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::bus::Bus;
use crate::bus::connect::{ConnectError, NatsConfig, connect};
use crate::catalog::Catalog;
use crate::runtime::shutdown::StopSignals;
use crate::runtime::telemetry::{self, LogConfig};

/// The backbone of multiplayer games on NATS.
#[derive(Debug, Parser)]
#[command(name = "tablecast", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    log: LogConfig,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Everything in one process, with bots at tables and a page to watch and play.
    Dev(dev::DevArgs),
    /// Owns tables: judges commands and appends what happens.
    Worker(worker::WorkerArgs),
    /// Serves players and spectators over WebSocket.
    Gateway(Box<gateway::GatewayArgs>),
    /// Writes completed tables to object storage.
    Archiver(archiver::ArchiverArgs),
    /// Looks at tables that are open or running.
    Tables(tables::TablesArgs),
    /// Looks at players' connections: who is throttled, conflated or behind, and why.
    Connections(connections::ConnectionsArgs),
    /// Looks at tables in the archive.
    Archive(archive::ArchiveArgs),
    /// Creates the streams and buckets, or shows how they differ from what is needed.
    Streams(streams::StreamsArgs),
    /// Issues and checks players' tokens.
    Token(token::TokenArgs),
    /// Measures, with baselines taken in the same run.
    Bench(bench::BenchArgs),
}

impl Command {
    /// How it reaches NATS, if its options say so.
    fn nats(&self) -> Option<&NatsConfig> {
        match self {
            Self::Worker(args) => Some(&args.nats),
            Self::Gateway(args) => Some(&args.nats),
            Self::Archiver(args) => Some(&args.nats),
            Self::Tables(args) => Some(&args.nats),
            Self::Connections(args) => Some(&args.nats),
            Self::Streams(args) => Some(&args.nats),
            Self::Dev(_) | Self::Archive(_) | Self::Token(_) | Self::Bench(_) => None,
        }
    }

    /// Whether it has something to finish when it is asked to stop. Everything else just ends.
    fn winds_down(&self) -> bool {
        match self {
            Self::Dev(_)
            | Self::Worker(_)
            | Self::Gateway(_)
            | Self::Archiver(_)
            | Self::Bench(_) => true,
            Self::Tables(_)
            | Self::Connections(_)
            | Self::Archive(_)
            | Self::Streams(_)
            | Self::Token(_) => false,
        }
    }
}

/// Runs the command line with these games. The whole `main` of a binary.
pub fn main(catalog: Catalog) -> ExitCode {
    let cli = Cli::parse();
    if let Some(Err(mistake)) = cli.command.nats().map(NatsConfig::validate) {
        usage_error(&mistake.to_string());
    }
    let metrics = match telemetry::start(&cli.log) {
        Ok(metrics) => metrics,
        Err(error) => return fail(&error.context("logging cannot be set up")),
    };
    // Two TLS users with different defaults share the process: say which provider they use.
    rustls::crypto::ring::default_provider().install_default().ok();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    let result = runtime.block_on(async {
        // Before anything else: a signal must not end a role that is still starting as if it had crashed.
        let signals = StopSignals::take_over()?;
        let stop = CancellationToken::new();
        let role = Role { catalog, metrics: metrics.clone(), stop: stop.clone() };
        let just_ends = !cli.command.winds_down();
        let run = run(cli.command, role);
        tokio::select! {
            // What ends by itself when it is asked to has the first word on how.
            biased;
            result = run => result,
            () = stop.cancelled(), if just_ends => Err(anyhow::anyhow!("interrupted")),
            never = telemetry::upkeep(metrics) => match never {},
            never = signals.cancel(stop.clone()) => match never {},
        }
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// What every role is given.
#[derive(Clone, Debug)]
struct Role {
    catalog: Catalog,
    metrics: metrics_exporter_prometheus::PrometheusHandle,
    stop: CancellationToken,
}

impl Role {
    /// Connects to NATS; nothing if it is asked to stop before that.
    async fn connect(&self, nats: &NatsConfig, name: &str) -> Result<Option<Bus>, ConnectError> {
        tokio::select! {
            bus = connect(nats, name) => bus.map(Some),
            () = self.stop.cancelled() => Ok(None),
        }
    }
}

async fn run(command: Command, role: Role) -> anyhow::Result<()> {
    match command {
        Command::Dev(args) => dev::run(args, role).await,
        Command::Worker(args) => worker::run(args, role).await,
        Command::Gateway(args) => gateway::run(*args, role).await,
        Command::Archiver(args) => archiver::run(args, role).await,
        Command::Tables(args) => tables::run(args, role).await,
        Command::Connections(args) => connections::run(args).await,
        Command::Archive(args) => archive::run(args).await,
        Command::Streams(args) => streams::run(args).await,
        Command::Token(args) => token::run(args).await,
        Command::Bench(args) => bench::run(args, role).await,
    }
}

/// A mistake in how options go together: clap's own message and exit code.
fn usage_error(mistake: &str) -> ! {
    Cli::command().error(clap::error::ErrorKind::ArgumentConflict, mistake).exit()
}

/// One line with the whole chain of causes.
fn fail(error: &anyhow::Error) -> ExitCode {
    error!("{error:#}");
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
