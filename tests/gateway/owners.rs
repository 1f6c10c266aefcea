//! Tables whose worker is gone, and players who come and go.

use futures_util::StreamExt;
use serde_json::json;
use tablecast::domain::PresenceChange;
use tablecast::protocol::request::{MOVED, Refusal, Verdict, encode};
use tablecast::protocol::subject;

use crate::stage::{Stage, id_of, open};
use crate::tiny_worker::TinyWorker;

#[tokio::test]
async fn a_command_for_a_table_without_an_owner_finds_one() {
    let stage = Stage::new(&[]).await;
    let mut nok = stage.player("Nok").await;
    let mut somchai = stage.player("Somchai").await;
    let table = stage.table_of(&mut nok, &mut somchai).await;
    stage.worker.forget(id_of(&table));
    nok.say("c1", &table, 5).await;
    let accepted = nok.until("accepted").await;
    // The take-over is a commit of its own.
    assert_eq!(accepted["seq"], 5);
}

#[tokio::test]
async fn a_command_that_reaches_a_former_owner_is_decided_by_the_next_one() {
    let stage = Stage::new(&[]).await;
    let mut nok = stage.player("Nok").await;
    let mut somchai = stage.player("Somchai").await;
    let table = stage.table_of(&mut nok, &mut somchai).await;
    stage.worker.forget(id_of(&table));
    let mail = &stage.bus.mail;
    let mut commands = mail.serve(subject::cmd(id_of(&table)), None).await.unwrap();
    nok.say("c1", &table, 5).await;
    let asked = commands.next().await.unwrap();
    let moved = Refusal::new(MOVED, "fenced").retry_after_ms(0);
    asked.reply.send(encode(&Verdict::Rejected(moved))).await;
    drop(commands);
    assert_eq!(nok.until("accepted").await["id"], "c1");
}

#[tokio::test]
async fn followed_tables_of_a_worker_that_says_goodbye_get_another() {
    let stage = Stage::new(&[]).await;
    let mut nok = stage.player("Nok").await;
    let mut somchai = stage.player("Somchai").await;
    let table = stage.table_of(&mut nok, &mut somchai).await;
    let mut viewer = stage.spectator().await;
    viewer.subscribe(&table).await;
    viewer.expect("snapshot").await;
    let (other, _) = TinyWorker::start("w2", "hidden-number", &stage.bus, &stage.catalog).await;
    stage.worker.forget(id_of(&table));
    other.beat(false).await;
    stage.worker.beat(false).await;
    stage.worker.beat(true).await;
    // Who serves a table is hidden, but not the number of the commit that says so.
    let claimed = viewer.expect("commit").await;
    assert_eq!(claimed["events"], json!([]));
}

#[tokio::test]
async fn the_owner_is_told_who_comes_and_who_goes() {
    let mut stage = Stage::new(&[]).await;
    let mut nok = stage.player("Nok").await;
    let table = open(&mut nok).await;
    let mut spectator = stage.spectator().await;
    spectator.subscribe(&table).await;
    nok.subscribe(&table).await;
    let came = stage.notices.recv().await.expect("a notice");
    assert_eq!(came.player.as_str(), "player-Nok");
    assert_eq!(came.change, PresenceChange::Came);

    // A second connection of the same player is no news, nor is the end of one of two.
    let mut second = stage.player("Nok").await;
    second.subscribe(&table).await;
    drop(second);
    nok.send(json!({ "type": "unsubscribe", "table": table })).await;
    assert_eq!(nok.until("unsubscribed").await["reason"], "asked");
    let went = stage.notices.recv().await.expect("a notice");
    assert_eq!(went.change, PresenceChange::Went);

    nok.subscribe(&table).await;
    let came = stage.notices.recv().await.expect("a notice");
    assert_eq!(came.change, PresenceChange::Came);
    // A new owner knows nobody.
    stage.worker.forget(id_of(&table));
    stage.worker.claim(id_of(&table)).await;
    let came = stage.notices.recv().await.expect("a notice");
    assert_eq!(came.change, PresenceChange::Came);
    drop(nok);
    let went = stage.notices.recv().await.expect("a notice");
    assert_eq!(went.change, PresenceChange::Went);
}

#[tokio::test]
async fn a_gateway_that_stops_says_so_and_tells_owners_who_went() {
    let mut stage = Stage::new(&[]).await;
    let mut nok = stage.player("Nok").await;
    let table = open(&mut nok).await;
    nok.subscribe(&table).await;
    stage.notices.recv().await.expect("a notice");
    stage.shutdown.cancel();
    assert_eq!(nok.closed().await, 4000);
    let went = stage.notices.recv().await.expect("a notice");
    assert_eq!(went.change, PresenceChange::Went);
    stage.gateway.await.expect("no panic").expect("a clean stop");
}
