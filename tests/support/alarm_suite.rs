//! Every promise of alarms and snapshots, as checks that any bus must pass. Each gets two processes'
//! connections.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tablecast::bus::{AppendError, Bus, ReadError, Wake};
use tablecast::domain::{StreamSeq, TableId, Timestamp};
use tablecast::protocol::subject::Address;
use tokio::time::{sleep, timeout};

use crate::tables::{address, append, new_table};

/// How long something that must happen may take; more than a listener has for one ring.
const SOON: Duration = Duration::from_secs(25);

/// How long a silence is listened to: longer than an alarm may be late.
const SILENCE: Duration = Duration::from_millis(2_500);

/// A test for each check. `$test` is the test attribute, `$buses` gives something to keep and two
/// connections.
macro_rules! alarm_promises {
    (#[$test:meta] $buses:path) => {
        $crate::alarm_suite::alarm_promises! {
            @ #[$test] $buses;
            an_alarm_rings_once_and_not_before_its_time
            an_alarm_set_again_rings_at_the_later_time_only
            an_alarm_set_earlier_rings_earlier
            an_alarm_taken_away_is_silent
            an_alarm_taken_away_may_be_set_again
            an_alarm_of_the_past_rings_at_once
            an_alarm_rings_for_whoever_listens_later
            an_alarm_that_nobody_settles_rings_again
            an_alarm_put_off_rings_again_then_and_no_more_once_done
            listeners_share_the_alarms
            a_snapshot_is_the_newest_until_it_is_forgotten
            snapshots_of_tables_do_not_mix
            a_too_large_snapshot_is_refused_and_the_old_one_stays
            a_missing_shard_has_no_alarms_and_no_snapshots
        }
    };
    (@ #[$test:meta] $buses:path; $($check:ident)*) => {
        $(
            #[$test]
            async fn $check() {
                let (_kept, first, second) = $buses().await;
                $crate::alarm_suite::$check(&first, &second).await;
            }
        )*
    };
}
pub(crate) use alarm_promises;

/// What the clock of the bus says.
pub(crate) async fn now(bus: &Bus) -> Timestamp {
    let address = address(bus, new_table());
    bus.log.append(append(&address, StreamSeq::ZERO, "now")).await.expect("stored");
    let entries = bus.log.read(address.table, StreamSeq::ZERO).await.expect("read");
    entries.first().expect("an entry").stored_at
}

/// Sets an alarm so many milliseconds from now; its time.
pub(crate) async fn arm_in(bus: &Bus, address: &Address, millis: u64) -> Timestamp {
    let at = now(bus).await.plus_millis(millis);
    bus.timers.arm(address, at).await.expect("armed");
    at
}

pub(crate) async fn listen(bus: &Bus) -> BoxStream<'static, Wake> {
    bus.timers.wakes(0).await.expect("heard")
}

pub(crate) async fn next(wakes: &mut BoxStream<'static, Wake>) -> Wake {
    let wake = timeout(SOON, wakes.next()).await.expect("in time");
    wake.expect("the listening goes on")
}

pub(crate) async fn assert_silent(wakes: &mut BoxStream<'static, Wake>) {
    let heard = timeout(SILENCE, wakes.next()).await;
    assert!(heard.is_err(), "{heard:?}");
}

pub(crate) async fn an_alarm_rings_once_and_not_before_its_time(bus: &Bus, other: &Bus) {
    let address = address(bus, new_table());
    let mut wakes = listen(other).await;
    let at = arm_in(bus, &address, 700).await;
    let wake = next(&mut wakes).await;
    let heard_at = now(bus).await;
    assert!(heard_at >= at && heard_at.millis_since(at) < 5_000, "{at:?} {heard_at:?}");
    assert_eq!(wake.address, address);
    wake.settle.done().await;
    assert_silent(&mut wakes).await;
}

pub(crate) async fn an_alarm_set_again_rings_at_the_later_time_only(bus: &Bus, other: &Bus) {
    let address = address(bus, new_table());
    let mut wakes = listen(other).await;
    arm_in(bus, &address, 1_500).await;
    let at = arm_in(other, &address, 2_500).await;
    let wake = next(&mut wakes).await;
    assert!(now(bus).await >= at);
    wake.settle.done().await;
    assert_silent(&mut wakes).await;
}

pub(crate) async fn an_alarm_set_earlier_rings_earlier(bus: &Bus, other: &Bus) {
    let address = address(bus, new_table());
    let mut wakes = listen(other).await;
    let late = arm_in(bus, &address, 3_600_000).await;
    arm_in(bus, &address, 300).await;
    next(&mut wakes).await.settle.done().await;
    assert!(now(bus).await < late);
    assert_silent(&mut wakes).await;
}

pub(crate) async fn an_alarm_taken_away_is_silent(bus: &Bus, other: &Bus) {
    let address = address(bus, new_table());
    let mut wakes = listen(other).await;
    arm_in(bus, &address, 1_500).await;
    other.timers.disarm(&address).await.expect("disarmed");
    assert_silent(&mut wakes).await;
    other.timers.disarm(&address).await.expect("as it is");
}

pub(crate) async fn an_alarm_taken_away_may_be_set_again(bus: &Bus, other: &Bus) {
    let address = address(bus, new_table());
    let mut wakes = listen(other).await;
    let at = arm_in(bus, &address, 1_500).await;
    bus.timers.disarm(&address).await.expect("disarmed");
    // To the very same time: nothing may take it for a repetition.
    bus.timers.arm(&address, at).await.expect("armed");
    let wake = next(&mut wakes).await;
    assert_eq!(wake.address, address);
    wake.settle.done().await;
    // And once more, in the past of what has rung.
    bus.timers.arm(&address, at).await.expect("armed");
    let wake = next(&mut wakes).await;
    assert_eq!(wake.address, address);
    wake.settle.done().await;
}

pub(crate) async fn an_alarm_of_the_past_rings_at_once(bus: &Bus, other: &Bus) {
    let address = address(bus, new_table());
    let mut wakes = listen(other).await;
    bus.timers.arm(&address, Timestamp::from_millis(0)).await.expect("armed");
    let armed_at = now(bus).await;
    let wake = next(&mut wakes).await;
    assert!(now(bus).await.millis_since(armed_at) < 5_000);
    assert_eq!(wake.address, address);
    wake.settle.done().await;
    assert_silent(&mut wakes).await;
}

pub(crate) async fn an_alarm_rings_for_whoever_listens_later(bus: &Bus, other: &Bus) {
    let address = address(bus, new_table());
    arm_in(bus, &address, 1).await;
    sleep(Duration::from_millis(600)).await;
    let wake = next(&mut listen(other).await).await;
    assert_eq!(wake.address, address);
}

pub(crate) async fn an_alarm_that_nobody_settles_rings_again(bus: &Bus, other: &Bus) {
    let address = address(bus, new_table());
    let mut here = listen(bus).await;
    arm_in(bus, &address, 1).await;
    drop(next(&mut here).await);
    drop(here);
    let mut there = listen(other).await;
    assert_silent(&mut there).await;
    let again = next(&mut there).await;
    assert_eq!(again.address, address);
    again.settle.done().await;
}

pub(crate) async fn an_alarm_put_off_rings_again_then_and_no_more_once_done(bus: &Bus, _: &Bus) {
    let address = address(bus, new_table());
    let mut wakes = listen(bus).await;
    arm_in(bus, &address, 1).await;
    let wake = next(&mut wakes).await;
    let put_off_at = now(bus).await;
    wake.settle.later(Duration::from_millis(800)).await;
    let again = next(&mut wakes).await;
    let waited = now(bus).await.millis_since(put_off_at);
    assert!((800..8_000).contains(&waited), "{waited}");
    assert_eq!(again.address, address);
    again.settle.done().await;
    // Longer than a listener has for a ring.
    let heard = timeout(Duration::from_secs(12), wakes.next()).await;
    assert!(heard.is_err(), "{heard:?}");
}

pub(crate) async fn listeners_share_the_alarms(bus: &Bus, other: &Bus) {
    let heard_by = |mut wakes: BoxStream<'static, Wake>| async move {
        let mut heard: Vec<TableId> = Vec::new();
        while let Ok(wake) = timeout(Duration::from_secs(3), wakes.next()).await {
            let wake = wake.expect("the listening goes on");
            heard.push(wake.address.table);
            wake.settle.done().await;
            sleep(Duration::from_millis(1)).await;
        }
        heard
    };
    let (here, there) = (listen(bus).await, listen(other).await);
    let armed = async {
        let at = now(bus).await.plus_millis(300);
        let mut tables = Vec::new();
        for _ in 0..100 {
            let address = address(bus, new_table());
            bus.timers.arm(&address, at).await.expect("armed");
            tables.push(address.table);
        }
        tables
    };
    let (here, there, tables) = tokio::join!(heard_by(here), heard_by(there), armed);
    assert!(!here.is_empty() && !there.is_empty(), "{} and {}", here.len(), there.len());
    let mut times: HashMap<TableId, u32> = HashMap::new();
    for table in here.into_iter().chain(there) {
        *times.entry(table).or_default() += 1;
    }
    assert_eq!(times, tables.into_iter().map(|table| (table, 1)).collect());
}

pub(crate) async fn a_snapshot_is_the_newest_until_it_is_forgotten(bus: &Bus, other: &Bus) {
    let address = address(bus, new_table());
    assert_eq!(other.snapshots.newest(&address).await.expect("read"), None);
    for text in ["first", "second", "second", "third"] {
        bus.snapshots.save(&address, Bytes::from(text)).await.expect("saved");
        let newest = other.snapshots.newest(&address).await.expect("read");
        assert_eq!(newest, Some(Bytes::from(text)));
    }
    other.snapshots.forget(&address).await.expect("forgotten");
    assert_eq!(bus.snapshots.newest(&address).await.expect("read"), None);
    other.snapshots.forget(&address).await.expect("as it is");
    bus.snapshots.save(&address, Bytes::from("anew")).await.expect("saved");
    assert_eq!(bus.snapshots.newest(&address).await.expect("read"), Some(Bytes::from("anew")));
}

pub(crate) async fn snapshots_of_tables_do_not_mix(bus: &Bus, other: &Bus) {
    let addresses = [address(bus, new_table()), address(bus, new_table())];
    for address in &addresses {
        let snapshot = Bytes::from(address.table.to_string());
        bus.snapshots.save(address, snapshot).await.expect("saved");
    }
    bus.snapshots.forget(&addresses[0]).await.expect("forgotten");
    assert_eq!(other.snapshots.newest(&addresses[0]).await.expect("read"), None);
    let kept = other.snapshots.newest(&addresses[1]).await.expect("read");
    assert_eq!(kept, Some(Bytes::from(addresses[1].table.to_string())));
}

pub(crate) async fn a_too_large_snapshot_is_refused_and_the_old_one_stays(bus: &Bus, _: &Bus) {
    let address = address(bus, new_table());
    let large = Bytes::from(vec![7; 500_000]);
    bus.snapshots.save(&address, large.clone()).await.expect("saved");
    let refused = bus.snapshots.save(&address, Bytes::from(vec![8; 600_000])).await;
    assert!(matches!(refused, Err(AppendError::Refused { .. })), "{refused:?}");
    assert_eq!(bus.snapshots.newest(&address).await.expect("read"), Some(large));
}

pub(crate) async fn a_missing_shard_has_no_alarms_and_no_snapshots(bus: &Bus, _: &Bus) {
    let named = |error: ReadError| match error {
        ReadError::NoStream { stream } => stream,
        ReadError::Unavailable { .. } => panic!("{error}"),
    };
    let Err(error) = bus.timers.wakes(7).await else { panic!("no such shard") };
    assert_eq!(named(error), "TIMERS_7");
    let elsewhere = Address { shard: 7, ..address(bus, new_table()) };
    let error = bus.snapshots.newest(&elsewhere).await.expect_err("no such shard");
    assert_eq!(named(error), "SNAPSHOTS_7");
}
