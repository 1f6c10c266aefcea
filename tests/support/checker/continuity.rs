//! No viewer misses a commit or gets one twice, however often its connection was lost.

use tablecast::domain::TableId;

use super::history::{Line, Seen};
use super::{Evidence, Findings};

const PROMISE: &str = "no seq is skipped or repeated by a client";
const REACHED: &str = "every commit reaches every viewer";

pub(crate) fn check(evidence: &Evidence, findings: &mut Findings) {
    for notebook in &evidence.notebooks {
        findings.count("connections", notebook.connections);
        findings.count("resumed, recovered", notebook.resumed);
        findings.count("resumed, by a snapshot", notebook.not_recovered);
        for (table, lines) in &notebook.histories {
            findings.count("histories", 1);
            let mut follower = Follower::new(&notebook.client, *table);
            for line in lines {
                follower.take(line, findings);
            }
            if let Some(due) = evidence.reached.get(table)
                && follower.follows
                && follower.last < *due
            {
                let what = format!("{} has {}, the log {due}", notebook.client, follower.last);
                findings.broken(REACHED, *table, what);
            }
        }
    }
}

struct Follower<'a> {
    client: &'a str,
    table: TableId,
    last: u64,
    /// A snapshot has to come before anything else.
    awaits_snapshot: bool,
    follows: bool,
}

impl<'a> Follower<'a> {
    fn new(client: &'a str, table: TableId) -> Self {
        Self { client, table, last: 0, awaits_snapshot: true, follows: false }
    }

    fn take(&mut self, line: &Line, findings: &mut Findings) {
        match &line.seen {
            Seen::Subscribing { .. } | Seen::Lost => self.follows = false,
            Seen::Subscribed { recovered, .. } => {
                self.awaits_snapshot = !recovered;
                self.follows = true;
            }
            Seen::Unsubscribed { .. } => self.follows = false,
            Seen::Snapshot { seq, .. } => {
                findings.count("snapshots", 1);
                if *seq < self.last && !self.awaits_snapshot {
                    self.broken(findings, &format!("snapshot {seq} after {}", self.last));
                }
                if *seq < self.last {
                    // By a gateway that had not read as far: it says so by `recovered: false`.
                    findings.count("snapshots older than the cursor", 1);
                }
                self.last = *seq;
                self.awaits_snapshot = false;
            }
            Seen::Commit { seq, .. } => {
                findings.count("commit frames", 1);
                if self.awaits_snapshot {
                    self.broken(findings, &format!("commit {seq} before its snapshot"));
                }
                if *seq != self.last + 1 {
                    self.broken(findings, &format!("commit {seq} after {}", self.last));
                }
                self.last = *seq;
            }
        }
    }

    fn broken(&self, findings: &mut Findings, what: &str) {
        findings.broken(PROMISE, self.table, format!("{}: {what}", self.client));
    }
}
