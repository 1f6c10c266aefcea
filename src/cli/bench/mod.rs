//! `tablecast bench`: figures beside baselines taken in the same run, on the same server.

mod client;
mod commands;
mod counter;
mod echo;
mod fanout;
mod figures;
mod idle;
mod latencies;
mod load;
mod machine;
mod nats_line;
mod pace;
mod physlimit;
mod recovery;
mod rounds;
mod server;
mod source;
mod storm;
mod swarm;
mod target;

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
    /// Events to many viewers, at rising rates, until the gateway cannot go on.
    Fanout(fanout::FanoutArgs),
    /// A question of a client and the gateway's answer, at several rates.
    Echo(echo::EchoArgs),
    /// What connections cost that follow a table and are sent nothing.
    Idle(idle::IdleArgs),
    /// Everybody is cut off at once, and comes back as fast as can be.
    Storm(storm::StormArgs),
}

pub(super) async fn run(args: BenchArgs, role: Role) -> anyhow::Result<()> {
    match args.what {
        What::Commands(args) => commands::run(args, role).await,
        What::Load(args) => load::run(args, role).await,
        What::Recovery(args) => recovery::run(args, role).await,
        What::Fanout(args) => fanout::run(args, role).await,
        What::Echo(args) => echo::run(args, role).await,
        What::Idle(args) => idle::run(args, role).await,
        What::Storm(args) => storm::run(args, role).await,
    }
}
