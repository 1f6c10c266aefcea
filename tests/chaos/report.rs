//! What a run came to: one line of JSON for programs, a table for people.

use std::collections::BTreeMap;
use std::io::Write;

use serde_json::{Value, json};

use crate::checker::Findings;
use crate::measure::{Measured, Waits};
use crate::nemesis::Deed;
use crate::options::Options;

/// Prints one line. Whoever closed the pipe does not want it.
pub(crate) fn say(line: &str) {
    writeln!(std::io::stdout().lock(), "{line}").ok();
}

/// Everything that is told of a run.
pub(crate) struct Report<'a> {
    pub(crate) seed: u64,
    pub(crate) options: &'a Options,
    pub(crate) findings: &'a Findings,
    pub(crate) measured: &'a Measured,
    pub(crate) deeds: &'a [Deed],
    pub(crate) took_s: f64,
}

impl Report<'_> {
    fn deeds_by_act(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for deed in self.deeds {
            *counts.entry(deed.act.name()).or_default() += 1;
        }
        counts
    }

    fn waits(&self) -> [(&'static str, &Waits); 4] {
        let Measured { usual, after_kill, disturbed, resumed } = self.measured;
        [
            ("command, usual", usual),
            ("command, first after its worker was killed", after_kill),
            ("command, something else was broken", disturbed),
            ("watcher, from the kill to the next commit", resumed),
        ]
    }

    /// One object with all numbers.
    pub(crate) fn json(&self) -> Value {
        let waits: serde_json::Map<String, Value> = self
            .waits()
            .into_iter()
            .map(|(name, waits)| {
                let of = |percent| waits.percentile(percent);
                let summary = json!({
                    "count": waits.count(), "p50_ms": of(50), "p99_ms": of(99),
                    "max_ms": waits.longest(),
                });
                (name.to_owned(), summary)
            })
            .collect();
        let counts: BTreeMap<&str, u64> = self.findings.counts().iter().copied().collect();
        json!({
            "seed": self.seed, "class": self.options.class().name(), "nodes": self.options.nodes,
            "tables_at_once": self.options.tables, "workers": self.options.workers,
            "gateways": self.options.gateways, "seconds": self.took_s,
            "violations": self.findings.violations.len(), "deeds": self.deeds_by_act(),
            "counts": counts, "waits": waits,
        })
    }

    /// The same for people.
    pub(crate) fn print(&self) {
        say(&self.json().to_string());
        for (act, count) in self.deeds_by_act() {
            say(&format!("  {count:>8}  {act}"));
        }
        for (what, count) in self.findings.counts() {
            say(&format!("  {count:>8}  {what}"));
        }
        let ms = |millis: Option<f64>| {
            millis.map_or_else(|| format!("{:>9}", "-"), |millis| format!("{millis:>9.1}"))
        };
        say(&format!("  {:>8}  {:>9} {:>9} {:>9}", "count", "p50 ms", "p99 ms", "max ms"));
        for (name, waits) in self.waits() {
            let [p50, p99] = [50, 99].map(|percent| ms(waits.percentile(percent)));
            say(&format!("  {:>8}  {p50} {p99} {}  {name}", waits.count(), ms(waits.longest())));
        }
    }
}
