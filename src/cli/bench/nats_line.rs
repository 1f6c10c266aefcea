//! A connection to nats-server that costs next to nothing: text out, whatever comes back counted.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::time::Instant;

use super::swarm::{Op, op};

/// How long the server may take to answer anything.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(super) struct NatsLine {
    stream: TcpStream,
    received: Vec<u8>,
}

/// What came in a look at the connection.
#[derive(Debug)]
pub(super) enum Came<'a> {
    Message { subject: &'a [u8], payload: &'a [u8] },
    Error,
}

impl NatsLine {
    /// Connects, and follows a subject if one is named. Returns once the server knows.
    pub(super) fn connect(server: SocketAddr, follow: Option<&str>) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(server).context("nats-server takes no connection")?;
        stream.set_nodelay(true)?;
        let mut line = Self { stream, received: Vec::new() };
        line.send(
            b"CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true,\
              \"lang\":\"bench\",\"version\":\"1\",\"protocol\":1,\"name\":\"tablecast bench\"}\r\n",
        )?;
        if let Some(subject) = follow {
            line.send(format!("SUB {subject} 1\r\n").as_bytes())?;
        }
        line.settle(|_| {})?;
        Ok(line)
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(bytes).context("nats-server is gone")
    }

    /// Waits until the server has taken all that was sent; what comes meanwhile is handed over.
    pub(super) fn settle(&mut self, mut each: impl FnMut(Came<'_>)) -> anyhow::Result<()> {
        self.send(b"PING\r\n")?;
        let until = Instant::now() + PATIENCE;
        let mut has_answered = false;
        while !has_answered {
            self.read_for(Duration::from_millis(200), &mut |came| match came {
                None => has_answered = true,
                Some(came) => each(came),
            })?;
            if Instant::now() > until {
                bail!("nats-server does not answer");
            }
        }
        Ok(())
    }

    /// Waits for at most so long; takes whatever is there.
    pub(super) fn wait(
        &mut self,
        at_most: Duration,
        mut each: impl FnMut(Came<'_>),
    ) -> anyhow::Result<()> {
        self.read_for(at_most, &mut |came| came.map_or((), &mut each))
    }

    /// Takes whatever is there already.
    pub(super) fn look(&mut self, mut each: impl FnMut(Came<'_>)) -> anyhow::Result<()> {
        self.read(RecvFlags::DONTWAIT, &mut |came| came.map_or((), &mut each))
    }

    fn read_for(
        &mut self,
        at_most: Duration,
        each: &mut dyn FnMut(Option<Came<'_>>),
    ) -> anyhow::Result<()> {
        self.stream.set_read_timeout(Some(at_most))?;
        self.read(RecvFlags::empty(), each)
    }

    fn read(
        &mut self,
        flags: RecvFlags,
        each: &mut dyn FnMut(Option<Came<'_>>),
    ) -> anyhow::Result<()> {
        let mut buffer = [0; 64 * 1024];
        let read = match recv(&self.stream, &mut buffer, flags) {
            Ok((0, _)) => bail!("nats-server has closed the connection"),
            Ok((read, _)) => read,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(error) => return Err(error.into()),
        };
        self.received.extend_from_slice(&buffer[..read]);
        let bytes = std::mem::take(&mut self.received);
        let mut from = 0;
        while let Some((op, next)) = op(&bytes, from) {
            match op {
                Op::Message { subject, payload } => {
                    each(Some(Came::Message {
                        subject: &bytes[subject],
                        payload: &bytes[payload],
                    }));
                }
                Op::Ping => self.send(b"PONG\r\n")?,
                Op::Pong => each(None),
                Op::Error { .. } => each(Some(Came::Error)),
                Op::Info | Op::Other => {}
            }
            from = next;
        }
        self.received = bytes;
        self.received.drain(..from);
        Ok(())
    }
}
