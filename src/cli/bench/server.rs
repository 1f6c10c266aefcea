//! The server that a measurement is taken on, and what its streams say of themselves.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use async_nats::jetstream::Context;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::Serialize;

use crate::bus::connect::NatsConfig;
use crate::bus::durability::Durability;
use crate::cli::dev::nats_server::NatsServer;
use crate::protocol::subject;
use crate::runtime::config::from_args;

/// Options of every measurement.
#[derive(Args, Debug)]
pub(super) struct ServerArgs {
    /// The nats-server to start. Without it: the one on PATH, then .tools/bin/nats-server.
    #[arg(long, env = "TABLECAST_NATS_SERVER")]
    nats_server: Option<PathBuf>,
    /// The durability class to measure on the one server that is started.
    #[arg(long, default_value = "dev", value_parser = of_one_server())]
    durability: Durability,
}

/// The classes that one server can keep.
fn of_one_server() -> impl TypedValueParser<Value = Durability> {
    PossibleValuesParser::new(["dev", "strict"]).map(|name| match name.as_str() {
        "strict" => Durability::Strict,
        _ => Durability::Dev,
    })
}

impl ServerArgs {
    /// A fresh server with its files in a directory, and the options to connect to it.
    pub(super) async fn start(&self, dir: &Path) -> anyhow::Result<(NatsServer, NatsConfig)> {
        let server = NatsServer::start(self.nats_server.as_deref(), dir, self.durability).await?;
        let class = self.durability.to_string();
        let options =
            ["--nats-url", &server.url, "--durability", &class, "--replicas=1", "--shards=1"];
        let nats = from_args(&options)?;
        Ok((server, nats))
    }
}

/// What the measured streams are.
#[derive(Debug, Serialize)]
pub(super) struct Measured {
    /// From their metadata.
    durability: Durability,
    replicas: usize,
}

impl Measured {
    /// Asks the stream of the first shard's commits.
    pub(super) async fn read(jetstream: &Context) -> anyhow::Result<Self> {
        let stream = jetstream.get_stream(subject::events_stream(0)).await;
        let stream = stream.context("the stream of commits cannot be asked")?;
        let config = &stream.cached_info().config;
        let durability = Durability::of(&config.metadata);
        Ok(Self { durability, replicas: config.num_replicas })
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { durability, replicas } = self;
        write!(f, "durability: {durability} (file storage, replicas: {replicas})")
    }
}
