//! The archiver role: checks the store, then archives every shard it is given.

use std::sync::Arc;

use object_store::ObjectStore;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::ArchiverConfig;
use super::backoff::Backoff;
use super::probe::{self, Honours};
use super::relay::Closer;
use super::shard::{Shard, store_available};
use crate::archive::Reader;
use crate::bus::Bus;
use crate::runtime::clock::Clock;
use crate::runtime::process::of_this;

/// Why the archiver cannot work.
#[derive(Debug, thiserror::Error)]
pub enum ArchiverError {
    /// Two archivers would overwrite each other's objects.
    #[error(
        "the store {store} ignores \"create only if absent\" (If-None-Match: *), so games could be lost or \
         archived twice: use a store that honours it"
    )]
    UnsafeStore {
        /// Which.
        store: String,
    },
    /// A mistake in the options.
    #[error("there is no shard {shard}: this deployment has {shards}, from 0")]
    NoSuchShard {
        /// Which was asked for.
        shard: u16,
        /// How many there are.
        shards: u16,
    },
    /// A bug.
    #[error("the archiver of a shard died")]
    ShardDied(#[source] tokio::task::JoinError),
}

/// Archives completed tables until it is stopped, which is safe at any moment.
///
/// Waits for a store or an event log that does not answer; ends by itself only when going on would be wrong.
///
/// # Errors
/// If the store is not safe, the options are wrong, or a shard's task died.
pub async fn run(
    config: ArchiverConfig,
    bus: Bus,
    store: Arc<dyn ObjectStore>,
    clock: Clock,
    shutdown: CancellationToken,
) -> Result<(), ArchiverError> {
    let shards = bus.log.shards().get();
    let chosen = match config.shards.as_slice() {
        [] => (0..shards).collect(),
        some => some.to_vec(),
    };
    if let Some(&shard) = chosen.iter().find(|shard| **shard >= shards) {
        return Err(ArchiverError::NoSuchShard { shard, shards });
    }
    let work = async {
        check(&config, &*store).await?;
        info!(shards = ?chosen, %store, "archiving to {store}");
        let archive = Arc::new(Reader::new(Arc::clone(&store)));
        let mut tasks = JoinSet::new();
        for shard in chosen {
            let archiver = Shard {
                shard,
                config: config.clone(),
                log: Arc::clone(&bus.log),
                store: Arc::clone(&store),
                archive: Arc::clone(&archive),
                clock,
                waits: waits(&config, shard),
                oldest: None,
            };
            tasks.spawn(of_this(archiver.run()));
            for kind in &config.relay_kind {
                let closer = Closer {
                    shard,
                    kind: kind.clone(),
                    log: Arc::clone(&bus.log),
                    waits: waits(&config, shard),
                };
                tasks.spawn(of_this(closer.run()));
            }
        }
        match tasks.join_next().await {
            Some(Err(error)) => Err(ArchiverError::ShardDied(error)),
            Some(Ok(())) | None => Ok(()),
        }
    };
    tokio::select! {
        biased;
        () = shutdown.cancelled() => Ok(()),
        result = work => result,
    }
}

fn waits(config: &ArchiverConfig, shard: u16) -> Backoff {
    let seed = config.jitter_seed ^ u64::from(shard);
    Backoff::new(config.backoff_min, config.backoff_max, seed)
}

/// Refuses a store that would let two archivers overwrite each other.
async fn check(config: &ArchiverConfig, store: &dyn ObjectStore) -> Result<(), ArchiverError> {
    let mut waits = waits(config, 0);
    loop {
        match probe::put_if_absent(store).await {
            Ok(Honours::Yes) => {
                store_available(true);
                return Ok(());
            }
            Ok(Honours::No) => {
                let store = store.to_string();
                return Err(ArchiverError::UnsafeStore { store });
            }
            Err(error) => {
                store_available(false);
                let wait = waits.next();
                let wait_ms = wait.as_millis();
                let error = anyhow::Error::from(error);
                warn!(%store, wait_ms, "the archive's store {store} does not answer as it should: {error:#}");
                sleep(wait).await;
            }
        }
    }
}
