//! Every byte a viewer got is what the log, folded, has for that viewer, and nothing else.

use std::collections::BTreeMap;

use bytes::Bytes;
use tablecast::catalog::{Catalog, FannedOut, Replica, Rules};
use tablecast::domain::{Seat, TableId, Timestamp, Viewer};
use tablecast::protocol::frame::Format;

use super::history::Seen;
use super::log::TableLog;
use super::{Evidence, Findings};

const PROMISE: &str = "a viewer gets what the log holds for that viewer, byte for byte";

/// A frame that a client got.
struct Shown<'a> {
    client: &'a str,
    viewer: Viewer,
    is_snapshot: bool,
    frame: &'a Bytes,
}

pub(crate) fn check(evidence: &Evidence, catalog: &Catalog, findings: &mut Findings) {
    let mut shown: BTreeMap<TableId, BTreeMap<u64, Vec<Shown<'_>>>> = BTreeMap::new();
    for notebook in &evidence.notebooks {
        for (table, lines) in &notebook.histories {
            let by_seq = shown.entry(*table).or_default();
            let mut viewer = Viewer::Spectator;
            for line in lines {
                let (seq, frame, is_snapshot) = match &line.seen {
                    Seen::Subscribed { seat, .. } => {
                        viewer = seat.map_or(Viewer::Spectator, |seat| Viewer::Seated(Seat(seat)));
                        continue;
                    }
                    Seen::Commit { seq, frame } => (*seq, frame, false),
                    Seen::Snapshot { seq, frame } => (*seq, frame, true),
                    Seen::Subscribing { .. } | Seen::Unsubscribed { .. } | Seen::Lost => continue,
                };
                let client = notebook.client.as_str();
                by_seq.entry(seq).or_default().push(Shown { client, viewer, is_snapshot, frame });
            }
        }
    }
    for (id, by_seq) in shown {
        let Some(table) = evidence.log.tables.get(&id) else {
            let what = "clients were shown a table that the log has never held".to_owned();
            findings.broken(PROMISE, id, what);
            continue;
        };
        let rules = catalog.get(&table.kind).expect("clients open tables of the catalog only");
        compare(id, table, &**rules, by_seq, findings);
    }
}

/// Folds the log commit by commit, and compares what was shown of each.
fn compare(
    id: TableId,
    table: &TableLog,
    rules: &dyn Rules,
    mut by_seq: BTreeMap<u64, Vec<Shown<'_>>>,
    findings: &mut Findings,
) {
    let mut replica: Option<Box<dyn Replica>> = None;
    for entry in &table.entries {
        let folded = match &mut replica {
            Some(replica) => replica.fold(&entry.payload, Timestamp::from_millis(entry.stored_ms)),
            None => rules.replica(id, &entry.payload, Timestamp::from_millis(entry.stored_ms)).map(
                |(first, commit)| {
                    replica = Some(first);
                    commit
                },
            ),
        };
        let commit = match folded {
            Ok(commit) => commit,
            Err(error) => {
                // The gateway sets such a message aside as well, so what comes after it can be compared.
                let what = format!("message {} does not fold: {error}", entry.stream_seq);
                findings.broken("the log folds", id, what);
                continue;
            }
        };
        let replica = replica.as_deref().expect("folded above");
        for shown in by_seq.remove(&entry.commit.seq).unwrap_or_default() {
            one(id, entry.commit.seq, &shown, replica, &*commit, findings);
        }
    }
    for (seq, shown) in by_seq {
        let what = format!("{} was shown commit {seq}, which is not in the log", shown[0].client);
        findings.broken(PROMISE, id, what);
    }
}

fn one(
    id: TableId,
    seq: u64,
    shown: &Shown<'_>,
    replica: &dyn Replica,
    commit: &dyn FannedOut,
    findings: &mut Findings,
) {
    let expected = if shown.is_snapshot {
        replica.snapshot(shown.viewer, Format::Json)
    } else {
        commit.frame(shown.viewer, Format::Json)
    };
    findings.count("frames compared", 1);
    if !shown.is_snapshot && expected.ends_with(br#""events":[]}"#) {
        findings.count("hidden commits seen as a bare seq", 1);
    }
    if expected != *shown.frame {
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        let (got, expected) = (text(shown.frame), text(&expected));
        let what = format!("{} at {seq} got {got} instead of {expected}", shown.client);
        findings.broken(PROMISE, id, what);
    }
}
