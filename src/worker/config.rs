//! What a worker can be told.

use std::time::Duration;

use clap::Args;

use crate::domain::WorkerId;

/// Options of the worker role.
#[derive(Args, Clone, Debug)]
pub struct WorkerConfig {
    /// The name under which this process owns tables; unlike any other's. Without one it makes one up.
    #[arg(long, env = "TABLECAST_WORKER_ID")]
    pub worker_id: Option<WorkerId>,
    /// How many tables this process owns at most; at the limit it declines, and others take the work.
    #[arg(long, env = "TABLECAST_WORKER_TABLES_MAX", default_value_t = 10_000)]
    pub tables_max: usize,
    /// How many commands may wait at one table while its append is under way; more are answered `busy`.
    #[arg(long, env = "TABLECAST_WORKER_COMMANDS_WAITING_MAX", default_value_t = 64)]
    pub commands_waiting_max: usize,
    /// How often this process says that it is alive.
    #[arg(long, env = "TABLECAST_WORKER_BEAT_INTERVAL", default_value = "1s", value_parser = humantime::parse_duration)]
    pub beat_interval: Duration,
    /// How long an ended table stays in memory, to answer late commands.
    #[arg(long, env = "TABLECAST_WORKER_ENDED_LINGER", default_value = "5s", value_parser = humantime::parse_duration)]
    pub ended_linger: Duration,
}
