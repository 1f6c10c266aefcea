//! What this machine can do at most: one thread writes ready-made frames to loopback sockets, another reads them.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use mio::{Events, Interest, Poll, Token};
use serde::Serialize;
use tokio::time::Instant;

use super::machine::{Cores, Part, cpu_of_thread};
use super::swarm::put_unmasked;

/// Frames that one write may hold, as a server does that joins what is waiting.
const BATCHES: [usize; 3] = [1, 4, 16];
/// What a frame of a 200-byte event is on its way to a spectator, without the WebSocket head.
pub(super) const FRAME_BYTES: usize = 318;

/// The machine's limit for one way of writing.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Limit {
    pub(super) sockets: usize,
    pub(super) frames_a_write: usize,
    /// For one writer that has a core for itself.
    pub(super) frames_per_second: f64,
    /// Processor time.
    pub(super) write_us: f64,
    /// The writer's, for a million frames.
    pub(super) cpu_seconds_per_million: f64,
    /// Processor time of the reader, for one frame.
    pub(super) read_us_a_frame: f64,
}

/// Measures each batch for a while.
pub(super) fn measure(
    sockets: usize,
    length: Duration,
    cores: Cores,
) -> anyhow::Result<Vec<Limit>> {
    let pairs = Pairs::connect(sockets)?;
    let Pairs { mut written, mut read } = pairs;
    BATCHES.into_iter().map(|batch| one(&mut written, &mut read, batch, length, cores)).collect()
}

struct Pairs {
    written: Vec<TcpStream>,
    read: Vec<mio::net::TcpStream>,
}

impl Pairs {
    fn connect(sockets: usize) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (mut written, mut read) = (Vec::new(), Vec::new());
        for _ in 0..sockets {
            let reader = TcpStream::connect(address).context("no more sockets")?;
            reader.set_nonblocking(true)?;
            read.push(mio::net::TcpStream::from_std(reader));
            let (writer, _) = listener.accept()?;
            writer.set_nodelay(true)?;
            written.push(writer);
        }
        Ok(Self { written, read })
    }
}

struct Written {
    writes: u64,
    wall: Duration,
    cpu: Duration,
}

fn one(
    written: &mut [TcpStream],
    read: &mut [mio::net::TcpStream],
    batch: usize,
    length: Duration,
    cores: Cores,
) -> anyhow::Result<Limit> {
    let mut frame = Vec::new();
    put_unmasked(&mut frame, &[b'x'; FRAME_BYTES]);
    let bytes = frame.repeat(batch);
    let is_over = AtomicBool::new(false);
    let sockets = written.len();
    let (writer, reader) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            cores.take(Part::Rest)?;
            drain(read, &is_over)
        });
        let writer = scope.spawn(|| {
            cores.take(Part::Server)?;
            let end = write(written, &bytes, length);
            is_over.store(true, Ordering::Release);
            end
        });
        (writer.join(), reader.join())
    });
    let writer = writer.map_err(|_panic| anyhow::anyhow!("the writer has panicked"))??;
    let reader = reader.map_err(|_panic| anyhow::anyhow!("the reader has panicked"))??;
    let frames = writer.writes as f64 * batch as f64;
    let cpu_us = writer.cpu.as_secs_f64() * 1e6;
    Ok(Limit {
        sockets,
        frames_a_write: batch,
        frames_per_second: frames / writer.cpu.min(writer.wall).as_secs_f64(),
        write_us: cpu_us / writer.writes as f64,
        cpu_seconds_per_million: cpu_us / frames,
        read_us_a_frame: reader.as_secs_f64() * 1e6 / frames,
    })
}

fn write(sockets: &mut [TcpStream], bytes: &[u8], length: Duration) -> anyhow::Result<Written> {
    let (started, cpu) = (Instant::now(), cpu_of_thread()?);
    let mut writes = 0;
    while started.elapsed() < length {
        for socket in &mut *sockets {
            socket.write_all(bytes)?;
            writes += 1;
        }
    }
    Ok(Written { writes, wall: started.elapsed(), cpu: cpu_of_thread()? - cpu })
}

/// Reads until nothing more comes.
fn drain(sockets: &mut [mio::net::TcpStream], is_over: &AtomicBool) -> anyhow::Result<Duration> {
    let cpu = cpu_of_thread()?;
    let mut poll = Poll::new()?;
    for (index, socket) in sockets.iter_mut().enumerate() {
        poll.registry().register(socket, Token(index), Interest::READABLE)?;
    }
    let (mut events, mut buffer) = (Events::with_capacity(1024), vec![0; 1 << 20]);
    loop {
        poll.poll(&mut events, Some(Duration::from_millis(20)))?;
        if events.is_empty() && is_over.load(Ordering::Acquire) {
            break;
        }
        for event in &events {
            let Token(index) = event.token();
            // A read that is not full has emptied the socket.
            while matches!(sockets[index].read(&mut buffer), Ok(read) if read == buffer.len()) {}
        }
    }
    for socket in sockets {
        poll.registry().deregister(socket)?;
    }
    Ok(cpu_of_thread()? - cpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_of_more_frames_moves_more_frames() {
        let limits = measure(4, Duration::from_millis(20), Cores::Free).unwrap();
        assert_eq!(limits.iter().map(|limit| limit.frames_a_write).collect::<Vec<_>>(), BATCHES);
        for limit in limits {
            assert!(limit.frames_per_second > 0.0 && limit.write_us > 0.0, "{limit:?}");
        }
    }
}
