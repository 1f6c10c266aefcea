//! Playing and watching: what each viewer is sent, live and when coming back.

use serde_json::{Value, json};

use crate::socket::Socket;
use crate::stage::{Stage, id_of, open};

#[tokio::test]
async fn a_command_is_accepted_and_every_viewer_sees_what_it_may() {
    let stage = Stage::new(&[]).await;
    let mut nok = stage.player("Nok").await;
    let mut somchai = stage.player("Somchai").await;
    let mut spectator = stage.spectator().await;
    let table = stage.table_of(&mut nok, &mut somchai).await;

    let subscribed = nok.subscribe(&table).await;
    assert_eq!(subscribed["seat"], 0);
    assert_eq!(subscribed["kind"], "hidden-number");
    let snapshot = nok.expect("snapshot").await;
    let own = snapshot["view"]["game"]["yours"].as_u64().expect("a number");
    assert_eq!(snapshot["view"]["you"], 0);
    assert_eq!(snapshot["seq"], 3);

    assert_eq!(somchai.subscribe(&table).await["seat"], 1);
    let snapshot = somchai.expect("snapshot").await;
    assert_eq!(snapshot["view"]["game"]["yours"], own + 1);

    assert_eq!(spectator.subscribe(&table).await["seat"], Value::Null);
    let snapshot = spectator.expect("snapshot").await;
    assert_eq!(snapshot["view"]["game"]["yours"], Value::Null);

    nok.say("c1", &table, 7).await;
    let accepted = nok.until("accepted").await;
    assert_eq!(accepted["id"], "c1");
    for viewer in [&mut somchai, &mut spectator] {
        let commit = viewer.until("commit").await;
        assert_eq!(commit["seq"], accepted["seq"]);
        assert_eq!(commit["events"], json!([{ "type": "said", "seat": 0, "number": 7 }]));
    }

    nok.say("c2", &table, 2_000_000).await;
    let rejected = nok.until("rejected").await;
    assert_eq!(rejected["code"], "too_large");
    assert_eq!(rejected["table"], json!(table));
}

#[tokio::test]
async fn messagepack_carries_the_same_frames() {
    let stage = Stage::new(&[]).await;
    let mut nok = stage.player("Nok").await;
    let table = open(&mut nok).await;
    let offer = "unknown.v9, tablecast.v1.msgpack, tablecast.v1.json";
    let (mut packed, welcome) = Socket::connect(stage.address, Some(offer)).await;
    assert_eq!(welcome["frame_bytes_max"], 65536);
    packed.subscribe(&table).await;
    let snapshot = packed.expect("snapshot").await;
    let mut plain = stage.spectator().await;
    plain.subscribe(&table).await;
    assert_eq!(plain.expect("snapshot").await, snapshot);
}

#[tokio::test]
async fn a_cursor_brings_exactly_what_was_missed() {
    let stage = Stage::new(&["--ring=4"]).await;
    let mut nok = stage.player("Nok").await;
    let mut somchai = stage.player("Somchai").await;
    let table = stage.table_of(&mut nok, &mut somchai).await;
    let mut viewer = stage.spectator().await;
    viewer.subscribe(&table).await;
    viewer.expect("snapshot").await;
    let mut last = 0;
    for number in 4..10 {
        nok.say(&format!("c{number}"), &table, number).await;
        last = viewer.expect("commit").await["seq"].as_u64().expect("a number");
    }

    let cursor = last - 2;
    let again = json!({ "type": "subscribe", "table": table, "cursor": cursor });
    viewer.send(again).await;
    assert_eq!(viewer.until("subscribed").await["recovered"], true);
    assert_eq!(viewer.expect("commit").await["seq"], last - 1);
    assert_eq!(viewer.expect("commit").await["seq"], last);

    // One more than is kept: the log has it.
    let again = json!({ "type": "subscribe", "table": table, "cursor": last - 4 - 1 });
    viewer.send(again).await;
    assert_eq!(viewer.until("subscribed").await["recovered"], true);
    for seq in last - 4..=last {
        assert_eq!(viewer.expect("commit").await["seq"], seq);
    }
    // Before somebody sat down, and beyond the end.
    for cursor in [1, last + 1] {
        let again = json!({ "type": "subscribe", "table": table, "cursor": cursor });
        viewer.send(again).await;
        assert_eq!(viewer.until("subscribed").await["recovered"], false, "{cursor}");
        assert_eq!(viewer.expect("snapshot").await["seq"], last);
    }
    let nothing_missed = json!({ "type": "subscribe", "table": table, "cursor": last });
    viewer.send(nothing_missed).await;
    assert_eq!(viewer.until("subscribed").await["recovered"], true);
    viewer.send(json!({ "type": "ping", "data": 5 })).await;
    assert_eq!(viewer.expect("pong").await["data"], 5);
}

#[tokio::test]
async fn views_come_with_each_commit() {
    let stage = Stage::new(&[]).await;
    let mut nok = stage.player("Nok").await;
    let mut somchai = stage.player("Somchai").await;
    let table = stage.table_of(&mut nok, &mut somchai).await;
    let mut viewer = stage.spectator().await;
    let views = json!({ "type": "subscribe", "table": table, "deliver": "views" });
    viewer.send(views).await;
    viewer.expect("subscribed").await;
    viewer.expect("snapshot").await;
    nok.say("c1", &table, 7).await;
    let commit = viewer.expect("commit").await;
    let snapshot = viewer.expect("snapshot").await;
    assert_eq!(snapshot["seq"], commit["seq"]);
    assert_eq!(snapshot["view"]["game"]["said"], json!([7]));
}

#[tokio::test]
async fn a_follower_who_sits_down_is_shown_the_table_from_the_seat() {
    let stage = Stage::new(&[]).await;
    let mut nok = stage.player("Nok").await;
    let mut somchai = stage.player("Somchai").await;
    let table = open(&mut nok).await;
    assert_eq!(somchai.subscribe(&table).await["seat"], Value::Null);
    somchai.expect("snapshot").await;
    let sit = json!({ "type": "table.sit", "seat": 1 });
    somchai.send(json!({ "type": "command", "id": "s", "table": table, "command": sit })).await;
    let subscribed = somchai.until("subscribed").await;
    assert_eq!(subscribed["seat"], 1);
    assert_eq!(subscribed["recovered"], false);
    let snapshot = somchai.until("snapshot").await;
    assert_eq!(snapshot["view"]["you"], 1);
    assert_eq!(snapshot["seq"], subscribed["seq"]);

    // And back again.
    let leave = json!({ "type": "table.leave" });
    somchai.send(json!({ "type": "command", "id": "l", "table": table, "command": leave })).await;
    assert_eq!(somchai.until("subscribed").await["seat"], Value::Null);
    assert_eq!(somchai.until("snapshot").await["view"]["you"], Value::Null);
}

#[tokio::test]
async fn hello_after_subscribe_shows_the_own_seat() {
    let stage = Stage::new(&[]).await;
    let mut nok = stage.player("Nok").await;
    let table = open(&mut nok).await;
    let mut again = stage.spectator().await;
    again.subscribe(&table).await;
    again.expect("snapshot").await;
    again.send(json!({ "type": "hello", "token": stage.token("Nok") })).await;
    again.expect("welcome").await;
    assert_eq!(again.expect("subscribed").await["seat"], 0);
    again.send(json!({ "type": "hello", "token": stage.token("Somchai") })).await;
    assert_eq!(again.until("error").await["code"], "already_identified");
}

#[tokio::test]
async fn a_lost_message_is_read_from_the_log() {
    let stage = Stage::new(&[]).await;
    let mut nok = stage.player("Nok").await;
    let mut somchai = stage.player("Somchai").await;
    let table = stage.table_of(&mut nok, &mut somchai).await;
    let mut viewer = stage.spectator().await;
    viewer.subscribe(&table).await;
    let mut have = viewer.expect("snapshot").await["seq"].as_u64().expect("a number");
    stage.faults.drop_live(2);
    for number in 1..=3 {
        nok.say(&format!("c{number}"), &table, number).await;
        nok.until("accepted").await;
    }
    for _ in 1..=3 {
        have += 1;
        assert_eq!(viewer.expect("commit").await["seq"], have);
    }
}

#[tokio::test]
async fn poison_is_skipped_set_aside_and_nobodys_problem() {
    let stage = Stage::new(&[]).await;
    let mut nok = stage.player("Nok").await;
    let mut somchai = stage.player("Somchai").await;
    let table = stage.table_of(&mut nok, &mut somchai).await;
    let mut viewer = stage.spectator().await;
    viewer.subscribe(&table).await;
    let have = viewer.expect("snapshot").await["seq"].as_u64().expect("a number");
    let (address, last) = stage.worker.position(id_of(&table)).await;
    let foreign = tablecast::bus::Append {
        address,
        after: last,
        id: "foreign".to_owned(),
        types: String::new(),
        worker: "someone".parse().expect("an id"),
        command: None,
        payload: bytes::Bytes::from_static(b"not a commit"),
    };
    let position = stage.bus.log.append(foreign).await.expect("stored");
    stage.worker.skip_to(id_of(&table), position).await;
    nok.say("c1", &table, 1).await;
    assert_eq!(viewer.expect("commit").await["seq"], have + 1);
    let dead = stage.network.dead_letters();
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].0.seq, position);
}

#[tokio::test]
async fn a_table_that_is_not_there_is_not_followed() {
    let stage = Stage::new(&[]).await;
    let mut viewer = stage.spectator().await;
    let table = "019ab3c4-5d6e-7f80-9123-456789abcdef";
    viewer.send(json!({ "type": "subscribe", "table": table })).await;
    let unsubscribed = viewer.expect("unsubscribed").await;
    assert_eq!(unsubscribed["reason"], "unknown_table");
    let mut nok = stage.player("Nok").await;
    nok.say("c1", table, 1).await;
    assert_eq!(nok.until("rejected").await["code"], "unknown_table");
}

#[tokio::test]
async fn whoever_watches_the_list_sees_it_change() {
    let stage = Stage::new(&[]).await;
    let mut nok = stage.player("Nok").await;
    nok.send(json!({ "type": "watch_lobby" })).await;
    assert_eq!(nok.expect("lobby").await["tables"], json!([]));
    let table = open(&mut nok).await;
    stage.worker.list(id_of(&table)).await;
    let lobby = nok.until("lobby").await;
    assert_eq!(lobby["tables"][0]["table"], json!(table));
    assert_eq!(lobby["tables"][0]["status"], "waiting");
    stage.bus.lobby.remove(id_of(&table)).await.expect("removed");
    assert_eq!(nok.until("lobby").await["tables"], json!([]));
}

#[tokio::test]
async fn players_who_agree_on_a_rematch_and_whoever_watches_learn_where_it_is() {
    let stage = Stage::new(&[]).await;
    let mut nok = stage.player("Nok").await;
    let mut somchai = stage.player("Somchai").await;
    let options = json!({ "start": "when_full", "rematch_ms": 30_000 });
    nok.send(json!({ "type": "open", "id": "o", "kind": "hidden-number", "options": options }))
        .await;
    let table = nok.until("opened").await["table"].clone();
    let command = |id: &str, command: Value| json!({ "type": "command", "id": id, "table": table, "command": command });
    somchai.send(command("s", json!({ "type": "table.sit" }))).await;
    somchai.until("accepted").await;
    nok.send(command("n", json!({ "type": "say", "number": 0 }))).await;
    nok.until("accepted").await;

    let mut viewer = stage.spectator().await;
    viewer.send(json!({ "type": "subscribe", "table": table })).await;
    let view = viewer.until("snapshot").await["view"].clone();
    assert_eq!((&view["status"], &view["rematch"]["wanted"]), (&json!("running"), &json!([])));
    assert_eq!((&view["result"]["winners"], view.get("successor")), (&json!([0]), None));
    nok.send(command("late", json!({ "type": "say", "number": 1 }))).await;
    assert_eq!(nok.until("rejected").await["code"], "game_over");

    somchai.send(command("r", json!({ "type": "table.rematch" }))).await;
    let wanted = viewer.until("commit").await;
    assert_eq!(wanted["events"], json!([{ "type": "table.rematch_wanted", "seat": 1 }]));
    nok.send(command("r", json!({ "type": "table.rematch" }))).await;
    let agreed = viewer.until("commit").await;
    let events = agreed["events"].as_array().expect("events");
    let types: Vec<_> = events.iter().map(|event| event["type"].as_str()).collect();
    let expected = ["table.rematch_wanted", "table.succeeded", "table.completed"];
    assert_eq!(types, expected.map(Some));
    let successor = events[1]["table"].clone();
    assert_ne!(successor, table);
    assert!(agreed.to_string().find("player-").is_none(), "no account in {agreed}");

    // Who comes late finds it in the snapshot.
    let mut late = stage.spectator().await;
    late.send(json!({ "type": "subscribe", "table": table })).await;
    let view = late.until("snapshot").await["view"].clone();
    assert_eq!((&view["successor"], view.get("rematch")), (&successor, None));
}
