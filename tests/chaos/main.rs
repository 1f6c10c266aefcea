//! Chaos: real servers, workers, gateways and clients; everything is killed at random, every history checked.
//!
//! `make chaos`, or `cargo test --test chaos -- --help`.

mod client;
mod cluster;
mod evidence;
mod fleet;
mod measure;
mod nemesis;
mod notes;
mod options;
mod planted;
mod player;
mod process;
mod proxy;
mod recorder;
mod report;
mod run;
mod spectator;

#[path = "../support/checker/mod.rs"]
mod checker;
#[path = "../support/nats_server.rs"]
mod nats_server;
#[path = "../support/scripts/mod.rs"]
mod scripts;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use tablecast::runtime::shutdown::StopSignals;
use tempfile::TempDir;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use nemesis::Act;
use options::Options;
use planted::{Fault, PLANTED_WORKER};
use report::{Report, say};

/// How many violations are printed; a defect of one sort breaks many promises.
const SHOWN: usize = 12;

fn main() -> ExitCode {
    let mut args = std::env::args();
    if std::env::args().nth(1).as_deref() == Some(PLANTED_WORKER) {
        args.next();
        return planted::main(args);
    }
    let options = Options::parse();
    if !options.harness.is_meant() {
        return ExitCode::SUCCESS;
    }
    if options.harness.list {
        say("chaos: test");
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let is_good = runtime.expect("threads").block_on(async {
        let signals = StopSignals::take_over().expect("signals");
        let asked_to_stop = CancellationToken::new();
        tokio::select! {
            is_good = all(options) => is_good,
            // What was started is killed as it is dropped: stopped processes would outlive a Ctrl-C.
            () = asked_to_stop.cancelled() => false,
            never = signals.cancel(asked_to_stop.clone()) => match never {},
        }
    });
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One run as asked for; or, if nothing was asked for, a short one and one for every fault.
async fn all(options: Options) -> bool {
    let seed = options.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    if let Some(fault) = options.planted {
        return planted(&options, fault, seed).await;
    }
    let is_whole_suite = std::env::args().skip(1).all(|arg| !is_ours(&arg));
    let is_good = sound(&options, seed).await;
    if !is_good || !is_whole_suite {
        return is_good;
    }
    let faults = Fault::value_variants().iter();
    let runs = faults.map(|fault| planted(&options, *fault, seed));
    futures_util::future::join_all(runs).await.into_iter().all(|found| found)
}

/// Whether an argument asks for a run of its own, and does not come from `cargo test`.
fn is_ours(arg: &str) -> bool {
    use clap::CommandFactory;
    let command = Options::command();
    let name = arg.split('=').next().unwrap_or_default();
    command
        .get_arguments()
        .filter(|known| !known.is_hide_set())
        .any(|known| known.get_long().is_some_and(|long| name == format!("--{long}")))
}

/// A run in which nothing may be broken but processes.
async fn sound(options: &Options, seed: u64) -> bool {
    say(&format!(
        "chaos: seed {seed}, {} tables, {} workers, {} gateways, {} NATS servers ({})",
        options.tables,
        options.workers,
        options.gateways,
        options.nodes,
        options.class().name()
    ));
    let directory = directory(options);
    let started = Instant::now();
    let ended = run::run(options, seed, directory.path()).await;
    let took_s = started.elapsed().as_secs_f64();
    let is_good = match &ended {
        Err(error) => {
            say(&format!("chaos: seed {seed} FAILED: {error:#}"));
            false
        }
        Ok(outcome) => {
            let run::Outcome { findings, measured, deeds } = outcome;
            Report { seed, options, findings, measured, deeds, took_s }.print();
            for violation in findings.violations.iter().take(SHOWN) {
                say(&format!("VIOLATION (seed {seed}) {violation}"));
            }
            findings.violations.is_empty()
        }
    };
    if is_good {
        say(&format!("chaos: seed {seed}: no violation, in {took_s:.0} s"));
    } else {
        let count = ended.map_or(0, |outcome| outcome.findings.violations.len());
        keep(directory, &format!("chaos: seed {seed}: {count} violations"));
    }
    is_good
}

/// A run with a defect in its workers: good if it is found.
async fn planted(options: &Options, fault: Fault, seed: u64) -> bool {
    let (only, acts_per_minute) = match fault {
        Fault::DropCommit | Fault::DoubleTimeout => (Vec::new(), 0.0),
        Fault::AnswerFirst => (vec![Act::WorkerKill], 60.0),
        Fault::NoFence => (vec![Act::WorkerStop], 20.0),
    };
    let options = Options {
        planted: Some(fault),
        nodes: 1,
        workers: 2,
        gateways: 1,
        tables: 6,
        duration: Duration::from_secs(10),
        until_kills: None,
        only,
        acts_per_minute,
        ..options.clone()
    };
    let directory = directory(&options);
    let name = fault.name();
    match run::run(&options, seed, directory.path()).await {
        Err(error) => {
            keep(directory, &format!("chaos: {name}: the run FAILED: {error:#}"));
            false
        }
        Ok(outcome) => {
            let violations = &outcome.findings.violations;
            let found = violations.iter().find(|found| fault.breaks().contains(&found.promise));
            match found {
                Some(violation) => {
                    let count = violations.len();
                    let what: String = violation.to_string().chars().take(200).collect();
                    say(&format!("chaos: {name} was found ({count} violations): {what}"));
                    true
                }
                None => {
                    let what = format!("chaos: seed {seed}: {name} was NOT found: {violations:?}");
                    keep(directory, &what);
                    false
                }
            }
        }
    }
}

fn directory(options: &Options) -> TempDir {
    let mut builder = tempfile::Builder::new();
    let builder = builder.prefix("tablecast-chaos-");
    let made = match &options.directory {
        Some(parent) => {
            std::fs::create_dir_all(parent).expect("the directory can be made");
            builder.disable_cleanup(true).tempdir_in(parent)
        }
        None => builder.tempdir(),
    };
    made.expect("a directory for the run")
}

fn keep(directory: TempDir, what: &str) {
    say(&format!("{what}; logs and data are in {}", directory.keep().display()));
}
