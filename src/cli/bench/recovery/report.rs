//! What a recovery took, for people and for programs.

use anyhow::ensure;
use serde::Serialize;

use super::super::latencies::Percentiles;
use super::super::server::Measured;
use crate::cli::print;

/// What was measured.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    #[serde(flatten)]
    pub(super) streams: Measured,
    pub(super) tables: usize,
    pub(super) moves: usize,
    pub(super) opened_per_second: f64,
    /// Each table's last commit read, and one message appended: no recovery can do less.
    pub(super) bare_seconds: f64,
    /// From the kill until every table has its next owner, with nothing but spectators at them.
    pub(super) watched_seconds: f64,
    pub(super) watched_to_bare: f64,
    /// From the kill until a move was accepted at every table, with players acting at all of them at once.
    pub(super) played_seconds: f64,
    pub(super) played_to_bare: f64,
    /// Of one such move, adoption included.
    pub(super) played: Percentiles,
    pub(super) worker_bytes: u64,
    pub(super) bytes_per_active_table: f64,
    pub(super) bytes_per_sleeping_table: f64,
    /// Of a move at a table that sleeps.
    pub(super) woken: Percentiles,
}

pub(super) fn print_report(report: &Report, json: bool) -> anyhow::Result<()> {
    ensure!(report.bare_seconds > 0.0, "nothing was measured");
    if json {
        return print::json(report);
    }
    let Report { streams, tables, moves, .. } = report;
    print::line(&format!(
        "{streams}; one worker owns {tables} tables of chess, {moves} moves each"
    ))?;
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let seconds = |seconds: f64, ratio: f64| format!("{seconds:.2} s, {ratio:.1} x");
    let percentiles = |Percentiles { p50_us, p99_us }: Percentiles| {
        format!("{:.1} / {:.1} ms", p50_us / 1e3, p99_us / 1e3)
    };
    let kibibytes = |bytes: f64| format!("{:.1} KiB", bytes / 1024.0);
    print::columns(
        &["AFTER A KILL", ""],
        &[
            row("opened before", format!("{:.0} tables/s", report.opened_per_second)),
            row("bare reads and appends", format!("{:.2} s", report.bare_seconds)),
            row("only watched", seconds(report.watched_seconds, report.watched_to_bare)),
            row("played at all at once", seconds(report.played_seconds, report.played_to_bare)),
            row("one such move, p50 / p99", percentiles(report.played)),
            row("memory of an active table", kibibytes(report.bytes_per_active_table)),
            row("memory of a sleeping table", kibibytes(report.bytes_per_sleeping_table)),
            row("a move at a sleeping table, p50 / p99", percentiles(report.woken)),
        ],
    )
}
