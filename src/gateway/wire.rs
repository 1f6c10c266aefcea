//! Frames as they go over a socket: made once for each audience, shared by everyone of it. Pure.

use bytes::Bytes;

use super::ws::codec::{self, HEADER_BYTES_MAX, Opcode};
use super::ws::deflate;
use crate::protocol::close::CloseCode;
use crate::protocol::frame::{Format, ServerFrame};

/// What a connection has agreed on: how frames are written, and whether they are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Wire {
    /// JSON in text messages.
    Json,
    /// The same through permessage-deflate.
    JsonDeflated,
    /// MessagePack in binary messages, which are small as they are.
    MessagePack,
}

impl Wire {
    /// Every one of them.
    pub(super) const ALL: [Self; 3] = [Self::Json, Self::JsonDeflated, Self::MessagePack];

    /// How frames are written.
    pub(super) fn format(self) -> Format {
        match self {
            Self::Json | Self::JsonDeflated => Format::Json,
            Self::MessagePack => Format::MessagePack,
        }
    }

    fn opcode(self) -> Opcode {
        match self {
            Self::Json | Self::JsonDeflated => Opcode::Text,
            Self::MessagePack => Opcode::Binary,
        }
    }
}

/// One WebSocket message with its header, ready to be written. Cheap to clone: nobody copies the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame(Bytes);

impl Frame {
    /// A ping of the WebSocket protocol.
    pub(super) const PING: Self = Self(Bytes::from_static(&[0x89, 0]));

    /// What `write` appends, as one message.
    pub(super) fn encode(wire: Wire, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut bytes = vec![0; HEADER_BYTES_MAX];
        write(&mut bytes);
        if wire == Wire::JsonDeflated
            && let Some(deflated) = deflate::deflate(&bytes[HEADER_BYTES_MAX..])
        {
            bytes.truncate(HEADER_BYTES_MAX);
            bytes.extend_from_slice(&deflated);
            return Self::with_header(bytes, codec::first_byte(wire.opcode()) | codec::DEFLATED);
        }
        Self::with_header(bytes, codec::first_byte(wire.opcode()))
    }

    /// A frame for one connection alone.
    pub(super) fn of(wire: Wire, frame: &ServerFrame) -> Self {
        Self::encode(wire, |out| wire.format().write(frame, out))
    }

    /// The answer to a ping of the WebSocket protocol.
    pub(super) fn pong(payload: &[u8]) -> Self {
        Self::control(Opcode::Pong, payload)
    }

    /// The last frame, with a reason of ours.
    pub(super) fn close(code: CloseCode) -> Self {
        let mut payload = code.code().to_be_bytes().to_vec();
        payload.extend_from_slice(code.reason().as_bytes());
        Self::control(Opcode::Close, &payload)
    }

    /// The last frame, in answer to the client's.
    pub(super) fn close_echo(code: Option<u16>) -> Self {
        let payload = code.map(u16::to_be_bytes);
        Self::control(Opcode::Close, payload.as_ref().map_or(&[], |code| code.as_slice()))
    }

    fn control(opcode: Opcode, payload: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER_BYTES_MAX];
        bytes.extend_from_slice(payload);
        Self::with_header(bytes, codec::first_byte(opcode))
    }

    /// `bytes` begin with room for the largest header.
    fn with_header(mut bytes: Vec<u8>, first: u8) -> Self {
        let (header, length) = codec::header(first, bytes.len() - HEADER_BYTES_MAX);
        let start = HEADER_BYTES_MAX - length;
        bytes[start..HEADER_BYTES_MAX].copy_from_slice(&header[..length]);
        Self(Bytes::from(bytes).slice(start..))
    }

    /// Header and payload.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// What it is worth in a queue.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The frame without its WebSocket header, for those who get it another way. Not for deflated ones.
    pub(super) fn payload(&self) -> Bytes {
        self.0.slice(codec::header_length(self.0[1])..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(payload: &str) -> Frame {
        Frame::encode(Wire::Json, |out| out.extend_from_slice(payload.as_bytes()))
    }

    #[test]
    fn a_frame_has_the_shortest_header() {
        assert_eq!(text("hi").as_bytes(), b"\x81\x02hi");
        for (length, header) in [(125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            let frame = text(&"x".repeat(length));
            assert_eq!(frame.len(), header + length);
            assert_eq!(frame.payload().len(), length);
        }
        assert_eq!(Frame::pong(b"ab").as_bytes(), b"\x8a\x02ab");
        assert_eq!(Frame::close_echo(None).as_bytes(), b"\x88\x00");
        assert_eq!(Frame::close(CloseCode::Restart).as_bytes(), b"\x88\x09\x0f\xa0restart");
    }

    #[test]
    fn a_long_frame_is_deflated_where_that_was_agreed() {
        let long = r#"{"type":"commit","events":[]}"#.repeat(40);
        let frame = Frame::encode(Wire::JsonDeflated, |out| out.extend_from_slice(long.as_bytes()));
        assert!(frame.len() < long.len() / 4);
        assert_eq!(frame.as_bytes()[0], 0xc1);
        assert_eq!(deflate::inflate(&frame.payload(), 10_000).unwrap(), long.as_bytes());
        let short = Frame::encode(Wire::JsonDeflated, |out| out.extend_from_slice(b"{}"));
        assert_eq!(short.as_bytes(), b"\x81\x02{}");
    }
}
