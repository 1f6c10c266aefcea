//! What strangers send, for fuzzers: each target takes any bytes, and panics if something is wrong with what was
//! made of them.
//!
//! A fuzzer is a program of its own, and what it has to reach is private. One hidden module that is public is
//! less than a dozen that would be. `tests/fuzz` runs the targets; nothing else is to use them.

use std::ops::ControlFlow;
use std::sync::LazyLock;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::{HeaderName, HeaderValue, Request};
use futures_util::FutureExt;
use tokio::time::Instant;

use super::action::{Action, Incoming};
use super::client_address::{Peer, Proxies, ProxyHeader};
use super::live_table::{LiveTable, Loaded, Resume};
use super::origin::{AllowedOrigin, AllowedOrigins};
use super::session::{Session, SessionLimits};
use super::sse;
use super::throttle::Rate;
use super::token::{CheckingKey, Claims, Policy, SigningKey, TokenSecret, Tokens, read_unchecked};
use super::wire::{Frame, Wire};
use super::ws::codec::{self, Decoder, Fault, Message};
use super::ws::deflate;
use super::ws::handshake::Handshake;
use crate::bus::{Entry, Stored};
use crate::catalog::Catalog;
use crate::domain::{
    CommandId, Identity, Kind, PlayerId, Seat, StreamSeq, TableId, TableSeq, Timestamp, Viewer,
    WorkerId,
};
use crate::protocol::envelope::{self, Message as _};
use crate::protocol::frame::Format;
use crate::protocol::subject::Address;
use crate::protocol::{archive, relay as relayed, request};

/// Takes any bytes. Panics if they break something.
pub type Target = fn(&[u8]);

/// Every target by its name, under which `tests/fuzz/corpus` has what it begins with.
pub const TARGETS: &[(&str, Target)] = &[
    ("frames", frames),
    ("handshake", handshake),
    ("cursors", cursors),
    ("tokens", tokens),
    ("relay", relay),
    ("bus", bus),
];

/// Of a message, and what is inflated from it.
const FRAME_BYTES_MAX: usize = 4096;
const NOW: Timestamp = Timestamp::from_millis(1_795_000_000_000);
const PUBLIC_KEY: &[u8] = b"-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEARXOWBJRcgrMzMgUQ6OstMXhp6olDJU6K6fX9y9wexP8=
-----END PUBLIC KEY-----
";
/// Between the messages of a table: neither UTF-8 nor the beginning of anything in MessagePack.
const BETWEEN: u8 = 0xc1;

static SECRET: LazyLock<TokenSecret> =
    LazyLock::new(|| "a secret of the fuzzers and of nobody else".parse().expect("long enough"));
static TOKENS: LazyLock<Tokens> = LazyLock::new(|| {
    let key = CheckingKey::from_pem(PUBLIC_KEY).expect("a public key");
    Tokens::with(Some(&SECRET), vec![key], None, Policy::default())
});
static RELAYING: LazyLock<Catalog> =
    LazyLock::new(|| Catalog::new().with_relay(kind()).expect("nothing else is in it"));

fn kind() -> Kind {
    "relayed".parse().expect("a kind")
}

fn table() -> TableId {
    TableId::new(NOW, [7; 10])
}

/// What a client sends over a socket. The first byte tells what was agreed on, the second how it is cut.
pub fn frames(data: &[u8]) {
    let Some(([how, cut], stream)) = data.split_first_chunk() else { return };
    let wire = Wire::ALL[usize::from(*how) % Wire::ALL.len()];
    let decoded = decode(wire, &mut [stream].into_iter());
    let cut = decode(wire, &mut stream.chunks(usize::from(*cut).max(1)));
    assert_eq!(decoded, cut, "what is read does not depend on how it comes");
    serve(wire, &decoded.0);
}

/// What a message says, without the memory that it is in.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>),
}

impl Said {
    fn of(message: Message<'_>) -> Self {
        match message {
            Message::Text(text) => {
                assert!(str::from_utf8(text).is_ok() && text.len() <= FRAME_BYTES_MAX);
                Self::Text(text.to_vec())
            }
            Message::Binary(bytes) => {
                assert!(bytes.len() <= FRAME_BYTES_MAX);
                Self::Binary(bytes.to_vec())
            }
            Message::Ping(payload) => Self::Ping(payload.to_vec()),
            Message::Pong => Self::Pong,
            Message::Close(code) => Self::Close(code),
        }
    }
}

fn decode(wire: Wire, reads: &mut dyn Iterator<Item = &[u8]>) -> (Vec<Said>, Option<Fault>) {
    let mut decoder = Decoder::new(FRAME_BYTES_MAX, wire == Wire::JsonDeflated);
    let mut said = Vec::new();
    for read in reads {
        let taken = decoder.take(&mut read.to_vec(), |message| {
            said.push(Said::of(message));
            let is_last = matches!(message, Message::Close(_));
            if is_last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        match taken {
            Ok(ControlFlow::Continue(())) => {}
            Ok(ControlFlow::Break(())) => break,
            Err(fault) => return (said, Some(fault)),
        }
    }
    (said, None)
}

/// A connection that gets these messages.
fn serve(wire: Wire, said: &[Said]) {
    let often = Rate::per_second(std::num::NonZeroU32::MAX, std::num::NonZeroU32::MAX);
    let limits = SessionLimits {
        frame_bytes_max: FRAME_BYTES_MAX,
        subscriptions_max: 4,
        commands_max: 4,
        rate: often,
        flood_rate: often,
        ping_interval: Duration::from_secs(20),
        hello_timeout: Duration::from_secs(30),
    };
    let now = Instant::now();
    let mut session = Session::new(wire.format(), limits, TOKENS.clone(), now);
    for message in said {
        let incoming = match message {
            Said::Text(text) => Incoming::Text(text),
            Said::Binary(bytes) => Incoming::Binary(bytes),
            Said::Ping(payload) => {
                assert!(Frame::pong(payload).len() <= 2 + 125);
                Incoming::Control
            }
            Said::Pong => Incoming::Control,
            Said::Close(_) => return,
        };
        if let Incoming::Text(bytes) | Incoming::Binary(bytes) = incoming {
            reads_again(wire.format(), bytes);
        }
        for action in session.on_message(incoming, now, NOW) {
            match action {
                Action::Reply(frame) => assert!(Frame::of(wire, &frame).len() > 2),
                Action::Ask(ask) => drop(session.on_answered(ask.table())),
                Action::Close(_) => return,
                Action::Follow { .. }
                | Action::Unfollow { .. }
                | Action::WatchLobby
                | Action::UnwatchLobby
                | Action::FindKey(_)
                | Action::Ping => {}
            }
        }
    }
}

fn reads_again(format: Format, bytes: &[u8]) {
    if let Ok(frame) = format.decode(bytes) {
        let again = format.decode(&format.encode(&frame));
        assert!(again.is_ok(), "{frame:?} was read, and written cannot be read: {again:?}");
    }
}

/// The headers of a request, one to a line: whom it is from, and for a WebSocket what is to be spoken.
pub fn handshake(data: &[u8]) {
    let (mut parts, ()) = Request::new(()).into_parts();
    for line in data.split(|byte| *byte == b'\n') {
        let mut halves = line.splitn(2, |byte| *byte == b':');
        let name = halves.next().and_then(|name| HeaderName::from_bytes(name).ok());
        let value = halves.next().map(<[u8]>::trim_ascii).map(HeaderValue::from_bytes);
        if let (Some(name), Some(Ok(value))) = (name, value)
            && parts.headers.try_append(name, value).is_err()
        {
            return;
        }
    }
    let one = "https://play.example.com".parse().expect("an origin");
    let is_known = AllowedOrigins::new(&[one]).allow(&parts.headers);
    let any = AllowedOrigins::new(&[AllowedOrigin::Any]);
    assert!(any.allow(&parts.headers) >= is_known, "any origin is also one of them");
    sse::last_event_id(&parts.headers).ok();
    let proxies = ["192.0.2.0/24".parse().expect("a network")];
    for (peer, is_proxy) in [([192, 0, 2, 1], true), ([198, 51, 100, 1], false)] {
        for header in [ProxyHeader::XForwardedFor, ProxyHeader::Forwarded] {
            let client = Proxies::new(&proxies, header).client(Peer(peer.into()), &parts.headers);
            assert!(
                is_proxy || client.0 == std::net::IpAddr::from(peer),
                "anybody is whom it likes"
            );
        }
    }
    parts.extensions.insert(hyper::upgrade::on(Request::new(())));
    let read = Handshake::from_request_parts(&mut parts, &()).now_or_never();
    let Ok(handshake) = read.expect("nothing is waited for") else { return };
    assert_ne!(handshake.wire(false).ok(), Some(Wire::JsonDeflated));
    if let Ok(wire) = handshake.wire(true) {
        let (response, _) = handshake.accept(wire);
        let deflates = response.headers().contains_key("sec-websocket-extensions");
        assert_eq!(deflates, wire == Wire::JsonDeflated);
    }
}

/// Eight bytes of a cursor, and a text that is taken for one and for whatever else stands in an address.
pub fn cursors(data: &[u8]) {
    let Some((number, text)) = data.split_first_chunk() else { return };
    let cursor = TableSeq::new(u64::from_be_bytes(*number));
    let messages: [&[u8]; 6] = [b"{}"; 6];
    let Loaded::Live(mut live) = load(&messages, 4) else { unreachable!("six commits") };
    let missed = live.commits_after(cursor, Viewer::Spectator, Wire::Json).count();
    if let Resume::Commits = live.resume(Some(cursor)) {
        assert_eq!(cursor.get() + missed as u64, live.last_seq().get(), "no commit is missing");
    }
    let Ok(text) = str::from_utf8(text) else { return };
    let subscribe = format!(r#"{{"type":"subscribe","table":"{}","cursor":{text}}}"#, table());
    reads_again(Format::Json, subscribe.as_bytes());
    let ids = [
        text.parse::<TableId>().ok().map(|id| id.to_string()),
        text.parse::<PlayerId>().ok().map(|id| id.as_str().to_owned()),
        text.parse::<CommandId>().ok().map(|id| id.as_str().to_owned()),
        text.parse::<WorkerId>().ok().map(|id| id.as_str().to_owned()),
        text.parse::<Kind>().ok().map(|id| id.as_str().to_owned()),
    ];
    for id in ids.into_iter().flatten() {
        assert!(id.eq_ignore_ascii_case(text), "{id} was {text}");
    }
    if let Some(address) = Address::parse(text) {
        assert_eq!(Address::parse(&address.evt()), Some(address));
    }
    if let Some(key) = archive::ObjectKey::parse(text) {
        assert_eq!(archive::ObjectKey::parse(&key.to_string()), Some(key));
    }
}

/// Tokens: any text, a good one with bytes changed, any claims with a good signature, or a key of a set.
pub fn tokens(data: &[u8]) {
    let Some((how, rest)) = data.split_first() else { return };
    match how % 4 {
        0 => {
            if let Ok(token) = str::from_utf8(rest) {
                read_unchecked(token);
                TOKENS.check(token, NOW).ok();
            }
        }
        1 => changed_token(rest),
        2 => signed_claims(rest),
        _ => key_of_set(rest),
    }
}

fn changed_token(changes: &[u8]) {
    let player = "nok".parse().expect("a player");
    let identity = Identity { player, name: "Nok".to_owned() };
    let (good, _) = TOKENS.issue(&identity, NOW, Duration::from_secs(60));
    let mut token = good.clone().into_bytes();
    for change in changes.chunks_exact(2) {
        let place = usize::from(change[0]) % token.len();
        token[place] = change[1];
    }
    let Ok(token) = String::from_utf8(token) else { return };
    let checked = TOKENS.check(&token, NOW);
    assert_eq!(checked.is_ok(), token == good, "{token} is taken for {good}: {checked:?}");
}

fn signed_claims(claims: &[u8]) {
    let Ok(claims) = serde_json::from_slice::<Claims>(claims) else { return };
    let token = SigningKey::of_secret(&SECRET).sign(&claims).expect("claims are plain data");
    if let Ok(bearer) = TOKENS.check(&token, NOW) {
        assert!(bearer.ends_at() > NOW);
        assert!((1..=super::token::NAME_CHARS_MAX).contains(&bearer.identity.name.chars().count()));
        assert_eq!(bearer.seat.is_some(), claims.tc.is_some(), "a seat's token is for that alone");
    }
}

fn key_of_set(key: &[u8]) {
    let Ok(key) = serde_json::from_slice(key) else { return };
    let Some(key) = CheckingKey::from_jwk(&key) else { return };
    let tokens = Tokens::with(None, vec![key], None, Policy::default());
    for (header, signature_chars) in [("eyJhbGciOiJFZERTQSJ9", 86), ("eyJhbGciOiJSUzI1NiJ9", 342)] {
        let token = format!("{header}.e30.{}", "A".repeat(signature_chars));
        assert!(tokens.check(&token, NOW).is_err(), "nobody has signed this");
    }
}

/// The messages of a relayed table, and what viewers are sent of them.
pub fn relay(data: &[u8]) {
    let messages: Vec<&[u8]> = data.split(|byte| *byte == BETWEEN).collect();
    for message in &messages {
        relayed::unchecked(message);
    }
    let Loaded::Live(mut live) = load(&messages, 8) else { return };
    live.resume(Some(live.last_seq()));
    for viewer in [Viewer::Spectator, Viewer::Seated(Seat(0)), Viewer::Seated(Seat(63))] {
        let mut plain = Vec::new();
        for wire in Wire::ALL {
            let mut all = vec![live.snapshot(viewer, wire), live.last_commit(viewer, wire)];
            all.extend(live.commits_after(TableSeq::ZERO, viewer, wire).map(|(_, frame)| frame));
            match wire {
                Wire::Json => {
                    plain = all;
                    plain.iter().for_each(|frame| is_json(&frame.payload()));
                }
                Wire::JsonDeflated => plain.iter().zip(&all).for_each(|(plain, deflated)| {
                    let payload = deflated.payload();
                    if deflated.as_bytes()[0] & codec::DEFLATED != 0 {
                        let inflated = deflate::inflate(&payload, plain.len());
                        assert_eq!(inflated.as_deref(), Ok(&*plain.payload()));
                    } else {
                        assert_eq!(payload, plain.payload());
                    }
                }),
                Wire::MessagePack => {
                    for frame in &all {
                        let read = rmp_serde::from_slice::<serde_json::Value>(&frame.payload());
                        assert!(read.is_ok(), "a client cannot read a frame: {read:?}");
                    }
                }
            }
        }
    }
}

fn is_json(frame: &[u8]) {
    let read = serde_json::from_slice::<serde_json::Value>(frame);
    let shown = String::from_utf8_lossy(frame);
    assert!(
        !frame.contains(&b'\n') && !frame.contains(&b'\r'),
        "{shown:?} is no server-sent event"
    );
    assert!(read.is_ok(), "a client cannot read {shown}: {read:?}");
}

/// A table as a gateway has it after these messages.
fn load(messages: &[&[u8]], ring_len: usize) -> Loaded {
    let address = Address { shard: 0, kind: kind(), table: table() };
    let entries = (1_u64..).zip(messages).map(|(seq, message)| Entry {
        address: address.clone(),
        seq: StreamSeq::new(seq),
        previous: StreamSeq::new(seq - 1),
        id: None,
        worker: None,
        what: Stored::Commit,
        stored_at: NOW,
        payload: message.to_vec().into(),
    });
    let entries: Vec<_> = entries.collect();
    LiveTable::load(&RELAYING, table(), &entries, ring_len).0
}

/// What other roles, or whoever else may publish, send over the bus.
pub fn bus(data: &[u8]) {
    type Opaque = envelope::Envelope<serde_json::Value>;
    Opaque::decode(data, table()).ok();
    envelope::Marker::decode(data, table()).ok();
    envelope::Tombstone::decode(data, table()).ok();
    envelope::Snapshot::decode(data, table()).ok();
    envelope::commit_seq(data, table());
    if let Ok(opaque) = archive::OpaqueEnvelope::decode(data, table()) {
        opaque.commit.into_events();
    }
    request::decode::<request::OpenRequest>(data).ok();
    request::decode::<request::TableRequest>(data).ok();
    request::decode::<request::Verdict>(data).ok();
    request::decode::<request::AdoptRequest>(data).ok();
    request::decode::<request::Adoption>(data).ok();
    request::decode::<request::PresenceNotice>(data).ok();
    request::decode::<request::GatewayBeat>(data).ok();
    request::decode::<request::Beat>(data).ok();
}
