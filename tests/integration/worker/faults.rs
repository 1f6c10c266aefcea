//! A log that is slow, silent, full or gone; a worker that stops.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use serde_json::json;
use tablecast::bus::memory::{Faults, Network};
use tablecast::domain::{Seating, Timestamp};
use tablecast::protocol::request::{Beat, Verdict, decode};
use tablecast::protocol::subject;
use tablecast::runtime::clock::Clock;
use tokio::time::{Instant, sleep, timeout};

use super::{another_worker, one_worker};
use crate::players::{Client, SOON, Worker, accepted, pebbles_of, refused, take, two_players};

/// A network in memory, on a clock that a test passes over.
fn in_memory(more: &[&str]) -> (Arc<Network>, Worker, Faults, Client) {
    let clock = Clock::simulated(Timestamp::from_millis(1_795_000_000_000));
    let network = Network::new(NonZeroU16::MIN, clock);
    let (bus, faults) = network.connect();
    let worker = Worker::start(bus, "w1", clock, more);
    let (bus, _) = network.connect();
    (network, worker, faults, Client { bus })
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_says_busy_and_loses_no_answer() {
    let (_network, _worker, faults, client) = in_memory(&["--commands-waiting-max", "4"]);
    let request = two_players();
    let table = request.table;
    client.open(&request).await;
    faults.set_delay(Duration::from_millis(500));
    let commands = (0..20).map(|number| {
        let client = client.clone();
        async move { client.command(table, "ann", &format!("c{number}"), take(1)).await }
    });
    let verdicts = join_all(commands).await;
    let code = |verdict: Verdict| match verdict {
        Verdict::Accepted { .. } => "accepted".to_owned(),
        Verdict::Rejected(refusal) => refusal.code,
    };
    let mut codes: Vec<String> = verdicts.into_iter().map(code).collect();
    codes.sort();
    let of = |wanted: &str| codes.iter().filter(|code| *code == wanted).count();
    assert_eq!((of("accepted"), of("not_your_turn"), of("busy")), (1, 4, 15));
    assert_eq!(client.commits(table).await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_silent_log_is_given_up_and_the_retry_finds_the_commit() {
    let (_network, _worker, faults, client) = in_memory(&[]);
    let request = two_players();
    let table = request.table;
    client.open(&request).await;
    // Everything is stored, and nobody is told so, for longer than the log's patience.
    faults.lose_acks(40);
    let started = Instant::now();
    let waiting = client.clone();
    let (first, second) = tokio::join!(client.command(table, "ann", "a1", take(1)), async {
        sleep(Duration::from_millis(100)).await;
        waiting.command(table, "bob", "b1", take(1)).await
    });
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    for verdict in [first, second] {
        let refusal = refused(verdict);
        // The gateway asks again: whoever owns the table then has read what became of it.
        assert_eq!(refusal.code, "moved");
        assert!(refusal.retry_after_ms.is_some());
    }
    assert_eq!(client.persist(table, "ann", "a1", take(1)).await, accepted(2));
    assert_eq!(client.persist(table, "bob", "b1", take(1)).await, accepted(4));
    assert_eq!(client.commits(table).await.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_full_log_refuses_and_the_table_waits_for_room() {
    let (_network, _worker, faults, client) = in_memory(&[]);
    let request = pebbles_of(&[crate::players::human("ann"), Seating::Bot], json!({}));
    let table = request.table;
    client.open(&request).await;
    faults.set_full(true);
    let refusal = refused(client.command(table, "ann", "a1", take(1)).await);
    assert_eq!((refusal.code.as_str(), refusal.retry_after_ms), ("unavailable", Some(2_000)));
    faults.set_full(false);
    assert_eq!(client.command(table, "ann", "a2", take(1)).await, accepted(2));
    client.wait_for(table, "taken").await;

    // A bot whose choice does not fit tries again.
    faults.set_delay(Duration::from_millis(10));
    let taken = client.commits(table).await.len();
    let full = async {
        sleep(Duration::from_millis(15)).await;
        faults.set_full(true);
        sleep(Duration::from_secs(5)).await;
        faults.set_full(false);
    };
    let (_, ()) = tokio::join!(client.persist(table, "ann", "a3", take(1)), full);
    let bot_moves = async {
        while client.commits(table).await.len() < taken + 2 {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(SOON, bot_moves).await.expect("the bot goes on");
}

#[tokio::test(start_paused = true)]
async fn a_late_marker_holds_no_command_up() {
    let (_network, worker, faults, client) = in_memory(&[]);
    let request = pebbles_of(
        &[crate::players::human("ann"), crate::players::human("bob")],
        json!({ "pebbles": 1 }),
    );
    let table = request.table;
    client.open(&request).await;
    faults.set_delay(Duration::from_millis(10));
    let full = async {
        sleep(Duration::from_millis(35)).await;
        faults.set_full(true);
    };
    let (last, ()) = tokio::join!(client.command(table, "ann", "a1", take(1)), full);
    assert_eq!(last, accepted(2));
    let late = client.command(table, "bob", "b1", take(1)).await;
    assert_eq!(refused(late).code, "game_over");
    worker.stop();
    worker.stopped().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_answers_what_is_under_way_and_says_goodbye() {
    let (_network, worker, faults, client) = in_memory(&[]);
    let (request, late) = (two_players(), two_players());
    let table = request.table;
    client.open(&request).await;
    let mut beats = client.bus.mail.listen(subject::BEATS.to_owned()).await.expect("heard");
    faults.set_delay(Duration::from_millis(400));
    let stop = async {
        sleep(Duration::from_millis(600)).await;
        worker.stop();
        worker.stopped().await;
    };
    let (moved, waiting) = (client.clone(), client.clone());
    let (accepted_one, told, opened, ()) = tokio::join!(
        moved.command(table, "ann", "a1", take(1)),
        async {
            sleep(Duration::from_millis(100)).await;
            waiting.command(table, "bob", "b1", take(1)).await
        },
        client.open(&late),
        stop
    );
    assert_eq!(accepted_one, accepted(2));
    assert_eq!(opened, accepted(1));
    let told = match told {
        Verdict::Accepted { .. } => "accepted".to_owned(),
        Verdict::Rejected(refusal) => refusal.code,
    };
    assert!(["accepted", "moved"].contains(&told.as_str()), "{told}");
    let goodbye = async {
        loop {
            let beat = beats.next().await.expect("a beat");
            let beat: Beat = decode(&beat).expect("a beat");
            if beat.goodbye {
                return beat;
            }
        }
    };
    let goodbye = timeout(SOON, goodbye).await.expect("a goodbye");
    assert_eq!((goodbye.worker.as_str(), goodbye.tables), ("w1", 0));
}

#[tokio::test]
async fn a_stopped_worker_leaves_its_tables_to_the_next() {
    let (server, worker, client) = one_worker(&[]).await;
    let request = two_players();
    client.open(&request).await;
    worker.stop();
    worker.stopped().await;
    let _second = another_worker(&server, "w2", &[]).await;
    let verdict = client.persist(request.table, "ann", "a1", take(1)).await;
    assert_eq!(verdict, accepted(3));
}

#[tokio::test]
async fn a_server_that_comes_back_finds_everyone_where_they_were() {
    let (mut server, _worker, client) = one_worker(&[]).await;
    let request = two_players();
    let table = request.table;
    client.open(&request).await;
    server.kill();
    let started = Instant::now();
    let gone = client.bus.mail.request(subject::cmd(table), "".into(), Duration::from_millis(300));
    gone.await.expect_err("nobody answers");
    assert!(started.elapsed() < Duration::from_secs(3));
    server.restart().await;
    assert_eq!(client.persist(table, "ann", "a1", take(1)).await, accepted(2));
    assert_eq!(client.persist(table, "ann", "a1", take(1)).await, accepted(2));
    assert_eq!(client.commits(table).await.len(), 2);
}
