use std::io::Cursor;

use proptest::prelude::*;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message as Theirs};

use super::*;

const BYTES_MAX: usize = 300;

/// A message that owns what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Owned {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>),
}

impl From<Message<'_>> for Owned {
    fn from(message: Message<'_>) -> Self {
        match message {
            Message::Text(text) => Self::Text(text.to_vec()),
            Message::Binary(bytes) => Self::Binary(bytes.to_vec()),
            Message::Ping(bytes) => Self::Ping(bytes.to_vec()),
            Message::Pong => Self::Pong,
            Message::Close(code) => Self::Close(code),
        }
    }
}

/// Everything that the decoder makes of these reads, up to a close.
fn decode(reads: &[&[u8]], may_deflate: bool) -> (Vec<Owned>, Option<Fault>) {
    let mut decoder = Decoder::new(BYTES_MAX, may_deflate);
    let mut seen = Vec::new();
    for read in reads {
        let taken = decoder.take(&mut read.to_vec(), |message| {
            seen.push(message.into());
            let is_last = matches!(message, Message::Close(_));
            if is_last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        match taken {
            Ok(ControlFlow::Continue(())) => {}
            Ok(ControlFlow::Break(())) => return (seen, None),
            Err(fault) => return (seen, Some(fault)),
        }
    }
    (seen, None)
}

fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let (mut header, length) = header(first, payload.len());
    header[1] |= MASKED;
    let mask = [7, 1, 200, 3];
    let mut frame = [&header[..length], &mask, payload].concat();
    unmask(&mut frame[length + MASK_BYTES..], mask);
    frame
}

#[test]
fn messages_come_whole_however_they_are_cut() {
    let stream = [
        masked(0x81, b"one"),
        masked(0x01, "สวั".as_bytes()),
        masked(0x89, b"between"),
        masked(0x80, "สดี".as_bytes()),
        masked(0x82, &[7; 200]),
        masked(0x8a, b""),
        masked(0x88, &[0x03, 0xe8, b'b', b'y', b'e']),
    ]
    .concat();
    let whole = vec![
        Owned::Text(b"one".to_vec()),
        Owned::Ping(b"between".to_vec()),
        Owned::Text("สวัสดี".as_bytes().to_vec()),
        Owned::Binary(vec![7; 200]),
        Owned::Pong,
        Owned::Close(Some(1000)),
    ];
    for size in 1..stream.len() {
        let reads: Vec<&[u8]> = stream.chunks(size).collect();
        assert_eq!(decode(&reads, false), (whole.clone(), None), "in reads of {size}");
    }
}

#[test]
fn what_breaks_the_protocol_is_refused() {
    let unmasked = b"\x81\x02hi".to_vec();
    let cases = [
        ("no mask", unmasked),
        ("a reserved bit", masked(0xa1, b"x")),
        ("deflated though it was not agreed", masked(0xc1, b"x")),
        ("an unknown opcode", masked(0x83, b"x")),
        ("an unknown control opcode", masked(0x8b, b"x")),
        ("a fragmented ping", masked(0x09, b"x")),
        ("a long ping", masked(0x89, &[0; 126])),
        ("an end without a beginning", masked(0x80, b"x")),
        ("a beginning within a message", [masked(0x01, b"x"), masked(0x81, b"y")].concat()),
        ("half a close code", masked(0x88, b"x")),
        ("a close code nobody may send", masked(0x88, &1006_u16.to_be_bytes())),
        ("a close code of nobody", masked(0x88, &2999_u16.to_be_bytes())),
    ];
    for (what, bytes) in cases {
        assert_eq!(decode(&[&bytes], false).1, Some(Fault::Protocol), "{what}");
    }
    let too_big = [masked(0x82, &[0; 301]), [masked(0x02, &[0; 300]), masked(0x80, b"x")].concat()];
    for bytes in too_big {
        assert_eq!(decode(&[&bytes], false), (vec![], Some(Fault::TooBig)));
    }
    // The header alone is enough: nobody waits for a gigabyte to refuse it.
    let huge = [0x82, 0xff, 0, 0, 0, 0x40, 0, 0, 0, 0];
    assert_eq!(decode(&[&huge], false).1, Some(Fault::TooBig));
    let nothing = masked(0x00, b"").repeat(EMPTY_FRAGMENTS_MAX.into());
    let beginning = masked(0x01, b"");
    assert_eq!(decode(&[&beginning, &nothing], false).1, Some(Fault::Protocol));
    let (fewer, end) = (&nothing[..nothing.len() / 2], masked(0x80, b"x"));
    let again = [&beginning, fewer, &end].concat().repeat(3);
    assert_eq!(decode(&[&again], false), (vec![Owned::Text(b"x".to_vec()); 3], None));
    let not_text = [masked(0x81, &[0xff]), masked(0x88, &[0x03, 0xe8, 0xff])];
    for bytes in not_text {
        assert_eq!(decode(&[&bytes], false).1, Some(Fault::NotUtf8));
    }
}

#[test]
fn deflated_messages_are_inflated_within_the_limit() {
    let text = "table ".repeat(50);
    let deflated = deflate::deflate(text.as_bytes()).expect("smaller");
    let (first, last) = deflated.split_at(deflated.len() / 2);
    let stream = [masked(0x41, first), masked(0x89, b""), masked(0x80, last)].concat();
    let seen = vec![Owned::Ping(vec![]), Owned::Text(text.into_bytes())];
    assert_eq!(decode(&[&stream], true), (seen, None));
    let bomb = deflate::deflate(&[b'a'; 5_000]).expect("smaller");
    assert_eq!(decode(&[&masked(0xc1, &bomb)], true), (vec![], Some(Fault::TooBig)));
    assert_eq!(decode(&[&masked(0xc1, &[0xff; 20])], true), (vec![], Some(Fault::Protocol)));
}

/// The same bytes through another implementation.
fn theirs(bytes: &[u8]) -> (Vec<Owned>, bool) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(BYTES_MAX))
        .max_frame_size(Some(BYTES_MAX));
    // It answers pings and closes while it reads, into the same place.
    let stream = ReadOnly(Cursor::new(bytes.to_vec()));
    let mut socket = WebSocket::from_raw_socket(stream, Role::Server, Some(config));
    let mut seen = Vec::new();
    loop {
        match socket.read() {
            Ok(Theirs::Text(text)) => seen.push(Owned::Text(text.as_bytes().to_vec())),
            Ok(Theirs::Binary(bytes)) => seen.push(Owned::Binary(bytes.to_vec())),
            Ok(Theirs::Ping(bytes)) => seen.push(Owned::Ping(bytes.to_vec())),
            Ok(Theirs::Pong(_)) => seen.push(Owned::Pong),
            Ok(Theirs::Close(frame)) => {
                seen.push(Owned::Close(frame.map(|frame| frame.code.into())));
                return (seen, false);
            }
            Ok(Theirs::Frame(_)) => unreachable!("only written"),
            Err(tungstenite::Error::Io(_)) => return (seen, false),
            // The stream has ended without a close.
            Err(tungstenite::Error::Protocol(
                tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
            )) => return (seen, false),
            Err(_fault) => return (seen, true),
        }
    }
}

struct ReadOnly(Cursor<Vec<u8>>);

impl std::io::Read for ReadOnly {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl std::io::Write for ReadOnly {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        Ok(buffer.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn their_frame() -> impl Strategy<Value = Vec<u8>> {
    let opcode = prop_oneof![
        3 => Just(OpCode::Data(Data::Text)),
        3 => Just(OpCode::Data(Data::Binary)),
        3 => Just(OpCode::Data(Data::Continue)),
        1 => Just(OpCode::Control(Control::Ping)),
        1 => Just(OpCode::Control(Control::Pong)),
    ];
    let payload = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..160),
        "[a-zก-ฮ]{0,60}".prop_map(String::into_bytes),
    ];
    (opcode, any::<bool>(), payload, any::<[u8; 4]>()).prop_map(|(opcode, fin, payload, mask)| {
        let header = FrameHeader { is_final: fin, opcode, mask: Some(mask), ..Default::default() };
        let mut bytes = Vec::new();
        Frame::from_payload(header, payload.into())
            .format(&mut bytes)
            .expect("a frame of any content");
        bytes
    })
}

proptest! {
    #[test]
    fn another_implementation_reads_the_same(
        frames in proptest::collection::vec(their_frame(), 0..8), cut in 1..400_usize,
    ) {
        let bytes = frames.concat();
        let reads: Vec<&[u8]> = bytes.chunks(cut).collect();
        let (ours, fault) = decode(&reads, false);
        let (theirs, is_faulty) = theirs(&bytes);
        // Theirs refuses text as soon as its first bytes are wrong, ours when the message is whole.
        prop_assert!(ours.starts_with(&theirs), "{:?} instead of {:?}", ours, theirs);
        prop_assert!(is_faulty || (fault.is_none() && ours.len() == theirs.len()));
    }

    #[test]
    fn no_bytes_break_the_decoder(
        reads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..8),
    ) {
        let reads: Vec<&[u8]> = reads.iter().map(Vec::as_slice).collect();
        let (seen, _) = decode(&reads, true);
        let bytes: usize = reads.iter().map(|read| read.len()).sum();
        prop_assert!(seen.len() * 6 <= bytes);
    }
}
