//! WebSocket framing (RFC 6455, section 5). Pure: bytes in, whole messages out.

use std::ops::ControlFlow;

use super::deflate::{self, InflateError};
use crate::protocol::close::CloseCode;

/// The largest header of a frame that we send.
pub(in crate::gateway) const HEADER_BYTES_MAX: usize = 10;
/// In the first byte of a frame: its message is deflated.
pub(in crate::gateway) const DEFLATED: u8 = 0x40;
const FIN: u8 = 0x80;
const RESERVED: u8 = 0x30;
const MASKED: u8 = 0x80;
const MASK_BYTES: usize = 4;
/// The largest payload of a control frame.
const CONTROL_BYTES_MAX: usize = 125;
/// Fragments of a message that hold nothing: nobody needs them, and no other limit counts them.
const EMPTY_FRAGMENTS_MAX: u8 = 64;
/// A buffer that is empty and larger than this is given back.
const KEPT_BYTES_MAX: usize = 1024;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

impl Opcode {
    fn of(byte: u8) -> Option<Self> {
        let all =
            [Self::Continuation, Self::Text, Self::Binary, Self::Close, Self::Ping, Self::Pong];
        all.into_iter().find(|opcode| *opcode as u8 == byte & 0x0f)
    }

    fn is_control(self) -> bool {
        self as u8 >= 8
    }
}

/// One whole message of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) enum Message<'a> {
    /// UTF-8.
    Text(&'a [u8]),
    /// Anything.
    Binary(&'a [u8]),
    /// To be answered by a pong with the same payload.
    Ping(&'a [u8]),
    /// A sign of life.
    Pong,
    /// The last one, with the client's code if it gave one.
    Close(Option<u16>),
}

/// Why the rest of a connection cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) enum Fault {
    /// Not WebSocket.
    Protocol,
    /// A message over the limit.
    TooBig,
    /// Text that is not UTF-8.
    NotUtf8,
}

impl Fault {
    /// How the connection ends for it.
    pub(in crate::gateway) fn code(self) -> CloseCode {
        match self {
            Self::Protocol => CloseCode::ProtocolError,
            Self::TooBig => CloseCode::FrameTooBig,
            Self::NotUtf8 => CloseCode::NotUtf8,
        }
    }
}

/// First byte of an unfragmented frame.
pub(in crate::gateway) fn first_byte(opcode: Opcode) -> u8 {
    FIN | opcode as u8
}

/// The header of a frame that we send, and how much of it counts.
pub(in crate::gateway) fn header(first: u8, payload: usize) -> ([u8; HEADER_BYTES_MAX], usize) {
    let mut header = [0; HEADER_BYTES_MAX];
    header[0] = first;
    if let Ok(short @ 0..=125) = u8::try_from(payload) {
        header[1] = short;
    } else if let Ok(medium) = u16::try_from(payload) {
        header[1] = 126;
        header[2..4].copy_from_slice(&medium.to_be_bytes());
    } else {
        header[1] = 127;
        header[2..].copy_from_slice(&(payload as u64).to_be_bytes());
    }
    (header, header_length(header[1]))
}

/// How long the header is of a frame that we send, by its second byte.
pub(in crate::gateway) fn header_length(second: u8) -> usize {
    match second {
        126 => 4,
        127 => 10,
        _ => 2,
    }
}

/// The message whose fragments come in.
#[derive(Clone, Copy, Debug)]
struct Begun {
    opcode: Opcode,
    is_deflated: bool,
}

/// A frame's header, as a client sends it.
#[derive(Clone, Copy, Debug)]
struct Header {
    opcode: Opcode,
    is_last: bool,
    is_deflated: bool,
    mask: [u8; MASK_BYTES],
    bytes: usize,
    payload: usize,
}

/// Cuts what a client sends into messages. Holds no memory between them.
#[derive(Debug, Default)]
pub(in crate::gateway) struct Decoder {
    bytes_max: usize,
    may_deflate: bool,
    /// The beginning of a frame whose end has not come.
    partial: Vec<u8>,
    begun: Option<Begun>,
    /// The fragments so far.
    fragments: Vec<u8>,
    /// How many of them were empty.
    empty_fragments: u8,
}

impl Decoder {
    /// For messages of at most so many bytes.
    pub(in crate::gateway) fn new(bytes_max: usize, may_deflate: bool) -> Self {
        Self { bytes_max, may_deflate, ..Self::default() }
    }

    /// Takes what was read, and hands out each message that it completes, until `on` breaks. Unmasks in place.
    ///
    /// # Errors
    /// The client's fault, after which nothing more can be read.
    pub(in crate::gateway) fn take<B>(
        &mut self,
        input: &mut [u8],
        mut on: impl FnMut(Message<'_>) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>, Fault> {
        if self.partial.is_empty() {
            let (used, flow) = self.frames(input, &mut on)?;
            self.partial.extend_from_slice(&input[used..]);
            return Ok(flow);
        }
        let mut bytes = std::mem::take(&mut self.partial);
        bytes.extend_from_slice(input);
        let (used, flow) = self.frames(&mut bytes, &mut on)?;
        bytes.drain(..used);
        if bytes.is_empty() && bytes.capacity() > KEPT_BYTES_MAX {
            bytes = Vec::new();
        }
        self.partial = bytes;
        Ok(flow)
    }

    /// How many bytes the whole frames at the beginning of `input` take.
    fn frames<B>(
        &mut self,
        input: &mut [u8],
        on: &mut impl FnMut(Message<'_>) -> ControlFlow<B>,
    ) -> Result<(usize, ControlFlow<B>), Fault> {
        let mut used = 0;
        while let Some(header) = self.header(&input[used..])? {
            let start = used + header.bytes;
            let Some(payload) = input.get_mut(start..start + header.payload) else {
                break;
            };
            unmask(payload, header.mask);
            used = start + header.payload;
            let flow = self.frame(header, payload, on)?;
            if flow.is_break() {
                return Ok((used, flow));
            }
        }
        Ok((used, ControlFlow::Continue(())))
    }

    /// The header at the beginning of `input`, once it is whole.
    fn header(&self, input: &[u8]) -> Result<Option<Header>, Fault> {
        let [first, second, rest @ ..] = input else {
            return Ok(None);
        };
        let opcode = Opcode::of(*first).ok_or(Fault::Protocol)?;
        let is_last = first & FIN != 0;
        let is_deflated = first & DEFLATED != 0;
        let may_be_deflated = self.may_deflate && matches!(opcode, Opcode::Text | Opcode::Binary);
        if first & RESERVED != 0 || second & MASKED == 0 || is_deflated && !may_be_deflated {
            return Err(Fault::Protocol);
        }
        let (length, extended) = match (second & !MASKED, rest) {
            (126, [a, b, ..]) => (u64::from(u16::from_be_bytes([*a, *b])), 2),
            (127, [a, b, c, d, e, f, g, h, ..]) => {
                (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), 8)
            }
            (126 | 127, _) => return Ok(None),
            (short, _) => (u64::from(short), 0),
        };
        if opcode.is_control() {
            if !is_last || length > CONTROL_BYTES_MAX as u64 {
                return Err(Fault::Protocol);
            }
        } else if (opcode == Opcode::Continuation) != self.begun.is_some() {
            return Err(Fault::Protocol);
        }
        let payload = usize::try_from(length).map_err(|_large| Fault::TooBig)?;
        let before = if opcode.is_control() { 0 } else { self.fragments.len() };
        if payload > self.bytes_max.max(CONTROL_BYTES_MAX).saturating_sub(before) {
            return Err(Fault::TooBig);
        }
        let Some(mask) = rest.get(extended..).and_then(<[u8]>::first_chunk) else {
            return Ok(None);
        };
        let bytes = 2 + extended + MASK_BYTES;
        Ok(Some(Header { opcode, is_last, is_deflated, mask: *mask, bytes, payload }))
    }

    fn frame<B>(
        &mut self,
        header: Header,
        payload: &[u8],
        on: &mut impl FnMut(Message<'_>) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>, Fault> {
        let opcode = header.opcode;
        match opcode {
            Opcode::Ping => return Ok(on(Message::Ping(payload))),
            Opcode::Pong => return Ok(on(Message::Pong)),
            Opcode::Close => return Ok(on(Message::Close(close_code(payload)?))),
            Opcode::Continuation | Opcode::Text | Opcode::Binary => {}
        }
        let begun = self.begun.unwrap_or(Begun { opcode, is_deflated: header.is_deflated });
        if !header.is_last {
            self.begun = Some(begun);
            self.empty_fragments += u8::from(payload.is_empty());
            if self.empty_fragments > EMPTY_FRAGMENTS_MAX {
                return Err(Fault::Protocol);
            }
            self.fragments.extend_from_slice(payload);
            return Ok(ControlFlow::Continue(()));
        }
        self.empty_fragments = 0;
        if self.begun.take().is_none() {
            return self.whole(begun, payload, on);
        }
        let mut message = std::mem::take(&mut self.fragments);
        message.extend_from_slice(payload);
        self.whole(begun, &message, on)
    }

    fn whole<B>(
        &self,
        begun: Begun,
        message: &[u8],
        on: &mut impl FnMut(Message<'_>) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>, Fault> {
        let inflated;
        let message = if begun.is_deflated {
            inflated = deflate::inflate(message, self.bytes_max).map_err(|error| match error {
                InflateError::TooBig => Fault::TooBig,
                InflateError::Corrupt => Fault::Protocol,
            })?;
            &inflated
        } else {
            message
        };
        if begun.opcode == Opcode::Binary {
            return Ok(on(Message::Binary(message)));
        }
        match std::str::from_utf8(message) {
            Ok(_) => Ok(on(Message::Text(message))),
            Err(_not_utf8) => Err(Fault::NotUtf8),
        }
    }
}

fn unmask(payload: &mut [u8], mask: [u8; MASK_BYTES]) {
    let (words, rest) = payload.as_chunks_mut::<MASK_BYTES>();
    let whole = u32::from_ne_bytes(mask);
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ whole).to_ne_bytes();
    }
    rest.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
}

fn close_code(payload: &[u8]) -> Result<Option<u16>, Fault> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() { Ok(None) } else { Err(Fault::Protocol) };
    };
    let code = u16::from_be_bytes(*code);
    // RFC 6455, 7.4: those that may be sent, 1012 to 1014 registered since.
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Fault::Protocol);
    }
    if std::str::from_utf8(reason).is_err() {
        return Err(Fault::NotUtf8);
    }
    Ok(Some(code))
}

#[cfg(test)]
mod tests;
