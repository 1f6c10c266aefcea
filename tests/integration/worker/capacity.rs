//! Workers without room, and queues without it.

use std::time::Duration;

use serde_json::json;
use tablecast::bus::RequestError;
use tablecast::protocol::request::{TableRequest, Verdict, encode};
use tablecast::protocol::subject;
use tokio::time::sleep;

use super::{another_worker, one_worker};
use crate::players::{accepted, human, kind, pebbles_of, take, two_players};

#[tokio::test]
async fn a_full_worker_does_not_listen_and_another_takes_the_work() {
    let (server, _first, client) = one_worker(&["--tables-max", "1"]).await;
    let request = two_players();
    assert_eq!(client.open(&request).await, accepted(1));
    let open = subject::open(&kind(crate::pebbles::KIND));
    let other = two_players();
    let soon = Duration::from_secs(2);
    let unheard = async {
        loop {
            let asked = client.bus.mail.request(open.clone(), encode(&other), soon).await;
            if asked == Err(RequestError::NoResponders) {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(crate::players::SOON, unheard).await.expect("it stops listening");
    // What it has goes on.
    assert_eq!(client.command(request.table, "ann", "a1", take(1)).await, accepted(2));
    let _second = another_worker(&server, "w2", &[]).await;
    assert_eq!(client.open(&other).await, accepted(1));
}

#[tokio::test]
async fn a_worker_with_too_much_memory_takes_nothing_and_puts_tables_to_sleep() {
    let (_server, _worker, client) = one_worker(&["--memory-max", "1MiB"]).await;
    let open = subject::open(&kind(crate::pebbles::KIND));
    let request = encode(&two_players());
    let unheard = async {
        loop {
            let soon = Duration::from_secs(2);
            let asked = client.bus.mail.request(open.clone(), request.clone(), soon).await;
            if asked == Err(RequestError::NoResponders) {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(crate::players::SOON, unheard).await.expect("it stops listening");
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
