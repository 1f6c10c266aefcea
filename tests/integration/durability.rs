//! Durability classes: what streams promise is written on them, raised on demand, and never lowered in silence.

use clap::Parser;
use tablecast::bus::connect::{ConfigError, NatsConfig, client, connect};
use tablecast::bus::durability::Durability;
use tablecast::bus::provision::{self, Change, Existing, ProvisionError};
use tablecast::domain::StreamSeq;

use crate::cluster::Cluster;
use crate::nats_server::NatsServer;
use crate::tables::{append, table_of};

#[derive(Debug, Parser)]
struct Options {
    #[command(flatten)]
    nats: NatsConfig,
}

fn options(args: &[&str]) -> Result<NatsConfig, clap::Error> {
    Options::try_parse_from(["test"].iter().chain(args)).map(|options| options.nats)
}

/// Stream by stream: its class, and how many servers keep it.
async fn classes(config: &NatsConfig) -> Vec<(Durability, usize)> {
    let context = provision::context(&client(config, "test").await.expect("connected"));
    let mut classes = Vec::new();
    for definition in provision::definitions(config) {
        let stream = context.get_stream(&definition.name).await.expect("there");
        let config = &stream.cached_info().config;
        classes.push((Durability::of(&config.metadata), config.num_replicas));
    }
    classes
}

#[test]
fn a_class_says_how_many_servers_keep_a_stream_unless_the_operator_does() {
    for (args, class, replicas) in [
        (&[][..], Durability::Dev, 1),
        (&["--durability", "dev", "--replicas", "3"], Durability::Dev, 3),
        (&["--durability", "standard"], Durability::Standard, 3),
        (&["--durability", "standard", "--replicas", "5"], Durability::Standard, 5),
        (&["--durability", "strict"], Durability::Strict, 3),
        (&["--durability", "strict", "--replicas", "1"], Durability::Strict, 1),
    ] {
        let config = options(args).expect("they parse");
        assert_eq!((config.durability, config.replicas()), (class, replicas), "{args:?}");
        assert_eq!(config.validate(), Ok(()), "{args:?}");
    }
}

#[test]
fn a_class_that_does_not_exist_or_cannot_be_kept_is_refused() {
    let error = options(&["--durability", "eternal"]).expect_err("no such class");
    let text = error.to_string();
    for class in ["dev", "standard", "strict"] {
        assert!(text.contains(class), "{text}");
    }
    options(&["--replicas", "0"]).expect_err("nobody would keep it");
    for replicas in ["1", "2"] {
        let config = options(&["--durability", "standard", "--replicas", replicas]);
        assert_eq!(config.expect("it parses").validate(), Err(ConfigError::TooFewReplicas));
    }
}

#[tokio::test]
async fn a_stream_says_its_class_and_one_that_does_not_promises_least() {
    let server = NatsServer::start().await;
    let strict = server.config(&["--durability", "strict", "--replicas", "1"]);
    connect(&strict, "test").await.expect("a bus");
    assert!(classes(&strict).await.iter().all(|found| *found == (Durability::Strict, 1)));

    let server = NatsServer::start().await;
    let dev = server.config(&[]);
    let context = provision::context(&client(&dev, "test").await.expect("connected"));
    let mut unlabelled = provision::definitions(&dev).remove(0);
    unlabelled.metadata.remove("tablecast.durability");
    context.create_stream(unlabelled).await.expect("created");
    connect(&dev, "test").await.expect("as good as dev");
}

#[tokio::test]
async fn a_role_that_asks_for_more_than_the_streams_promise_is_refused_until_they_are_raised() {
    let server = NatsServer::start().await;
    let dev = server.config(&[]);
    connect(&dev, "test").await.expect("a bus");
    let strict = server.config(&["--durability", "strict", "--replicas", "1"]);
    let error = connect(&strict, "test").await.expect_err("only dev");
    let text = error.to_string();
    assert!(text.contains("tablecast.durability = dev") && text.contains("strict"), "{text}");
    assert!(classes(&dev).await.iter().all(|found| *found == (Durability::Dev, 1)));

    let context = provision::context(&client(&strict, "test").await.expect("connected"));
    let plans = provision::plan(&context, &strict).await.expect("planned");
    for plan in &plans {
        let Change::Update { differences, .. } = &plan.change else { panic!("{plan:?}") };
        let [difference] = &differences[..] else { panic!("{plan:?}") };
        assert_eq!(difference.field, "metadata tablecast.durability");
        assert_eq!((&*difference.found, &*difference.wanted), ("dev", "strict"));
    }
    provision::apply(&context, &plans, strict.nats_wait).await.expect("raised");
    connect(&strict, "test").await.expect("a bus");
    assert!(classes(&strict).await.iter().all(|found| *found == (Durability::Strict, 1)));
}

#[tokio::test]
async fn a_role_that_asks_for_less_lowers_nothing() {
    let server = NatsServer::start().await;
    let strict = server.config(&["--durability", "strict", "--replicas", "1"]);
    connect(&strict, "test").await.expect("a bus");
    let dev = server.config(&[]);
    connect(&dev, "test").await.expect("the streams survive more than was asked for");
    let context = provision::context(&client(&dev, "test").await.expect("connected"));
    provision::ensure(&context, &dev, Existing::Update).await.expect("nothing to do");
    assert!(classes(&dev).await.iter().all(|found| *found == (Durability::Strict, 1)));
}

#[tokio::test]
async fn a_missing_stream_is_not_made_weaker_than_those_beside_it() {
    let server = NatsServer::start().await;
    let strict = server.config(&["--durability", "strict", "--replicas", "1"]);
    connect(&strict, "test").await.expect("a bus");
    let context = provision::context(&client(&strict, "test").await.expect("connected"));
    context.delete_stream("TIMERS_0").await.expect("deleted");

    let dev = server.config(&[]);
    for existing in [Existing::Check, Existing::Update] {
        let error = provision::ensure(&context, &dev, existing).await.expect_err("weaker");
        assert!(matches!(error, ProvisionError::Weaker { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("TIMERS_0") && text.contains("--durability strict"), "{text}");
    }
    context.get_stream("TIMERS_0").await.expect_err("not made");
    connect(&strict, "test").await.expect("made as strict");
}

#[tokio::test]
async fn dev_becomes_standard_in_place_and_keeps_what_is_stored() {
    let cluster = Cluster::start().await;
    let config = |class| {
        let args = ["--nats-url", &cluster.urls, "--durability", class, "--nats-wait", "30s"];
        options(&args).expect("they parse")
    };
    let dev = config("dev");
    let bus = connect(&dev, "test").await.expect("a bus");
    let (address, positions) = table_of(&bus, 5).await;

    let standard = config("standard");
    let error = connect(&standard, "test").await.expect_err("kept by one server");
    assert!(error.to_string().contains("num_replicas"), "{error}");
    let context = provision::context(&client(&standard, "test").await.expect("connected"));
    provision::ensure(&context, &standard, Existing::Update).await.expect("raised");
    assert!(classes(&standard).await.iter().all(|found| *found == (Durability::Standard, 3)));

    let bus = connect(&standard, "test").await.expect("a bus");
    let last = *positions.last().expect("five");
    bus.log.append(append(&address, last, "six")).await.expect("it goes on");
    assert_eq!(bus.log.read(address.table, StreamSeq::ZERO).await.expect("read").len(), 6);
}
