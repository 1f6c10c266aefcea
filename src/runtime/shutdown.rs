//! From a signal to a token that every task of a role watches.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

/// The signals that ask this process to stop. From when this exists they are noted, however long it takes until
/// somebody waits for them.
#[derive(Debug)]
pub struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignals {
    /// Takes over SIGINT and SIGTERM. Must be called within a runtime.
    ///
    /// # Errors
    /// If the process may not handle signals.
    pub fn take_over() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for a signal, then cancels the token. A second signal ends the process at once.
    pub async fn cancel(mut self, token: CancellationToken) -> std::convert::Infallible {
        self.next().await;
        info!("stopping: a second signal stops at once");
        token.cancel();
        self.next().await;
        // Asked for twice: whoever sent it does not want to wait.
        std::process::exit(130)
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
