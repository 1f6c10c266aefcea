//! Players whose gateway goes, and who come back by another.

use serde_json::json;
use tablecast::domain::{PresenceChange, StreamSeq};
use tablecast::protocol::request::PresenceNotice;

use crate::socket::Socket;
use crate::stage::{Stage, id_of};

async fn next_notice(stage: &mut Stage) -> PresenceNotice {
    stage.notices.recv().await.expect("a notice")
}

/// The numbers of the commits up to this one.
async fn commits_until(socket: &mut Socket, last: u64) -> Vec<u64> {
    let mut seen = Vec::new();
    while seen.last() != Some(&last) {
        seen.push(socket.expect("commit").await["seq"].as_u64().expect("a number"));
    }
    seen
}

#[tokio::test]
async fn whoever_resumes_at_another_gateway_misses_nothing_and_is_announced_at_once() {
    let mut stage = Stage::new(&[]).await;
    let other = stage.other_gateway(&[]).await;
    let mut nok = stage.player("Nok").await;
    let mut somchai = stage.player_at(other.address, "Somchai").await;
    let table = stage.table_of(&mut nok, &mut somchai).await;
    nok.subscribe(&table).await;
    let start = nok.expect("snapshot").await["seq"].as_u64().expect("a number");
    let came = next_notice(&mut stage).await;
    assert_eq!((came.player.as_str(), came.change), ("player-Nok", PresenceChange::Came));
    for number in 1..=3 {
        somchai.say(&format!("s{number}"), &table, number).await;
    }
    assert_eq!(commits_until(&mut nok, start + 3).await, [start + 1, start + 2, start + 3]);

    // A clean stop: told to come back, and owners are told who went.
    stage.shutdown.cancel();
    assert_eq!(nok.closed().await, 4000);
    let went = next_notice(&mut stage).await;
    assert_eq!((went.gateway.as_str(), went.change), (came.gateway.as_str(), PresenceChange::Went));
    for number in 4..=6 {
        somchai.say(&format!("s{number}"), &table, number).await;
        somchai.until("accepted").await;
    }

    // Nobody follows the table at the other gateway yet: it is opened for the one who resumes.
    let mut nok = stage.player_at(other.address, "Nok").await;
    let resume = json!({ "type": "subscribe", "table": table, "cursor": start + 3 });
    nok.send(resume).await;
    let subscribed = nok.expect("subscribed").await;
    assert_eq!((&subscribed["recovered"], &subscribed["seat"]), (&json!(true), &json!(0)));
    let back = next_notice(&mut stage).await;
    assert_eq!((back.player.as_str(), back.change), ("player-Nok", PresenceChange::Came));
    assert_ne!(back.gateway, came.gateway);
    assert_eq!(commits_until(&mut nok, start + 6).await, [start + 4, start + 5, start + 6]);
    // A command whose verdict was lost with the gateway, sent again with its id: the first verdict, once done.
    for _ in 0..2 {
        nok.say("n1", &table, 7).await;
        assert_eq!(nok.until("accepted").await["seq"], start + 7);
    }
    nok.send(json!({ "type": "ping" })).await;
    nok.until("pong").await;
    let (_, last) = stage.worker.position(id_of(&table)).await;
    let entries = stage.bus.log.read(id_of(&table), StreamSeq::ZERO).await.expect("a log");
    assert_eq!(entries.last().expect("commits").seq, last);
    assert_eq!(entries.len() as u64, start + 7);
}
