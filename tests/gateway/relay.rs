//! Tables whose commits somebody else publishes, as plainly as the protocol of NATS allows.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use serde_json::{Value, json};
use tablecast::bus::memory::Network;
use tablecast::catalog::Catalog;
use tablecast::domain::{Kind, TableId, Viewer};
use tablecast::games::chess::Chess;
use tablecast::protocol::frame::Format;
use tablecast::runtime::clock::Clock;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::http::get;
use crate::nats_server::NatsServer;
use crate::socket::{PATIENCE, Socket};
use crate::stage::{Gateway, Stage};

/// Only in what seat 1 is to see.
const SECRET: &str = "sentinel-of-seat-one";

/// A gateway on a real server, and somebody who publishes to that server.
struct Relay {
    server: NatsServer,
    stage: Stage,
    publisher: Publisher,
    table: String,
}

/// What `nats pub` does, and no more.
struct Publisher(BufReader<TcpStream>);

impl Publisher {
    async fn connect(url: &str) -> Self {
        let address: SocketAddr = url.trim_start_matches("nats://").parse().expect("an address");
        let tcp = TcpStream::connect(address).await.expect("the server listens");
        let mut publisher = Self(BufReader::new(tcp));
        publisher.send(b"CONNECT {\"verbose\":false,\"headers\":true}\r\n").await;
        publisher
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).await.expect("sent");
    }

    async fn publish(&mut self, subject: &str, payload: &[u8]) {
        let head = format!("PUB {subject} {}\r\n", payload.len());
        self.send(&[head.as_bytes(), payload, b"\r\nPING\r\n"].concat()).await;
        self.until_pong().await;
    }

    async fn publish_with(&mut self, subject: &str, headers: &str, payload: &[u8]) {
        let headers = format!("NATS/1.0\r\n{headers}\r\n\r\n");
        let (of_headers, all) = (headers.len(), headers.len() + payload.len());
        let head = format!("HPUB {subject} {of_headers} {all}\r\n{headers}");
        self.send(&[head.as_bytes(), payload, b"\r\nPING\r\n"].concat()).await;
        self.until_pong().await;
    }

    async fn until_pong(&mut self) {
        let mut line = String::new();
        while !line.starts_with("PONG") {
            line.clear();
            let read = tokio::time::timeout(PATIENCE, self.0.read_line(&mut line)).await;
            assert!(read.expect("an answer in time").expect("readable") > 0, "closed");
            assert!(!line.starts_with("-ERR"), "{line}");
        }
    }
}

impl Relay {
    async fn start(options: &[&str]) -> Self {
        let server = NatsServer::start().await;
        let network = Network::new(NonZeroU16::MIN, Clock::System);
        let (_, faults) = network.connect();
        let (bus, of_gateway) = (server.bus(&[]).await, server.bus(&[]).await);
        let stage = Stage::on(bus, of_gateway, network, faults, options).await;
        let publisher = Publisher::connect(&server.url).await;
        let table = TableId::new(Clock::System.now(), rand::random()).to_string();
        Self { server, stage, publisher, table }
    }

    fn subject(&self) -> String {
        format!("tc.evt.0.relayed.{}", self.table)
    }

    async fn publish(&mut self, payload: &Value) {
        let subject = self.subject();
        self.publisher.publish(&subject, payload.to_string().as_bytes()).await;
    }

    /// Follows the table, which has been published to a moment ago.
    async fn subscribe(&self, socket: &mut Socket) -> Value {
        let subscribed = socket.subscribe(&self.table).await;
        assert_eq!(subscribed["kind"], "relayed");
        socket.expect("snapshot").await
    }
}

#[tokio::test]
async fn a_plain_publish_moves_what_a_spectator_sees() {
    let mut relay = Relay::start(&[]).await;
    relay.publish(&json!({ "public": [{ "type": "moved", "to": "e4" }] })).await;
    let mut spectator = relay.stage.spectator().await;
    let snapshot = relay.subscribe(&mut spectator).await;
    assert_eq!((&snapshot["seq"], &snapshot["view"]["status"]), (&json!(1), &json!("running")));
    let game = &snapshot["view"]["game"];
    assert_eq!(game["relayed"], true);
    assert_eq!(game["commits"][0]["events"], json!([{ "type": "moved", "to": "e4" }]));

    let subject = relay.subject();
    relay.publisher.publish(&subject, br#"{"public":[{"type":"moved","to":"e5"}]}"#).await;
    let commit = spectator.expect("commit").await;
    assert_eq!((&commit["seq"], &commit["table"]), (&json!(2), &json!(relay.table)));
    assert_eq!(commit["events"], json!([{ "type": "moved", "to": "e5" }]));

    // MessagePack, with the headers that other servers write.
    let packed = json!({ "v": 1, "seq": 3, "at": 77, "public": [{ "type": "moved", "n": 3 }] });
    let packed = rmp_serde::to_vec_named(&packed).expect("encodes");
    let headers = "Content-Type: application/msgpack\r\nNats-Msg-Id: 3";
    relay.publisher.publish_with(&subject, headers, &packed).await;
    let commit = spectator.expect("commit").await;
    assert_eq!((&commit["seq"], &commit["at"]), (&json!(3), &json!(77)));
    assert_eq!(commit["events"], json!([{ "type": "moved", "n": 3 }]));

    let (status, shown) = get(&relay.stage, &format!("/v1/tables/{}", relay.table)).await;
    assert_eq!((status, &shown["view"]["game"]["commits"][2]["seq"]), (200, &json!(3)));
    let (_, games) = get(&relay.stage, "/v1/games").await;
    assert!(!games.to_string().contains("relayed"), "nobody can open one: {games}");
    drop(relay.server);
}

#[tokio::test]
async fn only_the_player_in_a_seat_is_shown_its_part() {
    let mut relay = Relay::start(&["--linger=0s"]).await;
    let sitting = json!([
        { "seat": 0, "player": "player-Nok", "name": "Nok" },
        { "seat": 1, "player": "player-Somchai", "name": "Somchai" },
    ]);
    relay.publish(&json!({ "players": sitting, "public": [{ "type": "dealt" }] })).await;
    let mut spectator = relay.stage.spectator().await;
    relay.subscribe(&mut spectator).await;
    let mut nok = relay.stage.player("Nok").await;
    relay.subscribe(&mut nok).await;
    let mut somchai = relay.stage.player("Somchai").await;
    let seated = relay.subscribe(&mut somchai).await;
    assert_eq!(
        (&seated["view"]["you"], &seated["view"]["seats"][1]["name"]),
        (&json!(1), &json!("Somchai"))
    );
    assert!(!seated.to_string().contains("player-"), "accounts are shown to nobody: {seated}");

    let own = json!([{ "type": "card", "is": SECRET }]);
    relay.publish(&json!({ "seats": { "1": own } })).await;
    relay.publish(&json!({ "public": [{ "type": "turn" }], "seats": { "1": own } })).await;
    let state = json!({ "public": { "pot": 5 }, "seats": { "1": { "hand": [SECRET] } } });
    relay.publish(&json!({ "state": state })).await;
    relay.publish(&json!({ "seats": { "1": own } })).await;

    assert_eq!(somchai.expect("commit").await["events"], own);
    assert_eq!(somchai.expect("commit").await["events"][1], own[0]);
    for socket in [&mut spectator, &mut nok] {
        // Hidden from them, and still there as a number.
        for (seq, shown) in
            [(2, json!([])), (3, json!([{ "type": "turn" }])), (4, json!([])), (5, json!([]))]
        {
            let commit = socket.expect("commit").await;
            assert_eq!((&commit["seq"], &commit["events"]), (&json!(seq), &shown));
        }
        // Resumed, and begun anew.
        socket.send(json!({ "type": "subscribe", "table": relay.table, "cursor": 1 })).await;
        assert_eq!(socket.expect("subscribed").await["recovered"], true);
        for _ in 2..=5 {
            let commit = socket.expect("commit").await;
            assert!(!commit.to_string().contains(SECRET), "{commit}");
        }
        let snapshot = relay_snapshot(socket, &relay.table).await;
        assert!(!snapshot.to_string().contains(SECRET), "{snapshot}");
        assert_eq!(snapshot["view"]["game"]["state"], json!({ "pot": 5 }));
        assert_eq!(snapshot["view"]["game"]["state_seq"], 4);
    }
    let own_snapshot = relay_snapshot(&mut somchai, &relay.table).await;
    assert_eq!(own_snapshot["view"]["game"]["your_state"], json!({ "hand": [SECRET] }));
    assert_eq!(own_snapshot["view"]["game"]["commits"][0]["events"], own);
    let path = format!("/v1/tables/{}", relay.table);
    let (_, in_memory) = get(&relay.stage, &path).await;
    assert!(!in_memory.to_string().contains(SECRET), "{in_memory}");
    let (mut packed, _) = Socket::connect(relay.stage.address, Some("tablecast.v1.msgpack")).await;
    let packed = relay.subscribe(&mut packed).await;
    assert_eq!(packed["view"], in_memory["view"]);

    // Somebody else in the seat: it is theirs from now on, and no more Somchai's.
    relay
        .publish(&json!({ "players": [{ "seat": 1, "player": "player-Nok", "name": "Nok" }] }))
        .await;
    let subscribed = somchai.until("subscribed").await;
    assert_eq!(subscribed["seat"], Value::Null);
    let snapshot = somchai.expect("snapshot").await;
    assert!(!snapshot.to_string().contains(SECRET), "{snapshot}");
    assert_eq!(nok.until("subscribed").await["seat"], 1);
    let snapshot = nok.expect("snapshot").await;
    assert_eq!(snapshot["view"]["game"]["your_state"], json!({ "hand": [SECRET] }));
    assert_eq!(snapshot["view"]["seats"][0]["holder"], "open");
}

async fn relay_snapshot(socket: &mut Socket, table: &str) -> Value {
    socket.send(json!({ "type": "unsubscribe", "table": table })).await;
    socket.until("unsubscribed").await;
    socket.subscribe(table).await;
    socket.expect("snapshot").await
}

#[tokio::test]
async fn what_cannot_be_read_is_a_number_and_the_next_commit_goes_on() {
    let mut relay = Relay::start(&[]).await;
    relay.publish(&json!({ "seq": 1, "public": [{ "type": "a" }] })).await;
    let mut spectator = relay.stage.spectator().await;
    relay.subscribe(&mut spectator).await;
    let subject = relay.subject();
    let bad: [&[u8]; 4] =
        [b"not JSON", br#"{"public":[{"kind":"no type"}]}"#, br#"{"publc":[]}"#, br#"{"v":2}"#];
    for (payload, seq) in bad.iter().zip(2..) {
        relay.publisher.publish(&subject, payload).await;
        let commit = spectator.expect("commit").await;
        assert_eq!((&commit["seq"], &commit["events"]), (&json!(seq), &json!([])));
    }
    // What comes twice, or too early, is as if it had not come.
    relay.publish(&json!({ "seq": 1, "public": [{ "type": "a" }] })).await;
    relay.publish(&json!({ "seq": 8, "public": [{ "type": "h" }] })).await;
    relay.publish(&json!({ "seq": 6, "public": [{ "type": "f" }] })).await;
    let commit = spectator.expect("commit").await;
    assert_eq!((&commit["seq"], &commit["events"]), (&json!(6), &json!([{ "type": "f" }])));
    // All six are with the operator.
    let jetstream =
        async_nats::jetstream::new(async_nats::connect(&relay.server.url).await.unwrap());
    let deadline = Instant::now() + PATIENCE;
    loop {
        let dead = jetstream.get_stream("DEAD").await.unwrap();
        let messages = dead.cached_info().state.messages;
        if messages == 6 {
            break;
        }
        assert!(Instant::now() < deadline, "{messages} dead letters");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // And whoever reads the log only now counts the same.
    let kind = "relayed".parse().expect("a kind");
    let catalog = Catalog::new().with_relay(kind).expect("nothing is played there");
    let other = Gateway::start(relay.server.bus(&[]).await, &catalog, &[]).await;
    let (mut late, _) = Socket::connect(other.address, Some("tablecast.v1.json")).await;
    let snapshot = relay.subscribe(&mut late).await;
    assert_eq!(
        (&snapshot["seq"], &snapshot["view"]["game"]["commits"][5]["seq"]),
        (&json!(6), &json!(6))
    );
    // Without the option nobody is shown what somebody publishes.
    let other = Gateway::start(relay.server.bus(&[]).await, &Catalog::new(), &[]).await;
    let (mut socket, _) = Socket::connect(other.address, Some("tablecast.v1.json")).await;
    socket.send(json!({ "type": "subscribe", "table": relay.table })).await;
    assert_eq!(socket.expect("unsubscribed").await["reason"], "unknown_kind");
}

#[tokio::test]
async fn a_command_to_a_relayed_table_is_refused_and_nobody_is_asked_to_own_it() {
    let mut relay = Relay::start(&[]).await;
    relay.publish(&json!({ "players": [{ "seat": 0, "player": "player-Nok" }] })).await;
    let mut nok = relay.stage.player("Nok").await;
    relay.subscribe(&mut nok).await;
    let mut adoptions = relay.stage.bus.mail.listen("tc.adopt.>".to_owned()).await.unwrap();
    let command = json!({ "type": "table.leave" });
    let frame = json!({ "type": "command", "id": "c1", "table": relay.table, "command": command });
    nok.send(frame).await;
    let refused = nok.until("rejected").await;
    assert_eq!((&refused["code"], refused.get("retry_after_ms")), (&json!("relayed"), None));
    nok.send(json!({ "type": "open", "id": "o1", "kind": "relayed" })).await;
    assert_eq!(nok.until("rejected").await["code"], "relayed");

    relay.publish(&json!({ "public": [{ "type": "mate" }], "ended": { "winners": [0], "scores": [1, 0] } })).await;
    let commit = nok.until("commit").await;
    assert_eq!(commit["events"][0], json!({ "type": "mate" }));
    assert_eq!(commit["events"][1]["type"], "table.completed");
    assert_eq!(commit["events"][1]["winners"], json!([0]));
    let snapshot = relay_snapshot(&mut nok, &relay.table).await;
    assert_eq!(snapshot["view"]["status"], "ended");
    // A request that was sent before this one would have come before it.
    relay.stage.bus.mail.notify("tc.adopt.sign".to_owned(), "sign".into()).await.unwrap();
    let first = futures_util::StreamExt::next(&mut adoptions).await.unwrap();
    assert_eq!(first, "sign");
}

#[tokio::test]
async fn a_keyframe_may_replace_all_that_was_before_it() {
    let mut relay = Relay::start(&[]).await;
    for number in 1..=3 {
        relay.publish(&json!({ "public": [{ "type": "n", "n": number }] })).await;
    }
    let mut spectator = relay.stage.spectator().await;
    relay.subscribe(&mut spectator).await;
    let subject = relay.subject();
    let keyframe = json!({ "seq": 4, "state": { "public": { "sum": 6 } } }).to_string();
    relay.publisher.publish_with(&subject, "Nats-Rollup: sub", keyframe.as_bytes()).await;
    relay.publish(&json!({ "public": [{ "type": "n", "n": 4 }] })).await;
    for seq in 4..=5 {
        assert_eq!(spectator.expect("commit").await["seq"], seq);
    }
    // Whoever comes now finds nothing older, and the same numbers.
    let kind = "relayed".parse().expect("a kind");
    let catalog = Catalog::new().with_relay(kind).expect("nothing is played there");
    let other = Gateway::start(relay.server.bus(&[]).await, &catalog, &[]).await;
    let (mut late, _) = Socket::connect(other.address, Some("tablecast.v1.json")).await;
    let snapshot = relay.subscribe(&mut late).await;
    let game = &snapshot["view"]["game"];
    assert_eq!(
        (&snapshot["seq"], &game["state_seq"], &game["missing"]),
        (&json!(5), &json!(4), &json!(0))
    );
    assert_eq!((&game["state"], &game["commits"][0]["seq"]), (&json!({ "sum": 6 }), &json!(5)));
}

#[test]
fn a_kind_is_either_played_or_relayed() {
    let kind = |name: &str| name.parse::<Kind>().expect("a kind");
    let catalog = Catalog::new().with::<Chess>();
    assert!(catalog.clone().with_relay(kind("chess")).is_err());
    let catalog = catalog.with_relay(kind("outside")).expect("nothing is played there");
    let rules = catalog.get(&kind("outside")).expect("known");
    let table = TableId::new(Clock::System.now(), rand::random());
    assert!(rules.referee(table, b"{}").is_err(), "no worker may own one");
    assert!(catalog.with_relay(kind("outside")).is_ok(), "named twice is no mistake");
}

/// `cargo test --release --test gateway measure_relay -- --ignored --nocapture`
#[ignore = "a measurement"]
#[test]
fn measure_relay_fold_and_frame() {
    let event = json!({ "type": "moved", "from": "e2", "to": "e4", "text": "x".repeat(152) });
    assert_eq!(event.to_string().len(), 200);
    let payload = json!({ "public": [event] });
    let packed = rmp_serde::to_vec_named(&payload).expect("encodes");
    let kind: Kind = "outside".parse().expect("a kind");
    let catalog = Catalog::new().with_relay(kind.clone()).expect("nothing is played there");
    let rules = catalog.get(&kind).expect("known");
    let (table, now) = (TableId::new(Clock::System.now(), rand::random()), Clock::System.now());
    for (what, payload) in [("JSON", payload.to_string().as_bytes()), ("MessagePack", &packed)] {
        let (mut replica, _) = rules.replica(table, payload, now).expect("a commit");
        let mut frame = Vec::with_capacity(1024);
        let rounds = 500_000_u32;
        let (mut folding, mut writing) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..rounds / 100 {
            let started = Instant::now();
            let fold = |_| replica.fold(payload, now).expect("a commit");
            let commits: Vec<_> = (0..100).map(fold).collect();
            let folded = Instant::now();
            for commit in &commits {
                frame.clear();
                commit.write(Viewer::Spectator, Format::Json, &mut frame);
            }
            folding += folded - started;
            writing += folded.elapsed();
        }
        let (folding, writing) = (folding / rounds, writing / rounds);
        println!("{what}: fold {folding:?}, one JSON frame of {} bytes {writing:?}", frame.len());
    }
}
