//! Tables at which nothing happens, and tables that nobody holds.

use std::time::Duration;

use serde_json::json;
use tablecast::domain::{PresenceChange, StreamSeq, TableId, Timestamp};
use tablecast::protocol::envelope::{Message, Snapshot};
use tablecast::protocol::request::Adoption;
use tablecast::protocol::subject::Address;
use tablecast::runtime::clock::Clock;
use tokio::time::{sleep, timeout};

use super::{another_worker, one_mortal, one_worker};
use crate::players::{Client, SOON, accepted, human, kind, pebbles_of, take, two_players};

fn address(client: &Client, table: TableId) -> Address {
    Address::new(table, kind(crate::pebbles::KIND), client.bus.log.shards())
}

async fn snapshot(client: &Client, table: TableId) -> Snapshot {
    let address = address(client, table);
    let saved = async {
        loop {
            if let Some(bytes) = client.bus.snapshots.newest(&address).await.expect("readable") {
                return Snapshot::decode(&bytes, table).expect("a snapshot");
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, saved).await.expect("a snapshot in time")
}

/// A table that sleeps saves its state first.
async fn asleep(client: &Client, table: TableId, seq: u64) {
    let sleeps = async {
        while snapshot(client, table).await.last.get() < seq {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, sleeps).await.expect("asleep in time");
}

#[tokio::test]
async fn an_idle_table_sleeps_and_wakes_with_the_next_command() {
    let (_server, worker, client) = one_worker(&["--sleep-after", "50ms"]).await;
    let request = pebbles_of(&[human("ann"), human("bob")], json!({ "pebbles": 100 }));
    let table = request.table;
    client.open(&request).await;
    let mut seq = 1;
    for round in 0..3 {
        for by in ["ann", "bob"] {
            seq += 1;
            let id = format!("{by}{round}");
            assert_eq!(client.command(table, by, &id, take(1)).await, accepted(seq));
        }
        let last = client.bus.log.last(&address(&client, table)).await.expect("a last commit");
        asleep(&client, table, last.get()).await;
        sleep(Duration::from_millis(50)).await;
        // Who owns it is said in its sleep.
        let owner = worker.id.parse().expect("a worker id");
        assert_eq!(client.ask_who(table).await, Adoption::Owned { worker: owner });
        // Sent again after the sleep: the first verdict.
        assert_eq!(
            client.command(table, "bob", &format!("bob{round}"), take(1)).await,
            accepted(seq)
        );
    }
    assert!(!client.types(table).await.iter().flatten().any(|event| event == "table.claimed"));
}

#[tokio::test]
async fn a_player_who_goes_wakes_the_table() {
    let (_server, _worker, client) = one_worker(&["--sleep-after", "50ms"]).await;
    let request = two_players();
    client.open(&request).await;
    asleep(&client, request.table, 1).await;
    sleep(Duration::from_millis(100)).await;
    client.presence(request.table, "ann", PresenceChange::Went).await;
    client.wait_for(request.table, "table.player_away").await;
}

#[tokio::test]
async fn a_deadline_wakes_the_table() {
    let (_server, _worker, client) = one_worker(&["--sleep-after", "50ms"]).await;
    let setup = json!({ "pebbles": 2, "limit_ms": 400 });
    let request = pebbles_of(&[human("ann"), human("bob")], setup);
    client.open(&request).await;
    asleep(&client, request.table, 1).await;
    client.wait_for(request.table, "table.completed").await;
    assert_eq!(client.commits(request.table).await.len(), 3);
}

#[tokio::test]
async fn a_long_table_loads_from_its_snapshot() {
    let (server, first, client) = one_mortal().await;
    let mut request = pebbles_of(&[human("ann"), human("bob")], json!({ "pebbles": 100 }));
    request.options.grace_ms = Some(60_000);
    let table = request.table;
    client.open(&request).await;
    // The fiftieth commit makes the worker save the state: pebbles are too few, coming and going is not.
    for round in 0..60 {
        client.presence(table, "ann", PresenceChange::Went).await;
        client.presence(table, "ann", PresenceChange::Came).await;
        if round == 30 {
            client.wait_for(table, "table.player_back").await;
            client.persist(table, "ann", "a1", take(3)).await;
        }
    }
    let saved = snapshot(&client, table).await;
    first.kill();
    // Whoever cannot read the first commits any more does not need them.
    let _second = another_worker(&server, "w2", &[]).await;
    let verdict = client.persist(table, "ann", "a1", take(3)).await;
    assert!(verdict_of(&client, table, "a1", verdict).await);
    let entries = client.bus.log.read(table, saved.last).await.expect("the tail");
    assert_eq!(entries.first().map(|entry| entry.seq), Some(saved.last));
    assert!(matches!(
        client.persist(table, "bob", "b1", take(1)).await,
        tablecast::protocol::request::Verdict::Accepted { .. }
    ));
}

/// Whether this is the first verdict on that command.
async fn verdict_of(
    client: &Client,
    table: TableId,
    id: &str,
    verdict: tablecast::protocol::request::Verdict,
) -> bool {
    let commits = client.commits(table).await;
    commits.iter().any(|commit| {
        let cause = serde_json::to_value(&commit.cause).expect("a cause");
        cause["id"] == id && verdict == accepted(commit.seq.get())
    })
}

#[tokio::test]
async fn a_damaged_or_older_snapshot_is_ignored() {
    for damage in ["garbage", "older", "ahead"] {
        let (server, first, client) = one_mortal().await;
        let request = pebbles_of(&[human("ann"), human("bob")], json!({ "pebbles": 100 }));
        let table = request.table;
        client.open(&request).await;
        client.command(table, "ann", "a1", take(1)).await;
        first.kill();
        let address = address(&client, table);
        let last = client.bus.log.last(&address).await.expect("a last commit");
        let state = tablecast::protocol::envelope::SavedState {
            table_version: if damage == "older" { 0 } else { 1 },
            game_version: 1,
            bytes: vec![1, 2, 3],
        };
        let snapshot = Snapshot {
            v: 1,
            table,
            kind: address.kind.clone(),
            rules: 1,
            last: if damage == "ahead" { StreamSeq::new(last.get() + 100) } else { last },
            worker: "w0".parse().expect("a worker id"),
            state,
        };
        let bytes = if damage == "garbage" { "what?".into() } else { snapshot.encode() };
        client.bus.snapshots.save(&address, bytes).await.expect("saved");
        let _second = another_worker(&server, "w2", &[]).await;
        // The claim is the third commit.
        assert_eq!(client.persist(table, "bob", "b1", take(1)).await, accepted(4), "{damage}");
    }
}

#[tokio::test]
async fn a_table_that_nobody_looks_at_is_woken_by_its_alarm() {
    let (server, first, client) = one_mortal().await;
    let setup = json!({ "pebbles": 2, "limit_ms": 200 });
    let request = pebbles_of(&[human("ann"), human("bob")], setup);
    let table = request.table;
    client.open(&request).await;
    first.kill();
    // Its own alarm is some seconds away: it is set to ring now.
    let address = address(&client, table);
    client.bus.timers.arm(&address, Timestamp::from_millis(1)).await.expect("armed");
    let _second = another_worker(&server, "w2", &[]).await;
    client.wait_for(table, "table.completed").await;
    assert!(client.types(table).await.iter().flatten().any(|event| event == "table.claimed"));
    assert_eq!(client.markers(table).await, 1);
}

#[tokio::test]
async fn every_new_table_has_an_alarm_before_it_is_answered_for() {
    let (server, first, client) = one_mortal().await;
    let request = two_players();
    client.open(&request).await;
    first.kill();
    let raw = async_nats::connect(&server.url).await.expect("connected");
    let context = async_nats::jetstream::new(raw);
    let stream = context.get_stream("TIMERS_0").await.expect("the stream");
    let subject = format!("tc.timer.0.pebbles.{}", request.table);
    let alarm = stream.get_last_raw_message_by_subject(&subject).await.expect("an alarm");
    let rings_at = alarm.headers.get("Nats-Schedule").expect("a time").as_str().to_owned();
    assert!(rings_at.starts_with("@at "), "{rings_at}");
    let now = Clock::System.now().as_millis();
    assert!(now > 0);
}
