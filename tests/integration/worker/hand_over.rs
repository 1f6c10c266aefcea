//! Workers that stop while their tables are played.

use std::time::Duration;

use serde_json::json;
use tablecast::protocol::request::Verdict;
use tokio::time::{Instant, sleep};

use super::{another_worker, one_worker};
use crate::players::{accepted, human, pebbles_of, take};

#[tokio::test]
async fn a_worker_that_stops_gives_its_tables_to_another() {
    let (server, first, client) = one_worker(&[]).await;
    let tables: Vec<_> = (0..20)
        .map(|_| pebbles_of(&[human("ann"), human("bob")], json!({ "pebbles": 100 })))
        .collect();
    for request in &tables {
        client.open(request).await;
        assert_eq!(client.command(request.table, "ann", "a1", take(1)).await, accepted(2));
    }
    let _second = another_worker(&server, "w2", &[]).await;
    // It must be there before the first one stops.
    sleep(Duration::from_millis(300)).await;
    first.stop();
    first.stopped().await;
    for request in &tables {
        // Nobody asked for it, and yet it has an owner.
        let asked = Instant::now();
        let verdict = client.command(request.table, "bob", "b1", take(1)).await;
        assert_eq!(verdict, accepted(4), "after {:?}", asked.elapsed());
        // With all that the first one knew, what was answered included.
        assert_eq!(client.command(request.table, "ann", "a1", take(1)).await, accepted(2));
    }
}

#[tokio::test]
async fn play_goes_on_while_a_worker_is_drained() {
    let (server, first, client) = one_worker(&[]).await;
    let request = pebbles_of(&[human("ann"), human("bob")], json!({ "pebbles": 100 }));
    let table = request.table;
    client.open(&request).await;
    let _second = another_worker(&server, "w2", &[]).await;
    sleep(Duration::from_millis(300)).await;
    let mut longest = Duration::ZERO;
    for round in 0..20 {
        if round == 10 {
            first.stop();
        }
        let by = if round % 2 == 0 { "ann" } else { "bob" };
        let asked = Instant::now();
        let verdict = client.persist(table, by, &format!("c{round}"), take(1)).await;
        assert!(matches!(verdict, Verdict::Accepted { .. }), "{verdict:?}");
        longest = longest.max(asked.elapsed());
    }
    first.stopped().await;
    assert!(longest < Duration::from_secs(1), "somebody waited {longest:?}");
    let claims = client.types(table).await;
    assert_eq!(claims.iter().flatten().filter(|event| *event == "table.claimed").count(), 1);
}

#[tokio::test]
async fn a_lone_worker_stops_at_once() {
    let (_server, worker, client) = one_worker(&[]).await;
    let request = pebbles_of(&[human("ann"), human("bob")], json!({}));
    client.open(&request).await;
    let asked = Instant::now();
    worker.stop();
    worker.stopped().await;
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
}
