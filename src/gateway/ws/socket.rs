//! A bare socket: reads through a buffer that all connections of a thread share, writes many frames at once.

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use tokio::net::TcpStream;
use tracing::debug;

use super::super::wire::Frame;

/// What one read takes at most. A client that sends more waits its turn like any other.
const READ_BYTES: usize = 16 * 1024;
/// What one write hands over at most.
const SLICES: usize = 64;

thread_local! {
    static READ_BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Lends this thread's read buffer. Not to be called from within.
pub(in crate::gateway) fn with_read_buffer<T>(read: impl FnOnce(&mut [u8]) -> T) -> T {
    let mut buffer = READ_BUFFER.take();
    buffer.resize(READ_BYTES, 0);
    let result = read(&mut buffer);
    READ_BUFFER.set(buffer);
    result
}

/// One client's socket, and what waits to be written to it.
#[derive(Debug)]
pub(in crate::gateway) struct Socket {
    stream: TcpStream,
    queue: VecDeque<Frame>,
    /// How much of the first frame is written.
    written: usize,
    /// In the queue, what is written of the first frame included.
    queued: usize,
}

/// How far a write came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) enum Written {
    /// Nothing waits.
    All,
    /// The socket took some.
    Some,
    /// The socket takes nothing now.
    Nothing,
}

impl Socket {
    /// With at most so many bytes of ours in the kernel: what is there can be neither replaced nor overtaken.
    pub(in crate::gateway) fn new(stream: TcpStream, send_buffer: usize) -> Self {
        if let Err(error) = socket2::SockRef::from(&stream).set_send_buffer_size(send_buffer) {
            debug!(%error, "a socket keeps its send buffer");
        }
        Self { stream, queue: VecDeque::new(), written: 0, queued: 0 }
    }

    /// Leaves a frame to be written.
    pub(in crate::gateway) fn push(&mut self, frame: Frame) {
        self.queued += frame.len();
        self.queue.push_back(frame);
    }

    /// Frames and bytes that wait to be written.
    pub(in crate::gateway) fn waiting(&self) -> (usize, usize) {
        (self.queue.len(), self.queued)
    }

    /// Gives memory back that a silent connection does not need.
    pub(in crate::gateway) fn rest(&mut self) {
        if self.queue.is_empty() {
            self.queue = VecDeque::new();
        }
    }

    /// Whether there may be something to read.
    pub(in crate::gateway) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_read_ready(cx).map(|_ready_or_failed| ())
    }

    /// Whether it may take something.
    pub(in crate::gateway) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_write_ready(cx).map(|_ready_or_failed| ())
    }

    /// Reads what has come into the buffer; nothing if nothing has.
    ///
    /// # Errors
    /// If the connection is broken. That the client has closed it is an error, too.
    pub(in crate::gateway) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.stream.try_read(buffer) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => Ok(length),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Writes as much as the socket takes.
    ///
    /// # Errors
    /// If the connection is broken.
    pub(in crate::gateway) fn write(&mut self) -> io::Result<Written> {
        let mut some = Written::Nothing;
        while !self.queue.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let mut count = 0;
            for (slice, frame) in slices.iter_mut().zip(&self.queue) {
                *slice = IoSlice::new(frame.as_bytes());
                count += 1;
            }
            slices[0].advance(self.written);
            match self.stream.try_write_vectored(&slices[..count]) {
                Ok(length) => self.advance(length),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(some),
                Err(error) => return Err(error),
            }
            some = Written::Some;
        }
        Ok(Written::All)
    }

    fn advance(&mut self, length: usize) {
        self.written += length;
        while let Some(first) = self.queue.front()
            && self.written >= first.len()
        {
            self.written -= first.len();
            self.queued -= first.len();
            self.queue.pop_front();
        }
    }

    /// Writes everything, however long that takes.
    ///
    /// # Errors
    /// If the connection is broken.
    pub(in crate::gateway) async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| {
            loop {
                match self.write() {
                    Ok(Written::All) => return Poll::Ready(Ok(())),
                    Ok(Written::Some | Written::Nothing) => ready!(self.poll_writable(cx)),
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
        })
        .await
    }

    /// Reads until the client has nothing more to say.
    pub(in crate::gateway) async fn drain(&self) {
        poll_fn(|cx| {
            loop {
                ready!(self.poll_readable(cx));
                if with_read_buffer(|buffer| self.read(buffer)).is_err() {
                    return Poll::Ready(());
                }
            }
        })
        .await;
    }

    /// Says that nothing more comes.
    pub(in crate::gateway) fn shut(&self) {
        // Fails if the client is gone, who then knows.
        socket2::SockRef::from(&self.stream).shutdown(std::net::Shutdown::Write).ok();
    }
}
