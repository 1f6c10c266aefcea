//! What all connections of a gateway share.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::commands::Dispatcher;
use super::hub::Hub;
use super::lobby::Board;
use super::outbox::OutboxLimits;
use super::registry::Registry;
use super::session::SessionLimits;
use super::token::Tokens;
use crate::protocol::frame::ServerFrame;
use crate::runtime::clock::Clock;
use crate::runtime::entropy::Entropy;

/// Everything a connection needs beside its socket.
#[derive(Debug)]
pub(super) struct Served {
    /// This process, as owners of tables know it.
    pub gateway: Arc<str>,
    /// The followed tables.
    pub hub: Arc<Hub>,
    /// The list of tables.
    pub board: Arc<Board>,
    /// Where commands go.
    pub dispatcher: Arc<Dispatcher>,
    /// The connections.
    pub registry: Arc<Registry>,
    /// For guests' ids.
    pub entropy: Entropy,
    /// Who is who.
    pub tokens: Tokens,
    /// What one session may do.
    pub session: SessionLimits,
    /// What one outbox may hold.
    pub outbox: OutboxLimits,
    /// How long a socket may take nothing.
    pub slow_timeout: Duration,
    /// How many bytes the kernel may hold of what we wrote to one socket.
    pub send_buffer: usize,
    /// Whether clients that ask for it are sent compressed frames.
    pub deflates: bool,
    /// The time for clients.
    pub clock: Clock,
    /// Counts frames handed to sockets.
    pub sent: ::metrics::Counter,
    /// Over what time those that are told to come back are spread.
    pub reconnect_window: Duration,
    /// The number of the next connection.
    pub next_connection: AtomicU64,
}

impl Served {
    /// The last frame for one connection of a gateway that stops.
    pub(super) fn goodbye(&self) -> ServerFrame {
        let window = u64::try_from(self.reconnect_window.as_millis()).unwrap_or(u64::MAX - 1);
        let chance = u64::from_le_bytes(self.entropy.bytes());
        ServerFrame::Goodbye { reconnect_after_ms: chance % (window + 1) }
    }
}
