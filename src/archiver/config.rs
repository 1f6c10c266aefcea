//! The options of the archiver.

use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use super::batcher::Limits;
use crate::domain::Kind;

/// How completed tables become objects.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Archiver")]
pub struct ArchiverConfig {
    /// Write an object when it holds this many tables.
    #[arg(long, env = "TABLECAST_ARCHIVER_BATCH_TABLES", default_value = "100")]
    pub batch_tables: NonZeroUsize,

    /// Write an object this long after its first table was completed, however few it holds.
    #[arg(
        long,
        env = "TABLECAST_ARCHIVER_BATCH_AGE",
        default_value = "60s",
        value_parser = humantime::parse_duration
    )]
    pub batch_age: Duration,

    /// Write an object when the commits in it come to this many bytes. Memory is some four times this per shard.
    #[arg(long, env = "TABLECAST_ARCHIVER_BATCH_BYTES", default_value = "16777216")]
    pub batch_bytes: NonZeroU64,

    /// How long an archived table stays marked as such in the event log, against owners that come back late.
    #[arg(
        long,
        env = "TABLECAST_ARCHIVER_TOMBSTONE_TTL",
        default_value = "1h",
        value_parser = at_least_a_second
    )]
    pub tombstone_ttl: Duration,

    /// Archive these shards only, as in `0,3,7`. All, unless given.
    // `--shards` is how many there are, an option of the connection to NATS.
    #[arg(
        id = "only_shards",
        long = "only-shards",
        value_name = "SHARDS",
        env = "TABLECAST_ARCHIVER_ONLY_SHARDS",
        value_delimiter = ','
    )]
    pub shards: Vec<u16>,

    /// Complete tables of this kind, which have a server of their own: see nats/README.md. May be given more than
    /// once. Every commit of the kind is read for it.
    #[arg(long, env = "TABLECAST_RELAY_KINDS", value_name = "NAME", value_delimiter = ',')]
    pub relay_kind: Vec<Kind>,

    /// The first wait after a failure of the store or the event log. Doubles with each further one.
    #[arg(
        long,
        env = "TABLECAST_ARCHIVER_BACKOFF_MIN",
        default_value = "500ms",
        value_parser = humantime::parse_duration
    )]
    pub backoff_min: Duration,

    /// The longest wait between two tries.
    #[arg(
        long,
        env = "TABLECAST_ARCHIVER_BACKOFF_MAX",
        default_value = "60s",
        value_parser = humantime::parse_duration
    )]
    pub backoff_max: Duration,

    /// Makes the waits of archivers differ. A simulation sets it.
    #[arg(skip = rand::random::<u64>())]
    pub jitter_seed: u64,
}

/// The server counts the lifetime of a message in whole seconds.
fn at_least_a_second(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(ttl) if ttl >= Duration::from_secs(1) => Ok(ttl),
        Ok(_) => Err("at least 1s".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

impl ArchiverConfig {
    pub(super) fn limits(&self) -> Limits {
        Limits { tables: self.batch_tables, bytes: self.batch_bytes.get(), age: self.batch_age }
    }
}
