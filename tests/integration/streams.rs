//! Connecting, and the streams that a role needs: every mistake has one clear line.

use std::time::Duration;

use async_nats::jetstream::stream::{Config, DiscardPolicy};
use tablecast::bus::connect::{ConnectError, client, connect};
use tablecast::bus::provision::{self, Change, Existing, ProvisionError};
use tokio::time::{Instant, timeout};

use crate::nats_server::{JetStream, NatsServer};

#[tokio::test]
async fn without_a_server_the_error_says_where_and_what_to_do() {
    let mut server = NatsServer::start().await;
    let config = server.config(&["--nats-wait", "300ms"]);
    server.kill();
    let started = Instant::now();
    let error = connect(&config, "test").await.expect_err("nobody there");
    assert!(matches!(error, ConnectError::NoServer { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(&server.url) && text.contains("nats-server -js"), "{text}");
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_server_that_comes_late_is_waited_for() {
    let mut server = NatsServer::start().await;
    let config = server.config(&["--nats-wait", "10s"]);
    server.kill();
    let (connected, ()) = tokio::join!(connect(&config, "test"), server.restart());
    connected.expect("a bus");
}

#[tokio::test]
async fn a_password_is_not_shown() {
    let server = NatsServer::start().await;
    let mut config = server.config(&["--nats-wait", "0s"]);
    config.nats_url = vec!["nats://ada:lovelace@127.0.0.1:1".parse().expect("a URL")];
    let error = connect(&config, "test").await.expect_err("nobody there");
    for text in [error.to_string(), format!("{config:?}")] {
        assert!(text.contains("127.0.0.1:1"), "{text}");
        assert!(!text.contains("lovelace"), "{text}");
    }
}

#[tokio::test]
async fn without_jetstream_the_error_says_how_to_enable_it() {
    let server = NatsServer::start_with(JetStream::Off).await;
    let error = connect(&server.config(&[]), "test").await.expect_err("no log");
    assert!(matches!(error, ConnectError::Streams(ProvisionError::NoJetStream)), "{error:?}");
    assert!(error.to_string().contains("nats-server -js"), "{error}");
}

#[tokio::test]
async fn many_roles_may_start_at_once_and_find_the_streams_as_defined() {
    let server = NatsServer::start().await;
    let config = server.config(&["--shards", "3"]);
    let starts = (0..5).map(|_| connect(&config, "test"));
    for connected in futures_util::future::join_all(starts).await {
        connected.expect("a bus");
    }
    let context = provision::context(&client(&config, "test").await.expect("connected"));
    let plans = provision::plan(&context, &config).await.expect("planned");
    let names: Vec<&str> = plans.iter().map(|plan| plan.stream.as_str()).collect();
    let sharded = (0..3)
        .flat_map(|shard| ["EVENTS", "SNAPSHOTS", "TIMERS"].map(|name| format!("{name}_{shard}")));
    let expected: Vec<String> = sharded.chain(["DEAD", "KV_tc_lobby"].map(str::to_owned)).collect();
    assert_eq!(names, expected);
    assert!(plans.iter().all(|plan| plan.change == Change::Nothing), "{plans:?}");
    let info = context.get_stream("EVENTS_2").await.expect("there");
    let config = &info.cached_info().config;
    assert_eq!(config.subjects, ["tc.evt.2.*.*", "tc.done.2.*.*"]);
    let republish = config.republish.as_ref().expect("set");
    assert_eq!(republish.source, "tc.evt.2.*.*");
    assert_eq!(republish.destination, "tc.live.2.{{wildcard(1)}}.{{wildcard(2)}}");
    let info = context.get_stream("TIMERS_2").await.expect("there");
    assert_eq!(info.cached_info().config.subjects, ["tc.timer.2.*.*", "tc.wake.2.*.*"]);
    let info = context.get_stream("SNAPSHOTS_2").await.expect("there");
    assert_eq!(info.cached_info().config.subjects, ["tc.snap.2.*.*"]);
}

#[tokio::test]
async fn a_stream_that_differs_is_named_with_its_field_and_left_alone() {
    let server = NatsServer::start().await;
    let config = server.config(&[]);
    let context = provision::context(&client(&config, "test").await.expect("connected"));
    let mut stream = provision::definitions(&config).remove(0);
    stream.republish = None;
    stream.max_bytes = 1_000_000;
    context.create_stream(stream).await.expect("created");

    let error = connect(&config, "test").await.expect_err("not as needed");
    let text = error.to_string();
    assert!(text.contains("EVENTS_0") && text.contains("republish"), "{text}");
    let plans = provision::plan(&context, &config).await.expect("planned");
    assert!(matches!(&plans[0].change, Change::Update { .. }), "{plans:?}");
    assert!(matches!(&plans[1].change, Change::Create(_)), "{plans:?}");

    provision::ensure(&context, &config, Existing::Update).await.expect("changed");
    connect(&config, "test").await.expect("a bus");
    let info = context.get_stream("EVENTS_0").await.expect("there");
    assert_eq!(info.cached_info().config.max_bytes, 1_000_000, "the operator's own");
}

#[tokio::test]
async fn what_the_server_will_not_change_is_said_in_its_words() {
    let server = NatsServer::start().await;
    let config = server.config(&[]);
    let context = provision::context(&client(&config, "test").await.expect("connected"));
    let other = Config {
        name: "EVENTS_0".to_owned(),
        subjects: vec!["tc.evt.0.*.*".to_owned()],
        discard: DiscardPolicy::Old,
        max_messages_per_subject: 9,
        storage: async_nats::jetstream::stream::StorageType::Memory,
        ..Default::default()
    };
    context.create_stream(other).await.expect("created");
    let error = provision::ensure(&context, &config, Existing::Update).await.expect_err("no");
    assert!(matches!(error, ProvisionError::Refused { .. }), "{error:?}");
    assert!(error.to_string().contains("storage"), "{error}");
}

#[tokio::test]
async fn another_number_of_shards_is_refused() {
    let server = NatsServer::start().await;
    server.bus(&["--shards", "2"]).await;
    let error = connect(&server.config(&["--shards", "4"]), "test").await.expect_err("no");
    assert!(error.to_string().contains("tablecast.shards"), "{error}");
}

#[tokio::test]
async fn more_replicas_than_servers_are_refused() {
    let server = NatsServer::start().await;
    let config = server.config(&["--replicas", "3", "--nats-wait", "300ms"]);
    let refused = timeout(Duration::from_secs(10), connect(&config, "test")).await;
    let error = refused.expect("in time").expect_err("no");
    assert!(error.to_string().contains("replicas"), "{error}");
}
