//! Coming back to a table: from what the gateway keeps, from the log, from the archive.

use std::time::Duration;

use clap::Parser;
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use tablecast::archive::{Purpose, StoreConfig};
use tablecast::archiver::{self, ArchiverConfig};
use tablecast::bus::way_back::{WAY_BACK_MAX, way_back};
use tablecast::bus::{Append, Bus, Stored};
use tablecast::catalog::{Catalog, Drafted, Referee};
use tablecast::domain::{
    Cause, Identity, Opening, Seat, Seating, StartRule, StreamSeq, TableId, TableOptions, TableSeq,
    TurnContext,
};
use tablecast::protocol::envelope::{Marker, Message, Snapshot, VERSION};
use tablecast::protocol::subject::Address;
use tablecast::runtime::clock::Clock;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::hidden_number::HiddenNumber;
use crate::http::get_at;
use crate::nats_server::NatsServer;
use crate::socket::{PATIENCE, Socket};
use crate::stage::{Gateway, player_at};

/// What Nok alone is dealt: no other number of these tests has so many digits.
const NOKS: &str = "1007";

/// A table whose commits come from here instead of from a worker.
struct Played {
    address: Address,
    referee: Box<dyn Referee>,
    last: StreamSeq,
}

fn catalog() -> Catalog {
    Catalog::new().with::<HiddenNumber>()
}

fn cx() -> TurnContext {
    TurnContext { now: Clock::System.now(), seed: [7; 32] }
}

impl Played {
    /// Nok in seat 0, Somchai in seat 1; it has begun.
    async fn open(bus: &Bus) -> Self {
        let kind: tablecast::domain::Kind = "hidden-number".parse().expect("a kind");
        let human = |name: &str| Seating::Human {
            player: format!("player-{name}").parse().expect("an id"),
            name: name.to_owned(),
        };
        let opening = Opening {
            kind: kind.clone(),
            rules: 1,
            setup: json!({}),
            options: TableOptions { start: StartRule::WhenFull, ..TableOptions::default() },
            seats: vec![human("Nok"), human("Somchai")],
            host: Some(Seat(0)),
        };
        let table = TableId::new(Clock::System.now(), rand::random());
        let catalog = catalog();
        let rules = catalog.get(&kind).expect("known");
        let (referee, first) = rules.open(table, opening, Cause::Claim, &cx()).expect("opened");
        let address = Address::new(table, kind, bus.log.shards());
        let mut played = Self { address, referee, last: StreamSeq::ZERO };
        played.store(bus, first).await;
        played
    }

    async fn store(&mut self, bus: &Bus, drafted: Drafted) {
        let append = Append {
            address: self.address.clone(),
            after: self.last,
            id: format!("{}:{}", self.address.table, drafted.seq.get()),
            types: drafted.types,
            worker: "w9".parse().expect("an id"),
            command: None,
            payload: drafted.payload,
        };
        self.last = bus.log.append(append).await.expect("appended");
        self.referee.confirm();
    }

    /// Nok says a number; 0 ends the game.
    async fn say(&mut self, bus: &Bus, number: u64) {
        let by = Identity { player: "player-Nok".parse().expect("an id"), name: "Nok".to_owned() };
        let id = format!("c{}", self.seq()).parse().expect("an id");
        let command = json!({ "type": "say", "number": number });
        let decided = self.referee.decide(&by, id, command, &cx());
        let drafted = decided.expect("legal").expect("a change");
        self.store(bus, drafted).await;
    }

    /// Until there are so many commits.
    async fn say_until(&mut self, bus: &Bus, commits: u64) {
        while self.seq() < commits {
            self.say(bus, self.seq()).await;
        }
    }

    async fn save(&self, bus: &Bus) {
        let snapshot = Snapshot {
            v: VERSION,
            table: self.address.table,
            kind: self.address.kind.clone(),
            rules: 1,
            last: self.last,
            worker: "w9".parse().expect("an id"),
            state: self.referee.state(),
        };
        bus.snapshots.save(&self.address, snapshot.encode()).await.expect("saved");
    }

    fn seq(&self) -> u64 {
        self.referee.last_seq().get()
    }

    fn id(&self) -> String {
        self.address.table.to_string()
    }
}

async fn resume(socket: &mut Socket, table: &str, cursor: u64) -> Value {
    socket.send(json!({ "type": "subscribe", "table": table, "cursor": cursor })).await;
    socket.expect("subscribed").await
}

/// The commits come, these and in order.
async fn expect_commits(socket: &mut Socket, from: u64, to: u64) {
    for seq in from..=to {
        assert_eq!(socket.expect("commit").await["seq"], seq);
    }
}

#[tokio::test]
async fn what_the_ring_has_no_more_comes_from_the_log() {
    let server = NatsServer::start().await;
    let bus = server.bus(&[]).await;
    let gateway = Gateway::start(server.bus(&[]).await, &catalog(), &["--ring=16"]).await;
    let mut played = Played::open(&bus).await;
    played.say_until(&bus, 300).await;
    let table = played.id();
    let mut first = player_at(gateway.address, "Nok").await;
    first.subscribe(&table).await;
    first.expect("snapshot").await;
    for cursor in [299, 250, 100] {
        let mut other = player_at(gateway.address, "Nok").await;
        let subscribed = resume(&mut other, &table, cursor).await;
        assert_eq!((&subscribed["recovered"], &subscribed["seq"]), (&json!(true), &json!(300)));
        expect_commits(&mut other, cursor + 1, 300).await;
    }
    // And on from there, for those who came before and those who came after.
    played.say(&bus, 5).await;
    expect_commits(&mut first, 301, 301).await;
    // The opening seated the players: who sees what after it was not so before.
    assert_eq!(resume(&mut first, &table, 0).await["recovered"], false);
    assert_eq!(first.expect("snapshot").await["seq"], 301);
    // Too far for anything but a snapshot.
    played.say_until(&bus, 700).await;
    let mut far = player_at(gateway.address, "Somchai").await;
    assert_eq!(resume(&mut far, &table, 20).await["recovered"], false);
}

#[tokio::test]
async fn a_gateway_that_starts_anew_goes_on_from_the_snapshot() {
    let server = NatsServer::start().await;
    let bus = server.bus(&[]).await;
    let mut played = Played::open(&bus).await;
    played.say_until(&bus, 200).await;
    played.save(&bus).await;
    played.say_until(&bus, 210).await;
    let gateway = Gateway::start(server.bus(&[]).await, &catalog(), &[]).await;
    let table = played.id();
    let mut nok = player_at(gateway.address, "Nok").await;
    // From before the snapshot, within it, and after it.
    for cursor in [180, 200, 205, 210] {
        assert_eq!(resume(&mut nok, &table, cursor).await["recovered"], true);
        expect_commits(&mut nok, cursor + 1, 210).await;
    }
    let mut late = player_at(gateway.address, "Nok").await;
    late.subscribe(&table).await;
    let snapshot = late.expect("snapshot").await;
    assert_eq!(snapshot["view"]["game"]["yours"].to_string(), NOKS);
    assert_eq!(snapshot["view"]["game"]["said"].as_array().expect("numbers").len(), 209);
}

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    archiver: ArchiverConfig,
}

/// Waits until the archive has the table and the log only its tombstone.
async fn archive(bus: &Bus, played: &mut Played, directory: &std::path::Path) {
    let marker = Marker {
        v: VERSION,
        table: played.address.table,
        kind: played.address.kind.clone(),
        rules: 1,
        last_seq: TableSeq::new(played.seq()),
        last: played.last,
        summary: played.referee.summary().expect("it is over").clone(),
        relayed: false,
    };
    bus.log.complete(&played.address, marker.encode()).await.expect("completed");
    let store = StoreConfig::directory(directory.to_owned()).open(Purpose::Write).expect("a store");
    let config = Line::parse_from(["archiver", "--batch-age=100ms"]).archiver;
    let stop = CancellationToken::new();
    let run = archiver::run(config, bus.clone(), store, Clock::System, stop.clone());
    let running = TaskTracker::new().spawn(run);
    let until = Instant::now() + PATIENCE;
    loop {
        let entries = bus.log.read(played.address.table, StreamSeq::ZERO).await.expect("read");
        if entries.iter().all(|entry| entry.what == Stored::Tombstone) {
            break;
        }
        assert!(Instant::now() < until, "not archived in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.cancel();
    running.await.expect("no panic").expect("stopped");
}

#[tokio::test]
async fn whoever_was_cut_off_sees_the_end_of_a_game_that_is_archived() {
    let server = NatsServer::start().await;
    let bus = server.bus(&[]).await;
    let mut played = Played::open(&bus).await;
    played.say_until(&bus, 20).await;
    played.say(&bus, 0).await;
    let directory = tempfile::tempdir().expect("a directory");
    archive(&bus, &mut played, directory.path()).await;
    let table = played.id();
    let url = format!("--archive-url={}", directory.path().display());
    let gateway = Gateway::start(server.bus(&[]).await, &catalog(), &[&url]).await;

    let mut nok = player_at(gateway.address, "Nok").await;
    let subscribed = resume(&mut nok, &table, 17).await;
    assert_eq!((&subscribed["recovered"], &subscribed["seat"]), (&json!(true), &json!(0)));
    expect_commits(&mut nok, 18, 20).await;
    let last = nok.expect("commit").await;
    assert_eq!(last["events"][1]["type"], "table.completed");
    assert_eq!(nok.expect("unsubscribed").await["reason"], "archived");
    // As often as one likes, and with a view as well.
    nok.subscribe(&table).await;
    let snapshot = nok.expect("snapshot").await;
    assert_eq!((&snapshot["seq"], &snapshot["view"]["you"]), (&json!(21), &json!(0)));
    assert_eq!(snapshot["view"]["game"]["yours"].to_string(), NOKS);
    assert_eq!(nok.expect("unsubscribed").await["reason"], "archived");
    nok.send(json!({ "type": "subscribe", "table": table, "cursor": 20, "deliver": "views" }))
        .await;
    assert_eq!(nok.expect("subscribed").await["recovered"], true);
    assert_eq!(nok.expect("commit").await["seq"], 21);
    assert_eq!(nok.expect("snapshot").await["seq"], 21);
    assert_eq!(nok.expect("unsubscribed").await["reason"], "archived");

    // Who has no seat sees no more than during the game.
    let mut spectator = Socket::connect(gateway.address, Some("tablecast.v1.json")).await.0;
    resume(&mut spectator, &table, 1).await;
    let mut seen = Vec::new();
    while let Ok(frame) = spectator.next().await {
        let is_end = frame["type"] == "unsubscribed";
        seen.push(frame);
        if is_end {
            break;
        }
    }
    assert_eq!(seen.len(), 21);
    let (status, snapshot) = get_at(gateway.address, &format!("/v1/tables/{table}")).await;
    assert_eq!((status, &snapshot["view"]["status"]), (200, &json!("ended")));
    for shown in seen.iter().chain([&snapshot]) {
        assert!(!shown.to_string().contains(NOKS), "{shown}");
    }

    // Without an archive it is only said where the table is.
    let poor = Gateway::start(server.bus(&[]).await, &catalog(), &[]).await;
    let mut nok = player_at(poor.address, "Nok").await;
    nok.send(json!({ "type": "subscribe", "table": table, "cursor": 17 })).await;
    assert_eq!(nok.expect("unsubscribed").await["reason"], "archived");
    let (status, _) = get_at(poor.address, &format!("/v1/tables/{table}")).await;
    assert_eq!(status, 410);
}

const TABLES: usize = 1_000;
const COMMITS: u64 = 50;

#[expect(clippy::print_stdout, reason = "the measurement's result")]
fn report(what: &str, started: Instant) {
    println!("{what}: {TABLES} tables of {COMMITS} commits in {:?}", started.elapsed());
}

#[ignore = "a measurement: `cargo test --test gateway measure_first -- --ignored --nocapture`"]
#[tokio::test(flavor = "multi_thread")]
async fn measure_first_follows_of_a_thousand_tables() {
    let server = NatsServer::start().await;
    let bus = server.bus(&[]).await;
    let opened = stream::iter(0..TABLES).map(|_| Played::open(&bus)).buffer_unordered(64);
    let mut tables: Vec<Played> = opened.collect().await;
    for commits in 2..=COMMITS {
        // As in play: the tables' commits lie between each other.
        stream::iter(&mut tables)
            .for_each_concurrent(64, |played| played.say_until(&bus, commits))
            .await;
    }
    for at_once in [16, 64] {
        let started = Instant::now();
        stream::iter(&tables)
            .for_each_concurrent(at_once, |played| async {
                let read = bus.log.read(played.address.table, StreamSeq::ZERO).await;
                assert_eq!(read.expect("read").len(), 50);
            })
            .await;
        report(&format!("from the front, {at_once} at once"), started);
        let started = Instant::now();
        stream::iter(&tables)
            .for_each_concurrent(at_once, |played| async {
                let log = &*bus.log;
                let newest = log.newest_of(played.address.table).await.expect("read").expect("one");
                let way = way_back(log, &played.address, newest, TableSeq::ZERO, WAY_BACK_MAX);
                assert_eq!(way.await.expect("read").expect("all").len(), 50);
            })
            .await;
        report(&format!("from the end, {at_once} at once"), started);
    }
    let gateway = Gateway::start(server.bus(&[]).await, &catalog(), &[]).await;
    let started = Instant::now();
    follow_all(&gateway, &tables).await;
    report("first follow by a gateway, without snapshots", started);
    for played in &tables {
        played.save(&bus).await;
    }
    let gateway = Gateway::start(server.bus(&[]).await, &catalog(), &[]).await;
    let started = Instant::now();
    follow_all(&gateway, &tables).await;
    report("first follow by a gateway, with snapshots", started);
}

/// By as many connections as it takes.
async fn follow_all(gateway: &Gateway, tables: &[Played]) {
    stream::iter(tables.chunks(32))
        .for_each_concurrent(None, |tables| async move {
            let mut socket = Socket::connect(gateway.address, Some("tablecast.v1.json")).await.0;
            for played in tables {
                let cursor = played.seq() - 1;
                let subscribe =
                    json!({ "type": "subscribe", "table": played.id(), "cursor": cursor });
                socket.send(subscribe).await;
            }
            for _ in tables {
                socket.until("subscribed").await;
            }
        })
        .await;
}
