//! One client: what it says when, and what it makes of the bytes that come.

use super::nats_text::{self, Op};
use super::scan::Field;
use super::tally::Tally;
use super::wire::{self, Opcode};

/// The protocol that all clients of a swarm speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Language {
    /// `tablecast.v1.json`.
    Tablecast,
    /// NATS over WebSocket.
    Nats,
}

/// How far a client has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) enum Phase {
    #[default]
    Away,
    Connecting,
    Upgrading,
    /// It has asked for what it wants.
    Asking,
    /// It has what it asked for.
    Ready,
}

/// What a client knows of the table that it follows.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Client {
    pub(in super::super) phase: Phase,
    /// Its table, by its place in the swarm's list; none for a client that only asks.
    pub(in super::super) topic: Option<usize>,
    /// The number of the last event, or of the last snapshot.
    pub(in super::super) last: u64,
    /// What has come of a WebSocket frame.
    pub(super) partial: Vec<u8>,
    /// What has come of a NATS operation.
    pub(super) inner: Vec<u8>,
    /// Why the server closed, if it said so.
    pub(in super::super) close_code: Option<u16>,
}

/// What all clients of a swarm share.
#[derive(Debug)]
pub(in super::super) struct Reader {
    pub(in super::super) language: Language,
    pub(in super::super) topics: Vec<String>,
    pub(in super::super) tally: Tally,
    seq: Field,
    stamp: Field,
    data: Field,
    number: Field,
    /// What the client whose bytes are read has to send.
    pub(in super::super) reply: Vec<u8>,
}

impl Client {
    /// Forgets the connection, and keeps what it has of its table.
    pub(in super::super) fn left(&mut self) {
        self.phase = Phase::Away;
        self.partial = Vec::new();
        self.inner = Vec::new();
    }
}

impl Reader {
    pub(in super::super) fn new(language: Language, topics: Vec<String>) -> Self {
        Self {
            language,
            topics,
            tally: Tally::default(),
            seq: Field::new("\"seq\":"),
            stamp: Field::new("\"t\":"),
            data: Field::new("\"data\":"),
            number: Field::new("\"n\":"),
            reply: Vec::new(),
        }
    }

    pub(in super::super) fn request(&self, host: &str) -> String {
        match self.language {
            Language::Tablecast => {
                wire::upgrade("/ws", host, "Sec-WebSocket-Protocol: tablecast.v1.json\r\n")
            }
            Language::Nats => wire::upgrade("/", host, ""),
        }
    }

    /// Takes what one read has brought.
    pub(in super::super) fn take(&mut self, client: &mut Client, read: &[u8], now: u64) {
        if client.partial.is_empty() {
            let taken = self.frames(client, read, now);
            client.partial.extend_from_slice(&read[taken..]);
            return;
        }
        client.partial.extend_from_slice(read);
        let all = std::mem::take(&mut client.partial);
        let taken = self.frames(client, &all, now);
        if taken < all.len() {
            client.partial.extend_from_slice(&all[taken..]);
        }
    }

    /// Takes whole frames, and says how many bytes they were.
    fn frames(&mut self, client: &mut Client, bytes: &[u8], now: u64) -> usize {
        let mut from = 0;
        if client.phase == Phase::Upgrading {
            let Some((status, body)) = wire::response(bytes) else {
                return 0;
            };
            if status != 101 {
                client.close_code = Some(status);
                return bytes.len();
            }
            client.phase = Phase::Asking;
            from = body;
            self.ask(client);
        }
        while let Some(frame) = wire::frame(bytes, from) {
            let payload = &bytes[frame.payload.clone()];
            match (frame.opcode, self.language) {
                (Opcode::Data, Language::Tablecast) => self.tablecast(client, payload, now),
                (Opcode::Data, Language::Nats) => self.nats(client, payload, now),
                (Opcode::Ping, _) => wire::put(&mut self.reply, wire::PONG, payload),
                (Opcode::Close, _) => {
                    let code = payload.get(..2).and_then(|code| code.try_into().ok());
                    client.close_code = code.map(u16::from_be_bytes);
                }
                (Opcode::Pong, _) => {}
            }
            from = frame.payload.end;
        }
        from
    }

    fn ask(&mut self, client: &Client) {
        // A NATS client speaks once the server has said who it is.
        if let (Language::Tablecast, Some(topic)) = (self.language, client.topic) {
            let table = &self.topics[topic];
            let frame = format!(r#"{{"type":"subscribe","table":"{table}"}}"#);
            wire::put(&mut self.reply, wire::TEXT, frame.as_bytes());
        }
    }

    fn tablecast(&mut self, client: &mut Client, frame: &[u8], now: u64) {
        let kind = frame.strip_prefix(br#"{"type":""#).unwrap_or_default();
        if kind.starts_with(b"commit\"") {
            let Some((seq, from)) = self.seq.find(frame, 0) else {
                return self.tally.errors += 1;
            };
            let stamp = self.stamp.find(frame, from).map(|(stamp, _)| stamp);
            self.event(client, seq, stamp, now);
        } else if kind.starts_with(b"pong\"") {
            let stamp = self.data.find(frame, 0).map(|(stamp, _)| stamp);
            self.answer(stamp, now);
        } else if kind.starts_with(b"snapshot\"") {
            let Some((seq, _)) = self.seq.find(frame, 0) else {
                return self.tally.errors += 1;
            };
            if client.phase == Phase::Ready {
                self.tally.snapshots += 1;
                self.tally.conflated += seq.saturating_sub(client.last);
                self.tally.disordered += u64::from(seq < client.last);
            }
            client.last = seq;
            client.phase = Phase::Ready;
        } else if kind.starts_with(b"welcome\"") {
            if client.topic.is_none() {
                client.phase = Phase::Ready;
            }
        } else if [&b"error\""[..], b"rejected\"", b"unsubscribed\""]
            .iter()
            .any(|refusal| kind.starts_with(refusal))
        {
            self.tally.errors += 1;
        }
    }

    fn nats(&mut self, client: &mut Client, payload: &[u8], now: u64) {
        // The frames of this server carry a stream: an operation may go on in the next one.
        if client.inner.is_empty() {
            let taken = self.operations(client, payload, now);
            client.inner.extend_from_slice(&payload[taken..]);
            return;
        }
        client.inner.extend_from_slice(payload);
        let all = std::mem::take(&mut client.inner);
        let taken = self.operations(client, &all, now);
        if taken < all.len() {
            client.inner.extend_from_slice(&all[taken..]);
        }
    }

    fn operations(&mut self, client: &mut Client, bytes: &[u8], now: u64) -> usize {
        let mut from = 0;
        while let Some((op, next)) = nats_text::op(bytes, from) {
            match op {
                Op::Message { payload, .. } => {
                    let payload = &bytes[payload];
                    let stamp = self.stamp.find(payload, 0).map(|(stamp, _)| stamp);
                    match self.number.find(payload, 0) {
                        Some((number, _)) => self.event(client, number, stamp, now),
                        None => self.answer(stamp, now),
                    }
                }
                Op::Ping => wire::put(&mut self.reply, wire::BINARY, b"PONG\r\n"),
                Op::Pong => client.phase = Phase::Ready,
                Op::Info if client.phase == Phase::Asking => {
                    let topic = client.topic.map_or("", |topic| &self.topics[topic]);
                    let hello = format!(
                        "CONNECT {{\"verbose\":false,\"pedantic\":false,\"lang\":\"bench\",\
                         \"version\":\"1\",\"protocol\":1}}\r\nSUB {topic} 1\r\nPING\r\n"
                    );
                    wire::put(&mut self.reply, wire::BINARY, hello.as_bytes());
                }
                Op::Info | Op::Other => {}
                Op::Error { .. } => self.tally.errors += 1,
            }
            from = next;
        }
        from
    }

    fn event(&mut self, client: &mut Client, number: u64, stamp: Option<u64>, now: u64) {
        // The first number that a client of NATS sees is the newest, whatever it is.
        let follows = client.last + 1;
        if number < follows {
            self.tally.disordered += 1;
        } else if client.last > 0 {
            self.tally.lost += number - follows;
        }
        client.last = client.last.max(number);
        self.answer(stamp, now);
    }

    fn answer(&mut self, stamp: Option<u64>, now: u64) {
        self.tally.deliveries += 1;
        match stamp {
            Some(stamp) => self.tally.latencies.record(now.saturating_sub(stamp)),
            None => self.tally.errors += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(language: Language, frames: &[&str], cut_at: usize) -> (Client, Tally) {
        let mut reader = Reader::new(language, vec!["topic".to_owned()]);
        let mut client = Client { phase: Phase::Upgrading, topic: Some(0), ..Client::default() };
        let mut bytes = b"HTTP/1.1 101 Switching Protocols\r\n\r\n".to_vec();
        for frame in frames {
            wire::put_unmasked(&mut bytes, frame.as_bytes());
        }
        let (first, second) = bytes.split_at(cut_at.min(bytes.len()));
        reader.take(&mut client, first, 100);
        reader.take(&mut client, second, 100);
        (client, reader.tally)
    }

    const COMMITS: [&str; 5] = [
        r#"{"type":"snapshot","table":"x","seq":2,"view":{}}"#,
        r#"{"type":"commit","table":"x","seq":3,"at":1,"events":[{"type":"e","t":50,"n":9}]}"#,
        r#"{"type":"commit","table":"x","seq":5,"at":1,"events":[{"type":"e","t":60,"n":9}]}"#,
        r#"{"type":"commit","table":"x","seq":4,"at":1,"events":[{"type":"e","t":60,"n":9}]}"#,
        r#"{"type":"snapshot","table":"x","seq":8,"view":{}}"#,
    ];

    #[test]
    fn losses_and_disorder_are_seen_wherever_a_read_ends() {
        for cut_at in 0..600 {
            let (client, tally) = received(Language::Tablecast, &COMMITS, cut_at);
            assert_eq!(client.phase, Phase::Ready);
            assert_eq!(client.last, 8, "cut at {cut_at}");
            assert_eq!((tally.deliveries, tally.lost, tally.disordered), (3, 1, 1));
            assert_eq!((tally.conflated, tally.snapshots, tally.errors), (3, 1, 0));
            assert_eq!(tally.latencies.longest().as_nanos(), 50);
        }
    }

    #[test]
    fn operations_of_nats_go_on_in_the_next_frame() {
        let frames = [
            "INFO {}\r\n",
            "PONG\r\nMSG topic 1 13\r\n{\"t\":1,\"n\"",
            ":4}\r\nMSG topic 1 14\r\n{\"t\":2,\"n\":15}\r\n",
        ];
        for cut_at in 0..300 {
            let (client, tally) = received(Language::Nats, &frames, cut_at);
            assert_eq!(client.phase, Phase::Ready);
            assert_eq!((tally.deliveries, tally.lost, tally.errors), (2, 10, 0), "cut at {cut_at}");
        }
    }
}
