//! The promises in memory, and what faults do.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tablecast::bus::memory::Network;
use tablecast::bus::{AppendError, Bus, RequestError};
use tablecast::domain::{StreamSeq, Timestamp};
use tablecast::runtime::clock::Clock;
use tokio::time::{Instant, sleep};

use crate::alarm_suite::{alarm_promises, arm_in, listen, next};
use crate::log_suite::promises;
use crate::tables::{address, append, new_table, table_of};

fn network() -> Arc<Network> {
    let shards = NonZeroU16::new(1).expect("one");
    Network::new(shards, Clock::simulated(Timestamp::from_millis(1_795_000_000_000)))
}

#[expect(clippy::unused_async, reason = "a server takes a while, this one does not")]
async fn buses() -> (Arc<Network>, Bus, Bus) {
    let network = network();
    let ((first, _), (second, _)) = (network.connect(), network.connect());
    (network, first, second)
}

alarm_promises! {
    #[tokio::test(start_paused = true)]
    buses
}

promises! {
    #[tokio::test(start_paused = true)]
    buses
}

#[tokio::test(start_paused = true)]
async fn a_lost_acknowledgement_is_found_by_the_retry() {
    let (bus, faults) = network().connect();
    let (address, positions) = table_of(&bus, 1).await;
    faults.lose_acks(3);
    let seq = bus.log.append(append(&address, positions[0], "move")).await.expect("known");
    let entries = bus.log.read(address.table, StreamSeq::ZERO).await.expect("read");
    assert_eq!(entries.last().map(|entry| entry.seq), Some(seq));
    assert_eq!(entries.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_stored_is_not_refused_once_the_log_is_full() {
    let (bus, faults) = network().connect();
    let (address, positions) = table_of(&bus, 1).await;
    faults.lose_acks(1);
    let fill = async {
        sleep(Duration::from_millis(100)).await;
        faults.set_full(true);
    };
    let (stored, ()) = tokio::join!(bus.log.append(append(&address, positions[0], "move")), fill);
    let entries = bus.log.read(address.table, StreamSeq::ZERO).await.expect("read");
    assert_eq!(entries.last().map(|entry| entry.seq), Some(stored.expect("known")));
}

#[tokio::test(start_paused = true)]
async fn an_outage_leaves_an_append_unknown_and_stored_or_not() {
    let network = network();
    let (bus, faults) = network.connect();
    let (other, _) = network.connect();
    let (address, positions) = table_of(&bus, 1).await;
    faults.lose_acks(1);
    let cut = async {
        sleep(Duration::from_millis(100)).await;
        faults.set_outage(true);
    };
    let started = Instant::now();
    let (unknown, ()) = tokio::join!(bus.log.append(append(&address, positions[0], "stored")), cut);
    assert!(matches!(unknown, Err(AppendError::Unavailable { .. })), "{unknown:?}");
    assert!(started.elapsed() > Duration::from_secs(14));
    assert_eq!(other.log.read(address.table, StreamSeq::ZERO).await.expect("read").len(), 2);
    bus.log.read(address.table, StreamSeq::ZERO).await.expect_err("cut off");

    faults.set_outage(false);
    let late = bus.log.append(append(&address, positions[0], "stored")).await;
    late.expect("our own");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_copy_shows_as_a_gap() {
    let (bus, faults) = network().connect();
    let (address, positions) = table_of(&bus, 1).await;
    let mut followed = bus.log.follow(address.table).await.expect("followed");
    faults.drop_live(1);
    let second = bus.log.append(append(&address, positions[0], "2")).await.expect("stored");
    let third = bus.log.append(append(&address, second, "3")).await.expect("stored");
    let entry = followed.next().await.expect("an entry");
    assert_eq!((entry.previous, entry.seq), (second, third));
}

#[tokio::test(start_paused = true)]
async fn copies_and_appends_take_the_time_they_are_told_to() {
    let (bus, faults) = network().connect();
    let address = address(&bus, new_table());
    let mut followed = bus.log.follow(address.table).await.expect("followed");
    faults.set_delay(Duration::from_millis(30));
    faults.set_live_delay(Duration::from_millis(500));
    let started = Instant::now();
    bus.log.append(append(&address, StreamSeq::ZERO, "1")).await.expect("stored");
    assert_eq!(started.elapsed().as_millis(), 30);
    followed.next().await.expect("an entry");
    assert_eq!(started.elapsed().as_millis(), 530);
}

#[tokio::test(start_paused = true)]
async fn a_full_log_refuses() {
    let (bus, faults) = network().connect();
    let (address, positions) = table_of(&bus, 1).await;
    faults.set_full(true);
    let refused = bus.log.append(append(&address, positions[0], "2")).await;
    assert!(matches!(refused, Err(AppendError::Refused { .. })), "{refused:?}");
    faults.set_full(false);
    bus.log.append(append(&address, positions[0], "2")).await.expect("stored");
}

#[tokio::test(start_paused = true)]
async fn who_is_cut_off_hears_nothing_and_reads_no_markers() {
    let network = network();
    let (bus, _) = network.connect();
    let (lonely, faults) = network.connect();
    let (address, positions) = table_of(&bus, 1).await;
    let mut followed = lonely.log.follow(address.table).await.expect("followed");
    let mut markers = lonely.log.markers(0, StreamSeq::ZERO).await.expect("read");
    let _served = lonely.mail.serve("tc.cmd.x".to_owned(), None).await.expect("served");
    faults.set_outage(true);
    let second = bus.log.append(append(&address, positions[0], "2")).await.expect("stored");
    let asked = bus.mail.request("tc.cmd.x".to_owned(), "".into(), Duration::from_secs(1)).await;
    assert_eq!(asked, Err(RequestError::Timeout));
    let asked = lonely.mail.request("tc.cmd.x".to_owned(), "".into(), Duration::from_secs(1)).await;
    assert_eq!(asked, Err(RequestError::Unreachable));
    markers.next().await.expect("an end with a reason").expect_err("cut off");
    assert!(markers.next().await.is_none());

    faults.set_outage(false);
    let third = bus.log.append(append(&address, second, "3")).await.expect("stored");
    assert_eq!(followed.next().await.expect("an entry").seq, third);
}

#[tokio::test(start_paused = true)]
async fn a_full_subscription_drops_and_shows_a_gap() {
    let (bus, _) = network().connect();
    let (address, positions) = table_of(&bus, 1).await;
    let followed = bus.log.follow(address.table).await.expect("followed");
    let mut last = positions[0];
    for number in 0..2000 {
        let append = append(&address, last, &number.to_string());
        last = bus.log.append(append).await.expect("stored");
    }
    assert_eq!(followed.take(1024).count().await, 1024);
}

#[tokio::test(start_paused = true)]
async fn what_is_set_aside_is_kept_once() {
    let network = network();
    let (bus, _) = network.connect();
    let (address, _) = table_of(&bus, 1).await;
    let entries = bus.log.read(address.table, StreamSeq::ZERO).await.expect("read");
    for _ in 0..3 {
        bus.log.set_aside(0, &entries[0], "poison").await.expect("kept");
    }
    assert_eq!(network.dead_letters(), [(entries[0].clone(), "poison".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn an_outage_ends_the_listening_and_loses_what_is_settled_in_it() {
    let (bus, faults) = network().connect();
    let address = address(&bus, new_table());
    let mut wakes = listen(&bus).await;
    arm_in(&bus, &address, 1).await;
    let wake = next(&mut wakes).await;
    faults.set_outage(true);
    assert!(wakes.next().await.is_none());
    assert!(bus.timers.wakes(0).await.is_err());
    wake.settle.done().await;
    faults.set_outage(false);
    let mut wakes = listen(&bus).await;
    next(&mut wakes).await.settle.done().await;
}

#[tokio::test(start_paused = true)]
async fn an_alarm_or_snapshot_waits_for_the_end_of_an_outage_but_not_for_ever() {
    let (bus, faults) = network().connect();
    let address = address(&bus, new_table());
    faults.set_outage(true);
    let mend = async {
        sleep(Duration::from_secs(5)).await;
        faults.set_outage(false);
    };
    let (armed, ()) = tokio::join!(bus.timers.arm(&address, Timestamp::from_millis(0)), mend);
    armed.expect("after the outage");
    faults.set_outage(true);
    let started = Instant::now();
    let saved = bus.snapshots.save(&address, "state".into()).await;
    assert!(matches!(saved, Err(AppendError::Unavailable { .. })), "{saved:?}");
    assert!(started.elapsed() > Duration::from_secs(14));
    bus.snapshots.newest(&address).await.expect_err("cut off");
}
