//! Workers without room, and queues without it.

use std::time::Duration;

use serde_json::json;
use tablecast::bus::RequestError;
use tablecast::protocol::request::{OpenRequest, TableRequest, Verdict, decode, encode};
use tablecast::protocol::subject;
use tokio::time::sleep;

use super::{another_worker, one_worker};
use crate::players::{Client, accepted, human, id, kind, pebbles_of, refused, take, two_players};

#[tokio::test]
async fn a_full_worker_does_not_listen_and_another_takes_the_work() {
    let (server, _first, client) = one_worker(&["--tables-max", "1"]).await;
    let request = two_players();
    assert_eq!(client.open(&request).await, accepted(1));
    let other = two_players();
    unheard(&client, &other).await;
    // What it has goes on.
    assert_eq!(client.command(request.table, "ann", "a1", take(1)).await, accepted(2));
    let _second = another_worker(&server, "w2", &[]).await;
    assert_eq!(client.open(&other).await, accepted(1));
}

#[tokio::test]
async fn a_full_worker_listens_again_once_there_is_room() {
    let (_server, _worker, client) =
        one_worker(&["--tables-max", "1", "--ended-linger", "0s"]).await;
    let (first, second) = (two_players(), two_players());
    assert_eq!(client.open(&first).await, accepted(1));
    unheard(&client, &second).await;
    for (number, by) in ["ann", "bob", "ann", "bob"].into_iter().enumerate() {
        let count = if number == 3 { 1 } else { 3 };
        client.command(first.table, by, &format!("t{number}"), take(count)).await;
    }
    client.markers(first.table).await;
    assert_eq!(client.open(&second).await, accepted(1));
}

#[tokio::test]
async fn opening_a_table_that_is_open_answers_as_the_first_time() {
    let (_server, _worker, client) = one_worker(&[]).await;
    let mut request = two_players();
    assert_eq!(client.open(&request).await, accepted(1));
    assert_eq!(client.open(&request).await, accepted(1));
    request.id = id("another");
    assert_eq!(refused(client.open(&request).await).code, "table_exists");
}

/// Waits until nobody takes tables any more; the last that was asked may still decline.
async fn unheard(client: &Client, request: &OpenRequest) {
    let open = subject::open(&kind(crate::pebbles::KIND));
    let soon = Duration::from_secs(2);
    let unheard = async {
        loop {
            let asked = client.bus.mail.request(open.clone(), encode(request), soon).await;
            match asked {
                Err(RequestError::NoResponders) => return,
                Ok(answer) => {
                    let refusal = refused(decode(&answer).expect("a verdict"));
                    assert_eq!(refusal.code, "at_capacity");
                    assert!(refusal.retry_after_ms.is_some());
                }
                Err(RequestError::Timeout | RequestError::Unreachable) => {}
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(crate::players::SOON, unheard).await.expect("it stops listening");
}

#[tokio::test]
async fn a_worker_with_too_much_memory_takes_no_table() {
    let (_server, _worker, client) = one_worker(&["--memory-max", "1MiB"]).await;
    // The first look at the memory may come after the first table.
    let open = async {
        loop {
            let request = two_players();
            let subject = subject::open(&kind(crate::pebbles::KIND));
            let soon = Duration::from_secs(2);
            match client.bus.mail.request(subject, encode(&request), soon).await {
                Err(RequestError::NoResponders) => return,
                Ok(_) | Err(RequestError::Timeout | RequestError::Unreachable) => {}
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(crate::players::SOON, open).await.expect("it stops listening");
}

#[tokio::test]
async fn the_same_bytes_sent_often_are_decided_once_and_answered_each_time() {
    let (_server, _worker, client) = one_worker(&[]).await;
    let request = pebbles_of(&[human("ann"), human("bob")], json!({ "pebbles": 100 }));
    let table = request.table;
    client.open(&request).await;
    let asked = (0..8).map(|_| client.command(table, "ann", "a1", take(1)));
    for verdict in futures_util::future::join_all(asked).await {
        assert_eq!(verdict, accepted(2));
    }
    assert_eq!(client.commits(table).await.len(), 2);
    let refusals = (0..8).map(|_| client.command(table, "ann", "a2", take(1)));
    for verdict in futures_util::future::join_all(refusals).await {
        assert!(matches!(verdict, Verdict::Rejected(_)), "{verdict:?}");
    }
    let who = client.bus.mail.request(
        subject::cmd(table),
        encode(&TableRequest::Who),
        Duration::from_secs(2),
    );
    who.await.expect("an answer");
}
