//! The connections of this gateway, for what concerns all of them: the bus is away, the gateway stops.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::breaker::BusState;
use super::mailbox::{ConnectionId, Mailbox};
use super::wire::{Frame, Wire};
use crate::protocol::close::CloseCode;
use crate::protocol::frame::BusStatus;

/// The connections that are open.
#[derive(Debug)]
pub(super) struct Registry {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    connections: HashMap<ConnectionId, Arc<Mailbox>>,
    bus: BusState,
    closing: Option<CloseCode>,
}

impl Registry {
    /// Nobody is there yet.
    pub(super) fn new(bus: BusState) -> Self {
        let state = State { connections: HashMap::new(), bus, closing: None };
        Self { state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection is there. It is told what everybody else was told before.
    pub(super) fn add(&self, mailbox: &Arc<Mailbox>) {
        let mut state = self.lock();
        state.connections.insert(mailbox.connection, Arc::clone(mailbox));
        if state.bus.bus == BusStatus::Unavailable {
            mailbox.push_own(&state.bus.frame());
        }
        if let Some(code) = state.closing {
            mailbox.close(code);
        }
    }

    /// The connections that are open now.
    pub(super) fn mailboxes(&self) -> Vec<Arc<Mailbox>> {
        self.lock().connections.values().map(Arc::clone).collect()
    }

    /// A connection is gone.
    pub(super) fn remove(&self, connection: ConnectionId) {
        let mut state = self.lock();
        state.connections.remove(&connection);
        if state.connections.len() < state.connections.capacity() / 4 {
            state.connections.shrink_to_fit();
        }
    }

    fn tell_bus(&self, bus: BusState) {
        let mut state = self.lock();
        state.bus = bus;
        let frames = Wire::ALL.map(|wire| Frame::of(wire, &bus.frame()));
        for mailbox in state.connections.values() {
            mailbox.push_own_frame(frames[mailbox.wire as usize].clone());
        }
    }

    fn close_all(&self, code: CloseCode) {
        let mut state = self.lock();
        state.closing = Some(code);
        for mailbox in state.connections.values() {
            mailbox.close(code);
        }
    }

    /// Tells everybody what changes, until the gateway stops and everybody is told that.
    pub(super) async fn run(
        self: Arc<Self>,
        mut bus: watch::Receiver<BusState>,
        shutdown: CancellationToken,
    ) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return self.close_all(CloseCode::Restart),
                Ok(()) = bus.changed() => {
                    let state = *bus.borrow_and_update();
                    self.tell_bus(state);
                }
            }
        }
    }
}
