use serde_json::json;

use super::*;

fn decode(text: &str) -> Result<Relayed, RelayError> {
    Relayed::decode(text.as_bytes())
}

/// What must stay readable, with everything a payload may have.
const GOLDEN: &str = r#" { "v": 1, "seq": 7, "at": 1795000000123,
  "public": [ {"type":"moved", "to" : "e4"}, {"type":"clock","left":[1.5,-2,1e3]} ],
  "seats": { "0": [{"type":"card","is":"\u00e4\ud83d\ude00"}], "10": [] },
  "players": [ {"seat":0,"player":"alice","name":"Alice"}, {"seat":1} ],
  "state": { "public": {"pot":5}, "seats": {"0":[1, 2]} },
  "ended": { "closing": "abandoned", "winners": [0], "scores": [1,-1] } }
"#;

fn golden() -> Relayed {
    Relayed {
        seq: Some(TableSeq::new(7)),
        at: Some(Timestamp::from_millis(1_795_000_000_123)),
        public: Events(
            r#"{"type":"moved", "to" : "e4"}, {"type":"clock","left":[1.5,-2,1e3]}"#.into(),
        ),
        seats: vec![
            (Seat(0), Events(r#"{"type":"card","is":"\u00e4\ud83d\ude00"}"#.into())),
            (Seat(10), Events::default()),
        ],
        players: vec![
            Sitting {
                seat: Seat(0),
                player: Some("alice".parse().unwrap()),
                name: Some("Alice".to_owned()),
            },
            Sitting { seat: Seat(1), player: None, name: None },
        ],
        state: Some(Keyframe {
            public: Some(r#"{"pot":5}"#.into()),
            seats: vec![(Seat(0), "[1, 2]".into())],
        }),
        ended: Some(Ending {
            closing: Some(Closing::Abandoned),
            winners: vec![Seat(0)],
            scores: vec![1, -1],
        }),
    }
}

#[test]
fn a_payload_is_kept_as_it_was_written() {
    assert_eq!(decode(GOLDEN).unwrap(), golden());
    assert_eq!(decode("{}").unwrap(), Relayed::default());
}

#[test]
fn messagepack_says_the_same() {
    let value: Value = serde_json::from_str(GOLDEN).unwrap();
    let packed = Relayed::decode(&rmp_serde::to_vec_named(&value).unwrap()).unwrap();
    let written = golden();
    assert_eq!(packed.public.values(), written.public.values());
    assert_eq!(packed.seats[0].1.values(), written.seats[0].1.values());
    assert_eq!((packed.seq, packed.at), (written.seq, written.at));
    assert_eq!((packed.players, packed.ended), (written.players, written.ended));
    // By hand, as another library writes it: {"public":[{"type":"moved"}]}.
    let bytes = b"\x81\xa6public\x91\x81\xa4type\xa5moved";
    assert_eq!(Relayed::decode(bytes).unwrap().public.as_str(), r#"{"type":"moved"}"#);
}

#[test]
fn what_some_reader_could_not_read_is_poison_for_all() {
    let deep =
        format!(r#"{{"public":[{{"type":"a","x":{}{}}}]}}"#, "[".repeat(200), "]".repeat(200));
    let bad = [
        "",
        "[]",
        "7",
        "\u{1}",
        r#"{"public":[{"type":"a"}]"#,
        r#"{"public":[{"type":"a"}]} x"#,
        r#"{"public":{"type":"a"}}"#,
        r#"{"public":["a"]}"#,
        r#"{"public":[{}]}"#,
        r#"{"public":[{"type":7}]}"#,
        r#"{"public":[{"type":""}]}"#,
        r#"{"public":[{"type":"a","type":"b"}]}"#,
        // Ours.
        r#"{"public":[{"type":"table.completed"}]}"#,
        // Half a surrogate pair, and a number beyond all numbers.
        r#"{"public":[{"type":"a","x":"\ud83d"}]}"#,
        r#"{"public":[{"type":"a","\udc00":1}]}"#,
        r#"{"public":[{"type":"a","x":1e999}]}"#,
        r#"{"state":{"public":"\ud83d"}}"#,
        &deep,
        r#"{"publc":[]}"#,
        r#"{"public":[],"public":[]}"#,
        r#"{"seats":{"x":[]}}"#,
        r#"{"seats":{"64":[]}}"#,
        r#"{"seats":{"300":[]}}"#,
        r#"{"players":[{"seat":64,"player":"a"}]}"#,
        r#"{"players":[{"seat":0,"player":"a b"}]}"#,
        r#"{"ended":{"winners":[99]}}"#,
        r#"{"seq":-1}"#,
        r#"{"v":"1"}"#,
    ];
    for text in bad {
        assert!(decode(text).is_err(), "{text}");
    }
    for bytes in [
        &b"\xff\xfe"[..],
        b"\x81\xa6public",
        b"\x81\x01\x02",
        b"{\"public\":[{\"type\":\"\xff\"}]}",
    ] {
        assert!(Relayed::decode(bytes).is_err(), "{bytes:?}");
    }
}

#[test]
fn something_newer_says_so_even_if_its_shape_is_new() {
    for text in [r#"{"v":2}"#, r#"{"v":2,"public":"new","more":[]}"#] {
        assert!(matches!(decode(text), Err(RelayError::Version { found: 2 })), "{text}");
    }
}

fn take(progress: &mut Progress, message: &Value) -> Result<Numbered, Refused> {
    progress.take(message.to_string().as_bytes(), Timestamp::from_millis(5))
}

#[test]
fn every_stored_message_has_a_number_unless_its_server_says_otherwise() {
    let mut progress = Progress::default();
    assert_eq!(take(&mut progress, &json!({ "at": 3 })).unwrap().at.as_millis(), 3);
    let unread = take(&mut progress, &json!({ "public": 7 })).unwrap();
    assert_eq!((unread.seq.get(), unread.at.as_millis()), (2, 5));
    assert!(unread.what.is_err());
    assert_eq!(take(&mut progress, &json!({ "seq": 3 })).unwrap().seq.get(), 3);
    for (found, refused) in [(3, "again"), (1, "again"), (0, "never"), (5, "early")] {
        let out_of_order = Refused::OutOfOrder { found, expected: 4 };
        let answer = take(&mut progress, &json!({ "seq": found, "state": {} })).map(|_| refused);
        assert_eq!(answer, Err(out_of_order));
    }
    assert_eq!(take(&mut progress, &json!({ "ended": {} })).unwrap().seq.get(), 4);
    assert_eq!(take(&mut progress, &json!({})).map(|_| ()), Err(Refused::Over));
    assert_eq!(progress.last_seq().get(), 4);
}

#[test]
fn a_table_whose_beginning_was_purged_goes_on_from_its_state() {
    let mut progress = Progress::default();
    let early = take(&mut progress, &json!({ "seq": 40 })).map(|_| ());
    assert_eq!(early, Err(Refused::OutOfOrder { found: 40, expected: 1 }));
    let found = u64::MAX;
    let last = take(&mut progress, &json!({ "seq": found, "state": {} })).map(|_| ());
    assert_eq!(last, Err(Refused::OutOfOrder { found, expected: 1 }), "nothing could follow it");
    assert_eq!(take(&mut progress, &json!({ "seq": 41, "state": {} })).unwrap().seq.get(), 41);
    assert_eq!(take(&mut progress, &json!({})).unwrap().seq.get(), 42);
}

#[test]
fn a_player_has_one_seat_and_a_seat_one_player() {
    let mut progress = Progress::default();
    let sit = |seat: u8, player: &str| json!({ "players": [{ "seat": seat, "player": player }] });
    take(&mut progress, &sit(0, "alice")).unwrap();
    take(&mut progress, &sit(1, "bob")).unwrap();
    let moved = take(&mut progress, &sit(1, "alice")).unwrap();
    assert_eq!(moved.reseated, [Seat(0), Seat(1)]);
    assert_eq!(progress.sitters().len(), 1);
    assert_eq!(progress.sitters()[&Seat(1)].name, "Player 2");
    let freed = take(&mut progress, &json!({ "players": [{ "seat": 1 }, { "seat": 5 }] })).unwrap();
    assert_eq!(freed.reseated, [Seat(1)]);
    assert!(take(&mut progress, &json!({})).unwrap().reseated.is_empty());
}

#[test]
fn a_reason_tells_where_and_not_what() {
    for text in [
        r#"{"seats":{"0":"sentinel"}}"#,
        r#"{"seats":{"0":["sentinel"]}}"#,
        r#"{"seats":{"0":[{"type":"table.sentinel"}]}}"#,
        r#"{"sentinel":1}"#,
        r#"{"ended":{"closing":"sentinel"}}"#,
        r#"{"at":"sentinel"}"#,
    ] {
        let reason = decode(text).unwrap_err();
        let reason = format!("{reason} {reason:?}");
        assert!(!reason.contains("sentinel") && reason.contains("column"), "{reason}");
    }
}

#[test]
fn what_was_written_in_lines_goes_out_in_one() {
    let payload = b"{\n \"public\": [\r\n {\"type\": \"say\",\n\"text\": \"a\\nb\"}\n],\n\"state\": {\"public\": [1,\n2]}}";
    let relayed = Relayed::decode(payload).unwrap();
    assert_eq!(relayed.public.as_str(), r#"{"type": "say", "text": "a\nb"}"#);
    assert_eq!(relayed.state.unwrap().public.as_deref(), Some("[1, 2]"));
}
