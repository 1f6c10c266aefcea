//! No halves: whatever a commit says must follow it has followed.

use tablecast::domain::TableId;

use super::log::{Entry, Log, TableLog};
use super::{Evidence, Findings};

const PROMISE: &str = "what must follow a commit has been done";

pub(crate) fn check(evidence: &Evidence, findings: &mut Findings) {
    for (id, table) in &evidence.log.tables {
        let is_due = |entry: &&Entry| entry.stored_ms < evidence.due_ms;
        for entry in table.entries.iter().filter(is_due) {
            for duty in &entry.commit.follow_up {
                findings.count("duties", 1);
                let duty = duty["type"].as_str().unwrap_or_default();
                one(&evidence.log, (*id, table), entry, duty, findings);
            }
        }
        let states_it = table
            .entries
            .iter()
            .any(|entry| entry.commit.follow_up.iter().any(|duty| duty["type"] == "complete"));
        if table.has_ended() != states_it {
            let what = "an end without the duty to mark it, or the duty without an end".to_owned();
            findings.broken(PROMISE, *id, what);
        }
    }
}

/// A duty of a kind that is not known here is broken: it must be taught, or it goes unchecked.
fn one(
    log: &Log,
    (id, table): (TableId, &TableLog),
    entry: &Entry,
    duty: &str,
    findings: &mut Findings,
) {
    let seq = entry.commit.seq;
    match duty {
        "complete" => {
            if table.marker.is_none() && !table.is_buried {
                let what = format!("commit {seq} ends the table, and there is no marker");
                findings.broken(PROMISE, id, what);
            }
        }
        "open_successor" => {
            let successor =
                table.entries.iter().flat_map(|entry| &entry.commit.events).find_map(|event| {
                    let is_succeeded = event["type"] == "table.succeeded";
                    is_succeeded.then(|| event["table"].as_str()?.parse::<TableId>().ok())?
                });
            let is_open = successor.is_some_and(|successor| log.tables.contains_key(&successor));
            if !is_open {
                let what = format!("commit {seq}: the successor {successor:?} was not opened");
                findings.broken(PROMISE, id, what);
            }
        }
        other => {
            let what = format!("commit {seq} states `{other}`, which this checker does not know");
            findings.broken(PROMISE, id, what);
        }
    }
}
