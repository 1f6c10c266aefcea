//! Players who play again: at a table that is opened once, whatever happens to the worker that owes it.

use std::time::Duration;

use serde_json::json;
use tablecast::bus::memory::Network;
use tablecast::domain::{
    Cause, Lifecycle, PresenceChange, Seating, StreamSeq, TableEvent, TableId, Timestamp,
};
use tablecast::protocol::envelope::{Envelope, Message};
use tablecast::protocol::request::{OpenRequest, Verdict};
use tablecast::runtime::clock::Clock;
use tokio::time::{sleep, timeout};

use super::adoption::{append, asked_to_finish};
use super::{another_worker, one_mortal, one_worker};
use crate::players::{
    AnyCommit, Client, SOON, Worker, accepted, human, kind, new_table, pebbles_of, refused, take,
};

/// A game of one move, after which ann and bob have a minute to agree on another.
fn short_game() -> OpenRequest {
    let mut request = pebbles_of(&[human("ann"), human("bob")], json!({ "pebbles": 1 }));
    request.options.rematch_ms = 60_000;
    request
}

fn successor_of(commit: &AnyCommit) -> Option<TableId> {
    commit.events.iter().find_map(|event| match event {
        TableEvent::Lifecycle(Lifecycle::Succeeded { table }) => Some(*table),
        TableEvent::Lifecycle(_) | TableEvent::Game(_) => None,
    })
}

/// Plays a short game and agrees on another; where that is.
async fn agree(client: &Client, request: &OpenRequest) -> TableId {
    let table = request.table;
    assert_eq!(client.open(request).await, accepted(1));
    assert_eq!(client.command(table, "ann", "a1", take(1)).await, accepted(2));
    let again = json!({ "type": "table.rematch" });
    assert_eq!(client.command(table, "bob", "b1", again.clone()).await, accepted(3));
    assert_eq!(client.command(table, "ann", "a2", again).await, accepted(4));
    let commits = client.commits(table).await;
    successor_of(commits.last().expect("a commit")).expect("a successor")
}

/// How often the table was opened, and as whose successor.
async fn openings(client: &Client, table: TableId) -> Vec<Cause> {
    let opened = |commit: &AnyCommit| {
        matches!(commit.events.first(), Some(TableEvent::Lifecycle(Lifecycle::Opened(_))))
    };
    let commits = client.commits(table).await;
    commits.into_iter().filter(opened).map(|commit| commit.cause).collect()
}

#[tokio::test]
async fn players_who_agree_play_on_at_once_at_another_table() {
    let (_server, _worker, client) = one_worker(&[]).await;
    let request = short_game();
    let table = agree(&client, &request).await;
    let types = client.types(request.table).await;
    assert_eq!(types[1], ["taken", "table.rematch_offered"]);
    assert_eq!(types[3], ["table.rematch_wanted", "table.succeeded", "table.completed"]);
    client.wait_for(table, "table.started").await;
    assert_eq!(openings(&client, table).await, [Cause::Rematch { from: request.table }]);
    // The same seats, owned by the same worker: nobody has to adopt it.
    assert_eq!(client.command(table, "ann", "a1", take(1)).await, accepted(2));
    assert_eq!(client.markers(request.table).await, 1);
    let late = client.command(request.table, "ann", "a9", json!({ "type": "table.rematch" })).await;
    assert_eq!(refused(late).code, "no_rematch");
}

#[tokio::test]
async fn players_who_do_not_agree_have_their_table_ended() {
    let (_server, _worker, client) = one_worker(&[]).await;
    let mut request = short_game();
    request.options.rematch_ms = 50;
    let table = request.table;
    client.open(&request).await;
    client.command(table, "ann", "a1", take(1)).await;
    client.wait_for(table, "table.completed").await;
    assert_eq!(
        client.types(table).await[1..],
        [vec!["taken", "table.rematch_offered"], vec!["table.completed"]]
    );
    assert_eq!(client.markers(table).await, 1);
}

/// The commits of a table whose players agreed, written by hand at another one, as a worker leaves them that
/// dies right after the last: neither the successor nor the marker is there. The table and its successor.
async fn left_undone(client: &Client, request: &OpenRequest) -> (TableId, TableId) {
    let (table, successor) = (new_table(), new_table());
    let mut after = StreamSeq::ZERO;
    for mut commit in client.commits(request.table).await {
        for event in &mut commit.events {
            if let TableEvent::Lifecycle(Lifecycle::Succeeded { table }) = event {
                *table = successor;
            }
        }
        let envelope = Envelope { v: 1, table, kind: kind(crate::pebbles::KIND), commit };
        after = append(client, table, after, envelope.encode()).await;
    }
    (table, successor)
}

#[tokio::test]
async fn the_successor_that_an_owner_did_not_live_to_open_is_opened_once() {
    let (server, worker, client) = one_mortal().await;
    let request = short_game();
    agree(&client, &request).await;
    worker.kill();
    let (table, successor) = left_undone(&client, &request).await;
    let workers =
        [another_worker(&server, "w2", &[]).await, another_worker(&server, "w3", &[]).await];
    asked_to_finish(&client, table).await;
    // The marker comes after it: there is nothing to wait for.
    assert_eq!(openings(&client, successor).await, [Cause::Rematch { from: table }]);
    let moved = client.persist(successor, "ann", "a1", take(1)).await;
    assert!(matches!(moved, Verdict::Accepted { .. }), "{moved:?}");
    drop(workers);
}

#[tokio::test]
async fn the_marker_after_a_successor_is_written_once_and_the_successor_stays() {
    let (server, worker, client) = one_mortal().await;
    let request = short_game();
    let opened = agree(&client, &request).await;
    client.wait_for(opened, "table.started").await;
    worker.kill();
    let (table, successor) = left_undone(&client, &request).await;
    // The first commit of the successor, too; its owner died before the marker.
    let mut first = client.commits(opened).await.swap_remove(0);
    first.cause = Cause::Rematch { from: table };
    let kind = kind(crate::pebbles::KIND);
    let envelope = Envelope { v: 1, table: successor, kind, commit: first };
    append(&client, successor, StreamSeq::ZERO, envelope.encode()).await;
    let workers =
        [another_worker(&server, "w2", &[]).await, another_worker(&server, "w3", &[]).await];
    asked_to_finish(&client, table).await;
    assert_eq!(openings(&client, successor).await, [Cause::Rematch { from: table }]);
    // And somebody owns it, without having been asked by a player.
    client.wait_for(successor, "table.claimed").await;
    let moved = client.persist(successor, "ann", "a1", take(1)).await;
    assert!(matches!(moved, Verdict::Accepted { .. }), "{moved:?}");
    drop(workers);
}

#[tokio::test(start_paused = true)]
async fn a_log_that_does_not_say_that_it_stored_the_successor_is_asked() {
    let clock = Clock::simulated(Timestamp::from_millis(1_795_000_000_000));
    let network = Network::new(std::num::NonZeroU16::MIN, clock);
    let (bus, faults) = network.connect();
    let _worker = Worker::start(bus, "w1", clock, &[]);
    let client = Client { bus: network.connect().0 };
    let request = short_game();
    client.open(&request).await;
    client.command(request.table, "ann", "a1", take(1)).await;
    let again = json!({ "type": "table.rematch" });
    client.command(request.table, "bob", "b1", again.clone()).await;
    faults.set_delay(Duration::from_millis(10));
    let silent = async {
        // Between the commit that ends the table and the one that opens the next.
        sleep(Duration::from_millis(15)).await;
        faults.lose_acks(1_000);
    };
    tokio::join!(client.command(request.table, "ann", "a2", again), silent);
    let commits = client.commits(request.table).await;
    let table = successor_of(commits.last().expect("a commit")).expect("a successor");
    client.wait_for(table, "table.started").await;
    sleep(Duration::from_secs(30)).await;
    faults.lose_acks(0);
    client.wait_for(table, "table.claimed").await;
    assert_eq!(openings(&client, table).await, [Cause::Rematch { from: request.table }]);
    assert_eq!(client.markers(request.table).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_player_who_does_not_come_along_is_played_for() {
    let clock = Clock::simulated(Timestamp::from_millis(1_795_000_000_000));
    let network = Network::new(std::num::NonZeroU16::MIN, clock);
    let _worker = Worker::start(network.connect().0, "w1", clock, &[]);
    let client = Client { bus: network.connect().0 };
    let table = agree(&client, &short_game()).await;
    client.wait_for(table, "table.started").await;
    client.gateway_beats(false).await;
    client.presence(table, "ann", PresenceChange::Came).await;
    let played_for = async {
        while client.types(table).await.iter().flatten().all(|one| one != "table.seat_taken_by_bot")
        {
            client.gateway_beats(false).await;
            sleep(Duration::from_secs(1)).await;
        }
    };
    timeout(SOON, played_for).await.expect("bob is not waited for");
    let away: Vec<_> =
        client.commits(table).await.into_iter().flat_map(|commit| commit.events).collect();
    let of_ann = |event: &&TableEvent<serde_json::Value>| matches!(event, TableEvent::Lifecycle(Lifecycle::PlayerAway { seat, .. }) if seat.0 == 0);
    assert_eq!(away.iter().find(of_ann), None, "ann is here");
}

#[tokio::test]
async fn a_worker_without_room_leaves_the_successor_to_others() {
    let (server, _full, client) = one_worker(&["--tables-max", "1"]).await;
    let request = short_game();
    assert_eq!(client.open(&request).await, accepted(1));
    let _other = another_worker(&server, "w2", &[]).await;
    client.command(request.table, "ann", "a1", take(1)).await;
    for (by, id) in [("ann", "a2"), ("bob", "b2")] {
        client.command(request.table, by, id, json!({ "type": "table.rematch" })).await;
    }
    let commits = client.commits(request.table).await;
    let table = successor_of(commits.last().expect("a commit")).expect("a successor");
    client.wait_for(table, "table.claimed").await;
    assert_eq!(client.markers(request.table).await, 1);
    assert_eq!(openings(&client, table).await.len(), 1);
}

#[tokio::test]
async fn a_bot_plays_on_for_who_leaves() {
    let (_server, _worker, client) = one_worker(&[]).await;
    let request = short_game();
    client.open(&request).await;
    client.command(request.table, "ann", "a1", take(1)).await;
    client.command(request.table, "ann", "a2", json!({ "type": "table.rematch" })).await;
    client.command(request.table, "bob", "b1", json!({ "type": "table.leave" })).await;
    let commits = client.commits(request.table).await;
    let table = successor_of(commits.last().expect("a commit")).expect("a successor");
    client.wait_for(table, "table.started").await;
    let first = client.commits(table).await.swap_remove(0);
    let Some(TableEvent::Lifecycle(Lifecycle::Opened(opening))) = first.events.first() else {
        panic!("not opened: {first:?}");
    };
    assert_eq!(opening.seats, [human("ann"), Seating::Bot]);
}
