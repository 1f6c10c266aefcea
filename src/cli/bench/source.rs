//! The publisher: events of one size, each stamped right before it is sent, at a rate that nothing slows down.

use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use anyhow::{bail, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::machine::cpu_of_thread;
use super::nats_line::{Came, NatsLine};
use super::pace::paced;
use super::swarm::Epoch;
use super::target::{KIND, Peer};
use crate::runtime::clock::Clock;
use crate::runtime::entropy::Entropy;

/// An event, as JSON.
pub(super) const EVENT_BYTES: usize = 200;
/// Appends of new tables under way at a time.
const OPENING: usize = 256;
/// Where the server acknowledges what is appended.
const ACKS: &str = "_INBOX.bench";
const PATIENCE: Duration = Duration::from_secs(60);

/// How events come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(super) enum Input {
    /// Appended to the stream, whose server republishes what it has stored: the way of every real commit.
    Stream,
    /// As the copies that the server republishes, without a stream: core NATS in, as peers have it.
    Live,
    /// Core NATS, for peers.
    #[value(skip)]
    Core,
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stream => "stream (tc.evt, stored and republished)",
            Self::Live => "live (tc.live, core NATS, nothing stored)",
            Self::Core => "core NATS",
        })
    }
}

/// One table, as its publisher knows it.
#[derive(Clone, Debug)]
struct Table {
    id: String,
    /// How many events it has: the number of the last one.
    count: u64,
    /// Where the last one stands in the stream, or would.
    position: u64,
}

/// What a stretch of publishing came to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sent {
    /// Within the window.
    pub(super) in_window: u64,
    /// Appends that the stream refused, so far.
    pub(super) refused: u64,
    /// Appends that were acknowledged, so far.
    pub(super) acknowledged: u64,
    /// How late the publisher was, at worst.
    pub(super) late: Duration,
    pub(super) cpu: Duration,
}

#[derive(Debug)]
pub(super) struct Source {
    line: NatsLine,
    acks: NatsLine,
    input: Input,
    tables: Vec<Table>,
    epoch: Epoch,
    next: usize,
    position: u64,
    acknowledged: u64,
    refused: u64,
}

#[derive(Deserialize)]
struct Ack {
    seq: Option<u64>,
    error: Option<serde_json::Value>,
}

impl Source {
    /// Tables with so many events each. Those of a peer exist once somebody follows them.
    pub(super) fn open(
        (peer, nats): (Peer, SocketAddr),
        input: Input,
        (tables, events): (usize, usize),
        epoch: Epoch,
    ) -> anyhow::Result<Self> {
        let entropy = Entropy::from_os();
        let now = Clock::System.now();
        let table = |index: usize| Table {
            id: match peer {
                Peer::Tablecast => entropy.table_id(now).to_string(),
                Peer::NatsWs => format!("bench.{index}"),
            },
            count: 0,
            position: 0,
        };
        let mut source = Self {
            line: NatsLine::connect(nats, None)?,
            acks: NatsLine::connect(nats, Some(&format!("{ACKS}.*")))?,
            input: if peer == Peer::Tablecast { input } else { Input::Core },
            tables: (0..tables).map(table).collect(),
            epoch,
            next: 0,
            position: 0,
            acknowledged: 0,
            refused: 0,
        };
        if peer == Peer::Tablecast {
            for _ in 0..events {
                source.append_to_all()?;
            }
        }
        Ok(source)
    }

    /// What clients subscribe to: table ids, or a peer's subjects.
    pub(super) fn topics(&self) -> Vec<String> {
        self.tables.iter().map(|table| table.id.clone()).collect()
    }

    /// The number of the last event of a table.
    pub(super) fn count(&self, table: usize) -> u64 {
        self.tables[table].count
    }

    /// One event for each table, stored before this returns.
    fn append_to_all(&mut self) -> anyhow::Result<()> {
        let mut waiting = 0;
        for index in 0..self.tables.len() {
            let mut text = Vec::new();
            self.tables[index].count += 1;
            let reply = format!(" {ACKS}.{index}");
            put_append(&mut text, &self.tables[index], &reply, self.epoch.now());
            self.line.send(&text)?;
            waiting += 1;
            if waiting >= OPENING {
                waiting -= self.await_acks(waiting - OPENING / 2)?;
            }
        }
        while waiting > 0 {
            waiting -= self.await_acks(waiting)?;
        }
        Ok(())
    }

    /// Waits for at least so many, and says how many came.
    fn await_acks(&mut self, wanted: usize) -> anyhow::Result<usize> {
        let (tables, mut came, mut refusal) = (&mut self.tables, 0, None);
        let until = Instant::now() + PATIENCE;
        while came < wanted {
            self.acks.wait(Duration::from_millis(200), |message| {
                let Came::Message { subject, payload } = message else { return };
                came += 1;
                let index = std::str::from_utf8(&subject[ACKS.len() + 1..]).ok();
                let index = index.and_then(|index| index.parse::<usize>().ok());
                match (index, serde_json::from_slice(payload)) {
                    (Some(index), Ok(Ack { seq: Some(seq), error: None })) => {
                        tables[index].position = seq;
                    }
                    (_, _) => refusal = Some(String::from_utf8_lossy(payload).into_owned()),
                }
            })?;
            if let Some(refusal) = refusal {
                bail!("the stream refuses a table's first events: {refusal}");
            }
            ensure!(Instant::now() < until, "the stream acknowledges nothing");
        }
        self.position =
            tables.iter().map(|table| table.position).max().unwrap_or(0).max(self.position);
        Ok(came)
    }

    /// Publishes at a rate from a time on, to one table after another, until the end of the window.
    pub(super) fn run(
        &mut self,
        rate: f64,
        from: u64,
        window: &Range<u64>,
    ) -> anyhow::Result<Sent> {
        let (epoch, cpu) = (self.epoch, cpu_of_thread()?);
        let (mut in_window, mut text) = (0, Vec::new());
        let late = paced((rate, from), window.end, epoch, |count| {
            text.clear();
            for _ in 0..count {
                let stamp = epoch.now();
                self.put(&mut text, stamp);
                in_window += u64::from(window.contains(&stamp));
            }
            self.line.send(&text)?;
            self.count_acks()
        })?;
        self.line.settle(|_| {})?;
        self.count_acks()?;
        let (acknowledged, refused) = (self.acknowledged, self.refused);
        Ok(Sent { in_window, refused, acknowledged, late, cpu: cpu_of_thread()? - cpu })
    }

    fn put(&mut self, text: &mut Vec<u8>, stamp: u64) {
        let table = &mut self.tables[self.next];
        table.count += 1;
        match self.input {
            Input::Stream => put_append(text, table, " _INBOX.bench.a", stamp),
            Input::Live => {
                self.position += 1;
                let previous = std::mem::replace(&mut table.position, self.position);
                put_copy(text, table, previous, stamp);
            }
            Input::Core => put_event(text, table, stamp),
        }
        self.next = (self.next + 1) % self.tables.len();
    }

    fn count_acks(&mut self) -> anyhow::Result<()> {
        if self.input != Input::Stream {
            return Ok(());
        }
        let (acknowledged, refused) = (&mut self.acknowledged, &mut self.refused);
        self.acks.look(|came| match came {
            Came::Message { payload, .. }
                if !payload.windows(7).any(|word| word == b"\"error\"") =>
            {
                *acknowledged += 1;
            }
            Came::Message { .. } | Came::Error => *refused += 1,
        })
    }
}

/// An event of [`EVENT_BYTES`], with its number and when it was made.
fn event(number: u64, stamp: u64) -> String {
    let head = format!(r#"{{"type":"e","t":{stamp},"n":{number},"pad":""#);
    let pad = EVENT_BYTES.saturating_sub(head.len() + 2);
    format!("{head}{:x<pad$}\"}}", "")
}

/// A commit of one event that everybody may know, as relay kinds have it.
fn commit(table: &Table, stamp: u64) -> String {
    format!(r#"{{"public":[{}]}}"#, event(table.count, stamp))
}

fn put_append(text: &mut Vec<u8>, table: &Table, reply: &str, stamp: u64) {
    let payload = commit(table, stamp);
    let subject = format!("tc.evt.0.{KIND}.{}", table.id);
    let line = format!("PUB {subject}{reply} {}\r\n{payload}\r\n", payload.len());
    text.extend_from_slice(line.as_bytes());
}

/// What the server would republish.
fn put_copy(text: &mut Vec<u8>, table: &Table, previous: u64, stamp: u64) {
    let payload = commit(table, stamp);
    let (id, position) = (&table.id, table.position);
    let headers = format!(
        "NATS/1.0\r\nNats-Stream: EVENTS_0\r\nNats-Subject: tc.evt.0.{KIND}.{id}\r\n\
         Nats-Sequence: {position}\r\nNats-Last-Sequence: {previous}\r\n\
         Nats-Time-Stamp: 2026-01-01T00:00:00Z\r\n\r\n"
    );
    let (head, all) = (headers.len(), headers.len() + payload.len());
    let line = format!("HPUB tc.live.0.{KIND}.{id} {head} {all}\r\n{headers}{payload}\r\n");
    text.extend_from_slice(line.as_bytes());
}

fn put_event(text: &mut Vec<u8>, table: &Table, stamp: u64) {
    let payload = event(table.count, stamp);
    let line = format!("PUB {} {}\r\n{payload}\r\n", table.id, payload.len());
    text.extend_from_slice(line.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_its_size_whatever_its_numbers_are() {
        for (number, stamp) in [(1, 2), (u64::MAX, u64::MAX), (123_456, 9_999_999_999)] {
            let event = event(number, stamp);
            assert_eq!(event.len(), EVENT_BYTES, "{event}");
            let value: serde_json::Value = serde_json::from_str(&event).unwrap();
            assert_eq!(value["n"], number);
            assert_eq!(value["t"], stamp);
        }
    }
}
