//! Whether a run kept the promises: what clients saw, what the log stored and what the archive holds, compared.
//!
//! Pure: recorded facts in, violations out. Shared by the chaos runs on real processes and by simulations.
#![allow(dead_code, reason = "not every test binary needs all of it")]

pub(crate) mod archive;
pub(crate) mod clocks;
pub(crate) mod commands;
pub(crate) mod continuity;
pub(crate) mod duties;
pub(crate) mod history;
pub(crate) mod log;
pub(crate) mod turns;
pub(crate) mod views;

use std::collections::HashMap;
use std::fmt;

use tablecast::catalog::Catalog;
use tablecast::domain::TableId;
use tablecast::protocol::archive::ArchivedTable;

use history::Notebook;
use log::Log;

/// Everything that is known of a run once it is over.
pub(crate) struct Evidence {
    /// Every message that the streams have ever held.
    pub(crate) log: Log,
    /// What each client saw and sent.
    pub(crate) notebooks: Vec<Notebook>,
    /// The rows of the archive, each as often as it is there.
    pub(crate) archive: HashMap<TableId, Vec<ArchivedTable>>,
    /// Up to which commit each viewer must have been brought: the log as it was when all had time to follow.
    pub(crate) reached: HashMap<TableId, u64>,
    /// What had to follow a commit is done, and a game that is over in the archive, if it was stored before this.
    pub(crate) due_ms: u64,
    /// When a worker was killed, for those that were, in milliseconds since 1970.
    pub(crate) deaths: HashMap<String, u64>,
}

/// A promise that was broken.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    /// Which promise.
    pub(crate) promise: &'static str,
    /// At which table.
    pub(crate) table: Option<TableId>,
    /// What was found, in a sentence with numbers.
    pub(crate) what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.table.map_or_else(|| "-".to_owned(), |table| table.to_string());
        write!(f, "[{}] table {table}: {}", self.promise, self.what)
    }
}

/// What the checker found, and how much it has looked at: a check of nothing proves nothing.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) violations: Vec<Violation>,
    counts: Vec<(&'static str, u64)>,
}

impl Findings {
    /// A promise was broken.
    pub(crate) fn broken(&mut self, promise: &'static str, table: TableId, what: String) {
        self.violations.push(Violation { promise, table: Some(table), what });
    }

    /// So many more things of a sort were looked at.
    pub(crate) fn count(&mut self, what: &'static str, more: u64) {
        match self.counts.iter_mut().find(|(name, _)| *name == what) {
            Some((_, count)) => *count += more,
            None => self.counts.push((what, more)),
        }
    }

    /// How many things of a sort were looked at.
    pub(crate) fn counted(&self, what: &str) -> u64 {
        self.counts.iter().find(|(name, _)| *name == what).map_or(0, |(_, count)| *count)
    }

    /// Everything that was counted.
    pub(crate) fn counts(&self) -> &[(&'static str, u64)] {
        &self.counts
    }
}

/// Checks every promise.
pub(crate) fn check(evidence: &Evidence, catalog: &Catalog) -> Findings {
    let mut findings = Findings::default();
    log::check(&evidence.log, &mut findings);
    commands::check(evidence, &mut findings);
    continuity::check(evidence, &mut findings);
    views::check(evidence, catalog, &mut findings);
    turns::check(&evidence.log, &mut findings);
    clocks::check(evidence, &mut findings);
    duties::check(evidence, &mut findings);
    archive::check(evidence, &mut findings);
    findings
}
