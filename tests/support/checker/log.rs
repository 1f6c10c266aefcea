//! The streams as they were, message by message; and whether each table's commits are one history by one writer.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use tablecast::domain::{Kind, TableId};

use super::Findings;

pub(crate) const WRITER: &str = "a table has one writer";

/// One stored message, as a consumer of the stream got it.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) stream_seq: u64,
    pub(crate) subject: String,
    pub(crate) table: TableId,
    pub(crate) kind: Kind,
    pub(crate) what: What,
    /// `Tc-Type`.
    pub(crate) types: String,
    /// `Tc-Worker`.
    pub(crate) worker: Option<String>,
    /// By the clock of the server, in milliseconds since 1970.
    pub(crate) stored_ms: u64,
    pub(crate) payload: Bytes,
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Commit,
    Tombstone,
    Marker,
    /// What takes a marker's place once the table is archived.
    MarkerGone,
}

/// A commit as the log has it, without the product's own types: what it says is judged here, not there.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Commit {
    pub(crate) seq: u64,
    pub(crate) at: u64,
    pub(crate) cause: Value,
    pub(crate) events: Vec<Value>,
    #[serde(default)]
    pub(crate) follow_up: Vec<Value>,
}

#[derive(Deserialize)]
struct Envelope {
    commit: Commit,
}

impl Commit {
    /// Player and id of the command that it answers.
    pub(crate) fn command(&self) -> Option<(&str, &str)> {
        if self.cause["type"] != "command" {
            return None;
        }
        Some((self.cause["player"].as_str()?, self.cause["id"].as_str()?))
    }

    /// Whether it holds an event of this type.
    pub(crate) fn has(&self, event: &str) -> bool {
        self.events.iter().any(|found| found["type"] == event)
    }

    /// Whether anything happened in the game itself.
    pub(crate) fn moves_the_game(&self) -> bool {
        self.events
            .iter()
            .any(|event| event["type"].as_str().is_some_and(|name| !name.starts_with("table.")))
    }
}

/// A commit and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) stream_seq: u64,
    pub(crate) stored_ms: u64,
    pub(crate) worker: String,
    pub(crate) commit: Commit,
    pub(crate) payload: Bytes,
}

/// One table's messages.
#[derive(Clone, Debug)]
pub(crate) struct TableLog {
    pub(crate) kind: Kind,
    pub(crate) entries: Vec<Entry>,
    pub(crate) marker: Option<Bytes>,
    pub(crate) is_buried: bool,
    /// Messages that are no commits, as the decoder has it.
    pub(crate) poison: Vec<String>,
}

impl TableLog {
    pub(crate) fn last_seq(&self) -> u64 {
        self.entries.last().map_or(0, |entry| entry.commit.seq)
    }

    /// When the commit that ends it was stored.
    pub(crate) fn ended_ms(&self) -> Option<u64> {
        let end = self.entries.iter().find(|entry| entry.commit.has("table.completed"));
        end.map(|entry| entry.stored_ms)
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended_ms().is_some()
    }
}

/// All tables.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    pub(crate) tables: BTreeMap<TableId, TableLog>,
}

impl Log {
    /// From messages in the order of the stream.
    pub(crate) fn of(stored: &[Stored]) -> Self {
        let mut log = Self::default();
        for message in stored {
            let table = log.tables.entry(message.table).or_insert_with(|| TableLog {
                kind: message.kind.clone(),
                entries: Vec::new(),
                marker: None,
                is_buried: false,
                poison: Vec::new(),
            });
            table.take(message);
        }
        log
    }
}

impl TableLog {
    fn take(&mut self, message: &Stored) {
        match message.what {
            What::Marker => self.marker = Some(message.payload.clone()),
            What::MarkerGone => {}
            What::Tombstone => self.is_buried = true,
            What::Commit => match rmp_serde::from_slice::<Envelope>(&message.payload) {
                Ok(Envelope { commit }) => self.entries.push(Entry {
                    stream_seq: message.stream_seq,
                    stored_ms: message.stored_ms,
                    worker: message.worker.clone().unwrap_or_default(),
                    commit,
                    payload: message.payload.clone(),
                }),
                Err(error) => {
                    self.poison.push(format!("message {}: {error}", message.stream_seq));
                }
            },
        }
    }
}

/// Whether each table is one history: numbered without gaps, begun once, ended once, by one writer at a time.
pub(crate) fn check(log: &Log, findings: &mut Findings) {
    for (id, table) in &log.tables {
        findings.count("tables", 1);
        findings.count("commits", u64::try_from(table.entries.len()).unwrap_or(u64::MAX));
        for poison in &table.poison {
            findings.broken("the log holds commits only", *id, poison.clone());
        }
        numbering(*id, table, findings);
        writers(*id, table, findings);
    }
}

fn numbering(id: TableId, table: &TableLog, findings: &mut Findings) {
    let promise = "a table's commits are numbered 1, 2, 3 without gap or repetition";
    let mut due = 1;
    for entry in &table.entries {
        if entry.commit.seq != due {
            let (found, at) = (entry.commit.seq, entry.stream_seq);
            let what = format!("commit {found} where {due} was due (message {at})");
            findings.broken(promise, id, what);
        }
        due = entry.commit.seq + 1;
    }
    let ends = table.entries.iter().position(|entry| entry.commit.has("table.completed"));
    if ends.is_some_and(|at| at + 1 != table.entries.len()) {
        let what = "commits follow the one that completes the table".to_owned();
        findings.broken("nothing follows the end of a table", id, what);
    }
}

/// A commit comes from the worker that opened the table or was the last to claim it: what the fence is for.
fn writers(id: TableId, table: &TableLog, findings: &mut Findings) {
    let mut owner: Option<&str> = None;
    for entry in &table.entries {
        let is_taking = entry.commit.has("table.claimed") || entry.commit.has("table.opened");
        if is_taking {
            findings.count("claims", u64::from(owner.is_some()));
            owner = Some(&entry.worker);
        } else if owner != Some(entry.worker.as_str()) {
            let (seq, worker) = (entry.commit.seq, &entry.worker);
            let what = format!("commit {seq} by {worker}, while {owner:?} owned the table");
            findings.broken(WRITER, id, what);
        }
    }
}
