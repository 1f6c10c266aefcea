//! Opening a table and playing at it.

use serde_json::json;
use tablecast::domain::Seating;
use tablecast::protocol::request::Verdict;

use super::one_worker;
use crate::players::{accepted, bot_of, id, pebbles_of, refused, take, two_players};

#[tokio::test]
async fn a_table_opened_again_gets_the_first_answer() {
    let (_server, _worker, client) = one_worker(&[]).await;
    let mut request = two_players();
    assert_eq!(client.open(&request).await, accepted(1));
    assert_eq!(client.open(&request).await, accepted(1));
    request.id = id("another");
    assert_eq!(refused(client.open(&request).await).code, "table_exists");
    assert_eq!(client.commits(request.table).await.len(), 1);
}

#[tokio::test]
async fn what_cannot_be_played_is_not_opened() {
    let (_server, _worker, client) = one_worker(&[]).await;
    let request = pebbles_of(&[Seating::Bot, Seating::Bot], json!({ "pebbles": 101 }));
    assert_eq!(refused(client.open(&request).await).code, "bad_opening");
    assert!(client.commits(request.table).await.is_empty());
}

#[tokio::test]
async fn a_command_has_one_commit_however_often_it_is_sent() {
    let (_server, _worker, client) = one_worker(&[]).await;
    let request = two_players();
    let table = request.table;
    client.open(&request).await;
    let early = client.command(table, "bob", "b1", take(1)).await;
    assert_eq!(refused(early).code, "not_your_turn");
    assert_eq!(client.command(table, "ann", "a1", take(3)).await, accepted(2));
    assert_eq!(client.command(table, "bob", "b2", take(1)).await, accepted(3));
    assert_eq!(client.command(table, "ann", "a1", take(3)).await, accepted(2));
    // The ids of two players are theirs.
    assert_eq!(client.command(table, "ann", "b2", take(1)).await, accepted(4));
    assert_eq!(client.commits(table).await.len(), 4);
}

#[tokio::test]
async fn nonsense_is_answered_and_changes_nothing() {
    let (_server, _worker, client) = one_worker(&[]).await;
    let request = two_players();
    let table = request.table;
    client.open(&request).await;
    for (by, command, code) in [
        ("ann", json!(5), "unknown_command"),
        ("ann", json!({ "type": "table.dance" }), "unknown_command"),
        ("ann", json!({ "type": "take" }), "unknown_command"),
        ("ann", take(4), "wrong_count"),
        ("eve", take(1), "not_seated"),
    ] {
        let refusal = refused(client.command(table, by, "x", command).await);
        assert_eq!((refusal.code.as_str(), refusal.retry_after_ms), (code, None));
    }
    let look = client.command(table, "ann", "l", json!({ "type": "look" })).await;
    assert_eq!(look, accepted(1));
    let mail = &client.bus.mail;
    let subject = tablecast::protocol::subject::cmd(table);
    let answer = mail.request(subject, "\u{1}".into(), crate::players::SOON).await;
    let verdict: Verdict =
        tablecast::protocol::request::decode(&answer.expect("an answer")).expect("a verdict");
    assert_eq!(refused(verdict).code, "malformed");
    assert_eq!(client.commits(table).await.len(), 1);
}

#[tokio::test]
async fn bots_play_to_the_marker_and_late_commands_are_answered() {
    let (_server, _worker, client) = one_worker(&[]).await;
    let request = pebbles_of(&[Seating::Bot, Seating::Bot], json!({ "pebbles": 50 }));
    client.open(&request).await;
    client.wait_for(request.table, "table.completed").await;
    let late = client.persist(request.table, "ann", "late", take(1)).await;
    assert_eq!(refused(late).code, "game_over");
    assert_eq!(client.markers(request.table).await, 1);
    let commits = client.commits(request.table).await;
    assert!(commits[1..].iter().all(|commit| bot_of(commit).is_some()));
    assert_eq!(client.bus.lobby.list().await.expect("a list"), []);
}

#[tokio::test]
async fn a_game_that_is_over_when_it_begins_is_completed() {
    let (_server, worker, client) = one_worker(&[]).await;
    let request = pebbles_of(&[Seating::Bot, Seating::Bot], json!({ "pebbles": 0 }));
    assert_eq!(client.open(&request).await, accepted(1));
    assert_eq!(client.markers(request.table).await, 1);
    worker.stop();
    worker.stopped().await;
    assert_eq!(client.bus.lobby.list().await.expect("a list"), []);
}
