//! Tables that somebody else publishes: completed and archived by us, from nothing but their commits.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tablecast::archive::{Purpose, Reader, StoreConfig};
use tablecast::archiver::run;
use tablecast::bus::{Bus, Stored};
use tablecast::domain::{Closing, Seat, StreamSeq, TableId};
use tablecast::protocol::archive::{ArchivedTable, Status};
use tablecast::runtime::clock::Clock;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::nats_server::NatsServer;
use crate::world::config;

const PATIENCE: Duration = Duration::from_secs(30);

/// Publishes as core NATS does, with no header at all.
struct Publisher(async_nats::Client);

impl Publisher {
    async fn commit(&self, table: TableId, payload: impl Into<bytes::Bytes>) {
        let subject = format!("tc.evt.0.relayed.{table}");
        self.0.publish(subject, payload.into()).await.expect("published");
        self.0.flush().await.expect("sent");
    }
}

fn text(value: &Value) -> String {
    value.to_string()
}

async fn archived(reader: &Reader, bus: &Bus, table: TableId) -> ArchivedTable {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(row) = reader.get(table).await.expect("readable") {
            return row;
        }
        let entries = bus.log.read(table, StreamSeq::ZERO).await.expect("readable");
        assert!(Instant::now() < deadline, "not archived: {entries:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relayed_table_is_completed_and_archived_readably() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = NatsServer::start().await;
    let bus = server.bus(&[]).await;
    let publisher = Publisher(async_nats::connect(&server.url).await.expect("connected"));
    let table = || TableId::new(Clock::System.now(), rand::random());
    let (whole, torn, running) = (table(), table(), table());

    let players =
        json!([{ "seat": 0, "player": "alice", "name": "Alice" }, { "seat": 1, "player": "bob" }]);
    let first =
        json!({ "at": 1_795_000_000_000_u64, "players": players, "public": [{ "type": "dealt" }] });
    publisher.commit(whole, text(&first)).await;
    let packed = json!({ "public": [{ "type": "moved", "to": "e4" }], "seats": { "1": [{ "type": "card", "is": 7 }] } });
    publisher.commit(whole, rmp_serde::to_vec_named(&packed).expect("encodes")).await;
    publisher.commit(whole, text(&json!({ "public": [{ "type": "round_ended" }] }))).await;
    let end = json!({ "at": 1_795_000_009_000_u64, "ended": { "winners": [1], "scores": [3, 5] } });
    publisher.commit(whole, text(&end)).await;

    publisher.commit(torn, text(&json!({ "public": [{ "type": "a" }] }))).await;
    publisher.commit(torn, "not a commit").await;
    publisher.commit(torn, text(&json!({ "seq": 3, "ended": {} }))).await;
    publisher.commit(running, text(&json!({ "public": [{ "type": "a" }] }))).await;

    let store = StoreConfig::directory(directory.path().to_owned());
    let store = store.open(Purpose::Write).expect("a store");
    let mut config = config(1, 1);
    config.relay_kind = vec!["relayed".parse().expect("a kind")];
    config.backoff_min = Duration::from_millis(10);
    let stop = CancellationToken::new();
    let archiving = run(config, bus.clone(), Arc::clone(&store), Clock::System, stop.clone());
    let archiving = tokio_util::task::TaskTracker::new().spawn(archiving);
    let reader = Reader::new(store);

    let row = archived(&reader, &bus, whole).await;
    assert_eq!((row.status, row.commits, row.closing), (Status::Archived, 4, Closing::Finished));
    assert_eq!((row.winners, row.scores), (vec![Seat(1)], vec![3, 5]));
    assert_eq!((row.duration_ms, row.kind.as_str()), (Some(9_000), "relayed"));
    assert_eq!(row.players[0].player.as_ref().map(|player| player.as_str()), Some("alice"));
    assert_eq!(row.players[1].name, "Player 2");
    let events: Vec<_> = row
        .events
        .iter()
        .map(|event| {
            let data: Value = serde_json::from_str(&event.data).expect("JSON");
            assert_eq!(event.actor, "relay");
            (event.seq.get(), event.kind.as_str(), data)
        })
        .collect();
    let seated = |seat: u8, player: &str, name: &str| json!({ "seat": seat, "player": player, "name": name });
    assert_eq!(events[0], (1, "table.seat_taken", seated(0, "alice", "Alice")));
    assert_eq!(events[1], (1, "table.seat_taken", seated(1, "bob", "Player 2")));
    assert_eq!(events[2], (1, "dealt", json!({})));
    assert_eq!(events[3], (2, "moved", json!({ "to": "e4" })));
    assert_eq!(events[4], (2, "card", json!({ "is": 7, "only_seat": 1 })));
    assert_eq!((events[5].0, events[5].1), (3, "round_ended"));
    assert_eq!(
        (events[6].0, events[6].1, &events[6].2["winners"]),
        (4, "table.completed", &json!([1]))
    );

    // What cannot be read is with the operator, and its table stays in the log.
    let row = archived(&reader, &bus, torn).await;
    assert_eq!((row.status, row.commits, row.dead_letters.len()), (Status::Incomplete, 2, 1));
    assert_eq!(reader.get(running).await.expect("readable"), None);

    let deadline = Instant::now() + PATIENCE;
    loop {
        let entries = bus.log.read(whole, StreamSeq::ZERO).await.expect("readable");
        if matches!(entries.as_slice(), [entry] if entry.what == Stored::Tombstone) {
            break;
        }
        assert!(Instant::now() < deadline, "not buried: {entries:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.cancel();
    archiving.await.expect("no panic").expect("stopped as told");
}
