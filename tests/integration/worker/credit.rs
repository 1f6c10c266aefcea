//! Clocks that nobody could act by.

use std::time::Duration;

use serde_json::{Value, json};
use tablecast::domain::{PresenceChange, TableId};
use tablecast::protocol::request::Verdict;
use tokio::time::sleep;

use super::{another_worker, one_mortal, one_worker};
use crate::players::{AnyCommit, Client, human, pebbles_of, take};

/// A table at which a turn may take this long.
fn limited(limit_ms: u64) -> tablecast::protocol::request::OpenRequest {
    let setup = json!({ "pebbles": 100, "limit_ms": limit_ms });
    let mut request = pebbles_of(&[human("ann"), human("bob")], setup);
    request.options.grace_ms = Some(60_000);
    request
}

async fn credits(client: &Client, table: TableId) -> Vec<(u64, String)> {
    let of = |commit: &AnyCommit| {
        let events = serde_json::to_value(&commit.events).expect("events");
        let credited = |event: &Value| {
            let is_one = event["type"] == "table.credited";
            is_one.then(|| {
                (
                    event["ms"].as_u64().expect("ms"),
                    event["reason"].as_str().expect("why").to_owned(),
                )
            })
        };
        events.as_array().expect("a list").iter().filter_map(credited).collect::<Vec<_>>()
    };
    client.commits(table).await.iter().flat_map(of).collect()
}

#[tokio::test]
async fn the_time_between_two_owners_is_given_back() {
    let (server, first, client) = one_mortal().await;
    let request = limited(3_000);
    let table = request.table;
    client.open(&request).await;
    // The next owner has heard the first one.
    let _second = another_worker(&server, "w2", &[]).await;
    sleep(Duration::from_millis(1_000)).await;
    first.kill();
    sleep(Duration::from_millis(1_500)).await;
    client.adopt(table).await;
    let credits = credits(&client, table).await;
    let [(ms, reason)] = credits.as_slice() else {
        panic!("{credits:?}");
    };
    assert_eq!(reason, "no_owner");
    // A beat is at most 250 ms old when its worker dies.
    assert!((1_400..2_500).contains(ms), "{ms}");
    assert!(matches!(client.persist(table, "ann", "a1", take(1)).await, Verdict::Accepted { .. }));
}

#[tokio::test]
async fn no_deadline_runs_out_on_a_player_whose_gateway_is_gone() {
    let (_server, _worker, client) = one_worker(&[]).await;
    let request = limited(1_600);
    let table = request.table;
    client.open(&request).await;
    client.gateway_beats(false).await;
    client.presence(table, "bob", PresenceChange::Came).await;
    // From here on bob's time runs.
    let taken = client.command(table, "ann", "a1", take(1)).await;
    assert!(matches!(taken, Verdict::Accepted { .. }), "{taken:?}");
    let before = client.commits(table).await.len();
    // The gateway says nothing any more; its silence is noticed only after the deadline.
    client.wait_for(table, "table.player_away").await;
    sleep(Duration::from_millis(500)).await;
    let commits = client.commits(table).await;
    assert_eq!(commits.len(), before + 1, "{commits:?}");
    client.presence(table, "bob", PresenceChange::Came).await;
    client.wait_for(table, "table.credited").await;
    let credits = credits(&client, table).await;
    assert_eq!(credits[0].1, "gateway_lost");
    assert!(credits[0].0 >= 2_000, "{credits:?}");
    // And then it runs out as it should.
    let ran_out = async {
        while client.commits(table).await.len() < before + 3 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(crate::players::SOON, ran_out).await.expect("the deadline");
}
