//! WebSocket framing as a client does it, on bytes alone: no copy of what is received.

use std::ops::Range;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Opcode {
    /// Text, binary, or more of one of them.
    Data,
    Close,
    Ping,
    Pong,
}

/// Where a frame's payload is, and where the next frame begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Frame {
    pub(in super::super) opcode: Opcode,
    pub(in super::super) payload: Range<usize>,
}

/// The first whole frame of a server that begins at `from`. Nothing if it is not all there.
pub(in super::super) fn frame(bytes: &[u8], from: usize) -> Option<Frame> {
    let head = bytes.get(from..from + 2)?;
    let opcode = match head[0] & 0x0f {
        8 => Opcode::Close,
        9 => Opcode::Ping,
        10 => Opcode::Pong,
        _ => Opcode::Data,
    };
    let (length, begins) = match head[1] & 0x7f {
        126 => {
            let length = bytes.get(from + 2..from + 4)?;
            (usize::from(u16::from_be_bytes(length.try_into().ok()?)), from + 4)
        }
        127 => {
            let length = bytes.get(from + 2..from + 10)?;
            (usize::try_from(u64::from_be_bytes(length.try_into().ok()?)).ok()?, from + 10)
        }
        short => (usize::from(short), from + 2),
    };
    let ends = begins.checked_add(length)?;
    (ends <= bytes.len()).then_some(Frame { opcode, payload: begins..ends })
}

/// Any key serves: a server must undo whichever it is.
const MASK: [u8; 4] = [0x5a, 0xc3, 0x17, 0x88];

pub(in super::super) const TEXT: u8 = 1;
pub(in super::super) const BINARY: u8 = 2;
pub(in super::super) const PONG: u8 = 10;

/// Adds a client's frame.
pub(in super::super) fn put(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    out.push(0x80 | opcode);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short), _) if short < 126 => out.push(0x80 | short),
        (_, Ok(length)) => {
            out.push(0x80 | 126);
            out.extend(length.to_be_bytes());
        }
        (_, Err(_)) => {
            out.push(0x80 | 127);
            out.extend((payload.len() as u64).to_be_bytes());
        }
    }
    out.extend(MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
}

/// A server's frame, for what is written without a server.
pub(in super::super) fn put_unmasked(out: &mut Vec<u8>, payload: &[u8]) {
    let start = out.len();
    put(out, TEXT, payload);
    out[start + 1] &= 0x7f;
    let masked_at = out.len() - payload.len() - MASK.len();
    out.truncate(masked_at);
    out.extend_from_slice(payload);
}

/// The request that turns a connection into a WebSocket.
pub(in super::super) fn upgrade(path: &str, host: &str, more: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGFibGVjYXN0LWJlbmNoLQ==\r\n{more}\r\n"
    )
}

/// The status of a whole response, and where its body begins.
pub(in super::super) fn response(bytes: &[u8]) -> Option<(u16, usize)> {
    let ends = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let status = bytes.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok());
    Some((status.and_then(|digits| digits.parse().ok()).unwrap_or(0), ends))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_every_length_are_found_once_they_are_whole() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let payload = vec![b'x'; length];
            let mut bytes = b"before".to_vec();
            put_unmasked(&mut bytes, &payload);
            let whole = frame(&bytes, 6).unwrap();
            assert_eq!(whole.opcode, Opcode::Data);
            assert_eq!(bytes[whole.payload.clone()], payload);
            assert_eq!(whole.payload.end, bytes.len());
            assert_eq!(frame(&bytes[..bytes.len() - 1], 6), None, "{length} bytes but one");
        }
    }

    #[test]
    fn what_a_client_sends_is_masked() {
        let mut bytes = Vec::new();
        put(&mut bytes, BINARY, b"PING\r\n");
        assert_eq!(bytes[..2], [0x82, 0x86]);
        let unmasked: Vec<u8> =
            bytes[6..].iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
        assert_eq!(unmasked, b"PING\r\n");
    }

    #[test]
    fn a_response_has_a_status() {
        let text = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\nrest";
        assert_eq!(response(text), Some((101, text.len() - 4)));
        assert_eq!(response(b"HTTP/1.1 503 Busy\r\n"), None);
    }
}
