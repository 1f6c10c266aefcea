//! Writes down what is known of the tables at which a promise was broken, and what was done when.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use tablecast::domain::TableId;

use crate::checker::history::{Notebook, Seen};
use crate::checker::{Evidence, Violation};
use crate::nemesis::Deed;

/// Tables that are written down; a defect of one sort breaks promises at many.
const TABLES: usize = 10;

/// Writes a file for each table, and one with all deeds.
pub(crate) fn write(
    evidence: &Evidence,
    violations: &[Violation],
    deeds: &[Deed],
    directory: &Path,
) -> std::io::Result<()> {
    let directory = directory.join("evidence");
    std::fs::create_dir_all(&directory)?;
    let all: String = violations.iter().map(|violation| format!("{violation}\n")).collect();
    std::fs::write(directory.join("violations.txt"), all)?;
    let done = deeds.iter().map(|deed| {
        let Deed { act, target, at_ms, until_ms } = deed;
        format!("{at_ms} until {until_ms}: {} {target}\n", act.name())
    });
    std::fs::write(directory.join("deeds.txt"), done.collect::<String>())?;
    let tables: BTreeSet<TableId> =
        violations.iter().filter_map(|violation| violation.table).collect();
    for table in tables.into_iter().take(TABLES) {
        let text = of_table(evidence, table);
        std::fs::write(directory.join(format!("{table}.txt")), text)?;
    }
    Ok(())
}

/// What the log holds of a table, and what each client saw and sent.
fn of_table(evidence: &Evidence, id: TableId) -> String {
    let mut text = String::new();
    let mut line = |line: String| writeln!(text, "{line}").expect("a text takes any line");
    if let Some(table) = evidence.log.tables.get(&id) {
        line(format!(
            "{}: marker {}, buried {}",
            table.kind,
            table.marker.is_some(),
            table.is_buried
        ));
        for entry in &table.entries {
            let (commit, worker) = (&entry.commit, &entry.worker);
            let events = serde_json::to_string(&commit.events).unwrap_or_default();
            let (seq, at, stored) = (commit.seq, commit.at, entry.stored_ms);
            line(format!("{seq} at {at} stored {stored} by {worker} {}: {events}", commit.cause));
        }
    }
    for notebook in &evidence.notebooks {
        of_client(notebook, id, &mut line);
    }
    text
}

fn of_client(notebook: &Notebook, id: TableId, line: &mut impl FnMut(String)) {
    let Some(lines) = notebook.histories.get(&id) else { return };
    line(format!("\n{}", notebook.client));
    let mut newest = None;
    for seen in lines {
        let what = match &seen.seen {
            Seen::Commit { seq, .. } => format!("commit {seq}"),
            Seen::Snapshot { seq, frame } => {
                newest = Some(frame);
                format!("snapshot {seq}")
            }
            Seen::Subscribing { .. }
            | Seen::Subscribed { .. }
            | Seen::Unsubscribed { .. }
            | Seen::Lost => format!("{:?}", seen.seen),
        };
        line(format!("  {} {what}", seen.at_ms));
    }
    for command in notebook.commands.iter().filter(|command| command.table == id) {
        line(format!("  {} sent {:?}: {:?}", command.id, command.sent_ms, command.verdicts));
    }
    if let Some(frame) = newest {
        line(format!("  newest snapshot: {}", String::from_utf8_lossy(frame)));
    }
}
