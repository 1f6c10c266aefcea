//! What time and absence bring about.

use serde_json::json;
use tablecast::domain::{PresenceChange, Seat, Seating};

use super::one_worker;
use crate::players::{accepted, bot_of, human, pebbles_of, take, two_players};

#[tokio::test]
async fn a_turn_ends_by_a_move_or_by_its_limit() {
    let (_server, _worker, client) = one_worker(&[]).await;
    let setup = json!({ "pebbles": 3, "limit_ms": 30 });
    let request = pebbles_of(&[human("ann"), human("bob")], setup);
    client.open(&request).await;
    client.wait_for(request.table, "table.completed").await;
    assert_eq!(client.commits(request.table).await.len(), 4);
    assert_eq!(client.markers(request.table).await, 1);
}

#[tokio::test]
async fn a_flag_falls_by_itself() {
    let (_server, _worker, client) = one_worker(&[]).await;
    let setup = json!({ "initial_ms": 1_000, "increment_ms": 0 });
    let request = pebbles_of(&[human("ann"), human("bob")], setup);
    let table = request.table;
    client.open_kind("chess", &request).await;
    let e4 = json!({ "type": "move", "san": "e4" });
    assert_eq!(client.command(table, "ann", "a1", e4).await, accepted(2));
    client.wait_for(table, "table.completed").await;
    let commits = client.commits(table).await;
    let clock = commits.last().expect("an end");
    let result = serde_json::to_value(&clock.events[0]).expect("an event");
    assert_eq!((&result["reason"], &result["by"]), (&json!("timeout"), &json!(1)));
    assert_eq!((&result["winners"], &result["left_ms"][1]), (&json!([0]), &json!(0)));
    let thought = clock.at.millis_since(commits[1].at);
    assert!((1_000..3_000).contains(&thought), "Black's flag fell after {thought} ms");
}

#[tokio::test]
async fn a_player_who_thinks_too_long_is_helped_and_keeps_the_seat() {
    let (_server, _worker, client) = one_worker(&[]).await;
    let mut request = two_players();
    request.options.turn_limit_ms = Some(30);
    client.open(&request).await;
    client.wait_for(request.table, "table.completed").await;
    let types = client.types(request.table).await;
    assert!(!types.iter().flatten().any(|event| event == "table.seat_taken_by_bot"));
}

#[tokio::test]
async fn a_deadline_without_consequence_holds_nothing_else_up() {
    let (_server, _worker, client) = one_worker(&[]).await;
    let setup = json!({ "limit_ms": 1, "limit_is_barren": true });
    let mut request = pebbles_of(&[human("ann"), human("bob")], setup);
    let table = request.table;
    request.options.grace_ms = Some(100);
    client.open(&request).await;
    assert_eq!(client.command(table, "ann", "a1", take(1)).await, accepted(2));
    client.presence(table, "bob", PresenceChange::Went).await;
    client.wait_for(table, "table.seat_taken_by_bot").await;
    // It was asked about some times, not some thousand times, and wrote nothing.
    assert!(client.commits(table).await.len() < 8);
}

#[tokio::test]
async fn a_bot_plays_for_who_is_gone_and_stops_when_they_are_back() {
    let (_server, _worker, client) = one_worker(&[]).await;
    let mut request = pebbles_of(&[human("ann"), human("bob")], json!({ "pebbles": 100 }));
    let table = request.table;
    request.options.grace_ms = Some(20);
    client.open(&request).await;
    client.presence(table, "ann", PresenceChange::Went).await;
    client.wait_for(table, "table.player_away").await;
    client.wait_for(table, "table.seat_taken_by_bot").await;
    client.wait_for(table, "taken").await;
    assert!(client.commits(table).await.iter().any(|commit| bot_of(commit) == Some(Seat(0))));
    client.presence(table, "ann", PresenceChange::Came).await;
    client.wait_for(table, "table.seat_returned").await;
    let before = client.commits(table).await.len() as u64;
    assert_eq!(client.command(table, "bob", "b1", take(1)).await, accepted(before + 1));
    // The seat is ann's, so nothing happens until ann moves.
    assert_eq!(client.command(table, "ann", "a1", take(1)).await, accepted(before + 2));
}

#[tokio::test]
async fn a_table_that_everybody_has_left_is_closed() {
    let (_server, _worker, client) = one_worker(&[]).await;
    let mut request = pebbles_of(&[human("ann"), human("bob")], json!({ "pebbles": 100 }));
    request.options.grace_ms = Some(0);
    request.options.abandon_ms = 30;
    request.options.bot_delay_ms = (10_000, 10_000);
    client.open(&request).await;
    for who in ["ann", "bob"] {
        client.presence(request.table, who, PresenceChange::Went).await;
    }
    client.wait_for(request.table, "table.completed").await;
    let commits = client.commits(request.table).await;
    let last = serde_json::to_value(&commits.last().expect("an end").events).expect("events");
    assert_eq!(last[0]["closing"], "abandoned");
    assert_eq!(client.markers(request.table).await, 1);
}

#[tokio::test]
async fn a_host_who_leaves_before_the_start_closes_the_table() {
    let (_server, _worker, client) = one_worker(&[]).await;
    let mut request = pebbles_of(&[human("ann"), Seating::Open], json!({}));
    request.host = Some(Seat(0));
    client.open(&request).await;
    let left = client.command(request.table, "ann", "l", json!({ "type": "table.leave" })).await;
    assert_eq!(left, accepted(2));
    assert_eq!(client.markers(request.table).await, 1);
}
