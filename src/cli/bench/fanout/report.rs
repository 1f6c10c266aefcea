//! The steps of all runs, side by side.

use super::Step;
use crate::cli::bench::figures::{Report, shown};
use crate::cli::bench::target::Peer;
use crate::cli::print;

/// A column of the table of steps, and what it shows of each.
type Column = (&'static str, fn(&Step) -> f64);

const COLUMNS: [Column; 12] = [
    ("DELIVERED/S", |step| step.deliveries_per_second),
    ("OF DUE", |step| step.of_due),
    ("P50 MS", |step| step.p50_ms),
    ("P99 MS", |step| step.p99_ms),
    ("CPU S/M", |step| step.cpu_seconds_per_million),
    ("SERVER CORE", |step| step.server_core),
    ("CLIENT CORE", |step| step.client_core),
    ("BROKER CORE", |step| step.broker_core),
    ("PUBLISHER CORE", |step| step.publisher_core),
    ("OTHERS' CORES", |step| step.others_core),
    ("READS/DELIVERY", |step| step.reads_per_delivery),
    ("LATE MS", |step| step.publisher_late_ms),
];

pub(super) fn print(report: &Report<Step>) -> anyhow::Result<()> {
    report.print_head()?;
    let servers = report.servers();
    let all = || report.outcomes.iter().flat_map(|outcome| &outcome.steps);
    let mut rates: Vec<f64> = all().map(|step| step.events_per_second).collect();
    rates.sort_by(f64::total_cmp);
    rates.dedup();
    let row = |rate: f64, server: Peer| {
        let outcomes = report.outcomes.iter().filter(move |outcome| outcome.server == server);
        let steps: Vec<&Step> = outcomes
            .flat_map(|outcome| &outcome.steps)
            .filter(|step| step.events_per_second.total_cmp(&rate).is_eq())
            .collect();
        let mut cells = vec![format!("{rate:.0}"), server.to_string()];
        cells.extend(COLUMNS.iter().map(|(_, value)| shown(steps.iter().map(|step| value(step)))));
        cells.push(steps.len().to_string());
        (!steps.is_empty()).then_some(cells)
    };
    let rows: Vec<Vec<String>> = rates
        .iter()
        .flat_map(|rate| servers.iter().filter_map(move |server| row(*rate, *server)))
        .collect();
    let mut head = vec!["EVENTS/S", "SERVER"];
    head.extend(COLUMNS.iter().map(|(name, _)| *name));
    head.push("RUNS");
    print::columns(&head, &rows)?;
    print::line("")?;
    report.print_figures()
}
