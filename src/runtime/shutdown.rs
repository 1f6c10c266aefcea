//! From a signal to a token that every task of a role watches.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

/// Waits for SIGINT or SIGTERM, then cancels the token. A second signal ends the process at once.
///
/// # Errors
/// If the process may not handle signals.
pub async fn cancel_on_signal(token: CancellationToken) -> std::io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    info!("stopping: a second signal stops at once");
    token.cancel();
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    #[expect(clippy::exit, reason = "asked for twice: whoever sent it does not want to wait")]
    std::process::exit(130)
}
