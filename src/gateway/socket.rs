//! The WebSocket library's side of a connection: messages, batches, faults.

use std::collections::VecDeque;
use std::future::poll_fn;

use axum::extract::ws::{Message, Utf8Bytes, WebSocket};
use bytes::Bytes;
use futures_util::SinkExt;
use futures_util::stream::SplitSink;
use tokio_tungstenite::tungstenite;

use crate::protocol::close::CloseCode;
use crate::protocol::frame::Format;

/// Hands the batch to the socket and flushes once. Cancel-safe: a message leaves the batch only when the
/// socket has taken it.
pub(super) async fn write(
    sink: &mut SplitSink<WebSocket, Message>,
    batch: &mut VecDeque<Message>,
) -> Result<(), axum::Error> {
    while !batch.is_empty() {
        poll_fn(|cx| sink.poll_ready_unpin(cx)).await?;
        if let Some(message) = batch.pop_front() {
            sink.start_send_unpin(message)?;
        }
    }
    sink.flush().await
}

/// A frame as the WebSocket message of its format.
pub(super) fn message(format: Format, frame: Bytes) -> Message {
    match format {
        Format::Json => Message::Text(Utf8Bytes::try_from(frame).expect("serde_json writes UTF-8")),
        Format::MessagePack => Message::Binary(frame),
    }
}

/// Why a socket cannot be read any more, if it is the client's fault; the rest is the network's.
pub(super) fn fault_of(error: axum::Error) -> Option<CloseCode> {
    match error.into_inner().downcast_ref::<tungstenite::Error>() {
        Some(tungstenite::Error::Capacity(_)) => Some(CloseCode::FrameTooBig),
        Some(tungstenite::Error::Utf8(_)) => Some(CloseCode::BadFrames),
        Some(_) | None => None,
    }
}
