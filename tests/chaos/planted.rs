//! Workers with a defect, to show that the checker finds it. This program runs itself as such a worker.

mod games;
mod logs;

use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, ValueEnum};
use tablecast::bus::connect::{NatsConfig, connect};
use tablecast::bus::{Bus, EventLog};
use tablecast::runtime::clock::Clock;
use tablecast::runtime::entropy::Entropy;
use tablecast::runtime::shutdown::StopSignals;
use tablecast::worker::{self, WorkerConfig};
use tokio_util::sync::CancellationToken;

use crate::checker::{commands, log, turns};
use crate::scripts;
use logs::{Defective, Dropping, Fenceless, Hasty};

/// The first argument of this program as a worker.
pub(crate) const PLANTED_WORKER: &str = "planted-worker";

/// A defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fault {
    /// Now and then an append is acknowledged that never reaches the log.
    DropCommit,
    /// Commands are answered while their append is still to come.
    AnswerFirst,
    /// Appends follow whatever is last, not what their writer knows.
    NoFence,
    /// A turn that a move has ended is ended by the clock once more.
    DoubleTimeout,
}

impl Fault {
    /// The promises of which at least one must be found broken.
    pub(crate) fn breaks(self) -> &'static [&'static str] {
        match self {
            Self::DropCommit | Self::AnswerFirst => &[commands::ONCE],
            Self::NoFence => &[log::WRITER],
            Self::DoubleTimeout => &[turns::PROMISE],
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::DropCommit => "drop-commit",
            Self::AnswerFirst => "answer-first",
            Self::NoFence => "no-fence",
            Self::DoubleTimeout => "double-timeout",
        }
    }
}

#[derive(Debug, Parser)]
struct Line {
    fault: Fault,
    #[command(flatten)]
    nats: NatsConfig,
    #[command(flatten)]
    worker: WorkerConfig,
}

/// Runs as a worker with a defect.
pub(crate) fn main(args: impl Iterator<Item = String>) -> ExitCode {
    let line = Line::parse_from(args);
    let logging = tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false);
    logging.init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result =
        runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(run(line)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(line: Line) -> anyhow::Result<()> {
    let Line { fault, nats, worker } = line;
    let bus = connect(&nats, "planted worker").await?;
    let catalog = match fault {
        Fault::DoubleTimeout => scripts::catalog().with::<games::Doubled>(),
        Fault::DropCommit | Fault::AnswerFirst | Fault::NoFence => scripts::catalog(),
    };
    let real = Arc::clone(&bus.log);
    let log: Arc<dyn EventLog> = match fault {
        Fault::DropCommit => Arc::new(Defective { real, defect: Dropping::default() }),
        Fault::AnswerFirst => Arc::new(Defective { real, defect: Hasty::default() }),
        Fault::NoFence => Arc::new(Defective { real, defect: Fenceless }),
        Fault::DoubleTimeout => real,
    };
    let bus = Bus { log, ..bus };
    let signals = StopSignals::take_over()?;
    let stop = CancellationToken::new();
    let time = (Clock::System, Entropy::from_os());
    tokio::select! {
        result = worker::run(worker, bus, catalog, time, stop.clone()) => Ok(result?),
        never = signals.cancel(stop) => match never {},
    }
}
