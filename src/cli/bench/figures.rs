//! Figures of several runs: medians, ranges, and ratios to a peer that was measured in the same run.

use std::fmt;
use std::path::Path;

use anyhow::Context;
use serde::Serialize;

use super::machine::Cores;
use super::physlimit::Limit;
use super::target::Peer;
use crate::cli::print;

/// One thing that was measured in one run.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Figure {
    pub(super) name: String,
    pub(super) value: f64,
}

/// What one server came to in one run.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Outcome<S> {
    pub(super) run: usize,
    pub(super) server: Peer,
    pub(super) figures: Vec<Figure>,
    /// The parts of the run, if it has any.
    pub(super) steps: Vec<S>,
}

/// All that a measurement has to say.
#[derive(Debug, Serialize)]
pub(super) struct Report<S> {
    pub(super) workload: String,
    pub(super) machine: String,
    pub(super) cores: Cores,
    pub(super) gateway_options: String,
    pub(super) baseline: Vec<Limit>,
    pub(super) outcomes: Vec<Outcome<S>>,
}

/// The middle of several values, with the least and the greatest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    least: f64,
    greatest: f64,
}

impl Spread {
    /// Nothing if there are no values.
    pub(super) fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let (least, greatest) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Self { median, least, greatest })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (median, least, greatest) =
            (short(self.median), short(self.least), short(self.greatest));
        if least == greatest {
            f.write_str(&median)
        } else {
            write!(f, "{median} [{least}-{greatest}]")
        }
    }
}

/// Three digits, more or less.
pub(super) fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 1e5 => format!("{:.0}k", value / 1e3),
        size if size >= 1e4 => format!("{:.1}k", value / 1e3),
        size if size >= 100.0 || size == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A spread as text, or a dash.
pub(super) fn shown(values: impl Iterator<Item = f64>) -> String {
    Spread::of(values).map_or_else(|| "-".to_owned(), |spread| spread.to_string())
}

impl<S: Serialize> Report<S> {
    /// The peers, in the order in which they were measured.
    pub(super) fn servers(&self) -> Vec<Peer> {
        let mut servers = Vec::new();
        for outcome in &self.outcomes {
            if !servers.contains(&outcome.server) {
                servers.push(outcome.server);
            }
        }
        servers
    }

    fn value(&self, run: usize, server: Peer, name: &str) -> Option<f64> {
        let mut outcomes = self.outcomes.iter();
        let outcome = outcomes.find(|outcome| outcome.run == run && outcome.server == server)?;
        outcome.figures.iter().find(|figure| figure.name == name).map(|figure| figure.value)
    }

    /// The head of the report, and the machine's limit.
    pub(super) fn print_head(&self) -> anyhow::Result<()> {
        let Self { workload, machine, cores, gateway_options, .. } = self;
        print::line(workload)?;
        print::line(&format!("machine: {machine}"))?;
        print::line(match cores {
            Cores::Pinned => {
                "cores: the measured server on core 0; clients, publisher and broker on core 1"
            }
            Cores::Free => "cores: nothing is pinned",
        })?;
        print::line(&format!("gateway options: {gateway_options}"))?;
        print::line("")?;
        self.print_baseline()
    }

    fn print_baseline(&self) -> anyhow::Result<()> {
        let mut batches: Vec<usize> = Vec::new();
        for limit in &self.baseline {
            if !batches.contains(&limit.frames_a_write) {
                batches.push(limit.frames_a_write);
            }
        }
        let row = |batch: usize| {
            let of = |value: fn(&Limit) -> f64| {
                let limits = self.baseline.iter().filter(|limit| limit.frames_a_write == batch);
                shown(limits.map(value))
            };
            vec![
                batch.to_string(),
                of(|limit| limit.frames_per_second),
                of(|limit| limit.write_us),
                of(|limit| limit.cpu_seconds_per_million),
                of(|limit| limit.read_us_a_frame),
            ]
        };
        let rows: Vec<Vec<String>> = batches.into_iter().map(row).collect();
        let head = [
            "BARE WRITES: FRAMES EACH",
            "FRAMES/S A CORE",
            "US A WRITE",
            "CPU S/M",
            "READER US/FRAME",
        ];
        print::columns(&head, &rows)?;
        print::line("")
    }

    /// A line for each figure: every server, and ours divided by each peer's in the same run.
    pub(super) fn print_figures(&self) -> anyhow::Result<()> {
        let servers = self.servers();
        let peers = servers.iter().filter(|server| **server != Peer::Tablecast);
        let mut head = vec!["FIGURE".to_owned()];
        head.extend(servers.iter().map(|server| server.to_string().to_uppercase()));
        head.extend(
            peers.clone().map(|peer| format!("OURS / {}", peer.to_string().to_uppercase())),
        );
        let mut names: Vec<&str> = Vec::new();
        for figure in self.outcomes.iter().flat_map(|outcome| &outcome.figures) {
            if !names.contains(&figure.name.as_str()) {
                names.push(&figure.name);
            }
        }
        let runs = self.outcomes.iter().map(|outcome| outcome.run).max().unwrap_or(0);
        let row = |name: &str| {
            let of = |server: Peer| (0..=runs).filter_map(move |run| self.value(run, server, name));
            let ratios = |peer: Peer| {
                (0..=runs).filter_map(move |run| {
                    let ours = self.value(run, Peer::Tablecast, name)?;
                    let theirs = self.value(run, peer, name)?;
                    (theirs != 0.0).then_some(ours / theirs)
                })
            };
            let mut cells = vec![name.to_owned()];
            cells.extend(servers.iter().map(|server| shown(of(*server))));
            cells.extend(peers.clone().map(|peer| shown(ratios(*peer))));
            cells
        };
        let rows: Vec<Vec<String>> = names.into_iter().map(row).collect();
        print::columns(&head.iter().map(String::as_str).collect::<Vec<_>>(), &rows)
    }

    /// Everything, for programs.
    pub(super) fn write_json(&self, file: Option<&Path>) -> anyhow::Result<()> {
        let Some(file) = file else { return Ok(()) };
        std::fs::write(file, serde_json::to_vec_pretty(self)?)
            .with_context(|| format!("cannot write {}", file.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_a_median_and_its_range() {
        assert_eq!(Spread::of(std::iter::empty()), None);
        let shown = |values: &[f64]| shown(values.iter().copied());
        assert_eq!(shown(&[3.0, 1.0, 2.0]), "2.00 [1.00-3.00]");
        assert_eq!(shown(&[1.0, 2.0]), "1.50 [1.00-2.00]");
        assert_eq!(shown(&[224_000.0]), "224k");
        assert_eq!(shown(&[]), "-");
    }
}
