//! A line between a process and a NATS server, which can be cut, stalled and healed.

use std::net::SocketAddr;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What the line does with what is sent over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Open,
    /// Connections end, and no new one is made.
    Cut,
    /// Nothing arrives, and nobody is told.
    Stalled,
}

/// A line. Ends when dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    /// Where the process connects.
    pub(crate) address: SocketAddr,
    line: watch::Sender<Line>,
    _task: JoinSet<()>,
}

impl Proxy {
    /// A line to a server, which need not be there yet.
    pub(crate) async fn to(server: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("a port for a proxy")?;
        let address = listener.local_addr()?;
        let (line, watched) = watch::channel(Line::Open);
        let mut task = JoinSet::new();
        task.spawn(accept(listener, server, watched));
        Ok(Self { address, line, _task: task })
    }

    /// Changes what the line does, for connections that are there as well.
    pub(crate) fn set(&self, line: Line) {
        self.line.send_replace(line);
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, line: watch::Receiver<Line>) {
    let mut connections = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        if *line.borrow() != Line::Cut {
            connections.spawn(connection(near, server, line.clone()));
        }
    }
}

async fn connection(near: TcpStream, server: SocketAddr, line: watch::Receiver<Line>) {
    let Ok(far) = TcpStream::connect(server).await else { return };
    if near.set_nodelay(true).and(far.set_nodelay(true)).is_err() {
        return;
    }
    let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
    // When one direction ends, both do: half a line is no line.
    tokio::select! {
        () = carry(near_read, far_write, line.clone()) => {}
        () = carry(far_read, near_write, line) => {}
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut line: watch::Receiver<Line>) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let length = tokio::select! {
            read = from.read(&mut buffer) => match read {
                Ok(0) | Err(_) => return,
                Ok(length) => length,
            },
            cut = line.wait_for(|line| *line == Line::Cut) => {
                drop(cut);
                return;
            }
        };
        match line.wait_for(|line| *line != Line::Stalled).await.as_deref() {
            Ok(Line::Open) => {}
            Ok(Line::Cut | Line::Stalled) | Err(_) => return,
        }
        if to.write_all(buffer.get(..length).unwrap_or_default()).await.is_err() {
            return;
        }
    }
}
