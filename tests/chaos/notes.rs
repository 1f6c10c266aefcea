//! A notebook that a client writes while it plays: what it saw, what it sent, what it was told.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use tablecast::domain::TableId;
use tablecast::runtime::clock::Clock;
use tokio::time::Instant;

use crate::checker::history::{Command, Line, Notebook, Seen, Verdict};
use crate::client::{Frame, Head};

/// Now, in milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    Clock::System.now().as_millis()
}

/// How far each client has come at the table it follows, for whoever waits until all have.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cursors(Arc<Mutex<HashMap<(String, TableId), u64>>>);

impl Cursors {
    fn set(&self, client: &str, table: TableId, seq: Option<u64>) {
        let mut cursors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (client.to_owned(), table);
        match seq {
            Some(seq) => cursors.insert(key, seq),
            None => cursors.remove(&key),
        };
    }

    /// Those who are behind.
    pub(crate) fn behind(&self, due: &HashMap<TableId, u64>) -> Vec<(String, TableId, u64)> {
        let cursors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cursors
            .iter()
            .filter(|((_, table), seq)| due.get(table).is_some_and(|due| *seq < due))
            .map(|((client, table), seq)| (client.clone(), *table, *seq))
            .collect()
    }
}

/// What one client writes down.
#[derive(Debug)]
pub(crate) struct Notes {
    pub(crate) book: Notebook,
    cursors: Cursors,
    last: HashMap<TableId, u64>,
    /// Tables that were asked for with a cursor, and have not answered yet.
    resuming: HashSet<TableId>,
    by_id: HashMap<String, (usize, Instant)>,
}

impl Notes {
    pub(crate) fn new(client: String, cursors: Cursors) -> Self {
        let book = Notebook { client, ..Notebook::default() };
        Self {
            book,
            cursors,
            last: HashMap::new(),
            resuming: HashSet::new(),
            by_id: HashMap::new(),
        }
    }

    /// The last `seq` that came of a table.
    pub(crate) fn cursor(&self, table: TableId) -> Option<u64> {
        self.last.get(&table).copied()
    }

    /// A connection was lost, or given up.
    pub(crate) fn lost(&mut self, tables: &[TableId]) {
        for table in tables {
            self.line(*table, Seen::Lost);
        }
    }

    pub(crate) fn subscribing(&mut self, table: TableId) -> Option<u64> {
        let cursor = self.cursor(table);
        if cursor.is_some() {
            self.resuming.insert(table);
        }
        self.line(table, Seen::Subscribing { cursor });
        cursor
    }

    /// Nothing more of this table is awaited.
    pub(crate) fn done_with(&mut self, table: TableId) {
        self.cursors.set(&self.book.client, table, None);
    }

    /// A frame of a table. Anything else is not written down.
    pub(crate) fn take(&mut self, frame: &Frame) -> Option<TableId> {
        let Head { r#type, table, seq, seat, recovered, reason, .. } = &frame.head;
        let table: TableId = table.as_ref()?.parse().ok()?;
        let bytes = frame.bytes.clone();
        let seen = match (r#type.as_str(), seq) {
            ("subscribed", _) => {
                let recovered = recovered.unwrap_or_default();
                // It comes without being asked for as well, when the viewer's seat changes.
                if self.resuming.remove(&table) {
                    self.book.resumed += u64::from(recovered);
                    self.book.not_recovered += u64::from(!recovered);
                }
                Seen::Subscribed { seat: *seat, recovered }
            }
            ("commit", Some(seq)) => Seen::Commit { seq: *seq, frame: bytes },
            ("snapshot", Some(seq)) => Seen::Snapshot { seq: *seq, frame: bytes },
            ("unsubscribed", _) => {
                Seen::Unsubscribed { reason: reason.clone().unwrap_or_default() }
            }
            _ => return None,
        };
        if let Seen::Commit { seq, .. } | Seen::Snapshot { seq, .. } = &seen {
            self.last.insert(table, *seq);
            self.cursors.set(&self.book.client, table, Some(*seq));
        }
        self.line(table, seen);
        Some(table)
    }

    fn line(&mut self, table: TableId, seen: Seen) {
        let line = Line { at_ms: now_ms(), seen };
        self.book.histories.entry(table).or_default().push(line);
    }

    /// A command is sent for the first time.
    pub(crate) fn sending(&mut self, table: TableId, player: &str, id: &str) {
        self.by_id.insert(id.to_owned(), (self.book.commands.len(), Instant::now()));
        self.book.commands.push(Command {
            table,
            player: player.to_owned(),
            id: id.to_owned(),
            sent_ms: vec![now_ms()],
            connections: 1,
            took_us: None,
            verdicts: Vec::new(),
        });
    }

    /// A command is sent once more.
    pub(crate) fn sending_again(&mut self, id: &str, is_new_connection: bool) {
        if let Some((index, _)) = self.by_id.get(id) {
            let command = &mut self.book.commands[*index];
            command.sent_ms.push(now_ms());
            command.connections += u32::from(is_new_connection);
        }
    }

    /// A verdict on a command.
    pub(crate) fn verdict(&mut self, head: &Head) -> Option<(String, Verdict)> {
        let id = head.id.clone()?;
        let code = head.code.clone().unwrap_or_default();
        let verdict = match (head.r#type.as_str(), head.seq, head.retry_after_ms) {
            ("accepted", Some(seq), _) => Verdict::Accepted { seq },
            ("rejected", _, None) => Verdict::Rejected { code },
            ("rejected", _, Some(_)) => Verdict::Later { code },
            _ => return None,
        };
        let (index, first_sent) = self.by_id.get(&id)?;
        let command = &mut self.book.commands[*index];
        let is_final = !matches!(verdict, Verdict::Later { .. });
        if is_final && command.took_us.is_none() {
            let took = first_sent.elapsed().as_micros();
            command.took_us = Some(u64::try_from(took).unwrap_or(u64::MAX));
        }
        command.verdicts.push((now_ms(), verdict.clone()));
        Some((id, verdict))
    }
}
