//! What all measurements of the gateway under load share: their options, and our server and its peers taking turns.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use serde::Serialize;
use tokio::sync::oneshot;

use super::figures::{Figure, Outcome, Report};
use super::machine::{Cores, Part, allow_files, describe};
use super::physlimit;
use super::target::{Outbox, Peer, Start, gateway_options, nats_server};
use crate::cli::Role;

/// Files that are open besides the clients' sockets.
const OTHER_FILES: usize = 200;

/// Options of every measurement of the gateway under load.
#[derive(Args, Clone, Debug)]
pub(super) struct RoundsArgs {
    /// The nats-server to start. Without it: the one on PATH, then .tools/bin/nats-server.
    #[arg(long, env = "TABLECAST_NATS_SERVER")]
    nats_server: Option<PathBuf>,
    /// Measure this server, too, in turns with the gateway.
    #[arg(long, value_enum)]
    peer: Vec<Peer>,
    /// How often everything is measured.
    #[arg(long, default_value = "3")]
    runs: NonZeroUsize,
    /// Leave everything on whatever core the system puts it, instead of the measured server on core 0 and all
    /// else on core 1.
    #[arg(long)]
    unpinned: bool,
    /// Sockets of the baseline: one thread writes ready-made frames to them, another reads them.
    #[arg(long, default_value = "1000")]
    baseline_sockets: NonZeroUsize,
    /// An option for the measured gateway, as in `--gateway-option=--ring=16`.
    #[arg(long, value_name = "OPTION", allow_hyphen_values = true)]
    gateway_option: Vec<String>,
    /// Write everything to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl RoundsArgs {
    pub(super) fn cores(&self) -> Cores {
        if self.unpinned { Cores::Free } else { Cores::Pinned }
    }

    pub(super) fn json(&self) -> Option<&Path> {
        self.json.as_deref()
    }
}

/// What a measurement is, before it has been taken.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) workload: String,
    pub(super) clients: usize,
    pub(super) outbox: Outbox,
    /// How long each baseline takes.
    pub(super) baseline: Duration,
}

/// What one server came to, and the parts of it.
pub(super) type Measured<S> = (Vec<Figure>, Vec<S>);

/// Measures each server once a run, in turns, with the machine's limit beside them.
pub(super) fn rounds<S: Serialize>(
    args: &RoundsArgs,
    plan: &Plan,
    mut measure: impl FnMut(Peer, &Start<'_>) -> anyhow::Result<Measured<S>>,
) -> anyhow::Result<Report<S>> {
    // The baseline has both ends of each socket in this process.
    let files = plan.clients.max(args.baseline_sockets.get() * 2) + OTHER_FILES;
    allow_files(files)?;
    let (cores, program) = (args.cores(), nats_server(args.nats_server.as_deref())?);
    let machine = describe();
    cores.take(Part::Rest)?;
    let mut report = Report {
        workload: plan.workload.clone(),
        machine,
        cores,
        gateway_options: gateway_options(plan.outbox, &args.gateway_option),
        baseline: Vec::new(),
        outcomes: Vec::new(),
    };
    let mut servers = vec![Peer::Tablecast];
    servers.extend(&args.peer);
    for run in 0..args.runs.get() {
        report.baseline.extend(physlimit::measure(
            args.baseline_sockets.get(),
            plan.baseline,
            cores,
        )?);
        for &server in &servers {
            let dir = tempfile::tempdir()?;
            let start = Start {
                nats_server: &program,
                dir: dir.path(),
                cores,
                outbox: plan.outbox,
                gateway_options: &args.gateway_option,
            };
            let (figures, steps) = measure(server, &start)
                .with_context(|| format!("{server} cannot be measured (run {})", run + 1))?;
            report.outcomes.push(Outcome { run, server, figures, steps });
        }
        // Whoever is measured first has no advantage from it in every run.
        servers.reverse();
    }
    Ok(report)
}

/// Runs a measurement on a thread of its own, since it chooses the cores of its threads and waits on sockets itself.
pub(super) async fn apart(
    role: &Role,
    measure: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<()> {
    let (done, measured) = oneshot::channel();
    std::thread::Builder::new().name("bench".to_owned()).spawn(move || {
        // Nobody waits for it after an interruption.
        done.send(measure()).ok();
    })?;
    tokio::select! {
        measured = measured => measured.context("the measurement has panicked")?,
        () = role.stop.cancelled() => Err(anyhow::anyhow!("interrupted")),
    }
}

pub(super) fn figure(name: &str, value: f64) -> Figure {
    Figure { name: name.to_owned(), value }
}
