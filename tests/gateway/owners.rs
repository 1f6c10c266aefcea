//! Tables whose worker is gone, and players who come and go.

use std::time::Duration;

use futures_util::StreamExt;
use serde_json::json;
use tablecast::domain::{PresenceChange, TableSeq, Timestamp, WorkerId};
use tablecast::protocol::request::{AT_CAPACITY, Beat, MOVED, Refusal, Verdict, encode};
use tablecast::protocol::subject;
use tokio::time::{Instant, sleep};

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
    // And is told once more, in case it could not be heard yet.
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

#[tokio::test]
async fn only_the_tables_of_a_worker_that_fell_silent_get_another() {
    let stage = Stage::new(&["--worker-silence=300ms"]).await;
    let mut nok = stage.player("Nok").await;
    let of_first = open(&mut nok).await;
    let (second, _notices) =
        TinyWorker::start("w2", "hidden-number", &stage.bus, &stage.catalog).await;
    let of_second = loop {
        let table = open(&mut nok).await;
        if second.owns(id_of(&table)) {
            break table;
        }
    };
    let mut viewer = stage.spectator().await;
    for table in [&of_first, &of_second] {
        viewer.subscribe(table).await;
        viewer.until("snapshot").await;
    }
    stage.worker.beat(false).await;
    second.beat(false).await;
    stage.worker.kill();
    let started = Instant::now();
    let claimed = loop {
        tokio::select! {
            frame = viewer.next() => break frame.expect("a frame"),
            () = sleep(Duration::from_millis(50)) => second.beat(false).await,
        }
    };
    assert_eq!(claimed["type"], "commit", "{claimed}");
    assert_eq!(claimed["table"], of_first.as_str());
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert!(second.owns(id_of(&of_first)));
    // Nothing has been done to the other.
    let ping = json!({ "type": "ping" });
    viewer.send(ping).await;
    viewer.expect("pong").await;
}

#[tokio::test]
async fn a_command_whose_worker_dies_with_it_is_decided_by_another_at_once() {
    let stage = Stage::new(&[]).await;
    let mut nok = stage.player("Nok").await;
    let mut somchai = stage.player("Somchai").await;
    let table = stage.table_of(&mut nok, &mut somchai).await;
    stage.worker.forget(id_of(&table));
    let mail = &stage.bus.mail;
    let mut commands = mail.serve(subject::cmd(id_of(&table)), None).await.unwrap();
    nok.say("c1", &table, 5).await;
    let taken_along = commands.next().await.unwrap();
    let died_at = Instant::now();
    drop(commands);
    assert_eq!(nok.until("accepted").await["id"], "c1");
    // Without a second request this takes as long as patience lasts.
    assert!(died_at.elapsed() < Duration::from_secs(2), "{:?}", died_at.elapsed());
    drop(taken_along);
}

#[tokio::test]
async fn a_command_for_a_worker_that_hangs_is_decided_by_another() {
    let stage = Stage::new(&[]).await;
    let mut nok = stage.player("Nok").await;
    let mut somchai = stage.player("Somchai").await;
    let table = stage.table_of(&mut nok, &mut somchai).await;
    stage.worker.forget(id_of(&table));
    // Takes requests and answers none of them.
    let mail = &stage.bus.mail;
    let _hangs = mail.serve(subject::cmd(id_of(&table)), None).await.unwrap();
    nok.say("c1", &table, 5).await;
    assert_eq!(nok.until("accepted").await["id"], "c1");
    assert!(stage.worker.owns(id_of(&table)));
}

#[tokio::test]
async fn an_opening_goes_to_whoever_has_room() {
    let stage = Stage::new(&[]).await;
    let mut nok = stage.player("Nok").await;
    stage.worker.kill();
    let kind = "hidden-number".parse().expect("a kind");
    let mail = &stage.bus.mail;
    let serve = || mail.serve(subject::open(&kind), Some(subject::WORKERS));
    let mut opens = serve().await.unwrap();
    let open = json!({ "type": "open", "id": "o", "kind": "hidden-number" });
    let full = encode(&Verdict::Rejected(Refusal::new(AT_CAPACITY, "full")));

    nok.send(open.clone()).await;
    opens.next().await.unwrap().reply.send(full.clone()).await;
    let elsewhere = encode(&Verdict::Accepted { seq: TableSeq::new(1) });
    opens.next().await.unwrap().reply.send(elsewhere).await;
    assert_eq!(nok.until("opened").await["id"], "o");

    nok.send(open.clone()).await;
    let all_full = async {
        loop {
            opens.next().await.unwrap().reply.send(full.clone()).await;
        }
    };
    let rejected = tokio::select! {
        rejected = nok.until("rejected") => rejected,
        () = all_full => unreachable!("it goes on"),
    };
    assert_eq!(rejected["code"], "at_capacity");
    assert_eq!(rejected["retry_after_ms"], 1000);
    drop(opens);

    // Full workers do not listen: what they say of themselves tells them from workers that are not there.
    nok.send(open.clone()).await;
    assert_eq!(nok.until("rejected").await["code"], "unavailable");
    let worker: WorkerId = "w9".parse().expect("an id");
    let subject = subject::beat(&worker);
    let beat = Beat {
        worker,
        tables: 1,
        full: true,
        interval_ms: 0,
        at: Timestamp::default(),
        goodbye: false,
    };
    mail.notify(subject, encode(&beat)).await.unwrap();
    nok.send(open).await;
    let rejected = nok.until("rejected").await;
    assert_eq!(rejected["code"], "at_capacity");
    assert_eq!(rejected["retry_after_ms"], 1000);
}

#[tokio::test]
async fn a_worker_that_dies_while_it_is_asked_to_adopt_holds_nobody_up() {
    let stage = Stage::new(&["--worker-silence=300ms"]).await;
    let mut nok = stage.player("Nok").await;
    let table = open(&mut nok).await;
    let mut viewer = stage.spectator().await;
    viewer.subscribe(&table).await;
    viewer.expect("snapshot").await;
    stage.worker.kill();
    let kind = "hidden-number".parse().expect("a kind");
    let adopts = stage.bus.mail.serve(subject::adopt(&kind), Some(subject::WORKERS));
    let mut adopts = adopts.await.unwrap();
    stage.worker.beat(true).await;
    let taken_along = adopts.next().await.unwrap();
    let died_at = Instant::now();
    drop(adopts);
    let (_second, _notices) =
        TinyWorker::start("w2", "hidden-number", &stage.bus, &stage.catalog).await;
    viewer.expect("commit").await;
    // Without a second request this takes as long as an adopter has time.
    assert!(died_at.elapsed() < Duration::from_millis(2500), "{:?}", died_at.elapsed());
    drop(taken_along);
}
