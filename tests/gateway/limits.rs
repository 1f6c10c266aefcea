//! Bad input, floods, and clients that do not read.

use futures_util::StreamExt;
use serde_json::json;
use tablecast::domain::TableSeq;
use tablecast::protocol::request::{Verdict, encode};
use tablecast::protocol::subject;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::socket::Socket;
use crate::stage::{Stage, id_of, open};

#[tokio::test]
async fn a_frame_that_is_not_of_the_protocol_is_answered_and_ten_are_enough() {
    let stage = Stage::new(&[]).await;
    let mut client = stage.spectator().await;
    for bad in [
        "",
        "{",
        "[]",
        r#"{"type":"dance"}"#,
        r#"{"type":"ping","extra":1}"#,
        r#"{"type":"subscribe","table":"7"}"#,
        r#"{"type":"command","id":"a.b","table":"019ab3c4-5d6e-7f80-9123-456789abcdef","command":{}}"#,
        r#"{"type":"open","id":"x","kind":"Chess"}"#,
        r#"{"type":"subscribe"}"#,
        "\"\\ud800\"",
    ] {
        client.send_raw(Message::text(bad)).await;
        let error = client.expect("error").await;
        assert_eq!(error["code"], "malformed", "{bad}");
        assert_ne!(error["message"], "", "{bad}");
    }
    client.send_raw(Message::text("again")).await;
    assert_eq!(client.closed().await, 4500);
}

#[tokio::test]
async fn what_cannot_be_answered_closes_the_socket() {
    let stage = Stage::new(&["--frame-bytes-max=1000"]).await;
    let mut client = stage.spectator().await;
    client.send_raw(Message::text("x".repeat(1001))).await;
    assert_eq!(client.closed().await, 4501);

    let mut client = stage.spectator().await;
    client.send_raw(Message::binary(vec![0x80])).await;
    assert_eq!(client.closed().await, 4502);

    let (mut client, _) = Socket::connect(stage.address, Some("tablecast.v1.msgpack")).await;
    client.send_raw(Message::text("{}")).await;
    assert_eq!(client.closed().await, 4502);

    let mut client = stage.spectator().await;
    client.send(json!({ "type": "hello", "token": "a.b.c" })).await;
    assert_eq!(client.closed().await, 4503);
}

#[tokio::test]
async fn an_unknown_offer_is_refused_and_none_means_json() {
    let stage = Stage::new(&[]).await;
    let refused = Socket::try_connect(stage.address, Some("chat, graphql-ws")).await;
    let Err(tungstenite::Error::Http(response)) = refused.map(|_| ()) else {
        panic!("upgraded");
    };
    assert_eq!(response.status(), 400);
    let (_, welcome) = Socket::connect(stage.address, None).await;
    assert_eq!(welcome["player"], serde_json::Value::Null);
}

#[tokio::test]
async fn who_sends_too_fast_is_told_when_to_come_again_and_then_cut_off() {
    let stage = Stage::new(&["--inbound-rate=1", "--inbound-burst=3"]).await;
    let mut client = stage.spectator().await;
    for data in 0..3 {
        client.send(json!({ "type": "ping", "data": data })).await;
        client.expect("pong").await;
    }
    client.send(json!({ "type": "ping" })).await;
    let throttled = client.expect("error").await;
    assert_eq!(throttled["code"], "throttled");
    let wait = throttled["retry_after_ms"].as_u64().expect("a wait");
    assert!((1..=1000).contains(&wait), "{wait}");
    client.say("c1", "019ab3c4-5d6e-7f80-9123-456789abcdef", 1).await;
    let rejected = client.expect("rejected").await;
    assert_eq!(rejected["code"], "throttled");
    for _ in 0..20 {
        client.send(json!({ "type": "ping" })).await;
    }
    assert_eq!(client.closed().await, 4504);
}

#[tokio::test]
async fn spectators_watch_and_do_not_play() {
    let stage = Stage::new(&["--subscriptions-max=1"]).await;
    let mut nok = stage.player("Nok").await;
    let (one, two) = (open(&mut nok).await, open(&mut nok).await);
    let mut client = stage.spectator().await;
    client.say("c1", &one, 1).await;
    assert_eq!(client.expect("rejected").await["code"], "not_identified");
    client.subscribe(&one).await;
    client.send(json!({ "type": "subscribe", "table": two })).await;
    let refused = client.until("unsubscribed").await;
    assert_eq!(refused["reason"], "too_many");
    client.send(json!({ "type": "unsubscribe", "table": one })).await;
    client.expect("unsubscribed").await;
    client.subscribe(&two).await;
}

#[tokio::test]
async fn openings_that_cannot_be_are_rejected() {
    let stage = Stage::new(&[]).await;
    let mut nok = stage.player("Nok").await;
    for (open, code) in [
        (json!({ "kind": "go" }), "unknown_kind"),
        (json!({ "seats": ["open", "open"] }), "bad_opening"),
        (json!({ "seats": ["me", "me"] }), "bad_opening"),
        (json!({ "seats": vec!["me"; 1000] }), "bad_opening"),
        (json!({ "seats": ["me"] }), "bad_opening"),
        (json!({ "seats": ["me", "bot"] }), "no_bots"),
        (json!({ "setup": { "seats": 3, "colour": 1 } }), "bad_opening"),
    ] {
        let mut frame = json!({ "type": "open", "id": "o", "kind": "hidden-number" });
        let fields = open.as_object().expect("an object").clone();
        frame.as_object_mut().expect("an object").extend(fields);
        nok.send(frame.clone()).await;
        assert_eq!(nok.until("rejected").await["code"], code, "{frame}");
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_ends_with_the_right_view() {
    let options = [
        "--outbox-frames=8",
        "--inbound-rate=10000",
        "--inbound-burst=10000",
        "--player-rate=10000",
        "--player-burst=10000",
    ];
    let stage = Stage::new(&options).await;
    let mut nok = stage.player("Nok").await;
    let mut somchai = stage.player("Somchai").await;
    let table = stage.table_of(&mut nok, &mut somchai).await;
    let mut viewer = stage.spectator().await;
    let views = json!({ "type": "subscribe", "table": table, "deliver": "views" });
    viewer.send(views).await;
    // Views grow with every number said: far more than sockets hold, and the viewer reads none of it.
    let said = 2000;
    for number in 1..=said {
        nok.say(&format!("c{number}"), &table, number).await;
        nok.until("accepted").await;
    }
    let report = stage.connections(None).await;
    assert_eq!((report.connections, report.behind), (3, 1), "{report:?}");
    let [line] = &report.worst[..] else { panic!("{report:?}") };
    assert_eq!((line.why.as_deref(), line.player.as_deref()), (Some("socket"), None), "{line:?}");
    assert_eq!((line.address.as_deref(), line.tables), (Some("127.0.0.1"), 1), "{line:?}");
    assert!(line.conflated > 8 && line.frames > 0 && line.bytes > 0, "{line:?}");
    assert!(line.blocked_ms.is_some() && line.behind_ms >= line.blocked_ms, "{line:?}");
    let last = u64::from(said) + 3;
    let (mut have, mut frames) = (0, 0);
    while have < last {
        let frame = viewer.next().await.expect("a frame");
        frames += 1;
        match frame["type"].as_str().expect("a type") {
            "snapshot" => {
                let seq = frame["seq"].as_u64().expect("a number");
                assert!(seq >= have);
                have = seq;
                let said = frame["view"]["game"]["said"].as_array().expect("numbers");
                assert_eq!(said.len() as u64, have - 3);
            }
            "commit" => {
                assert_eq!(frame["seq"], have + 1, "without a gap");
                have += 1;
            }
            _ => {}
        }
    }
    let all = 2 * said;
    assert!(frames < all, "conflated: {frames} frames");
    while stage.connections(None).await.behind > 0 {
        // Until its task has seen that everything is written.
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn bytes_beyond_the_rate_of_a_connection_wait_and_are_conflated() {
    let options = [
        "--outbound-bytes-rate=5000",
        "--outbound-bytes-burst=1000",
        "--outbox-frames=8",
        "--inbound-rate=10000",
        "--inbound-burst=10000",
        "--player-rate=10000",
        "--player-burst=10000",
    ];
    let stage = Stage::new(&options).await;
    let mut nok = stage.player("Nok").await;
    let mut somchai = stage.player("Somchai").await;
    let table = stage.table_of(&mut nok, &mut somchai).await;
    let mut viewer = stage.spectator().await;
    let views = json!({ "type": "subscribe", "table": table, "deliver": "views" });
    viewer.send(views).await;
    viewer.expect("subscribed").await;
    let said = 500;
    let send = async {
        for number in 1..=said {
            nok.say(&format!("c{number}"), &table, number).await;
            nok.until("accepted").await;
        }
    };
    let last = u64::from(said) + 3;
    let receive = async {
        let (mut have, mut frames) = (0, 0);
        while have < last {
            // A view grows far beyond the burst, and passes all the same.
            have = viewer.until("snapshot").await["seq"].as_u64().expect("a number");
            frames += 1;
        }
        frames
    };
    let ((), frames) = tokio::join!(send, receive);
    assert!(frames < said, "conflated: {frames} frames");
    let report = stage.connections(None).await;
    let line = report.worst.iter().find(|line| line.player.is_none()).expect("the viewer");
    assert!(line.throttled_out > 0 && line.conflated > 0, "{line:?}");
}

#[tokio::test]
async fn all_connections_of_a_player_share_its_bucket() {
    let stage = Stage::new(&["--player-rate=1", "--player-burst=3"]).await;
    let mut first = stage.player("Nok").await;
    let mut second = stage.player("Nok").await;
    let table = open(&mut first).await;
    let mut throttled = 0;
    for number in 0..10 {
        first.say(&format!("c{number}"), &table, 1).await;
        second.say(&format!("d{number}"), &table, 1).await;
    }
    for number in 0..20 {
        let client = if number % 2 == 0 { &mut first } else { &mut second };
        let rejected = client.until("rejected").await;
        if rejected["code"] == "throttled" {
            throttled += 1;
            let wait = rejected["retry_after_ms"].as_u64().expect("a wait");
            assert!((1..=1000).contains(&wait), "{wait}");
        }
    }
    assert!(throttled > 0);
    // Neither of the two connections has sent more than one may.
    let report = stage.connections(Some("player-Nok")).await;
    assert_eq!(report.worst.len(), 2);
    assert_eq!(report.throttled_in, throttled);
    let mut other = stage.player("Somchai").await;
    other.say("c1", &table, 1).await;
    assert_ne!(other.until("rejected").await["code"], "throttled");
}

#[tokio::test]
async fn a_player_has_so_many_tables_open_and_no_more() {
    let stage = Stage::new(&["--tables-per-player=2"]).await;
    let mut nok = stage.player("Nok").await;
    for _ in 0..3 {
        // What was not opened does not count.
        nok.send(json!({ "type": "open", "id": "bad", "kind": "go" })).await;
        assert_eq!(nok.until("rejected").await["code"], "unknown_kind");
    }
    let mut second = stage.player("Nok").await;
    let table = open(&mut nok).await;
    open(&mut second).await;
    nok.send(json!({ "type": "open", "id": "o3", "kind": "hidden-number" })).await;
    let refused = nok.until("rejected").await;
    assert_eq!(refused["code"], "too_many_tables");
    assert_eq!(refused["retry_after_ms"], json!(null));
    // At tables that are open everything goes on, and others open theirs.
    let mut somchai = stage.player("Somchai").await;
    let sit =
        json!({ "type": "command", "id": "s", "table": table, "command": { "type": "table.sit" } });
    somchai.send(sit).await;
    somchai.until("accepted").await;
    open(&mut somchai).await;
}

#[tokio::test]
async fn players_beyond_those_that_a_gateway_keeps_in_mind_are_busy() {
    let stage = Stage::new(&["--players-max=1"]).await;
    let mut nok = stage.player("Nok").await;
    let table = open(&mut nok).await;
    let mut somchai = stage.player("Somchai").await;
    somchai.say("c1", &table, 1).await;
    let refused = somchai.until("rejected").await;
    assert_eq!((&refused["code"], &refused["retry_after_ms"]), (&json!("busy"), &json!(1000)));
    // Watching needs no room.
    somchai.subscribe(&table).await;
    nok.say("c1", &table, 1).await;
    assert_ne!(nok.until("rejected").await["code"], "busy");
}

#[tokio::test]
async fn commands_beyond_what_a_gateway_lets_wait_are_refused() {
    let stage = Stage::new(&["--commands-waiting-max=2"]).await;
    let mut nok = stage.player("Nok").await;
    let mut somchai = stage.player("Somchai").await;
    let mut malee = stage.player("Malee").await;
    let table = stage.table_of(&mut nok, &mut somchai).await;
    stage.worker.forget(id_of(&table));
    // Takes requests and keeps them.
    let mail = &stage.bus.mail;
    let mut hangs = mail.serve(subject::cmd(id_of(&table)), None).await.expect("served");
    nok.say("c1", &table, 1).await;
    let first = hangs.next().await.expect("a command");
    somchai.say("c2", &table, 2).await;
    let second = loop {
        let request = hangs.next().await.expect("a command");
        if request.payload != first.payload {
            break request;
        }
    };
    malee.say("c3", &table, 3).await;
    let refused = malee.until("rejected").await;
    assert_eq!(refused["code"], "busy");
    assert_eq!(refused["retry_after_ms"], 500);
    // Room again once one has its verdict.
    let verdict = encode(&Verdict::Accepted { seq: TableSeq::new(9) });
    first.reply.send(verdict.clone()).await;
    assert_eq!(nok.until("accepted").await["id"], "c1");
    malee.say("c4", &table, 4).await;
    second.reply.send(verdict).await;
    assert_eq!(somchai.until("accepted").await["id"], "c2");
    drop(hangs);
    assert_eq!(malee.until("rejected").await["id"], "c4", "Malee has no seat, says a worker");
}

#[tokio::test]
async fn those_who_are_told_to_come_back_are_spread_over_the_window() {
    let stage = Stage::new(&["--reconnect-window=40s"]).await;
    let mut sockets = Vec::new();
    for _ in 0..20 {
        sockets.push(stage.spectator().await);
    }
    stage.shutdown.cancel();
    let mut waits = Vec::new();
    for mut socket in sockets {
        let goodbye = socket.expect("goodbye").await;
        waits.push(goodbye["reconnect_after_ms"].as_u64().expect("a wait"));
        assert_eq!(socket.closed().await, 4000);
    }
    let (least, most) = (waits.iter().min(), waits.iter().max());
    let (least, most) = (*least.expect("some"), *most.expect("some"));
    // That twenty fall into one quarter of the window happens once in many billions.
    assert!(most <= 40_000 && most - least > 10_000, "{waits:?}");
}
