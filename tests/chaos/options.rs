//! What a run is told.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::planted::Fault;

/// Kills everything at random and checks every history.
#[derive(Clone, Debug, Parser)]
#[command(name = "chaos", max_term_width = 100)]
pub(crate) struct Options {
    /// Where chance comes from; printed, so that a run can be repeated. Any, unless given
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// How long things are broken; the start and the time to settle come on top
    #[arg(long, default_value = "40s", value_parser = humantime::parse_duration)]
    pub(crate) duration: Duration,
    /// Go on until so many workers have been killed, however long that takes
    #[arg(long)]
    pub(crate) until_kills: Option<u64>,
    /// How many tables are played at the same time
    #[arg(long, default_value_t = 20)]
    pub(crate) tables: usize,
    /// How many workers
    #[arg(long, default_value_t = 3)]
    pub(crate) workers: usize,
    /// How many gateways
    #[arg(long, default_value_t = 2)]
    pub(crate) gateways: usize,
    /// How many NATS servers: 3, or 1 to leave out what takes a cluster
    #[arg(long, default_value_t = 3)]
    pub(crate) nodes: usize,
    /// How many things are broken in a minute; about half of them are workers that are killed
    #[arg(long, default_value_t = 24.0)]
    pub(crate) acts_per_minute: f64,
    /// What to break, of `worker-kill`, `node-kill` and so on; everything unless given
    #[arg(long, value_delimiter = ',')]
    pub(crate) only: Vec<crate::nemesis::Act>,
    /// Only one run, with a defect in its workers, which must be found
    #[arg(long)]
    pub(crate) planted: Option<Fault>,
    /// The durability class that the streams are kept by
    #[arg(long, default_value = "standard")]
    pub(crate) class: Class,
    /// How long every table has to make progress once nothing is broken any more
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
    pub(crate) settle: Duration,
    /// Where the logs go. A folder that is removed after a run that found nothing, unless given
    #[arg(long)]
    pub(crate) directory: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) harness: Harness,
}

impl Options {
    /// One server is never more than `dev`.
    pub(crate) fn class(&self) -> Class {
        if self.nodes == 1 { Class::Dev } else { self.class }
    }
}

/// How surely what is stored stays stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Class {
    /// One server.
    Dev,
    /// Three servers.
    Standard,
    /// Three servers that write to the disk before they answer.
    Strict,
}

impl Class {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Standard => "standard",
            Self::Strict => "strict",
        }
    }
}

/// What `cargo test` passes to every test binary.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Harness {
    #[arg(long, hide = true)]
    pub(crate) list: bool,
    #[arg(long, hide = true)]
    pub(crate) exact: bool,
    #[arg(long, hide = true)]
    ignored: bool,
    #[arg(long, hide = true)]
    include_ignored: bool,
    #[arg(long, alias = "no-capture", hide = true)]
    nocapture: bool,
    #[arg(long, hide = true)]
    show_output: bool,
    #[arg(long, short, hide = true)]
    quiet: bool,
    #[arg(long, hide = true)]
    test_threads: Option<usize>,
    #[arg(long, hide = true)]
    color: Option<String>,
    #[arg(long, hide = true)]
    format: Option<String>,
    #[arg(long, hide = true)]
    skip: Vec<String>,
    #[arg(short = 'Z', hide = true)]
    unstable: Vec<String>,
    /// Names of tests: this one is called `chaos`
    #[arg(hide = true)]
    names: Vec<String>,
}

impl Harness {
    /// Whether whoever filters tests by name means this one.
    pub(crate) fn is_meant(&self) -> bool {
        let fits =
            |name: &String| if self.exact { name == "chaos" } else { "chaos".contains(name) };
        let is_skipped = self.skip.iter().any(fits);
        !self.ignored && !is_skipped && (self.names.is_empty() || self.names.iter().any(fits))
    }
}
