//! `tablecast archiver`.

use clap::Args;

use super::Role;
use super::admin::{self, AdminConfig};
use crate::archive::{Purpose, StoreConfig};
use crate::archiver::{self, ArchiverConfig};
use crate::bus::connect::NatsConfig;
use crate::runtime::clock::Clock;

/// Options of `tablecast archiver`.
#[derive(Args, Debug)]
pub(super) struct ArchiverArgs {
    #[command(flatten)]
    pub(super) nats: NatsConfig,
    #[command(flatten)]
    store: StoreConfig,
    #[command(flatten)]
    archiver: ArchiverConfig,
    #[command(flatten)]
    admin: AdminConfig,
}

pub(super) async fn run(args: ArchiverArgs, role: Role) -> anyhow::Result<()> {
    let store = args.store.open(Purpose::Write)?;
    let Some(bus) = role.connect(&args.nats, "tablecast archiver").await? else {
        return Ok(());
    };
    let stop = role.stop.clone();
    let work = async {
        let result = archiver::run(args.archiver, bus, store, Clock::System, stop.clone()).await;
        stop.cancel();
        result.map_err(anyhow::Error::from)
    };
    let admin = admin::serve(&args.admin, role.metrics, role.stop.clone());
    tokio::try_join!(work, admin)?;
    Ok(())
}
