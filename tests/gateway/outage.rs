//! The bus is gone and comes back: players are told, spectators keep what they have, nothing is lost.

use std::num::NonZeroU16;
use std::time::Duration;

use serde_json::{Value, json};
use tablecast::bus::Bus;
use tablecast::bus::memory::Network;
use tablecast::domain::Identity;
use tablecast::protocol::request::{CommandRequest, TableRequest, Verdict, decode, encode};
use tablecast::protocol::subject;
use tablecast::runtime::clock::Clock;
use tokio::time::{Instant, sleep};

use crate::http::get;
use crate::nats_server::NatsServer;
use crate::socket::Socket;
use crate::stage::{Stage, id_of};

/// A command that reaches the worker by another way than this gateway.
async fn say_elsewhere(bus: &Bus, table: &str, id: &str, number: u32) {
    let by = Identity { player: "player-Nok".parse().expect("an id"), name: "Nok".to_owned() };
    let id = id.parse().expect("an id");
    let command = json!({ "type": "say", "number": number });
    let request = encode(&TableRequest::Command(CommandRequest {
        by,
        id,
        command,
        gateway: None,
        request: None,
    }));
    let subject = subject::cmd(id_of(table));
    let answer = bus.mail.request(subject, request, Duration::from_secs(10)).await.expect("asked");
    assert!(matches!(decode(&answer), Ok(Verdict::Accepted { .. })));
}

async fn snapshot_seq(viewer: &mut Socket, table: &str) -> u64 {
    viewer.subscribe(table).await;
    viewer.expect("snapshot").await["seq"].as_u64().expect("a number")
}

#[tokio::test]
async fn while_the_bus_is_away_everyone_is_told_and_nothing_waits() {
    let stage = Stage::new(&["--bus-patience=200ms"]).await;
    let mut nok = stage.player("Nok").await;
    let mut somchai = stage.player("Somchai").await;
    let table = stage.table_of(&mut nok, &mut somchai).await;
    let mut viewer = stage.spectator().await;
    let seq = snapshot_seq(&mut viewer, &table).await;
    while get(&stage, "/readyz").await.0 != 200 {
        sleep(Duration::from_millis(10)).await;
    }

    stage.faults.set_outage(true);
    nok.say("c1", &table, 1).await;
    let told = viewer.expect("status").await;
    assert_eq!(told["bus"], "unavailable");
    assert!(told["since"].as_u64().is_some(), "{told}");
    // What was under way when it was found out, and what comes later, at once.
    let rejected = nok.until("rejected").await;
    assert_eq!((&rejected["id"], &rejected["code"]), (&json!("c1"), &json!("unavailable")));
    for number in 2..20 {
        let asked_at = Instant::now();
        nok.say(&format!("c{number}"), &table, number).await;
        let rejected = nok.until("rejected").await;
        assert_eq!(
            (&rejected["code"], &rejected["retry_after_ms"]),
            (&json!("unavailable"), &json!(1000))
        );
        assert!(asked_at.elapsed() < Duration::from_secs(1));
    }
    let (mut late, _) = Socket::connect(stage.address, None).await;
    assert_eq!(late.expect("status").await, told);
    assert_eq!(
        get(&stage, "/readyz").await,
        (503, Value::String("the bus cannot be reached\n".to_owned()))
    );
    // What is in memory can still be looked at, and joined.
    assert_eq!(get(&stage, &format!("/v1/tables/{table}")).await.0, 200);
    assert_eq!(snapshot_seq(&mut late, &table).await, seq);

    // The others play on, and stop before this gateway is back.
    say_elsewhere(&stage.bus, &table, "e1", 50).await;
    say_elsewhere(&stage.bus, &table, "e2", 51).await;
    stage.faults.set_outage(false);
    let told = viewer.expect("status").await;
    assert_eq!(told["bus"], "ok");
    // No further commit tells of the gap, and the next look at a quiet table is seconds away.
    let back_at = Instant::now();
    for missed in [seq + 1, seq + 2] {
        assert_eq!(viewer.expect("commit").await["seq"], missed);
    }
    assert!(back_at.elapsed() < Duration::from_secs(4), "{:?}", back_at.elapsed());
    nok.say("c1", &table, 1).await;
    assert_eq!(nok.until("accepted").await["seq"], seq + 3);
    assert_eq!(get(&stage, "/readyz").await.0, 200);
}

#[tokio::test]
async fn a_nats_server_that_is_killed_and_started_again_costs_nothing_but_time() {
    let mut server = NatsServer::start().await;
    let network = Network::new(NonZeroU16::MIN, Clock::System);
    let (_, faults) = network.connect();
    let (bus, of_gateway) = (server.bus(&[]).await, server.bus(&[]).await);
    let stage = Stage::on(bus, of_gateway, network, faults, &[]).await;
    let mut nok = stage.player("Nok").await;
    let mut somchai = stage.player("Somchai").await;
    let table = stage.table_of(&mut nok, &mut somchai).await;
    let mut viewer = stage.spectator().await;
    let mut have = snapshot_seq(&mut viewer, &table).await;
    for round in 1..=2 {
        let killed_at = Instant::now();
        server.kill();
        nok.say(&format!("k{round}"), &table, round).await;
        assert_eq!(viewer.expect("status").await["bus"], "unavailable");
        assert_eq!(nok.until("rejected").await["code"], "unavailable");
        assert!(killed_at.elapsed() < Duration::from_secs(5), "{:?}", killed_at.elapsed());
        server.restart().await;
        assert_eq!(viewer.expect("status").await["bus"], "ok");
        // The refusal may have come before the news that explains it.
        while nok.until("status").await["bus"] != "ok" {}
        // A worker has to come back, too.
        let accepted = loop {
            nok.say(&format!("k{round}"), &table, round).await;
            let frame = loop {
                let frame = nok.next().await.expect("a frame");
                if frame["id"] == format!("k{round}") {
                    break frame;
                }
            };
            if frame["type"] == "accepted" {
                break frame;
            }
            assert!(frame["retry_after_ms"].as_u64().is_some(), "{frame}");
            sleep(Duration::from_millis(100)).await;
        };
        // The command before the outage may have been stored: then this was its first verdict.
        let last = accepted["seq"].as_u64().expect("a number");
        assert!(last == have + 1, "{last} after {have}: once");
        while have < last {
            have += 1;
            assert_eq!(viewer.expect("commit").await["seq"], have);
        }
    }
}
