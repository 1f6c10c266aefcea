//! Thousands of clients on one thread: one epoll loop, one large buffer that all sockets are read into, and no
//! copy of what comes whole. What it costs is mostly the reads themselves.

mod client;
mod histogram;
mod nats_text;
mod scan;
mod tally;
mod wire;

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use tokio::time::Instant;

use client::{Client, Reader};

pub(super) use client::{Language, Phase};
pub(super) use nats_text::{Op, op};
pub(super) use tally::Tally;
pub(super) use wire::{BINARY, TEXT, put, put_unmasked};

/// Larger than what a socket holds, so that a short read means that it is empty.
const BUFFER_BYTES: usize = 4 << 20;
/// Wake-ups that one look at the sockets may bring.
const EVENTS: usize = 4096;

/// What the system keeps for a client that reads nothing, before the server has to.
const STALLED_BYTES: usize = 4096;

/// The clock of a measurement, in nanoseconds since it began: one for who publishes and who reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Epoch(Instant);

impl Epoch {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn now(self) -> u64 {
        nanos(self.0.elapsed())
    }
}

pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// How clients come to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Joining {
    /// So many may be between connecting and being ready.
    pub(super) at_once: usize,
    /// When it has failed.
    pub(super) patience: Duration,
}

/// How joining went.
#[derive(Debug, Default)]
pub(super) struct Joined {
    /// From the beginning of all until each client was ready, in nanoseconds.
    pub(super) ready_after: Vec<u64>,
    /// Connections that were refused, closed or reset before their client was ready.
    pub(super) refused: u64,
    /// Clients that this happened to more than once.
    pub(super) refused_again: u64,
}

/// Who waits for what while clients join.
#[derive(Debug)]
struct Queue {
    started: u64,
    waiting: VecDeque<usize>,
    in_setup: usize,
    refusals: Vec<u32>,
    joined: Joined,
}

#[derive(Debug)]
pub(super) struct Swarm {
    server: SocketAddr,
    request: Vec<u8>,
    poll: Poll,
    reader: Reader,
    clients: Vec<Client>,
    streams: Vec<Option<TcpStream>>,
    /// These read nothing, and have perhaps something to read.
    stalled: Vec<bool>,
    buffer: Vec<u8>,
    epoch: Epoch,
    queue: Option<Queue>,
}

impl Swarm {
    /// Clients that are not connected yet. Each follows the topic at its place in `follows`, or none.
    pub(super) fn new(
        (language, server): (Language, SocketAddr),
        topics: Vec<String>,
        follows: impl Iterator<Item = Option<usize>>,
        epoch: Epoch,
    ) -> anyhow::Result<Self> {
        let clients: Vec<Client> =
            follows.map(|topic| Client { topic, ..Client::default() }).collect();
        let reader = Reader::new(language, topics);
        Ok(Self {
            server,
            request: reader.request(&server.to_string()).into_bytes(),
            poll: Poll::new()?,
            reader,
            streams: clients.iter().map(|_| None).collect(),
            stalled: vec![false; clients.len()],
            clients,
            buffer: vec![0; BUFFER_BYTES],
            epoch,
            queue: None,
        })
    }

    pub(super) fn len(&self) -> usize {
        self.clients.len()
    }

    pub(super) fn tally(&self) -> &Tally {
        &self.reader.tally
    }

    /// What was seen since it was last asked.
    pub(super) fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.reader.tally)
    }

    /// The number of the last event that each client has.
    pub(super) fn last(&self) -> impl Iterator<Item = (Option<usize>, u64)> {
        self.clients.iter().map(|client| (client.topic, client.last))
    }

    /// The sockets of all clients, for a sender on another thread.
    pub(super) fn senders(&self) -> anyhow::Result<Vec<std::net::TcpStream>> {
        let clone = |stream: &TcpStream| {
            let fd = std::os::fd::AsFd::as_fd(stream).try_clone_to_owned()?;
            Ok(std::net::TcpStream::from(fd))
        };
        self.streams.iter().flatten().map(clone).collect()
    }

    /// Connects whoever is away, and returns once all are ready.
    pub(super) fn join(&mut self, joining: Joining) -> anyhow::Result<Joined> {
        let waiting: Vec<usize> = self.away().collect();
        self.join_these(&waiting, joining)
    }

    fn away(&self) -> impl Iterator<Item = usize> {
        self.clients
            .iter()
            .enumerate()
            .filter(|(_, client)| client.phase == Phase::Away)
            .map(|(index, _)| index)
    }

    /// The same for some clients.
    pub(super) fn join_these(
        &mut self,
        these: &[usize],
        joining: Joining,
    ) -> anyhow::Result<Joined> {
        self.queue = Some(Queue {
            started: self.epoch.now(),
            waiting: these.iter().copied().collect(),
            in_setup: 0,
            refusals: vec![0; self.clients.len()],
            joined: Joined::default(),
        });
        let until = self.epoch.now() + nanos(joining.patience);
        let mut events = Events::with_capacity(EVENTS);
        while self.queue.as_ref().is_some_and(|queue| queue.joined.ready_after.len() < these.len())
        {
            self.connect_more(joining.at_once)?;
            self.look(&mut events, Duration::from_millis(20))?;
            if self.epoch.now() > until {
                bail!("{}", self.why_not(these.len()));
            }
        }
        Ok(self.queue.take().map(|queue| queue.joined).unwrap_or_default())
    }

    fn why_not(&self, wanted: usize) -> String {
        let joined = self.queue.as_ref().map(|queue| &queue.joined);
        let (ready, refused) =
            joined.map_or((0, 0), |joined| (joined.ready_after.len(), joined.refused));
        let code = self.clients.iter().find_map(|client| client.close_code);
        format!(
            "only {ready} of {wanted} clients are ready in time, {refused} were refused{}, {} frames were errors",
            code.map(|code| format!(" (code {code})")).unwrap_or_default(),
            self.reader.tally.errors,
        )
    }

    fn connect_more(&mut self, at_once: usize) -> anyhow::Result<()> {
        loop {
            let next = self.queue.as_mut().filter(|queue| queue.in_setup < at_once);
            let Some(queue) = next else { return Ok(()) };
            let Some(index) = queue.waiting.pop_front() else { return Ok(()) };
            queue.in_setup += 1;
            self.connect(index)?;
        }
    }

    fn connect(&mut self, index: usize) -> anyhow::Result<()> {
        let mut stream = TcpStream::connect(self.server).context("no more sockets")?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(index), interest)?;
        self.clients[index].phase = Phase::Connecting;
        self.streams[index] = Some(stream);
        Ok(())
    }

    /// Reads whatever comes until a time.
    pub(super) fn run_until(&mut self, until: u64) -> anyhow::Result<()> {
        self.run_while(until, |_| true)
    }

    /// The same, while a condition holds.
    pub(super) fn run_while(
        &mut self,
        until: u64,
        mut holds: impl FnMut(&Self) -> bool,
    ) -> anyhow::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        while holds(self) {
            let left = until.saturating_sub(self.epoch.now());
            if left == 0 {
                return Ok(());
            }
            self.look(&mut events, Duration::from_nanos(left).min(Duration::from_millis(50)))?;
        }
        Ok(())
    }

    fn look(&mut self, events: &mut Events, wait: Duration) -> anyhow::Result<()> {
        match self.poll.poll(events, Some(wait)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        for event in events.iter() {
            self.on_event(event);
        }
        Ok(())
    }

    fn on_event(&mut self, event: &Event) {
        let Token(index) = event.token();
        if self.clients[index].phase == Phase::Connecting {
            if event.is_writable() {
                self.on_connected(index);
            }
            if event.is_error() || event.is_read_closed() {
                self.on_gone(index);
            }
            return;
        }
        if event.is_readable() && !self.stalled[index] {
            self.read(index, event.is_read_closed() || event.is_error());
        }
    }

    fn on_connected(&mut self, index: usize) {
        let Some(stream) = &mut self.streams[index] else { return };
        let is_sent =
            stream.set_nodelay(true).and_then(|()| stream.write_all(&self.request)).is_ok();
        if is_sent {
            self.clients[index].phase = Phase::Upgrading;
        } else {
            self.on_gone(index);
        }
    }

    /// One read, unless there is more than the buffer takes or the end is near.
    fn read(&mut self, index: usize, to_the_end: bool) {
        loop {
            let Some(stream) = &mut self.streams[index] else { return };
            let read = match stream.read(&mut self.buffer) {
                Ok(0) => return self.on_gone(index),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return self.on_gone(index),
            };
            self.reader.tally.reads += 1;
            let client = &mut self.clients[index];
            let was_ready = client.phase == Phase::Ready;
            self.reader.take(client, &self.buffer[..read], self.epoch.now());
            let (is_ready, is_closed) = (client.phase == Phase::Ready, client.close_code.is_some());
            if is_ready && !was_ready {
                self.on_ready();
            }
            if is_closed || !self.send_reply(index) {
                return self.on_gone(index);
            }
            if read < self.buffer.len() && !to_the_end {
                return;
            }
        }
    }

    /// What a client says is small, and its socket has room for it unless the server takes nothing.
    fn send_reply(&mut self, index: usize) -> bool {
        if self.reader.reply.is_empty() {
            return true;
        }
        let sent = self.streams[index]
            .as_mut()
            .is_some_and(|stream| stream.write_all(&self.reader.reply).is_ok());
        self.reader.reply.clear();
        sent
    }

    fn on_ready(&mut self) {
        let now = self.epoch.now();
        if let Some(queue) = &mut self.queue {
            queue.in_setup -= 1;
            queue.joined.ready_after.push(now - queue.started);
        }
    }

    fn on_gone(&mut self, index: usize) {
        let phase = self.clients[index].phase;
        self.streams[index] = None;
        self.clients[index].left();
        self.reader.tally.gone += 1;
        if let Some(queue) = self.queue.as_mut().filter(|_| phase != Phase::Ready) {
            queue.in_setup -= 1;
            queue.joined.refused += 1;
            queue.refusals[index] += 1;
            queue.joined.refused_again += u64::from(queue.refusals[index] == 2);
            queue.waiting.push_back(index);
        }
    }

    /// Cuts clients off with a reset, as a network does that forgets its connections.
    pub(super) fn reset(&mut self, these: &[usize]) -> anyhow::Result<()> {
        for &index in these {
            if let Some(stream) = self.streams[index].take() {
                rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
            }
            let client = &mut self.clients[index];
            client.left();
            client.close_code = None;
        }
        Ok(())
    }

    /// A client stops reading, and has little room for what comes all the same.
    pub(super) fn stall(&mut self, index: usize) -> anyhow::Result<()> {
        self.stalled[index] = true;
        if let Some(stream) = &self.streams[index] {
            rustix::net::sockopt::set_socket_recv_buffer_size(stream, STALLED_BYTES)?;
        }
        Ok(())
    }

    /// It reads again, beginning with what waits for it.
    pub(super) fn go_on(&mut self, index: usize) -> anyhow::Result<()> {
        self.stalled[index] = false;
        if let Some(stream) = &self.streams[index] {
            // With as little room as before, the rest would come in drops.
            rustix::net::sockopt::set_socket_recv_buffer_size(stream, BUFFER_BYTES)?;
        }
        self.read(index, true);
        Ok(())
    }
}
