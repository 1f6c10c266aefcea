//! Frames that clients write.

use std::fs;

use proptest::prelude::*;
use serde_json::json;
use tablecast::domain::{CommandId, Kind, StartRule, TableId, TableOptions, TableSeq, Timestamp};
use tablecast::protocol::frame::{ClientFrame, Deliver, Format, SeatWish};

use crate::golden::{Golden, path, unhex};

pub(crate) const AT: Timestamp = Timestamp::from_millis(1_795_000_000_000);

pub(crate) fn table() -> TableId {
    TableId::new(AT, [7; 10])
}

pub(crate) fn kind() -> Kind {
    "liap-tui".parse().expect("a kind")
}

pub(crate) fn command_id() -> CommandId {
    "c-1".parse().expect("an id")
}

/// Every frame with all of its fields.
fn frames() -> Vec<(&'static str, ClientFrame)> {
    let (id, table) = (command_id(), table());
    let options = TableOptions {
        start: StartRule::WhenFull,
        bot_delay_ms: (100, 200),
        grace_ms: Some(10_000),
        turn_limit_ms: Some(60_000),
        abandon_ms: 30_000,
        rematch_ms: 0,
    };
    let with_rematch = TableOptions { rematch_ms: 20_000, ..options };
    let token = "header.claims.signature".to_owned();
    vec![
        ("hello", ClientFrame::Hello { token }),
        (
            "open",
            ClientFrame::Open {
                id: id.clone(),
                kind: kind(),
                setup: json!({ "target": 50 }),
                options,
                seats: Some(vec![SeatWish::Me, SeatWish::Bot, SeatWish::Open]),
            },
        ),
        (
            "open_rematch",
            ClientFrame::Open {
                id: id.clone(),
                kind: kind(),
                setup: json!({}),
                options: with_rematch,
                seats: None,
            },
        ),
        (
            "subscribe",
            ClientFrame::Subscribe {
                table,
                cursor: Some(TableSeq::new(41)),
                deliver: Deliver::Views,
            },
        ),
        ("unsubscribe", ClientFrame::Unsubscribe { table }),
        (
            "command",
            ClientFrame::Command {
                id,
                table,
                command: json!({ "type": "play", "pieces": [1, 2], "note": null }),
            },
        ),
        ("watch_lobby", ClientFrame::WatchLobby),
        ("unwatch_lobby", ClientFrame::UnwatchLobby),
        ("ping", ClientFrame::Ping { data: 7 }),
    ]
}

pub(crate) fn all() -> Vec<Golden> {
    frames().iter().map(|(name, frame)| Golden::of(name, frame)).collect()
}

#[test]
fn what_clients_wrote_is_still_understood() {
    for (name, frame) in frames() {
        let json = fs::read(path(name, "json")).expect("a golden file");
        assert_eq!(Format::Json.decode(&json), Ok(frame.clone()), "{name}");
        let hex = fs::read_to_string(path(name, "hex")).expect("a golden file");
        let decoded = Format::MessagePack.decode(&unhex(&hex));
        assert_eq!(decoded, Ok(frame), "{name}");
    }
    for golden in all() {
        golden.check();
    }
}

#[test]
fn what_is_left_out_has_its_default() {
    let subscribe = format!(r#"{{"type":"subscribe","table":"{}"}}"#, table());
    let expected =
        ClientFrame::Subscribe { table: table(), cursor: None, deliver: Deliver::Events };
    assert_eq!(Format::Json.decode(subscribe.as_bytes()), Ok(expected));
    let open = br#"{"type":"open","id":"c-1","kind":"liap-tui"}"#;
    let expected = ClientFrame::Open {
        id: command_id(),
        kind: kind(),
        setup: json!({}),
        options: TableOptions::default(),
        seats: None,
    };
    assert_eq!(Format::Json.decode(open), Ok(expected));
    let ping = ClientFrame::Ping { data: 0 };
    assert_eq!(Format::Json.decode(br#"{"type":"ping"}"#), Ok(ping));
}

fn value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|b| json!(b)),
        any::<i64>().prop_map(|n| json!(n)),
        any::<u64>().prop_map(|n| json!(n)),
        ".{0,12}".prop_map(|text| json!(text)),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(|list| json!(list)),
            proptest::collection::btree_map("[a-z]{1,6}", inner, 0..6).prop_map(|map| json!(map)),
        ]
    })
}

proptest! {
    #[test]
    fn a_command_survives_both_formats(command in value(), random: [u8; 10], id in "[A-Za-z0-9_-]{1,64}") {
        let frame = ClientFrame::Command {
            id: id.parse().expect("an id"),
            table: TableId::new(AT, random),
            command,
        };
        for format in Format::ALL {
            prop_assert_eq!(format.decode(&format.encode(&frame)), Ok(frame.clone()));
        }
    }

    /// Whatever comes: a frame, or a sentence that says what is wrong with it.
    #[test]
    fn no_bytes_break_the_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for format in Format::ALL {
            if let Err(reason) = format.decode(&bytes) {
                prop_assert!(!reason.is_empty());
            }
        }
    }

    /// The same, with bytes that look more like frames.
    #[test]
    fn no_mutation_of_a_frame_breaks_the_decoder(
        which in 0usize..8,
        at in 0usize..200,
        with: u8,
        cut in 0usize..200,
    ) {
        let (_, frame) = &frames()[which];
        for format in Format::ALL {
            let mut bytes = format.encode(frame).to_vec();
            let at = at % bytes.len();
            bytes[at] = with;
            bytes.truncate(bytes.len() - cut % bytes.len());
            format.decode(&bytes).ok();
        }
    }
}

#[test]
fn deep_nesting_is_refused_and_not_followed() {
    let json = format!("{}1{}", "[".repeat(30_000), "]".repeat(30_000));
    let command =
        format!(r#"{{"type":"command","id":"a","table":"{}","command":{json}}}"#, table());
    assert!(Format::Json.decode(command.as_bytes()).is_err());
    let nested = (0..200).fold(json!(1), |inner, _| json!([inner]));
    let command = ClientFrame::Command { id: command_id(), table: table(), command: nested };
    for format in Format::ALL {
        assert!(format.decode(&format.encode(&command)).is_err());
    }
    // A map of one entry whose value is a map of one entry …
    let mut packed = [0x81, 0xa1, b'x'].repeat(20_000);
    packed.push(0xc0);
    assert!(Format::MessagePack.decode(&packed).is_err());
}
