use std::num::NonZeroU32;

use metrics_exporter_prometheus::PrometheusBuilder;

use super::*;
use crate::domain::{TableId, Timestamp};
use crate::gateway::breaker::Breaker;
use crate::gateway::mailbox::ConnectionId;
use crate::gateway::outbox::{Class, OutboxLimits};
use crate::gateway::players::PlayerLimits;
use crate::gateway::throttle::Rate;
use crate::gateway::wire::{Frame, Wire};

fn overseer() -> Overseer {
    let many = NonZeroU32::new(1000).unwrap();
    let rate = Rate::per_second(many, many);
    let limits = PlayerLimits { rate, tables_max: 5, players_max: 5 };
    let bus = *Breaker::new(Timestamp::from_millis(1)).states().borrow();
    Overseer {
        gateway: "g1".into(),
        registry: Arc::new(Registry::new(bus)),
        players: Arc::new(Players::new(limits, Instant::now())),
        board: Arc::default(),
    }
}

fn add(overseer: &Overseer, number: u64) -> Arc<Mailbox> {
    let many = NonZeroU32::new(1000).unwrap();
    let rate = Rate::per_second(many, many);
    let limits = OutboxLimits {
        frames_per_table: 4,
        bytes_per_table: 1000,
        age: Duration::from_secs(1),
        table_rate: rate,
        connection_rate: rate,
        byte_rate: rate,
    };
    let address = Some("192.0.2.7".parse().unwrap());
    let mailbox = Arc::new(Mailbox::new(ConnectionId(number), Wire::Json, address, limits));
    overseer.registry.add(&mailbox);
    mailbox
}

fn question(player: Option<&str>, limit: u32) -> ConnectionsRequest {
    let player = player.map(ToOwned::to_owned);
    ConnectionsRequest { answer_to: "a1".to_owned(), limit, player }
}

#[tokio::test(start_paused = true)]
async fn an_operator_is_told_of_the_worst_first() {
    let overseer = overseer();
    let now = Instant::now();
    let [healthy, blocked, throttled, busy] = [1, 2, 3, 4].map(|number| add(&overseer, number));
    healthy.identify(&"nok".parse().unwrap());
    blocked.identify(&"somchai".parse().unwrap());
    let table = TableId::new(Timestamp::from_millis(1), [1; 10]);
    blocked.lock().follow(table, Class::Watched, Frame::PING);
    blocked.lock().standing().set(Some(Hold::ByteRate), (0, 0), now);
    let later = now + Duration::from_secs(3);
    blocked.lock().standing().set(Some(Hold::Socket), (7, 700), later);
    throttled.lock().standing().set(Some(Hold::TableRate), (0, 0), later);
    busy.lock().standing().throttled_in = 9;
    let report = overseer.report(&question(None, 10), now + Duration::from_secs(5)).await;
    let worst: Vec<u64> = report.worst.iter().map(|line| line.connection).collect();
    assert_eq!(worst, [2, 3, 4]);
    assert_eq!((report.connections, report.behind, report.throttled_in), (4, 2, 9));
    let expected = ConnectionLine {
        connection: 2,
        player: Some("somchai".to_owned()),
        address: Some("192.0.2.7".to_owned()),
        tables: 1,
        frames: 8,
        bytes: 702,
        conflated: 0,
        throttled_in: 0,
        throttled_out: 0,
        behind_ms: Some(5_000),
        blocked_ms: Some(2_000),
        why: Some("socket".to_owned()),
    };
    assert_eq!(report.worst[0], expected);
    let report = overseer.report(&question(None, 1), now).await;
    assert_eq!(report.worst.len(), 1);
    // Whoever is asked for is shown, however well it stands.
    let report = overseer.report(&question(Some("nok"), 10), now).await;
    assert_eq!(report.worst.len(), 1);
    assert_eq!(report.worst[0].why, None);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_stays_behind_is_reported_once_and_when_it_has_caught_up() {
    let overseer = overseer();
    let mailbox = add(&overseer, 1);
    let now = Instant::now();
    mailbox.lock().standing().set(Some(Hold::FrameRate), (0, 0), now);
    let soon = now + REPORTED_AFTER / 2;
    assert_eq!(look_at(&mailbox, soon), (Some(Hold::FrameRate), None));
    let late = now + REPORTED_AFTER;
    let load = Load::default();
    let news = News::Behind { hold: Hold::FrameRate, for_ms: 10_000, load, conflated: 0 };
    assert_eq!(look_at(&mailbox, late), (Some(Hold::FrameRate), Some(news)));
    assert_eq!(look_at(&mailbox, late), (Some(Hold::FrameRate), None));
    mailbox.lock().standing().set(None, (0, 0), late);
    assert_eq!(look_at(&mailbox, late), (None, Some(News::CaughtUp { conflated: 0 })));
    assert_eq!(look_at(&mailbox, late), (None, None));
}

#[tokio::test(start_paused = true)]
async fn the_gauge_says_how_many_are_behind_and_why() {
    let overseer = overseer();
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    let _local = ::metrics::set_default_local_recorder(&recorder);
    let mailboxes: Vec<_> = (0..600).map(|number| add(&overseer, number)).collect();
    for mailbox in &mailboxes[..500] {
        mailbox.lock().standing().set(Some(Hold::Socket), (1, 1), Instant::now());
    }
    overseer.survey(Instant::now()).await;
    let counted = metrics.render();
    let line = r#"tablecast_gateway_connections_behind{reason="socket"} 500"#;
    assert!(counted.contains(line), "{counted}");
    for mailbox in &mailboxes {
        mailbox.lock().standing().set(None, (0, 0), Instant::now());
    }
    overseer.survey(Instant::now()).await;
    let counted = metrics.render();
    let line = r#"tablecast_gateway_connections_behind{reason="socket"} 0"#;
    assert!(counted.contains(line), "{counted}");
}

/// Run it with `cargo test --lib gateway::overseer -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "a measurement"]
async fn a_look_at_ten_thousand_connections() {
    let overseer = overseer();
    let table = TableId::new(Timestamp::from_millis(1), [1; 10]);
    for number in 0..10_000 {
        let mailbox = add(&overseer, number);
        mailbox.lock().follow(table, Class::Watched, Frame::PING);
    }
    for _ in 0..5 {
        let started = Instant::now();
        overseer.survey(started).await;
        let looked = started.elapsed();
        let asked = Instant::now();
        overseer.report(&question(None, 20), asked).await;
        println!("a look: {looked:?}, an answer to an operator: {:?}", asked.elapsed());
    }
}
