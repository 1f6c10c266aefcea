//! `tablecast worker`.

use clap::Args;

use super::Role;
use super::admin::{self, AdminConfig};
use crate::bus::connect::NatsConfig;
use crate::runtime::clock::Clock;
use crate::runtime::entropy::Entropy;
use crate::worker::{self, WorkerConfig};

/// Options of `tablecast worker`.
#[derive(Args, Debug)]
pub(super) struct WorkerArgs {
    #[command(flatten)]
    pub(super) nats: NatsConfig,
    #[command(flatten)]
    worker: WorkerConfig,
    #[command(flatten)]
    admin: AdminConfig,
}

pub(super) async fn run(args: WorkerArgs, role: Role) -> anyhow::Result<()> {
    let Some(bus) = role.connect(&args.nats, "tablecast worker").await? else {
        return Ok(());
    };
    let time = (Clock::System, Entropy::from_os());
    let work = async {
        let result = worker::run(args.worker, bus, role.catalog, time, role.stop.clone()).await;
        role.stop.cancel();
        result.map_err(anyhow::Error::from)
    };
    let admin = admin::serve(&args.admin, role.metrics, role.stop.clone());
    tokio::try_join!(work, admin)?;
    Ok(())
}
