use serde_json::{Value, json};

use super::*;
use crate::catalog::Catalog;

const AT: Timestamp = Timestamp::from_millis(1_795_000_000_000);

fn table() -> TableId {
    TableId::new(AT, [3; 10])
}

fn first(message: &Value) -> (Box<dyn Replica>, Arc<dyn FannedOut>) {
    let kind: Kind = "outside".parse().unwrap();
    let catalog = Catalog::new().with_relay(kind.clone()).unwrap();
    let rules = catalog.get(&kind).unwrap();
    rules.replica(table(), message.to_string().as_bytes(), AT).unwrap()
}

fn fold(replica: &mut dyn Replica, message: &Value) -> Arc<dyn FannedOut> {
    replica.fold(message.to_string().as_bytes(), AT).unwrap()
}

fn shown(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

#[test]
fn a_frame_is_what_other_games_frames_are() {
    let message = json!({
        "at": 77,
        "players": [{ "seat": 1, "player": "alice", "name": "Alice \"\u{1F600}\"" }],
        "public": [{ "type": "a" }, { "type": "b", "n": [1, null] }],
        "seats": { "1": [{ "type": "c" }] },
        "ended": { "winners": [1] },
    });
    let (replica, commit) = first(&message);
    let frame = commit.frame(Viewer::Spectator, Format::Json);
    let expected = json!({
        "type": "commit", "table": table().to_string(), "seq": 1, "at": 77,
        "events": [
            { "type": "table.seat_taken", "seat": 1, "name": "Alice \"\u{1F600}\"" },
            { "type": "a" },
            { "type": "b", "n": [1, null] },
            { "type": "table.completed", "closing": "finished", "winners": [1], "scores": [], "ended_at": 77 },
        ],
    });
    assert_eq!(shown(&frame), expected);
    let own = shown(&commit.frame(Viewer::Seated(Seat(1)), Format::Json));
    assert_eq!(own["events"][3], json!({ "type": "c" }));
    for viewer in [Viewer::Spectator, Viewer::Seated(Seat(0)), Viewer::Seated(Seat(1))] {
        for frame in [
            [Format::Json, Format::MessagePack].map(|format| commit.frame(viewer, format)),
            [Format::Json, Format::MessagePack].map(|format| replica.snapshot(viewer, format)),
        ] {
            let packed: Value = rmp_serde::from_slice(&frame[1]).unwrap();
            assert_eq!(shown(&frame[0]), packed);
        }
    }
    let snapshot = shown(&replica.snapshot(Viewer::Seated(Seat(1)), Format::Json));
    let view = &snapshot["view"];
    assert_eq!((&view["status"], &view["you"]), (&json!("ended"), &json!(1)));
    assert_eq!(view["seats"][0]["holder"], "open");
    assert_eq!(view["game"]["commits"][0]["events"], own["events"]);
}

#[test]
fn without_a_keyframe_the_oldest_commits_leave_the_snapshot_which_says_so() {
    let (mut replica, _) = first(&json!({}));
    for number in 0..COMMITS_KEPT {
        fold(&mut *replica, &json!({ "public": [{ "type": "n", "n": number }] }));
    }
    let game = |replica: &dyn Replica| {
        shown(&replica.snapshot(Viewer::Spectator, Format::Json))["view"]["game"].clone()
    };
    let full = game(&*replica);
    assert_eq!((&full["missing"], &full["commits"][0]["seq"]), (&json!(1), &json!(2)));
    assert_eq!(full["commits"].as_array().unwrap().len(), COMMITS_KEPT);

    // By bytes, too; and one that is larger than all that is kept by itself.
    let large = json!({ "public": [{ "type": "n", "text": "x".repeat(BYTES_KEPT / 2) }] });
    for _ in 0..3 {
        fold(&mut *replica, &large);
    }
    assert_eq!(game(&*replica)["commits"].as_array().unwrap().len(), 1);
    let huge = json!({ "public": [{ "type": "n", "text": "x".repeat(BYTES_KEPT * 2) }] });
    fold(&mut *replica, &huge);
    let (kept, seq) = (game(&*replica), replica.last_seq().get());
    assert_eq!(kept["commits"].as_array().unwrap().len(), 1);
    assert_eq!((&kept["commits"][0]["seq"], &kept["missing"]), (&json!(seq), &json!(seq - 1)));

    fold(&mut *replica, &json!({ "state": { "public": { "sum": 9 } } }));
    fold(&mut *replica, &json!({ "public": [{ "type": "n" }] }));
    let anew = game(&*replica);
    assert_eq!((&anew["state"], &anew["missing"]), (&json!({ "sum": 9 }), &json!(0)));
    assert_eq!(
        (&anew["state_seq"], &anew["commits"][0]["seq"]),
        (&json!(seq + 1), &json!(seq + 2))
    );
    assert_eq!(anew["commits"].as_array().unwrap().len(), 1);
}
