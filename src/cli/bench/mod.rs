//! `tablecast bench`: figures beside baselines taken in the same run, on the same server.

mod client;
mod commands;
mod counter;
mod latencies;
mod load;
mod recovery;
mod server;

use clap::{Args, Subcommand};

use super::Role;

/// Options of `tablecast bench`.
#[derive(Args, Debug)]
pub(super) struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// From a command sent over WebSocket to its verdict, and to the commit at another viewer.
    Commands(commands::CommandsArgs),
    /// Getting one long table of many into memory: all its commits, or a snapshot and what followed.
    Load(load::LoadArgs),
    /// The kill of a worker that owns many tables, and what tables cost in memory.
    Recovery(recovery::RecoveryArgs),
}

pub(super) async fn run(args: BenchArgs, role: Role) -> anyhow::Result<()> {
    match args.what {
        What::Commands(args) => commands::run(args, role).await,
        What::Load(args) => load::run(args, role).await,
        What::Recovery(args) => recovery::run(args, role).await,
    }
}
