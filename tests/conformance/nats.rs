//! The promises on a real server.

use std::collections::BTreeSet;
use std::time::Duration;

use async_nats::header;
use async_nats::jetstream::consumer::{AckPolicy, FromConsumer, PullConsumer, pull};
use futures_util::StreamExt;
use tablecast::bus::connect::client;
use tablecast::bus::{Bus, provision};
use tablecast::domain::{TableId, Timestamp};
use tokio::time::{sleep, timeout};

use crate::alarm_suite::{alarm_promises, arm_in, listen, next, now};
use crate::log_suite::promises;
use crate::nats_server::NatsServer;
use crate::tables::{address, new_table};

async fn buses() -> (NatsServer, Bus, Bus) {
    let server = NatsServer::start().await;
    let first = server.bus(&[]).await;
    let second = server.bus(&[]).await;
    (server, first, second)
}

promises! {
    #[tokio::test]
    buses
}

alarm_promises! {
    #[tokio::test]
    buses
}

/// Settles so many alarms, listening again whenever that ends; whose they were.
async fn heard(bus: &Bus, count: usize) -> BTreeSet<TableId> {
    let mut heard = BTreeSet::new();
    while heard.len() < count {
        let Ok(mut wakes) = bus.timers.wakes(0).await else {
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        while heard.len() < count
            && let Some(wake) = wakes.next().await
        {
            heard.insert(wake.address.table);
            wake.settle.done().await;
        }
    }
    heard
}

#[tokio::test]
async fn alarms_survive_a_crash_of_the_server_and_are_heard_again() {
    let (mut server, bus, other) = buses().await;
    let addresses = [(); 3].map(|()| address(&bus, new_table()));
    let [unsettled, due_meanwhile, due_later] = &addresses;
    arm_in(&bus, unsettled, 1).await;
    drop(next(&mut listen(&bus).await).await);
    arm_in(&bus, due_meanwhile, 1_500).await;
    arm_in(&bus, due_later, 6_000).await;
    let listening = heard(&other, 3);
    let crash = async {
        sleep(Duration::from_millis(500)).await;
        server.kill();
        sleep(Duration::from_millis(1_500)).await;
        server.restart().await;
    };
    let both = async { tokio::join!(listening, crash) };
    let (tables, ()) = timeout(Duration::from_secs(40), both).await.expect("all are heard");
    assert_eq!(tables, addresses.iter().map(|address| address.table).collect());
}

#[tokio::test]
async fn a_ring_that_nobody_hears_goes_away_in_a_week() {
    let (server, bus, _) = buses().await;
    let address = address(&bus, new_table());
    bus.timers.arm(&address, Timestamp::from_millis(0)).await.expect("armed");
    let client = client(&server.config(&[]), "test").await.expect("connected");
    let stream = provision::context(&client).get_stream("TIMERS_0").await.expect("there");
    let rung = async {
        loop {
            if let Ok(rung) = stream.get_last_raw_message_by_subject(&address.wake()).await {
                return rung;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    let rung = timeout(Duration::from_secs(10), rung).await.expect("it rings");
    let ttl = rung.headers.get_last(header::NATS_MESSAGE_TTL).expect("it expires").as_str();
    let ttl = humantime::parse_duration(ttl).expect("a duration");
    assert_eq!(ttl, Duration::from_secs(7 * 24 * 3600));
}

#[tokio::test]
async fn the_operators_settings_of_the_shared_consumer_stay() {
    let (server, bus, _) = buses().await;
    drop(listen(&bus).await);
    let client = client(&server.config(&[]), "test").await.expect("connected");
    let context = provision::context(&client);
    let consumer = async || {
        let found = context.get_consumer_from_stream("wakers", "TIMERS_0").await;
        let found: PullConsumer = found.expect("there");
        found.cached_info().config.clone()
    };
    let mut config = consumer().await;
    assert_eq!((config.ack_policy, config.max_ack_pending), (AckPolicy::Explicit, 20_000));
    assert_eq!((config.ack_wait, config.max_deliver), (Duration::from_secs(10), -1));
    assert_eq!(config.filter_subject, "tc.wake.0.>");
    config.max_ack_pending = 7;
    let config = pull::Config::try_from_consumer_config(config).expect("it is pulled from");
    context.update_consumer_on_stream(config, "TIMERS_0").await.expect("changed");
    drop(listen(&bus).await);
    assert_eq!(consumer().await.max_ack_pending, 7);
}

/// Alarms of many tables at once, as after the loss of a worker that had them all.
#[tokio::test]
async fn a_storm_of_alarms_is_heard_whole() {
    let (_server, bus, other) = buses().await;
    let at = now(&bus).await.plus_millis(1_500);
    let mut tables = BTreeSet::new();
    for _ in 0..2_000 {
        let address = address(&bus, new_table());
        bus.timers.arm(&address, at).await.expect("armed");
        tables.insert(address.table);
    }
    let heard = timeout(Duration::from_secs(30), heard(&other, 2_000)).await;
    assert_eq!(heard.expect("all are heard"), tables);
}
