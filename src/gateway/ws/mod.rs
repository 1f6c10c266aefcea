//! WebSocket, as RFC 6455 and RFC 7692 have it, on bare sockets.
//!
//! By hand, because what we need most no library gives: one frame, header included, that a thousand sockets
//! share, written together with whatever else waits for the same socket, and no buffer for a socket that is
//! silent. `docs/benchmarks.md` has what that is worth beside axum's own WebSocket.

pub(super) mod codec;
pub(super) mod deflate;
#[cfg(test)]
mod echo;
pub(super) mod handshake;
pub(super) mod socket;
