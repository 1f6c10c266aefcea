//! Logs and metrics of a process.

use std::convert::Infallible;
use std::io::IsTerminal;
use std::time::Duration;

use clap::{Args, ValueEnum};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

/// How a process writes its log, to standard error.
#[derive(Args, Clone, Debug)]
pub struct LogConfig {
    /// What to log: a level, or levels by module, as in `info,tablecast::worker=debug`.
    #[arg(long, env = "TABLECAST_LOG", default_value = "info,async_nats=warn", global = true)]
    pub log: String,
    /// One line for people, or one JSON object for programs.
    #[arg(long, env = "TABLECAST_LOG_FORMAT", default_value = "text", global = true)]
    pub log_format: LogFormat,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Upper bounds of the buckets of every `_seconds` histogram.
const SECONDS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 10.0];

/// How many samples wait to be added up is bounded by what happens in this time.
const UPKEEP: Duration = Duration::from_secs(5);

/// Starts logging and counting. Called once, before anything else.
///
/// # Errors
/// If the filter does not parse, or something else has set logging up.
pub fn start(config: &LogConfig) -> anyhow::Result<PrometheusHandle> {
    let filter = EnvFilter::try_new(&config.log)?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match config.log_format {
        LogFormat::Text => lines.with_target(false).try_init(),
        LogFormat::Json => lines.json().try_init(),
    }
    .map_err(|error| anyhow::anyhow!(error))?;
    let seconds = Matcher::Suffix("_seconds".to_owned());
    let builder = PrometheusBuilder::new().set_buckets_for_metric(seconds, &SECONDS)?;
    Ok(builder.install_recorder()?)
}

/// Adds up what histograms have been told, for ever. Without it each keeps every sample until somebody asks
/// for the metrics, which may be never.
pub async fn upkeep(metrics: PrometheusHandle) -> Infallible {
    let mut due = tokio::time::interval(UPKEEP);
    loop {
        due.tick().await;
        metrics.run_upkeep();
    }
}
