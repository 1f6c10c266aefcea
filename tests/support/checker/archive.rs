//! A game that is over is in the archive, once, whole, as the log had it.

use serde_json::Value;
use tablecast::domain::TableId;
use tablecast::protocol::archive::{ArchivedTable, Status};

use super::log::TableLog;
use super::{Evidence, Findings};

const ONCE: &str = "a completed game is in the archive exactly once";
const SAME: &str = "the archive holds what the log held";

pub(crate) fn check(evidence: &Evidence, findings: &mut Findings) {
    for (id, table) in &evidence.log.tables {
        let rows = evidence.archive.get(id).map(Vec::as_slice).unwrap_or_default();
        let is_due = table.ended_ms().is_some_and(|at| at < evidence.due_ms);
        if rows.len() > 1 || (is_due && rows.is_empty()) {
            findings.broken(ONCE, *id, format!("it is there {} times", rows.len()));
        }
        if !table.has_ended() && !rows.is_empty() {
            findings.broken(ONCE, *id, "it is there, and not over".to_owned());
        }
        if let [row] = rows {
            findings.count("archived games", 1);
            if let Err(what) = compare(table, row) {
                findings.broken(SAME, *id, what);
            }
        }
    }
    for id in evidence.archive.keys().filter(|id| !evidence.log.tables.contains_key(id)) {
        findings.broken(SAME, *id, "the log has never held it".to_owned());
    }
}

fn compare(table: &TableLog, row: &ArchivedTable) -> Result<(), String> {
    if row.status != Status::Archived {
        return Err(format!("its status is {:?}: {:?}", row.status, row.reason));
    }
    let logged: Vec<(u64, Value)> = table
        .entries
        .iter()
        .flat_map(|entry| entry.commit.events.iter().map(|event| (entry.commit.seq, event.clone())))
        .collect();
    if logged.len() != row.events.len() {
        let (log, archive) = (logged.len(), row.events.len());
        return Err(format!("the log has {log} events, the archive {archive}"));
    }
    for ((seq, event), archived) in logged.iter().zip(&row.events) {
        let mut found: Value = serde_json::from_str(&archived.data).map_err(|e| e.to_string())?;
        found["type"] = Value::String(archived.kind.clone());
        if archived.seq.get() != *seq || found != *event {
            return Err(format!("commit {seq}: the log has {event}, the archive {found}"));
        }
    }
    Ok(())
}

/// All rows by table.
pub(crate) fn by_table(
    rows: Vec<ArchivedTable>,
) -> std::collections::HashMap<TableId, Vec<ArchivedTable>> {
    let mut tables: std::collections::HashMap<TableId, Vec<ArchivedTable>> = Default::default();
    for row in rows {
        tables.entry(row.table_id).or_default().push(row);
    }
    tables
}
