//! The promises on a real server.

use std::time::Duration;

use clap::Parser;
use tablecast::bus::Bus;
use tablecast::bus::connect::{NatsConfig, connect};

use crate::log_suite;
use crate::nats_server::NatsServer;

#[derive(Debug, Parser)]
struct Options {
    #[command(flatten)]
    nats: NatsConfig,
}

fn config(url: &str, more: &[&str]) -> NatsConfig {
    let arguments = ["test", "--nats-url", url]
        .into_iter()
        .chain(more.iter().copied());
    Options::try_parse_from(arguments).expect("options").nats
}

async fn bus() -> (NatsServer, Bus) {
    let server = NatsServer::start().await;
    let bus = connect(&config(&server.url, &[]), "test")
        .await
        .expect("a bus");
    (server, bus)
}

#[tokio::test]
async fn appends_chain() {
    let (_server, bus) = bus().await;
    log_suite::appends_chain(&bus).await;
}
