//! A turn ends once: by a move, by a bot or by the clock.

use std::collections::HashMap;

use super::Findings;
use super::log::Log;
use crate::scripts;

pub(crate) const PROMISE: &str = "no turn ends twice";

pub(crate) fn check(log: &Log, findings: &mut Findings) {
    for (id, table) in &log.tables {
        let Some(script) = scripts::of(table.kind.as_str()) else {
            findings.broken("every kind can be checked", *id, format!("kind {}", table.kind));
            continue;
        };
        let mut reader = script.turns();
        let mut ended: HashMap<String, (u64, String)> = HashMap::new();
        for entry in &table.entries {
            let cause = entry.commit.cause["type"].as_str().unwrap_or_default();
            for event in &entry.commit.events {
                let Some(turn) = reader.read(event) else { continue };
                findings.count("turns", 1);
                findings.count("turns ended by the clock", u64::from(cause == "clock"));
                let now = (entry.commit.seq, cause.to_owned());
                if let Some((seq, by)) = ended.insert(turn.clone(), now) {
                    let (again, by_now) = (entry.commit.seq, cause);
                    let what = format!("{turn} ended in {seq} ({by}) and {again} ({by_now})");
                    findings.broken(PROMISE, *id, what);
                }
            }
        }
    }
}
