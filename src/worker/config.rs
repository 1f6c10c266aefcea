//! What a worker can be told.

use std::num::NonZeroU32;
use std::time::Duration;

use bytesize::ByteSize;
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
    /// How much memory this process may hold, as in `512MiB`. Beyond it, idle tables are put to sleep at once
    /// and no table is taken.
    #[arg(long, env = "TABLECAST_WORKER_MEMORY_MAX", default_value = "2GiB")]
    pub memory_max: ByteSize,
    /// How long nothing may happen at a table before its state is dropped from memory; the next command loads
    /// it again.
    #[arg(long, env = "TABLECAST_WORKER_SLEEP_AFTER", default_value = "60s", value_parser = humantime::parse_duration)]
    pub sleep_after: Duration,
    /// After how many commits a table's state is saved beside the log, so that it loads quickly.
    #[arg(long, env = "TABLECAST_WORKER_SNAPSHOT_EVERY", default_value = "50")]
    pub snapshot_every: NonZeroU32,
    /// How long handing the tables over to other workers may take when this process is asked to stop.
    #[arg(long, env = "TABLECAST_WORKER_DRAIN_TIMEOUT", default_value = "10s", value_parser = humantime::parse_duration)]
    pub drain_timeout: Duration,
    /// How often this process says that it is alive.
    #[arg(long, env = "TABLECAST_WORKER_BEAT_INTERVAL", default_value = "250ms", value_parser = humantime::parse_duration)]
    pub beat_interval: Duration,
    /// How long an ended table stays in memory, to answer late commands.
    #[arg(long, env = "TABLECAST_WORKER_ENDED_LINGER", default_value = "5s", value_parser = humantime::parse_duration)]
    pub ended_linger: Duration,
}
