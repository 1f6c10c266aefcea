//! Tables that change hands.

use bytes::Bytes;
use serde_json::json;
use tablecast::bus::{Append, Stored};
use tablecast::domain::{
    Cause, Commit, Lifecycle, Seating, StreamSeq, TableEvent, TableId, Timestamp,
};
use tablecast::protocol::envelope::{Envelope, Message};
use tablecast::protocol::request::{Adoption, Verdict};
use tablecast::protocol::subject::Address;

use super::{another_worker, one_mortal, one_worker};
use crate::nats_server::NatsServer;
use crate::players::{
    Client, accepted, human, kind, new_table, pebbles_of, refused, take, two_players,
};

fn address(client: &Client, table: TableId) -> Address {
    Address::new(table, kind(crate::pebbles::KIND), client.bus.log.shards())
}

async fn raw_client(server: &NatsServer) -> async_nats::Client {
    async_nats::connect(&server.url).await.expect("connected")
}

pub(super) async fn append(
    client: &Client,
    table: TableId,
    after: StreamSeq,
    payload: Bytes,
) -> StreamSeq {
    let append = Append {
        address: address(client, table),
        after,
        id: format!("{table}:{}", after.get()),
        types: "test".to_owned(),
        worker: "by-hand".parse().expect("a worker id"),
        command: None,
        payload,
    };
    client.bus.log.append(append).await.expect("stored")
}

/// Takes a table over as a worker does that could not reach its owner.
async fn claim_by_hand(client: &Client, table: TableId) {
    let entries = client.bus.log.read(table, StreamSeq::ZERO).await.expect("entries");
    let last = entries.last().expect("an opened table").seq;
    let claimed = Lifecycle::Claimed { worker: "by-hand".parse().expect("a worker id") };
    let commit = Commit {
        seq: client.commits(table).await.last().expect("a commit").seq.next(),
        at: Timestamp::from_millis(1),
        cause: Cause::Claim,
        events: vec![TableEvent::<serde_json::Value>::Lifecycle(claimed)],
        follow_up: vec![],
    };
    let kind = kind(crate::pebbles::KIND);
    let payload = Envelope { v: 1, table, kind, commit }.encode();
    append(client, table, last, payload).await;
}

#[tokio::test]
async fn a_table_that_has_an_owner_is_not_taken_from_it() {
    let (server, first, client) = one_worker(&[]).await;
    let request = two_players();
    client.open(&request).await;
    let _second = another_worker(&server, "w2", &[]).await;
    for _ in 0..10 {
        let owner = first.id.parse().expect("a worker id");
        assert_eq!(client.adopt(request.table).await, Adoption::Owned { worker: owner });
    }
    assert_eq!(client.commits(request.table).await.len(), 1);
}

#[tokio::test]
async fn a_former_owner_speaks_for_the_table_no_more_and_forgets_it() {
    // What it would accept, what it would refuse, and who it says it is.
    for asked in ["legal", "illegal", "who"] {
        let (_server, _worker, client) = one_worker(&[]).await;
        let players = [human("ann"), human("bob")];
        let request = pebbles_of(&players, json!({ "pebbles": 100 }));
        let table = request.table;
        client.open(&request).await;
        claim_by_hand(&client, table).await;
        let moved = match asked {
            "legal" => refused(client.command(table, "ann", "c1", take(1)).await),
            "illegal" => refused(client.command(table, "bob", "c1", take(1)).await),
            _ => match client.ask_who(table).await {
                Adoption::Declined(refusal) => refusal,
                Adoption::Owned { worker } => panic!("{worker} owns it"),
            },
        };
        assert_eq!(moved.code, "moved", "{asked}");
        assert!(moved.retry_after_ms.is_some());
        assert!(matches!(client.adopt(table).await, Adoption::Owned { .. }));
        one_owner_decides(&client, table).await;
    }
}

async fn one_owner_decides(client: &Client, table: TableId) {
    let before = client.commits(table).await.len();
    for number in 0..20 {
        for by in ["ann", "bob"] {
            let verdict = client.command(table, by, &format!("d{number}"), take(1)).await;
            let refusal = match verdict {
                Verdict::Rejected(refusal) => refusal.code,
                Verdict::Accepted { .. } => continue,
            };
            assert_eq!(refusal, "not_your_turn");
        }
    }
    assert!(client.commits(table).await.len() >= before + 20);
}

#[tokio::test]
async fn a_retry_at_the_next_owner_gets_the_first_verdict() {
    let (server, first, client) = one_mortal().await;
    let request = two_players();
    let table = request.table;
    client.open(&request).await;
    assert_eq!(client.command(table, "ann", "a1", take(2)).await, accepted(2));
    first.kill();
    let _second = another_worker(&server, "w2", &[]).await;
    assert_eq!(client.persist(table, "ann", "a1", take(2)).await, accepted(2));
    assert_eq!(client.persist(table, "bob", "b1", take(2)).await, accepted(4));
}

#[tokio::test]
async fn poison_costs_the_owner_its_table_and_the_table_nothing() {
    let (server, worker, client) = one_mortal().await;
    let request = two_players();
    let table = request.table;
    client.open(&request).await;
    let foreign = raw_client(&server).await;
    for subject in [
        address(&client, table).evt(),
        // Another kind's subject with the same table id is another subject.
        address(&client, table).evt().replace("pebbles", "chess"),
    ] {
        foreign.publish(subject, "what?".into()).await.expect("sent");
    }
    foreign.flush().await.expect("sent");
    let fenced = async {
        while client.bus.log.read(table, StreamSeq::ZERO).await.expect("read").len() < 3 {}
        client.command(table, "ann", "a1", take(1)).await
    };
    assert_eq!(refused(fenced.await).code, "moved");
    assert_eq!(client.persist(table, "ann", "a1", take(1)).await, accepted(3));
    // Adopted again, and the letter is still one.
    worker.kill();
    let _second = another_worker(&server, "w2", &[]).await;
    assert_eq!(client.persist(table, "bob", "b1", take(1)).await, accepted(5));
    let context = async_nats::jetstream::new(foreign);
    let dead = context.get_stream("DEAD").await.expect("the stream");
    assert_eq!(dead.cached_info().state.messages, 1);
}

#[tokio::test]
async fn a_commit_that_cannot_be_played_costs_only_its_table() {
    let (_server, _worker, client) = one_worker(&[]).await;
    let request = two_players();
    let table = request.table;
    client.open(&request).await;
    let entries = client.bus.log.read(table, StreamSeq::ZERO).await.expect("read");
    let first: Envelope<serde_json::Value> =
        Envelope::decode(&entries[0].payload, table).expect("a commit");
    let mut impossible = first;
    impossible.commit.seq = impossible.commit.seq.next();
    impossible.commit.events =
        vec![TableEvent::Game(json!({ "type": "taken", "seat": 0, "count": 99, "take_by": null }))];
    append(&client, table, entries[0].seq, impossible.encode()).await;
    assert_eq!(refused(client.command(table, "ann", "a1", take(1)).await).code, "moved");
    let declined = async {
        loop {
            match client.adopt(table).await {
                Adoption::Declined(refusal) => return refusal,
                Adoption::Owned { .. } => tokio::task::yield_now().await,
            }
        }
    };
    assert_eq!(declined.await.code, "rules_failed");
    let other = two_players();
    assert_eq!(client.open(&other).await, accepted(1));
    assert_eq!(client.command(other.table, "ann", "a1", take(1)).await, accepted(2));
}

#[tokio::test]
async fn a_commit_of_a_newer_version_is_not_skipped() {
    let (server, worker, client) = one_mortal().await;
    let request = two_players();
    let table = request.table;
    client.open(&request).await;
    worker.kill();
    let entries = client.bus.log.read(table, StreamSeq::ZERO).await.expect("read");
    let mut newer: Envelope<serde_json::Value> =
        Envelope::decode(&entries[0].payload, table).expect("a commit");
    newer.v += 1;
    append(&client, table, entries[0].seq, newer.encode()).await;
    let _second = another_worker(&server, "w2", &[]).await;
    let Adoption::Declined(refusal) = client.adopt(table).await else {
        panic!("adopted");
    };
    assert_eq!(refusal.code, "newer_version");
    let dead = async_nats::jetstream::new(raw_client(&server).await);
    let dead = dead.get_stream("DEAD").await.expect("the stream");
    assert_eq!(dead.cached_info().state.messages, 0);
}

/// Workers are asked again and again to take a table that has ended, and one of them finishes it.
pub(super) async fn asked_to_finish(client: &Client, table: TableId) {
    for _ in 0..10 {
        if let Adoption::Declined(refusal) = client.adopt(table).await {
            assert_eq!(refusal.code, "moved", "{refusal:?}");
        }
    }
    assert_eq!(client.markers(table).await, 1);
}

#[tokio::test]
async fn the_last_move_has_its_verdict_though_its_owner_did_not_live_to_answer() {
    let (server, worker, client) = one_mortal().await;
    let request = pebbles_of(&[human("ann"), human("bob")], json!({ "pebbles": 1 }));
    client.open(&request).await;
    assert_eq!(client.command(request.table, "ann", "last", take(1)).await, accepted(2));
    worker.kill();
    let _next = another_worker(&server, "w2", &[]).await;
    // The answer was lost on its way: the same command is sent again.
    assert_eq!(client.persist(request.table, "ann", "last", take(1)).await, accepted(2));
    let other = client.persist(request.table, "bob", "b1", take(1)).await;
    assert_eq!(refused(other).code, "game_over");
}

#[tokio::test]
async fn the_marker_that_an_owner_did_not_live_to_write_is_written_once() {
    let (server, worker, client) = one_mortal().await;
    let request = pebbles_of(&[Seating::Bot, Seating::Bot], json!({}));
    client.open(&request).await;
    client.markers(request.table).await;
    worker.kill();
    // The same commits at another table, by hand, without a marker.
    let table = new_table();
    let mut after = StreamSeq::ZERO;
    for commit in client.commits(request.table).await {
        let envelope = Envelope { v: 1, table, kind: kind(crate::pebbles::KIND), commit };
        after = append(&client, table, after, envelope.encode()).await;
    }
    let workers =
        [another_worker(&server, "w2", &[]).await, another_worker(&server, "w3", &[]).await];
    asked_to_finish(&client, table).await;
    let entries = client.bus.log.read(table, StreamSeq::ZERO).await.expect("read");
    assert!(entries.iter().all(|entry| entry.what == Stored::Commit));
    assert_eq!(entries.last().map(|last| last.seq), Some(after));
    drop(workers);
}

#[tokio::test]
async fn an_unknown_table_is_not_adopted() {
    let (_server, _worker, client) = one_worker(&[]).await;
    let Adoption::Declined(refusal) = client.adopt(new_table()).await else {
        panic!("adopted");
    };
    assert_eq!((refusal.code.as_str(), refusal.retry_after_ms), ("unknown_table", None));
}
