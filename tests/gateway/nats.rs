//! The same path on a real server: what the bus in memory promises, JetStream keeps.

use std::num::NonZeroU16;

use serde_json::json;
use tablecast::bus::memory::Network;
use tablecast::runtime::clock::Clock;

use crate::nats_server::NatsServer;
use crate::stage::{Stage, id_of};

#[tokio::test]
async fn a_game_is_played_watched_and_taken_over_on_jetstream() {
    let server = NatsServer::start().await;
    let network = Network::new(NonZeroU16::MIN, Clock::System);
    let (_, faults) = network.connect();
    let (bus, of_gateway) = (server.bus(&[]).await, server.bus(&[]).await);
    let options = [
        "--inbound-rate=10000",
        "--inbound-burst=10000",
        "--player-rate=10000",
        "--player-burst=10000",
    ];
    let mut stage = Stage::on(bus, of_gateway, network, faults, &options).await;
    let mut nok = stage.player("Nok").await;
    let mut somchai = stage.player("Somchai").await;
    let table = stage.table_of(&mut nok, &mut somchai).await;
    let mut viewer = stage.spectator().await;
    viewer.subscribe(&table).await;
    let mut have = viewer.expect("snapshot").await["seq"].as_u64().expect("a number");
    nok.subscribe(&table).await;
    stage.notices.recv().await.expect("Nok came");
    for number in 1..=200 {
        nok.say(&format!("c{number}"), &table, number).await;
        have += 1;
        assert_eq!(viewer.expect("commit").await["seq"], have);
        if number % 50 == 0 {
            let again = json!({ "type": "subscribe", "table": table, "cursor": have - 3 });
            viewer.send(again).await;
            assert_eq!(viewer.expect("subscribed").await["recovered"], true);
            for missed in have - 2..=have {
                assert_eq!(viewer.expect("commit").await["seq"], missed);
            }
        }
    }
    stage.worker.forget(id_of(&table));
    nok.say("last", &table, 0).await;
    // The take-over, then the command, which ends the game.
    assert_eq!(viewer.expect("commit").await["events"], json!([]));
    let commit = viewer.expect("commit").await;
    assert_eq!(commit["events"][1]["type"], "table.completed");
    assert_eq!(commit["events"][1]["winners"], json!([0]));
}
